package reservation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	logging "github.com/ipfs/go-log/v2"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/tangop2p/tango/internal/notice"
	"github.com/tangop2p/tango/internal/prom"
	"github.com/tangop2p/tango/internal/undo"
)

var log = logging.Logger("tango/reservation")

// Keeper holds reservations on relays. It is safe for concurrent use.
type Keeper struct {
	cfg     config
	links   links
	self    peer.ID
	metrics *metrics
	random  func() float64
	undo    undo.Stack

	ctx     context.Context //nolint:containedctx // the Keeper's own lifetime, which Close ends
	cancel  context.CancelFunc
	wg      sync.WaitGroup // the loop, its attempts, the reader of the bus
	signals *signals
	results chan result
	relays  []*relay                // in the order of preference; the loop's own
	news    []EvtReservationChanged // the loop's own, until it comes round

	addrs     atomic.Pointer[[]ma.Multiaddr]
	addrsWake chan struct{} // capacity 1: addrs has changed
	outbox    *outbox
	quiet     chan struct{}  // closed when nothing changes any more
	senders   sync.WaitGroup // those that emit on the bus; they end after wg

	mu      sync.Mutex
	shown   []Reservation        // guarded by mu
	changed chan struct{}        // guarded by mu; closed when shown changes
	heeding map[peer.ID]struct{} // guarded by mu; relays whose notice is being taken

	closeOnce sync.Once
	closeErr  error
}

// Reservation is how one relay stands.
type Reservation struct {
	Relay peer.ID
	State State
	// Since is when the relay came into this state.
	Since time.Time
	// Expires is until when the reservation holds, unless it is renewed before; zero unless State is Reserved.
	Expires time.Time
	// LimitDuration and LimitData are what the relay allows one circuit; 0 for no limit. The relay's word.
	LimitDuration time.Duration
	LimitData     uint64
	// Addrs are this node's addresses through this relay.
	Addrs []ma.Multiaddr
	// LastError is why the last attempt failed, nil after one that did not.
	LastError error
	// NextTry is when the next attempt, or the renewal, is due; zero while one is under way.
	NextTry time.Time
}

// New starts to hold reservations of h at the relays given, the first ones
// preferably, and returns at once; see [Keeper.Wait]. Each relay needs an
// address here or in h's peerstore. Of relays given twice the addresses are
// put together. Close must be called before h ends.
func New(h host.Host, relays []peer.AddrInfo, opts ...Option) (*Keeper, error) {
	cfg, err := newConfig(opts)
	if err != nil {
		return nil, fmt.Errorf("reservation: %w", err)
	}
	infos, err := checkRelays(h, relays)
	if err != nil {
		return nil, fmt.Errorf("reservation: %w", err)
	}
	if err := cfg.settle(len(infos)); err != nil {
		return nil, fmt.Errorf("reservation: %w", err)
	}
	if err := checkCircuits(h); err != nil {
		return nil, err
	}
	l := hostLinks{h, cfg.invites}
	k := newKeeper(cfg, l, infos)
	k.self = h.ID()
	if err := k.start(l, infos); err != nil {
		k.cancel()
		return nil, fmt.Errorf("reservation: %w", errors.Join(err, k.undo.Run()))
	}
	return k, nil
}

func newKeeper(cfg config, l links, relays []peer.AddrInfo) *Keeper {
	k := &Keeper{
		cfg:       cfg,
		links:     l,
		metrics:   newMetrics(),
		random:    rand.Float64,
		signals:   newSignals(cfg.discovered),
		results:   make(chan result),
		addrsWake: make(chan struct{}, 1),
		outbox:    newOutbox(),
		quiet:     make(chan struct{}),
		changed:   make(chan struct{}),
		heeding:   make(map[peer.ID]struct{}),
	}
	k.ctx, k.cancel = context.WithCancel(context.Background())
	for _, r := range relays {
		k.add(r, true)
	}
	k.show()
	return k
}

