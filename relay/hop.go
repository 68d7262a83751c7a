package relay

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

const (
	// maxMessage is the most bytes of a message of the protocol (libp2p specs,
	// relay/circuit-v2.md §Protobuf).
	maxMessage = 4096
	// requestTimeout is how long a peer may take to say what it wants, and to take
	// the answer.
	requestTimeout = 15 * time.Second
	// decideTimeout is how long a policy may take.
	decideTimeout = 10 * time.Second
	// sweep is how often ended reservations are looked for.
	sweep = time.Minute

	tagReservation, tagCircuit = "relay-reservation", "relay-circuit" // for the connection manager
	weightReservation          = 10                                   // as go-libp2p's relay
	weightCircuit              = 2
)

// hop is the service of circuit v2. go-libp2p's own has the same terms for
// everybody, one reason for all refusals, no list, and circuits that outlive it.
type hop struct {
	host     host.Host
	limits   Limits
	table    *table
	requests *requests
	saved    *saved
	pace     pace // of requests
	strikes  *rates
	metrics  *metrics
	events   *events
	scope    network.ResourceScopeSpan
	circuits
	alternatives []peer.AddrInfo

	ctx    context.Context //nolint:containedctx // bounds what runs for peers
	cancel context.CancelFunc
	wg     sync.WaitGroup // requests and circuits, and the sweeper

	mu         sync.Mutex
	policy     Policy // guarded by mu, as all below; nil allows everything
	stopPolicy func()
	draining   bool
	closed     bool
}

func newHop(h host.Host, cfg *config) (*hop, error) {
	s := &hop{
		host:         h,
		limits:       cfg.limits,
		table:        newTable(cfg.limits),
		requests:     newRequests(),
		pace:         requestPace(cfg.limits),
		strikes:      newRates(maxStrikes, maxStrikes*time.Second, By{}, nil),
		saved:        newSaved(cfg.savedTable, cfg.saved, cfg.limits.Reservations, time.Now()),
		circuits:     newCircuits(h, cfg.limits),
		alternatives: cfg.alternatives,
		stopPolicy:   func() {},
	}
	s.table.changed = s.saved.changed
	if err := s.save(); err != nil {
		return nil, err
	}
	var err error
	if s.metrics, err = newMetrics(cfg.registerer, s.transferred); err != nil {
		return nil, err
	}
	if s.events, err = newEvents(h, s.metrics.dropped.Inc); err != nil {
		s.metrics.unregister()
		return nil, err
	}
	err = h.Network().ResourceManager().ViewService(relayv2.ServiceName, func(r network.ServiceScope) (err error) {
		s.scope, err = r.BeginSpan()
		return err
	})
	if err == nil && cfg.policy != nil {
		s.policy = cfg.policy
		if s.stopPolicy, err = StartPolicy(h, cfg.policy); err != nil {
			s.scope.Done()
		}
	}
	if err != nil {
		s.metrics.unregister()
		return nil, errors.Join(err, s.events.close())
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.wg.Go(s.sweep)
	if s.saved.path != "" {
		s.wg.Go(s.keepSaved)
	}
	h.Network().Notify((*leavers)(s))
	for _, p := range s.saved.peers() { // one may have come before the relay
		if s.direct(p) != nil {
			s.returned(p)
		}
	}
	h.SetStreamHandler(proto.ProtoIDv2Hop, s.handle)
	s.metrics.status.Set(1)
	return s, nil
}

// close ends the service, its circuits and reservations.
func (h *hop) close() error {
	h.host.RemoveStreamHandler(proto.ProtoIDv2Hop)
	h.host.Network().StopNotify((*leavers)(h))
	h.mu.Lock()
	h.closed = true
	h.mu.Unlock()
	h.cancel()
	h.endAll(CauseShutdown)
	h.requests.close() // these may wait for a peer that is silent
	h.wg.Wait()
	err := h.save()
	for _, r := range h.table.list(time.Time{}) {
		h.release(r.Peer, ReasonShutdown)
	}
	h.stopPolicy()
	h.scope.Done()
	h.metrics.unregister()
	return errors.Join(err, h.events.close())
}

// enter counts a request, unless the service is closed.
func (h *hop) enter() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.closed {
		return false
	}
	h.wg.Add(1)
	return true
}

