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
	"github.com/libp2p/go-libp2p/core/record"
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
	host    host.Host
	limits  Limits
	addrs   func(ma.Multiaddr) bool
	table   *table
	metrics *metrics
	events  *events
	scope   network.ResourceScopeSpan
	circuits

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
		host:       h,
		limits:     cfg.limits,
		addrs:      reservationAddrs(h),
		table:      newTable(cfg.limits),
		circuits:   newCircuits(h, cfg.limits),
		stopPolicy: func() {},
	}
	var err error
	if s.metrics, err = newMetrics(cfg.registerer); err != nil {
		return nil, err
	}
	if s.events, err = newEvents(h); err != nil {
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
	h.Network().Notify((*leavers)(s))
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
	h.wg.Wait()
	for _, r := range h.table.list(time.Time{}) {
		h.release(r.Peer, ReasonShutdown)
	}
	h.stopPolicy()
	h.scope.Done()
	h.metrics.unregister()
	return h.events.close()
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

// attach accounts for a stream and a message on it, which is to be released.
func attach(s network.Stream) error {
	if err := s.Scope().SetService(relayv2.ServiceName); err != nil {
		return err
	}
	return s.Scope().ReserveMemory(maxMessage, network.ReservationPriorityAlways)
}

func (h *hop) handle(s network.Stream) {
	if !h.enter() {
		_ = s.Reset()
		return
	}
	defer h.wg.Done()
	if err := attach(s); err != nil {
		log.Debugw("no resources for a request", "peer", s.Conn().RemotePeer(), "error", err)
		_ = s.Reset()
		return
	}
	msg, err := readHop(s)
	s.Scope().ReleaseMemory(maxMessage)
	switch {
	case err != nil:
		log.Debugw("request not understood", "peer", s.Conn().RemotePeer(), "error", err)
		answer(s, &pbv2.HopMessage{Status: pbv2.Status_MALFORMED_MESSAGE.Enum()})
	case msg.GetType() == pbv2.HopMessage_RESERVE:
		h.reserve(s)
	case msg.GetType() == pbv2.HopMessage_CONNECT:
		h.connect(s, msg)
	default:
		answer(s, &pbv2.HopMessage{Status: pbv2.Status_UNEXPECTED_MESSAGE.Enum()})
	}
}

func readHop(s network.Stream) (*pbv2.HopMessage, error) {
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

// reserve answers a RESERVE.
func (h *hop) reserve(s network.Stream) {
	r := h.request(Reserve, s.Conn(), "")
	d := h.decide(h.ctx, r)
	why, refused := d.Refused()
	if !refused {
		why = h.admit(r, d)
	}
	if why != "" {
		h.metrics.refused(Reserve, why)
		h.events.reservation(EvtReservation{Peer: r.Peer, Addr: r.Addr, Change: ReservationRefused, Reason: why})
		answer(s, &pbv2.HopMessage{Status: why.status(Reserve).Enum()})
		return
	}
	h.metrics.answered(Reserve)
	held := h.table.get(r.Peer, r.Time)
	if held == nil { // it has just left
		_ = s.Reset()
		return
	}
	answer(s, &pbv2.HopMessage{
		Status:      pbv2.Status_OK.Enum(),
		Reservation: h.message(&held.Reservation),
		Limit:       limitMessage(held.Terms),
	})
}

// admit puts a reservation that the policy has allowed into the table.
func (h *hop) admit(r *Request, d Decision) Reason {
	terms := d.within(h.limits, r.Time)
	entry := &reservation{
		Reservation: Reservation{Peer: r.Peer, Addr: r.Addr, Since: r.Time, Expires: r.Time.Add(terms.TTL), Terms: terms},
		release:     d.Release,
	}
	renewal, evicted, why := h.table.put(entry)
	if why != "" {
		d.Release()
		return why
	}
	if evicted != nil {
		h.gone(evicted, ReasonCapacity)
	}
	change := ReservationRenewed
	if !renewal {
		change = ReservationMade
		h.metrics.reservations.Inc()
		h.host.ConnManager().TagPeer(r.Peer, tagReservation, weightReservation)
	}
	h.metrics.changed(change)
	h.events.reservation(EvtReservation{Peer: r.Peer, Addr: r.Addr, Change: change, Expires: entry.Expires})
	if h.host.Network().Connectedness(r.Peer) != network.Connected { // it has left meanwhile, which was told before
		h.release(r.Peer, ReasonDisconnected)
	}
	return ""
}

// release ends a peer's reservation.
func (h *hop) release(p peer.ID, why Reason) bool {
	r := h.table.take(p)
	if r == nil {
		return false
	}
	h.gone(r, why)
	return true
}

// gone tidies up after a reservation that is no longer in the table.
func (h *hop) gone(r *reservation, why Reason) {
	r.release()
	h.host.ConnManager().UntagPeer(r.Peer, tagReservation)
	h.metrics.reservations.Dec()
	h.metrics.changed(ReservationEnded)
	h.events.reservation(EvtReservation{Peer: r.Peer, Addr: r.Addr, Change: ReservationEnded, Reason: why})
}

// message describes a reservation (libp2p specs, relay/circuit-v2.md §Reservation).
func (h *hop) message(r *Reservation) *pbv2.Reservation {
	self := h.host.ID()
	expire := uint64(r.Expires.Unix())
	m := &pbv2.Reservation{Expire: &expire}
	suffix := ma.StringCast("/p2p/" + self.String())
	for _, a := range h.host.Addrs() {
		if h.addrs(a) && len(m.Addrs) < maxAddrs {
			m.Addrs = append(m.Addrs, a.Encapsulate(suffix).Bytes())
		}
	}
	voucher := &proto.ReservationVoucher{Relay: self, Peer: r.Peer, Expiration: r.Expires}
	envelope, err := record.Seal(voucher, h.host.Peerstore().PrivKey(self))
	if err == nil {
		m.Voucher, err = envelope.Marshal()
	}
	if err != nil {
		log.Warnw("reservation without a voucher", "error", err)
	}
	return m
}

// maxAddrs keeps a reservation's message below what clients read.
const maxAddrs = 32

// connect answers a CONNECT.
func (h *hop) connect(s network.Stream, msg *pbv2.HopMessage) {
	c, why := h.open(s, msg)
	if why != "" {
		h.metrics.refused(ConnectFrom, why)
		h.events.circuit(EvtCircuit{Circuit: Circuit{Source: s.Conn().RemotePeer(), Destination: destination(msg)}, Reason: why})
		answer(s, &pbv2.HopMessage{Status: why.status(ConnectFrom).Enum()})
		return
	}
	defer c.release()
	h.metrics.answered(ConnectFrom)
	if err := writeHop(s, &pbv2.HopMessage{Status: pbv2.Status_OK.Enum(), Limit: limitMessage(c.terms)}); err != nil {
		c.end(CauseReset)
		return
	}
	h.metrics.opened()
	h.events.circuit(EvtCircuit{Circuit: c.public()})
	c.run(h.limits.BufferSize)
	h.metrics.closed(c)
	h.events.circuit(EvtCircuit{Circuit: c.public(), Cause: c.ended()})
}

func destination(msg *pbv2.HopMessage) peer.ID {
	info, err := util.PeerToPeerInfoV2(msg.GetPeer())
	if err != nil {
		return ""
	}
	return info.ID
}

// open makes a circuit that is ready to be told to its source.
func (h *hop) open(s network.Stream, msg *pbv2.HopMessage) (c *openCircuit, why Reason) {
	src, dst := s.Conn().RemotePeer(), destination(msg)
	if dst == "" {
		return nil, ReasonMalformed
	}
	from := h.decide(h.ctx, h.request(ConnectFrom, s.Conn(), dst))
	if why, refused := from.Refused(); refused {
		return nil, why
	}
	c = &openCircuit{circuit: &circuit{src: src, dst: dst, since: time.Now(), done: make(chan struct{})}}
	c.onRelease(from.Release)
	defer func() {
		if why != "" {
			c.release()
		}
	}()
	held := h.table.get(dst, c.since)
	if held == nil {
		return c, ReasonNoReservation
	}
	to := Decision{}
	if conns := h.host.Network().ConnsToPeer(dst); len(conns) > 0 {
		to = h.decide(h.ctx, h.request(ConnectTo, conns[0], src))
	}
	if why, refused := to.Refused(); refused {
		return c, why
	}
	c.onRelease(to.Release)
	c.terms = circuitTerms(h.limits, from, to, held.Terms)
	return c, h.join(c, s, [2]int64{from.within(h.limits, c.since).Rate, held.Terms.Rate})
}

// join takes what the circuit needs and calls its destination.
func (h *hop) join(c *openCircuit, s network.Stream, rates [2]int64) Reason {
	span, err := h.scope.BeginSpan()
	if err == nil {
		c.onRelease(span.Done)
		err = span.ReserveMemory(2*h.limits.BufferSize, network.ReservationPriorityHigh)
	}
	if err != nil {
		log.Debugw("no resources for a circuit", "source", c.src, "destination", c.dst, "error", err)
		return ReasonResources
	}
	if why := h.enlist(c, rates); why != "" {
		return why
	}
	stop, err := h.callStop(h.ctx, c.circuit)
	if err != nil {
		log.Debugw("destination did not take a circuit", "source", c.src, "destination", c.dst, "error", err)
		return ReasonUnreachable
	}
	if !c.begin(s, stop) { // ended while its destination was asked
		_ = stop.Reset()
		return ReasonUnreachable
	}
	return ""
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
		case <-h.ctx.Done():
			return
		}
	}
}

// leavers hears of peers that leave: a reservation ends with the connection.
type leavers hop

func (l *leavers) Disconnected(n network.Network, c network.Conn) {
	if p := c.RemotePeer(); n.Connectedness(p) != network.Connected {
		(*hop)(l).release(p, ReasonDisconnected)
	}
}

func (*leavers) Connected(network.Network, network.Conn)   {}
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
	conns := h.host.Network().ConnsToPeer(held.Peer)
	if len(conns) == 0 {
		return
	}
	d := h.decide(ctx, h.request(Reserve, conns[0], ""))
	if why, refused := d.Refused(); refused {
		h.evict(held.Peer, why)
		return
	}
	if !h.table.exchange(held.Peer, d.Release) {
		d.Release()
	}
}

// evict ends what a peer has of the relay.
func (h *hop) evict(p peer.ID, why Reason) bool {
	held := h.release(p, why)
	return h.endThoseOf(p, CauseEvicted) > 0 || held
}

// drain refuses what is new and waits until no circuit is open.
func (h *hop) drain(ctx context.Context) error {
	h.mu.Lock()
	h.draining = true
	h.mu.Unlock()
	return h.idle(ctx)
}
