package webrtc

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/pnet"
	"github.com/libp2p/go-libp2p/core/transport"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/tangop2p/tango/internal/prom"
	"github.com/tangop2p/tango/internal/undo"
	"github.com/tangop2p/tango/signaling"
)

// pseudoAddr is /webrtc alone. The swarm dials it for a direct connection to a
// peer: it sends every address with /p2p-circuit in it to the relay's transport.
//
//nolint:gochecknoglobals // a constant, but Go has none of that type
var pseudoAddr = ma.StringCast("/webrtc")

// Transport is /webrtc on a host. It is safe for concurrent use.
type Transport struct {
	host      host.Host
	cfg       config
	signaling *signaling.Service
	listener  *listener
	upgrader  *upgrader
	resolver  resolver
	metrics   *metrics
	undo      undo.Stack

	ctx    context.Context //nolint:containedctx // the Transport's own lifetime, which Close ends
	cancel context.CancelCauseFunc
	wg     sync.WaitGroup // handshakes that others have begun, and the loop that accepts them

	mu      sync.Mutex
	closed  bool                                // guarded by mu
	offers  map[peer.ID]context.CancelCauseFunc // guarded by mu; own offers that run
	conns   map[*conn]*peerConn                 // guarded by mu
	answers map[peer.ID]int                     // guarded by mu; how many offers of a peer are being answered

	closeOnce sync.Once
	closeErr  error
}

// New adds /webrtc to a host, to dial and to be dialled, and makes direct in the
// background what comes through a relay. The host has to speak circuit relay
// (libp2p.EnableRelay, the default of libp2p.New). There is one Transport on a
// host; closing the host closes it too.
func New(h host.Host, opts ...Option) (*Transport, error) {
	cfg, err := newConfig(opts)
	if err != nil {
		return nil, fmt.Errorf("webrtc: %w", err)
	}
	if pnet.ForcePrivateNetwork {
		return nil, errors.New("webrtc: LIBP2P_FORCE_PNET is set: /webrtc would bypass the private network's key")
	}
	tn, ok := h.Network().(swarm)
	if !ok {
		return nil, fmt.Errorf("webrtc: a %T takes no transports: give a host of libp2p.New", h.Network())
	}
	if tn.TransportForDialing(circuitAddr) == nil {
		return nil, errors.New("webrtc: the host speaks no circuit relay: leave out libp2p.DisableRelay, " +
			"or with libp2p.NoListenAddrs add libp2p.EnableRelay")
	}
	t := &Transport{
		host: h, cfg: cfg, metrics: newMetrics(),
		offers:  make(map[peer.ID]context.CancelCauseFunc),
		conns:   make(map[*conn]*peerConn),
		answers: make(map[peer.ID]int),
	}
	t.ctx, t.cancel = context.WithCancelCause(context.Background())
	if err := t.start(tn); err != nil {
		return nil, fmt.Errorf("webrtc: %w", errors.Join(err, t.Close()))
	}
	return t, nil
}

// swarm is what a host's network has to be able to.
type swarm interface {
	transport.TransportNetwork
	TransportForDialing(a ma.Multiaddr) transport.Transport
	ListenClose(addrs ...ma.Multiaddr)
}

//nolint:gochecknoglobals // a constant, but Go has none of that type
var circuitAddr = ma.StringCast("/p2p-circuit")

func (t *Transport) start(tn swarm) error {
	unregister, err := prom.Register(t.cfg.registerer, t.metrics.all()...)
	if err != nil {
		return err
	}
	t.undo.AddFunc(unregister)
	t.undo.Add(t.resolver.Close)
	sopts := append([]signaling.Option{
		signaling.WithCandidatePolicy(t.cfg.policy),
		signaling.WithRegisterer(t.cfg.registerer),
	}, t.cfg.signaling...)
	if t.signaling, err = signaling.New(t.host, sopts...); err != nil {
		return err
	}
	t.undo.Add(t.signaling.Close)
	if t.upgrader, err = newUpgrader(t); err != nil {
		return err
	}
	t.undo.Add(t.upgrader.close)
	if err := tn.AddTransport(native{t}); err != nil {
		return fmt.Errorf("add the transport to the host: %w", err)
	}
	if err := tn.Listen(pseudoAddr); err != nil {
		return fmt.Errorf("listen on %v: %w", pseudoAddr, err)
	}
	t.undo.AddFunc(func() { tn.ListenClose(pseudoAddr) })
	t.wg.Go(t.accept)
	t.upgrader.start()
	return nil
}

// Close stops the transport: it closes its connections and returns when nothing
// of it runs any more. The host keeps a transport for good, so there can be no
// other on it. It is idempotent.
func (t *Transport) Close() error {
	t.closeOnce.Do(func() {
		t.mu.Lock()
		t.closed = true
		conns := make([]*conn, 0, len(t.conns))
		for c := range t.conns {
			conns = append(conns, c)
		}
		t.mu.Unlock()
		t.cancel(ErrClosed)
		if t.listener != nil {
			t.listener.hide()
		}
		errs := []error{t.undo.Run()}
		for _, c := range conns {
			errs = append(errs, c.Close())
		}
		t.wg.Wait()
		t.closeErr = errors.Join(errs...)
	})
	return t.closeErr
}

