package reservation

import (
	"slices"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// EvtReservationChanged is emitted on the host's event bus when a relay's state
// changes. A subscriber that is slow sees fewer events, never wrong ones: what
// it missed of one relay is made one event. One that does not read at all holds
// up [Keeper.Close] until it closes its subscription.
type EvtReservationChanged struct {
	Relay peer.ID
	State State
	// Err is the last failure, nil in state Reserved.
	Err error
	// Addrs are this node's addresses through this relay, none unless Reserved.
	Addrs []ma.Multiaddr
}

// outbox keeps the last event of each relay until it is sent, so that it is
// bounded by the relays there are.
type outbox struct {
	wake chan struct{} // capacity 1

	mu      sync.Mutex
	pending map[peer.ID]EvtReservationChanged
	order   []peer.ID
}

func newOutbox() *outbox {
	return &outbox{wake: make(chan struct{}, 1), pending: make(map[peer.ID]EvtReservationChanged)}
}

func (o *outbox) add(e EvtReservationChanged) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if _, behind := o.pending[e.Relay]; behind {
		o.order = slices.DeleteFunc(o.order, func(p peer.ID) bool { return p == e.Relay })
	}
	o.pending[e.Relay] = e
	o.order = append(o.order, e.Relay)
	select {
	case o.wake <- struct{}{}:
	default:
	}
}

// next takes the event that waits longest.
func (o *outbox) next() (e EvtReservationChanged, ok bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if len(o.order) == 0 {
		return e, false
	}
	e = o.pending[o.order[0]]
	delete(o.pending, o.order[0])
	o.order = o.order[1:]
	return e, true
}