// start acquires everything first; nothing can fail after the first goroutine.
func (k *Keeper) start(l hostLinks, relays []peer.AddrInfo) error {
	unregister, err := prom.Register(k.cfg.registerer, k.metrics.all()...)
	if err != nil {
		return err
	}
	k.undo.AddFunc(unregister)
	bus := l.EventBus()
	// stateful, as AutoRelay's own emitter of this event is
	addrs, err := bus.Emitter(new(event.EvtAutoRelayAddrsUpdated), eventbus.Stateful)
	if err != nil {
		return fmt.Errorf("address emitter: %w", err)
	}
	k.undo.Add(addrs.Close)
	changes, err := bus.Emitter(new(EvtReservationChanged))
	if err != nil {
		return fmt.Errorf("event emitter: %w", err)
	}
	k.undo.Add(changes.Close)
	sub, err := bus.Subscribe([]any{
		new(event.EvtPeerIdentificationCompleted),
		new(event.EvtPeerProtocolsUpdated),
		new(event.EvtLocalAddressesUpdated),
	}, eventbus.Name("tango/reservation"), eventbus.BufSize(64))
	if err != nil {
		return fmt.Errorf("host events: %w", err)
	}
	k.undo.Add(sub.Close)
	for _, r := range relays {
		k.undo.AddFunc(l.remember(r))
	}
	notifiee := k.signals.notifiee()
	l.Network().Notify(notifiee)
	k.undo.AddFunc(func() { l.Network().StopNotify(notifiee) })
	for _, p := range l.relays() {
		k.signals.tell(p, signal{hopOn: true})
	}
	l.SetStreamHandler(notice.ID, k.heed)
	k.undo.AddFunc(func() { l.RemoveStreamHandler(notice.ID) })
	k.wg.Go(func() { k.listen(sub.Out()) })
	k.launch(addrs.Emit, changes.Emit)
	return nil
}

// launch starts what runs with a host and without. Emitting fails only once
// the emitter is closed.
func (k *Keeper) launch(emitAddrs, emitChange func(any) error) {
	k.senders.Go(func() { k.sendAddrs(emitAddrs) })
	k.senders.Go(func() { k.sendChanges(emitChange) })
	k.wg.Go(k.run)
}

// checkRelays says what is wrong with the relays given and merges doubled ones.
func checkRelays(h host.Host, relays []peer.AddrInfo) ([]peer.AddrInfo, error) {
	var merged []peer.AddrInfo
	var errs []error
	for i, r := range relays {
		addrs, err := checkRelay(h, r)
		if err != nil {
			errs = append(errs, fmt.Errorf("relay %d (%v): %w", i+1, r.ID, err))
			continue
		}
		at := slices.IndexFunc(merged, func(m peer.AddrInfo) bool { return m.ID == r.ID })
		if at < 0 {
			merged = append(merged, peer.AddrInfo{ID: r.ID, Addrs: addrs})
			continue
		}
		merged[at].Addrs = ma.Unique(append(merged[at].Addrs, addrs...))
	}
	return merged, errors.Join(errs...)
}

// checkRelay returns a relay's addresses without /p2p/<relay>.
func checkRelay(h host.Host, r peer.AddrInfo) ([]ma.Multiaddr, error) {
	if err := r.ID.Validate(); err != nil {
		return nil, fmt.Errorf("%w; a relay is named by its peer ID", err)
	}
	if r.ID == h.ID() {
		return nil, errors.New("that is this host itself")
	}
	if len(r.Addrs) == 0 && len(h.Peerstore().Addrs(r.ID)) == 0 {
		return nil, errors.New("no address; give one, like /dns4/relay.example/tcp/443/wss")
	}
	addrs := make([]ma.Multiaddr, 0, len(r.Addrs))
	for _, a := range r.Addrs {
		bare, ok := stripRelay(a, r.ID)
		if !ok {
			return nil, fmt.Errorf("address %v: does not lead to this peer", a)
		}
		if _, err := bare.ValueForProtocol(ma.P_CIRCUIT); err == nil {
			return nil, fmt.Errorf("address %v: a relay has to be reached directly", a)
		}
		addrs = append(addrs, bare)
	}
	return addrs, nil
}

