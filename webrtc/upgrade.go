package webrtc

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	ma "github.com/multiformats/go-multiaddr"
)

// MaxAttempts is how many attempts are remembered for each peer, and
// maxRecords how many peers.
const (
	MaxAttempts = 16
	maxRecords  = 1024
)

// EvtPathChanged is emitted on the host's event bus when the best path to a peer
// changes in kind, for peers that are or were reached through a relay.
type EvtPathChanged struct {
	Peer     peer.ID
	From, To Path
}

// EvtUpgradeFailed is emitted on the host's event bus when an attempt to go
// direct has failed. The path that there is stays.
type EvtUpgradeFailed struct {
	Peer peer.ID
	Err  *ConnectError
	// Next is when the next attempt begins; zero if none is planned.
	Next time.Time
}

// maxEvents is how many events wait for those who listen on the bus; more are
// dropped, and logged.
const maxEvents = 256

// upgrader makes direct what is relayed: a ladder for each peer concerned.
type upgrader struct {
	t      *Transport
	sub    event.Subscription
	addrs  event.Emitter
	paths  event.Emitter
	fails  event.Emitter
	events chan any
	wg     sync.WaitGroup

	mu      sync.Mutex
	closed  bool                // guarded by mu
	records map[peer.ID]*record // guarded by mu
	order   []peer.ID           // guarded by mu; of records, the oldest first
	held    map[peer.ID]int     // guarded by mu; how many hold addresses of a peer
}

// record is what is remembered of a peer.
type record struct {
	attempts []Attempt
	path     Path          // the last one that was told
	relayed  ma.Multiaddr  // through a relay, by which it was last dialled; may be nil
	ended    error         // why its direct path is about to end, nil if this side closes it
	ladder   *ladder       // nil if none runs
	changed  chan struct{} // closed and replaced when anything changes
	next     time.Time
	failures int // since the last success, for the back-off
	dialling int // how many dials through a relay run

	// Dials of /webrtc are counted, so that who waits for one knows its end from
	// that of another.
	dials     int   // that are over
	dialErr   error // of the last one
	endedDial int   // that had made the path of ended; 0 for an answer
	failed    int   // the last one that has failed, be it later
}

func newUpgrader(t *Transport) (_ *upgrader, err error) {
	u := &upgrader{
		t: t, events: make(chan any, maxEvents),
		records: make(map[peer.ID]*record), held: make(map[peer.ID]int),
	}
	bus := t.host.EventBus()
	emitter := func(e any) event.Emitter {
		if err != nil {
			return nil
		}
		var em event.Emitter
		em, err = bus.Emitter(e)
		return em
	}
	u.addrs = emitter(new(event.EvtAutoRelayAddrsUpdated))
	u.paths = emitter(new(EvtPathChanged))
	u.fails = emitter(new(EvtUpgradeFailed))
	if err != nil {
		return nil, fmt.Errorf("make an emitter: %w", err)
	}
	u.sub, err = bus.Subscribe([]any{
		new(event.EvtAutoRelayAddrsUpdated),
		new(event.EvtPeerIdentificationCompleted),
		new(event.EvtLocalAddressesUpdated),
	}, eventbus.Name("tango/webrtc"), eventbus.BufSize(maxEvents))
	if err != nil {
		return nil, fmt.Errorf("subscribe to events: %w", err)
	}
	return u, nil
}

func (u *upgrader) start() {
	u.wg.Go(u.listen)
	u.wg.Go(u.emit)
	u.t.host.Network().Notify(u)
	// Those that came before us.
	for _, c := range u.t.host.Network().Conns() {
		u.Connected(nil, c)
	}
}

func (u *upgrader) close() error {
	u.mu.Lock()
	u.closed = true
	u.mu.Unlock()
	u.t.host.Network().StopNotify(u)
	errs := []error{u.sub.Close()}
	u.wg.Wait()
	for _, e := range []event.Emitter{u.addrs, u.paths, u.fails} {
		errs = append(errs, e.Close())
	}
	return errors.Join(errs...)
}

// listen takes the host's events.
func (u *upgrader) listen() {
	for {
		select {
		case <-u.t.ctx.Done():
			return
		case e, ok := <-u.sub.Out():
			if !ok {
				return
			}
			switch e := e.(type) {
			case event.EvtAutoRelayAddrsUpdated:
				u.advertise(e)
			case event.EvtPeerIdentificationCompleted:
				u.kick(e.Peer, kickIdentified)
			case event.EvtLocalAddressesUpdated:
				u.kickAll()
			}
		}
	}
}

// emit hands events to the bus, which waits for slow subscribers.
func (u *upgrader) emit() {
	for {
		select {
		case <-u.t.ctx.Done():
			return
		case e := <-u.events:
			var err error
			switch e := e.(type) {
			case EvtPathChanged:
				err = u.paths.Emit(e)
			case EvtUpgradeFailed:
				err = u.fails.Emit(e)
			}
			if err != nil {
				log.Debugw("event not emitted", "error", err)
			}
		}
	}
}