var errAttach = errors.New("not accounted for")

// attach accounts for a stream and a message on it, which is to be released.
func attach(s network.Stream) error {
	if err := s.Scope().SetService(relayv2.ServiceName); err != nil {
		return err
	}
	return s.Scope().ReserveMemory(maxMessage, network.ReservationPriorityAlways)
}

func (h *hop) handle(s network.Stream) {
	if !h.enter() {
		_ = s.ResetWithError(network.StreamShutdown)
		return
	}
	defer h.wg.Done()
	if !h.pace.allow(s.Conn().RemotePeer(), addrOf(s.Conn())) {
		h.metrics.unread.Inc()
		answer(s, &pbv2.HopMessage{Status: pbv2.Status_RESOURCE_LIMIT_EXCEEDED.Enum()})
		h.strike(s.Conn().RemotePeer(), 1, s.Conn())
		return
	}
	if !h.requests.begin(s) {
		h.metrics.unread.Inc()
		_ = s.ResetWithError(network.StreamResourceLimitExceeded)
		h.strike(s.Conn().RemotePeer(), 1, s.Conn())
		return
	}
	defer h.requests.end(s)
	msg, err := h.read(s)
	switch {
	case errors.Is(err, errAttach):
		log.Debugw("no resources for a request", "peer", s.Conn().RemotePeer(), "error", err)
		_ = s.Reset()
	case err != nil:
		log.Debugw("request not understood", "peer", s.Conn().RemotePeer(), "error", err)
		answer(s, &pbv2.HopMessage{Status: pbv2.Status_MALFORMED_MESSAGE.Enum()})
		h.strike(s.Conn().RemotePeer(), garbage, s.Conn())
	case msg.GetType() == pbv2.HopMessage_RESERVE:
		h.reserve(s)
	case msg.GetType() == pbv2.HopMessage_CONNECT:
		h.connect(s, msg)
	default:
		answer(s, &pbv2.HopMessage{Status: pbv2.Status_UNEXPECTED_MESSAGE.Enum()})
	}
}

func (h *hop) read(s network.Stream) (*pbv2.HopMessage, error) {
	defer h.requests.read(s)
	if err := attach(s); err != nil {
		return nil, fmt.Errorf("%w: %w", errAttach, err)
	}
	defer s.Scope().ReleaseMemory(maxMessage)
	_ = s.SetReadDeadline(time.Now().Add(requestTimeout))
	defer func() { _ = s.SetReadDeadline(time.Time{}) }()
	in := util.NewDelimitedReader(s, maxMessage)
	defer in.Close()
	msg := new(pbv2.HopMessage)
	return msg, in.ReadMsg(msg)
}

// answer sends a status and closes the stream.
func answer(s network.Stream, msg *pbv2.HopMessage) {
	if err := writeHop(s, msg); err != nil {
		_ = s.Reset()
		return
	}
	_ = s.Close()
}

func writeHop(s network.Stream, msg *pbv2.HopMessage) error {
	msg.Type = pbv2.HopMessage_STATUS.Enum()
	_ = s.SetWriteDeadline(time.Now().Add(requestTimeout))
	defer func() { _ = s.SetWriteDeadline(time.Time{}) }()
	return util.NewDelimitedWriter(s).WriteMsg(msg)
}

// request describes what a peer wants.
func (h *hop) request(op Op, c network.Conn, other peer.ID) *Request {
	now := time.Now()
	p := c.RemotePeer()
	return &Request{
		Op: op, Peer: p, Addr: addrOf(c), Conn: c, Other: other, Time: now,
		Renewal: op == Reserve && h.table.get(p, now) != nil,
	}
}

