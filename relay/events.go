package relay

import (
	"errors"
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
)

// ReservationChange is what has happened to a reservation.
type ReservationChange string

// The changes.
const (
	ReservationMade    ReservationChange = "made"
	ReservationRenewed ReservationChange = "renewed"
	ReservationRefused ReservationChange = "refused"
	ReservationEnded   ReservationChange = "ended"
	// ReservationRestored says that a peer is back that held it before the relay was
	// started again, see [WithSavedTable].
	ReservationRestored ReservationChange = "restored"
)

// EvtReservation is emitted on the host's event bus when a reservation is made,
// renewed, restored, refused, or has ended.
type EvtReservation struct {
	Peer    peer.ID
	Addr    netip.Addr
	Change  ReservationChange
	Reason  Reason    // why it was refused or has ended
	Expires time.Time // of one that was made, renewed or restored
}

// EvtCircuit is emitted on the host's event bus when a circuit was opened, was
// refused, with a Reason, and when it has ended, with a Cause. In the first two
// cases it has carried nothing yet.
type EvtCircuit struct {
	Circuit
	Reason   Reason
	Cause    Cause
	Duration time.Duration // of one that has ended, from the request on
}

// eventQueue is how many events wait for a subscriber that is slow. Beyond that
// they are dropped, and counted: the relay does not wait.
const eventQueue = 1024

// events emits in a goroutine of its own.
type events struct {
	queue    chan any
	dropped  func()
	emitters [2]event.Emitter
	wg       sync.WaitGroup
}

func newEvents(h host.Host, dropped func()) (*events, error) {
	e := &events{queue: make(chan any, eventQueue), dropped: dropped}
	for i, kind := range []any{new(EvtReservation), new(EvtCircuit)} {
		var err error
		if e.emitters[i], err = h.EventBus().Emitter(kind); err != nil {
			return nil, err
		}
	}
	e.wg.Go(func() {
		for ev := range e.queue {
			to := e.emitters[0]
			if _, ok := ev.(EvtCircuit); ok {
				to = e.emitters[1]
			}
			_ = to.Emit(ev) // fails once it is closed, which comes later
		}
	})
	return e, nil
}

func (e *events) reservation(ev EvtReservation) { e.put(ev) }

func (e *events) circuit(ev EvtCircuit) { e.put(ev) }

func (e *events) put(ev any) {
	select {
	case e.queue <- ev:
	default:
		e.dropped()
		log.Debugw("event dropped, subscribers are slow", "event", ev)
	}
}

// close emits what waits. Nothing is put any more.
func (e *events) close() error {
	close(e.queue)
	e.wg.Wait()
	return errors.Join(e.emitters[0].Close(), e.emitters[1].Close())
}