// Addrs returns this node's addresses through the relays that hold a
// reservation, each ending in /p2p/<relay>/p2p-circuit: at most 32, those that
// browsers can dial first, in an order that stays as long as they do.
func (k *Keeper) Addrs() []ma.Multiaddr {
	if addrs := k.addrs.Load(); addrs != nil {
		return slices.Clone(*addrs)
	}
	return nil
}

// AppendAddrs adds those of [Keeper.Addrs] that are not yet there, for use in
// libp2p.AddrsFactory: go-libp2p shows the addresses that it is told of by event
// only while it takes itself for private. It is safe to call from many
// goroutines, also on a nil Keeper, which adds none; addrs is not written to.
func (k *Keeper) AppendAddrs(addrs []ma.Multiaddr) []ma.Multiaddr {
	if k == nil {
		return addrs
	}
	own := slices.DeleteFunc(k.Addrs(), func(a ma.Multiaddr) bool { return ma.Contains(addrs, a) })
	return append(slices.Clip(addrs), own...)
}

// Reservations says how each relay stands: those given, in their order, then
// discovered ones in use.
func (k *Keeper) Reservations() []Reservation {
	k.mu.Lock()
	defer k.mu.Unlock()
	shown := slices.Clone(k.shown)
	for i := range shown {
		shown[i].Addrs = slices.Clone(shown[i].Addrs)
	}
	return shown
}

// Wait returns once at least one reservation is held. Its error wraps the
// context's cause and a [*RelayError] for each relay, or [ErrClosed].
func (k *Keeper) Wait(ctx context.Context) error {
	for {
		k.mu.Lock()
		shown, changed := k.shown, k.changed
		k.mu.Unlock()
		if k.ctx.Err() != nil {
			return ErrClosed
		}
		if slices.ContainsFunc(shown, func(r Reservation) bool { return r.State == Reserved }) {
			return nil
		}
		select {
		case <-changed:
		case <-k.ctx.Done():
		case <-ctx.Done():
			return fmt.Errorf("reservation: none held: %w: %w", context.Cause(ctx), explain(shown))
		}
	}
}

func explain(relays []Reservation) error {
	if len(relays) == 0 {
		return errors.New("no relay was discovered")
	}
	errs := make([]error, 0, len(relays))
	for _, r := range relays {
		errs = append(errs, &RelayError{Relay: r.Relay, State: r.State, Err: r.LastError})
	}
	return errors.Join(errs...)
}

// Close stops holding reservations, withdraws the addresses from the host and
// waits for everything that the Keeper started. It leaves connections to relays
// open, for others may use them, but no longer protects them; the protocol has
// no way to give a reservation back, so a relay forgets it when the connection
// ends or the reservation expires. Close is idempotent.
func (k *Keeper) Close() error {
	k.closeOnce.Do(func() {
		k.mu.Lock() // see begin
		k.cancel()
		k.mu.Unlock()
		k.wg.Wait()
		k.addrs.Store(nil)
		close(k.quiet)
		k.senders.Wait()
		if err := k.undo.Run(); err != nil {
			k.closeErr = fmt.Errorf("reservation: close: %w", err)
		}
	})
	return k.closeErr
}

func (k *Keeper) listen(events <-chan any) {
	for {
		select {
		case <-k.ctx.Done():
			return
		case e, ok := <-events:
			if !ok {
				return
			}
			k.signals.hear(e)
		}
	}
}

// sendAddrs tells the host of each change, and in the end that there are no
// addresses any more.
func (k *Keeper) sendAddrs(emit func(any) error) {
	for {
		select {
		case <-k.addrsWake:
			_ = emit(event.EvtAutoRelayAddrsUpdated{RelayAddrs: k.Addrs()})
		case <-k.quiet:
			_ = emit(event.EvtAutoRelayAddrsUpdated{})
			return
		}
	}
}

func (k *Keeper) sendChanges(emit func(any) error) {
	for {
		select {
		case <-k.outbox.wake:
		case <-k.ctx.Done():
			return
		}
		for e, ok := k.outbox.next(); ok && k.ctx.Err() == nil; e, ok = k.outbox.next() {
			_ = emit(e)
		}
	}
}