func (u *upgrader) tell(e any) {
	select {
	case u.events <- e:
	default:
		log.Warnw("event dropped: a subscriber on the event bus does not read", "event", fmt.Sprintf("%T", e))
	}
}

// Connected is called by the swarm, which waits for it.
func (u *upgrader) Connected(_ network.Network, c network.Conn) {
	p := c.RemotePeer()
	if isRelayed(c.RemoteMultiaddr()) {
		outbound := c.Stat().Direction == network.DirOutbound
		u.climb(p, outbound)
		if outbound {
			u.remember(p, c.RemoteMultiaddr())
		}
	}
	u.look(p)
}

// remember keeps the address by which a peer was reached through a relay, to
// rebuild a lost path: identify expires what the peer does not announce itself.
func (u *upgrader) remember(p peer.ID, a ma.Multiaddr) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if r := u.get(p); r != nil {
		r.relayed = a
	}
}

// Disconnected is called by the swarm.
func (u *upgrader) Disconnected(_ network.Network, c network.Conn) {
	p := c.RemotePeer()
	if !isRelayed(c.RemoteMultiaddr()) {
		u.fall(c)
	}
	u.look(p)
}

// Listen is nothing to us.
func (u *upgrader) Listen(network.Network, ma.Multiaddr) {}

// ListenClose neither.
func (u *upgrader) ListenClose(network.Network, ma.Multiaddr) {}

// settled is how long a direct path has to hold before its end is no failure of
// the attempt that made it: the remote may have refused it late.
const settled = 10 * time.Second

// closeGrace is how long the relayed connection may outlast a direct one that
// either side has closed, when it closes all.
const closeGrace = time.Second

// fall begins again after a direct path was lost: over the relayed connection if
// there still is one, else through the relay anew if the path fell silent and
// was not closed by either side.
func (u *upgrader) fall(c network.Conn) {
	p, outbound := c.RemotePeer(), c.Stat().Direction == network.DirOutbound
	path := pathTo(u.t.host, p)
	u.mu.Lock()
	defer u.mu.Unlock()
	r := u.records[p]
	if r == nil {
		return
	}
	lost := errors.Is(r.ended, ErrLost)
	refused := r.ended != nil && !lost && time.Since(c.Stat().Opened) < settled
	r.ended = nil
	var delay time.Duration
	switch {
	case refused:
		delay = r.fail(path)
		r.failed = max(r.failed, r.endedDial)
	case !lost:
		r.failures, delay = 0, closeGrace
	default:
		r.failures = 0
	}
	if path.Kind == PathRelayed || path.Kind == PathNone && lost {
		u.launch(p, r, outbound, lost, delay)
	} else {
		r.next = time.Time{}
	}
}

// fail counts a failure, and returns how long to wait before the next try.
func (r *record) fail(path Path) time.Duration {
	first := minBackoff
	if path.Kind == PathNone {
		first = minRebuildWait
	}
	wait := min(first<<min(r.failures, 10), maxBackoff)
	wait += rand.N(wait/5 + 1) // so that two sides do not try at the same moment for ever
	r.failures++
	r.next = time.Now().Add(wait)
	return wait
}

// ended notes why a direct path is about to end that this side has not closed,
// and which dial had made it.
func (u *upgrader) ended(p peer.ID, err error, dial int) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if r := u.get(p); r != nil {
		r.ended, r.endedDial = err, dial
	}
}

// dials returns how often this side has dialled a peer.
func (u *upgrader) dials(p peer.ID) int {
	u.mu.Lock()
	defer u.mu.Unlock()
	if r := u.records[p]; r != nil {
		return r.dials
	}
	return 0
}

// look tells of a change of path, and wakes who waits for it.
func (u *upgrader) look(p peer.ID) {
	path := pathTo(u.t.host, p)
	u.mu.Lock()
	defer u.mu.Unlock()
	r := u.records[p]
	if r == nil {
		return
	}
	if from := r.path; from.Kind != path.Kind {
		r.path = path
		u.tell(EvtPathChanged{Peer: p, From: from, To: path})
	}
	r.wake()
}

func (r *record) wake() {
	close(r.changed)
	r.changed = make(chan struct{})
}

// get returns the record of a peer, new if there is none; nil when closed. u.mu
// is held.
func (u *upgrader) get(p peer.ID) *record {
	if u.closed {
		return nil
	}
	r := u.records[p]
	if r == nil {
		u.forget()
		r = &record{path: Path{Kind: PathNone}, changed: make(chan struct{})}
		u.records[p] = r
		u.order = append(u.order, p)
	}
	return r
}