// native is the Transport as the swarm sees it.
type native struct{ *Transport }

var _ transport.Transport = native{}

// Close is called by the swarm when the host is closed.
func (n native) Close() error { return n.Transport.Close() }

// CanDial accepts /webrtc alone. Addresses behind a relay never come here: the
// swarm hands them to the circuit transport.
func (n native) CanDial(a ma.Multiaddr) bool { return a.Equal(pseudoAddr) && n.ctx.Err() == nil }

func (native) Protocols() []int { return []int{ma.P_WEBRTC} }

func (native) Proxy() bool { return false }

// Dial makes a direct connection to a peer that is connected through a relay.
func (n native) Dial(ctx context.Context, raddr ma.Multiaddr, p peer.ID) (transport.CapableConn, error) {
	if !n.CanDial(raddr) {
		return nil, fmt.Errorf("webrtc: cannot dial %v, only %v", raddr, pseudoAddr)
	}
	c, err := n.dial(ctx, p)
	if err != nil {
		return nil, err // not a nil *conn in an interface
	}
	return c, nil
}

func (t *Transport) dial(ctx context.Context, p peer.ID) (c *conn, err error) {
	tr := newTrace(RungDirect, StageSignaling)
	defer func() { t.record(p, tr, err) }()
	ctx, cancel := t.detach(ctx)
	defer cancel(nil)
	via := relayed(t.host, p)
	if via == nil {
		return nil, fmt.Errorf("no connection through a relay to signal over: %w", network.ErrNoConn)
	}
	if !t.claim(p, cancel) {
		return nil, ErrGlare
	}
	defer t.unclaim(p)
	pc, err := t.offer(ctx, via, tr)
	if errors.Is(err, context.Canceled) {
		err = context.Cause(ctx) // ErrGlare, ErrClosed
	}
	if err != nil {
		return nil, timedOut(tr.stage(), err)
	}
	return t.admit(pc, via, network.DirOutbound)
}

// detach returns a context that ends with ctx, with the Transport or after
// [Limits.Timeout]. It has none of ctx's values: they say that a direct
// connection is to be made, which the stream for the signaling must not be told.
func (t *Transport) detach(ctx context.Context) (context.Context, context.CancelCauseFunc) {
	bounded, release := context.WithTimeout(t.ctx, t.cfg.limits.Timeout)
	own, cancel := context.WithCancelCause(bounded)
	stop := context.AfterFunc(ctx, func() { cancel(context.Cause(ctx)) })
	return own, func(cause error) {
		cancel(cause)
		stop()
		release()
	}
}

// claim notes that this side offers to p, unless p's offer is being answered.
func (t *Transport) claim(p peer.ID, cancel context.CancelCauseFunc) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.answers[p] > 0 {
		return false
	}
	t.offers[p] = cancel
	return true
}

func (t *Transport) unclaim(p peer.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.offers, p)
}

// yield decides which of two offers goes on when both sides have made one: that
// of the peer with the lower ID. Only tango peers know of it, so an offer of
// others is answered too, and two connections result.
func (t *Transport) yield(p peer.ID, tango bool) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	if cancel := t.offers[p]; cancel != nil && tango {
		if t.host.ID() < p {
			return false
		}
		cancel(ErrGlare)
	}
	t.answers[p]++
	return true
}

func (t *Transport) answered(p peer.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.answers[p]--; t.answers[p] == 0 {
		delete(t.answers, p)
	}
}

// accept answers the offers of others.
func (t *Transport) accept() {
	slots := make(chan struct{}, t.cfg.limits.Handshakes)
	for {
		in, err := t.signaling.Accept(t.ctx)
		if err != nil {
			return
		}
		select {
		case slots <- struct{}{}:
			t.wg.Go(func() {
				defer func() { <-slots }()
				t.serve(in)
			})
		default:
			t.metrics.attempts.WithLabelValues(string(RungAnswer), "busy").Inc()
			in.Abort(ErrBusy)
		}
	}
}

// serve answers one offer.
func (t *Transport) serve(in *signaling.Incoming) {
	p, tango := in.Peer(), marked(in.Offer(), offerMarker)
	if !t.yield(p, tango) {
		log.Debugw("offer refused, ours is under way", "peer", p)
		in.Abort(ErrGlare)
		return
	}
	defer t.answered(p)
	ctx, cancel := context.WithTimeoutCause(t.ctx, t.cfg.limits.Timeout, context.DeadlineExceeded)
	defer cancel()
	tr := newTrace(RungAnswer, StageAnswer)
	pc, err := t.answer(ctx, in, tr)
	var c *conn
	if err == nil {
		c, err = t.admit(pc, in.Conn(), network.DirInbound)
	}
	t.record(p, tr, timedOut(tr.stage(), err))
	if err != nil {
		in.Abort(err)
		return
	}
	ready := make(chan struct{})
	if tango {
		t.listener.deliver(c)
	} else {
		t.listener.deliver(&shyConn{c, ready})
	}
	confirm(ctx, in.Session)
	close(ready)
	t.awaitSwarm(ctx, c)
}