// addrOf returns the IP address of a peer, an invalid one if there is none.
func addrOf(c network.Conn) netip.Addr {
	if c.Stat().Limited || isRelayed(c.RemoteMultiaddr()) {
		return netip.Addr{}
	}
	ip, err := manet.ToIP(c.RemoteMultiaddr())
	if err != nil {
		return netip.Addr{}
	}
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

// direct returns a connection of a peer that does not go through another relay,
// nil if there is none.
func (h *hop) direct(p peer.ID) network.Conn {
	for _, c := range h.host.Network().ConnsToPeer(p) {
		if !c.IsClosed() && addrOf(c).IsValid() {
			return c
		}
	}
	return nil
}

func isRelayed(a ma.Multiaddr) bool {
	_, err := a.ValueForProtocol(ma.P_CIRCUIT)
	return err == nil
}

// decide asks the policy about a request, after what no policy can allow.
func (h *hop) decide(ctx context.Context, r *Request) Decision {
	h.mu.Lock()
	policy, draining := h.policy, h.draining
	h.mu.Unlock()
	switch {
	case draining && !r.Renewal && r.Op != ConnectTo:
		return Refuse(ReasonDraining)
	case !r.Addr.IsValid():
		return Refuse(ReasonNoAddress)
	case policy == nil:
		return Decision{}
	}
	ctx, cancel := context.WithTimeout(ctx, decideTimeout)
	defer cancel()
	return policy.Decide(ctx, r)
}

// sweep ends reservations that were not renewed.
func (h *hop) sweep() {
	ticks := time.NewTicker(sweep)
	defer ticks.Stop()
	for {
		select {
		case now := <-ticks.C:
			for _, r := range h.table.expire(now) {
				h.gone(r, ReasonExpired)
			}
			h.saved.expire(now)
		case <-h.ctx.Done():
			return
		}
	}
}

// leavers hears of peers that come and leave: a reservation ends with the connection.
type leavers hop

// Disconnected is told of each connection that ends.
func (l *leavers) Disconnected(_ network.Network, c network.Conn) {
	(*hop)(l).lost(c)
	if p := c.RemotePeer(); (*hop)(l).direct(p) == nil {
		(*hop)(l).release(p, ReasonDisconnected)
	}
}

// Connected is told of a peer that may have held a reservation before the relay
// was started again.
func (l *leavers) Connected(_ network.Network, c network.Conn) { (*hop)(l).returned(c.RemotePeer()) }

func (*leavers) Listen(network.Network, ma.Multiaddr)      {}
func (*leavers) ListenClose(network.Network, ma.Multiaddr) {}

// setPolicy changes the policy and asks it about all who hold a reservation.
func (h *hop) setPolicy(ctx context.Context, p Policy) error {
	stop := func() {}
	if p != nil {
		var err error
		if stop, err = StartPolicy(h.host, p); err != nil {
			return err
		}
	}
	h.mu.Lock()
	if h.closed {
		h.mu.Unlock()
		stop()
		return ErrClosed
	}
	stopOld := h.stopPolicy
	h.policy, h.stopPolicy = p, stop
	h.mu.Unlock()
	stopOld()
	for _, r := range h.table.list(time.Now()) {
		if ctx.Err() != nil {
			return fmt.Errorf("not all peers were judged anew: %w", context.Cause(ctx))
		}
		h.judge(ctx, r)
	}
	return nil
}

// judge asks the policy again about who holds a reservation. What it grants
// counts from the next renewal on.
func (h *hop) judge(ctx context.Context, held Reservation) {
	conn := h.direct(held.Peer)
	if conn == nil {
		return
	}
	d := h.decide(ctx, h.request(Reserve, conn, ""))
	if why, refused := d.Refused(); refused {
		h.evict(held.Peer, why)
		return
	}
	if release := h.table.exchange(held.Peer, d.Release); release != nil {
		release()
	} else {
		d.Release()
	}
}

// evict ends what a peer has of the relay.
func (h *hop) evict(p peer.ID, why Reason) bool {
	saved := h.saved.forget(p)
	held := h.release(p, why)
	return h.endThoseOf(p, CauseEvicted) > 0 || held || saved
}