// forget makes room for a record: the oldest whose ladder does not run goes.
func (u *upgrader) forget() {
	if len(u.order) < maxRecords {
		return
	}
	i := slices.IndexFunc(u.order, func(p peer.ID) bool { return u.records[p].ladder == nil })
	if i >= 0 {
		delete(u.records, u.order[i])
		u.order = slices.Delete(u.order, i, i+1)
	}
}

// record adds an attempt.
func (u *upgrader) record(p peer.ID, a Attempt) {
	u.mu.Lock()
	defer u.mu.Unlock()
	r := u.get(p)
	if r == nil {
		return
	}
	r.attempts = append(r.attempts, a)
	if extra := len(r.attempts) - MaxAttempts; extra > 0 {
		r.attempts = slices.Delete(r.attempts, 0, extra)
	}
	if a.Rung == RungDirect {
		r.dials, r.dialErr = r.dials+1, a.Err
	}
	r.wake()
}

// Connect returns when there is a direct connection to a peer, or a
// *[ConnectError] with the path that there is instead and the reason. It uses the
// addresses given, which may end in /p2p-circuit/webrtc/p2p/ and the peer's ID,
// and those in the host's peerstore. A relayed path stays, and attempts go on in
// the background.
func (t *Transport) Connect(ctx context.Context, p peer.ID, addrs ...ma.Multiaddr) (Path, error) {
	addrs, err := t.bare(p, addrs)
	if err != nil {
		return Path{Kind: PathNone}, t.failed(p, StageDiscover, err)
	}
	defer t.upgrader.hold(p, addrs)()
	path := pathTo(t.host, p)
	if path.Kind == PathDirect {
		return path, nil
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(t.ctx, func() { cancel(ErrClosed) })() //nolint:contextcheck // Close ends the call too
	if path.Kind == PathNone {
		if stage, err := t.upgrader.approach(ctx, p); err != nil {
			if why := context.Cause(ctx); why != nil && errors.Is(err, context.Canceled) {
				err = why // ErrClosed, or the caller's
			}
			return pathTo(t.host, p), t.failed(p, stage, err)
		}
	}
	t.upgrader.climb(p, true)
	t.upgrader.kick(p, kickNow)
	return t.upgrader.await(ctx, p)
}

// bare returns addresses of a peer without its ID, if it has such.
func (t *Transport) bare(p peer.ID, addrs []ma.Multiaddr) ([]ma.Multiaddr, error) {
	if p == t.host.ID() {
		return nil, errors.New("it is this host itself")
	}
	if err := p.Validate(); err != nil {
		return nil, err
	}
	all := make([]ma.Multiaddr, 0, len(addrs))
	for _, a := range addrs {
		bare, id := peer.SplitAddr(a)
		if id != "" && id != p || bare == nil {
			return nil, fmt.Errorf("address %v is not one of %v", a, p)
		}
		all = append(all, bare)
	}
	return all, nil
}

// failed returns a ConnectError.
func (t *Transport) failed(p peer.ID, s Stage, err error) *ConnectError {
	e := &ConnectError{Peer: p, Stage: s, Path: pathTo(t.host, p), Err: err}
	t.upgrader.mu.Lock()
	defer t.upgrader.mu.Unlock()
	if r := t.upgrader.records[p]; r != nil && len(r.attempts) > 0 {
		e.Hint = r.attempts[len(r.attempts)-1].Hint
	}
	return e
}

// await waits until the path is direct or a dial that ends after now has failed.
func (u *upgrader) await(ctx context.Context, p peer.ID) (Path, error) {
	u.mu.Lock()
	r := u.get(p)
	var before int
	if r != nil {
		before = r.dials
	}
	u.mu.Unlock()
	if r == nil {
		return pathTo(u.t.host, p), u.t.failed(p, StageRelayDial, ErrClosed)
	}
	for {
		u.mu.Lock()
		changed, failed, climbing := r.changed, r.failed, r.ladder != nil
		var last Attempt
		if len(r.attempts) > 0 {
			last = r.attempts[len(r.attempts)-1]
		}
		u.mu.Unlock()
		path := pathTo(u.t.host, p)
		switch {
		case path.Kind == PathDirect:
			return path, nil
		case failed > before || !climbing:
			err := last.Err
			if err == nil {
				err = network.ErrNoConn
			}
			return path, u.t.failed(p, last.Reached(), err)
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return path, u.t.failed(p, last.Reached(), context.Cause(ctx))
		}
	}
}

// Path returns the best path to a peer.
func (t *Transport) Path(p peer.ID) Path { return pathTo(t.host, p) }

// Explain returns what was done to reach a peer directly.
func (t *Transport) Explain(p peer.ID) Explanation {
	e := Explanation{Peer: p, Path: pathTo(t.host, p)}
	t.upgrader.mu.Lock()
	defer t.upgrader.mu.Unlock()
	if r := t.upgrader.records[p]; r != nil {
		e.Attempts, e.Next = slices.Clone(r.attempts), r.next
	}
	return e
}