// awaitSwarm waits until the swarm has a connection, or it is over. Until then the
// peer counts as answered: an offer of ours would make a second connection.
func (t *Transport) awaitSwarm(ctx context.Context, c *conn) {
	for {
		changed := t.upgrader.changed(c.remotePeer)
		if pathTo(t.host, c.remotePeer).Kind == PathDirect || changed == nil {
			return
		}
		select {
		case <-changed:
		case <-c.ended:
			return
		case <-ctx.Done():
			return
		}
	}
}

// shyConn opens no stream before the remote takes them. js-libp2p drops what it
// gets of a stream before it has finished its dial, save a little; the end of
// its signaling says that it has.
type shyConn struct {
	*conn
	ready <-chan struct{}
}

// OpenStream waits for the remote first.
func (c *shyConn) OpenStream(ctx context.Context) (network.MuxedStream, error) {
	select {
	case <-c.ready: // confirm bounds it
		return c.conn.OpenStream(ctx)
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// admit makes a libp2p connection of a PeerConnection that stands, if the
// resource manager and the gater agree to the address that ICE has found.
func (t *Transport) admit(pc *peerConn, via network.Conn, dir network.Direction) (c *conn, err error) {
	defer discardOn(&err, pc)
	pc.trace.reach(StageAdmit)
	local, remote := pc.addrs()
	p, addrs := via.RemotePeer(), endpoints{local, remote}
	gater := t.cfg.gater
	if gater != nil && dir == network.DirInbound && !gater.InterceptAccept(addrs) {
		return nil, fmt.Errorf("%w: %v", ErrGated, remote)
	}
	scope, err := t.host.Network().ResourceManager().OpenConnection(dir, false, remote)
	if err != nil {
		return nil, fmt.Errorf("resource manager: %w", err)
	}
	defer func() {
		if err != nil {
			scope.Done()
		}
	}()
	if err = scope.SetPeer(p); err != nil {
		return nil, fmt.Errorf("resource manager: %w", err)
	}
	// given back with the scope
	if err = scope.ReserveMemory(int(t.cfg.limits.ReceiveBuffer), network.ReservationPriorityHigh); err != nil {
		return nil, fmt.Errorf("resource manager: receive buffer: %w", err)
	}
	if gater != nil && !gater.InterceptSecured(dir, p, addrs) {
		return nil, fmt.Errorf("%w: %v at %v", ErrGated, p, remote)
	}
	limits := defaultStreamLimits()
	if !pc.tango {
		association, _ := pc.SCTP().Metadata() // there is one
		limits.suit(pc.RemoteDescription().SDP, association.MessageInterleavingEnabled)
	}
	dial := 0
	if dir == network.DirOutbound {
		dial = t.upgrader.dials(p) + 1
	}
	return t.adopt(pc, dial, connParams{
		transport: native{t}, localPeer: t.host.ID(), remotePeer: p, remoteKey: via.RemotePublicKey(),
		local: local, remote: remote, scope: scope, limits: limits, closePC: pc.Close,
	})
}

// adopt makes the connection, the outcome of that dial.
func (t *Transport) adopt(pc *peerConn, dial int, params connParams) (*conn, error) {
	var c *conn
	params.onClosed = func() {
		t.mu.Lock()
		delete(t.conns, c)
		t.mu.Unlock()
		t.metrics.connections.Dec()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		return nil, ErrClosed
	}
	c = newConn(pc.PeerConnection, pc.channels, params)
	t.conns[c] = pc
	t.metrics.connections.Inc()
	pc.become(c, func(err error) { t.upgrader.ended(params.remotePeer, err, dial) })
	return c, nil
}

// endpoints are those of a connection that is not one of the swarm's yet.
type endpoints struct{ local, remote ma.Multiaddr }

var _ network.ConnMultiaddrs = endpoints{}

func (e endpoints) LocalMultiaddr() ma.Multiaddr  { return e.local }
func (e endpoints) RemoteMultiaddr() ma.Multiaddr { return e.remote }

// record notes how an attempt ended.
func (t *Transport) record(p peer.ID, tr *trace, err error) {
	a := tr.end(err, hint)
	outcome := string(a.Reached())
	t.metrics.attempts.WithLabelValues(string(a.Rung), outcome).Inc()
	t.metrics.duration.WithLabelValues(string(a.Rung), outcome).Observe(a.Took.Seconds())
	log.Debugw("attempt ended", "peer", p, "attempt", a)
	t.upgrader.record(p, a)
}

// answering says whether an offer of p is being answered.
func (t *Transport) answering(p peer.ID) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.answers[p] > 0
}
