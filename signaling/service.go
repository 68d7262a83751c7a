package signaling

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"
	"unicode/utf8"

	logging "github.com/ipfs/go-log/v2"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/tangop2p/tango/internal/prom"
	"github.com/tangop2p/tango/internal/undo"
)

// ProtocolID is the protocol of libp2p specs, webrtc/webrtc.md §Signaling Protocol.
const ProtocolID protocol.ID = "/webrtc-signaling/0.0.1"

// ServiceName is what the resource manager knows the Service's streams by.
const ServiceName = "tango.signaling"

var log = logging.Logger("tango/signaling")

// Service signals with other peers. It is safe for concurrent use.
type Service struct {
	host    host.Host
	cfg     config
	metrics *metrics
	undo    undo.Stack

	ctx    context.Context //nolint:containedctx // the Service's own lifetime, which Close ends
	cancel context.CancelFunc
	wg     sync.WaitGroup // one for each session, from its admission to its end

	mu       sync.Mutex
	slots    slots                 // guarded by mu
	sessions map[*Session]struct{} // guarded by mu
	waiting  []*Incoming           // guarded by mu; for Accept
	arrived  chan struct{}         // guarded by mu; closed and replaced when waiting grows

	closeOnce sync.Once
	closeErr  error
}

// New serves the protocol on h. There is one Service on a host. Close must be
// called before h is closed.
//
// The offers of others wait for [Service.Accept]; who only makes offers may
// leave them to their timeout.
func New(h host.Host, opts ...Option) (*Service, error) {
	cfg, err := newConfig(opts)
	if err != nil {
		return nil, fmt.Errorf("signaling: %w", err)
	}
	if slices.Contains(h.Mux().Protocols(), ProtocolID) {
		return nil, fmt.Errorf("signaling: %s is served on this host already: close the other Service first", ProtocolID)
	}
	s := &Service{
		host:     h,
		cfg:      cfg,
		metrics:  newMetrics(),
		slots:    slots{limits: cfg.limits, perPeer: make(map[peer.ID]int)},
		sessions: make(map[*Session]struct{}),
		arrived:  make(chan struct{}),
	}
	unregister, err := prom.Register(cfg.registerer, s.metrics.all()...)
	if err != nil {
		return nil, fmt.Errorf("signaling: %w", err)
	}
	s.undo.AddFunc(unregister)
	s.ctx, s.cancel = context.WithCancel(context.Background())
	h.SetStreamHandler(ProtocolID, s.handle)
	s.undo.AddFunc(func() { h.RemoveStreamHandler(ProtocolID) })
	return s, nil
}

// Offer opens a stream to p on a connection that exists, which may be a limited
// one through a relay, and sends an offer; it returns when that is written.
// Set the local description after it, so that candidates come after the offer,
// and give them to the session. ctx bounds this call only.
func (s *Service) Offer(ctx context.Context, p peer.ID, sdp string) (*Outgoing, error) {
	if err := s.checkDescription(sdp); err != nil {
		return nil, &Error{Stage: StageOffer, Peer: p, Err: err}
	}
	if err := s.enter(offerer, p); err != nil {
		return nil, &Error{Stage: StageStream, Peer: p, Err: err}
	}
	stream, err := s.open(ctx, p)
	if err != nil {
		s.leave(offerer, p, err)
		return nil, &Error{Stage: StageStream, Peer: p, Err: err}
	}
	return s.offerOver(ctx, stream, sdp)
}

func (s *Service) open(ctx context.Context, p peer.ID) (network.Stream, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.ctx, func() { cancel(ErrClosed) })() //nolint:contextcheck // Close ends the call too
	const why = "webrtc signaling"
	stream, err := s.host.NewStream(network.WithNoDial(network.WithAllowLimitedConn(ctx, why), why), p, ProtocolID)
	switch {
	case err == nil:
		return stream, nil
	case ctx.Err() != nil:
		return nil, context.Cause(ctx)
	case s.host.Network().Connectedness(p) == network.NotConnected: // the host keeps that to itself
		return nil, fmt.Errorf("%w: %w", network.ErrNoConn, err)
	default:
		return nil, streamError(err)
	}
}

// OfferOver is [Service.Offer] on a stream that the caller has opened with
// [ProtocolID], on the connection of its choice. The stream is the session's
// from now on; it is reset if there is an error.
func (s *Service) OfferOver(ctx context.Context, stream network.Stream, sdp string) (*Outgoing, error) {
	p := stream.Conn().RemotePeer()
	refuse := func(stage Stage, err error) (*Outgoing, error) {
		_ = stream.ResetWithError(resetCode(err)) // it is gone either way
		return nil, &Error{Stage: stage, Peer: p, Err: err}
	}
	if err := s.checkDescription(sdp); err != nil {
		return refuse(StageOffer, err)
	}
	if err := s.enter(offerer, p); err != nil {
		return refuse(StageStream, err)
	}
	return s.offerOver(ctx, stream, sdp)
}

// offerOver begins a session that has entered.
func (s *Service) offerOver(ctx context.Context, stream network.Stream, sdp string) (*Outgoing, error) {
	session, err := s.begin(stream, offerer, func(t terms) *machine { return newOfferer(t, time.Now(), sdp) })
	if err != nil {
		return nil, err
	}
	go s.serve(session, func() {}) // s.wg knows of it since it has entered
	if err := session.flush(ctx); err != nil {
		return nil, err
	}
	return &Outgoing{session}, nil
}

// Accept waits for an offer of a remote. Answer the session or Abort it; ctx
// bounds this call only. With [Limits.Backlog] offers waiting, more are refused.
func (s *Service) Accept(ctx context.Context) (*Incoming, error) {
	for {
		in, arrived, err := s.pop()
		if in != nil || err != nil {
			return in, err
		}
		select {
		case <-arrived:
		case <-s.ctx.Done():
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

func (s *Service) pop() (*Incoming, <-chan struct{}, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.slots.closed:
		return nil, nil, ErrClosed
	case len(s.waiting) == 0:
		return nil, s.arrived, nil
	}
	in := s.waiting[0]
	s.waiting = slices.Delete(s.waiting, 0, 1)
	return in, nil, nil
}

// handle serves a stream that a remote has opened.
func (s *Service) handle(stream network.Stream) {
	p := stream.Conn().RemotePeer()
	if err := s.enter(answerer, p); err != nil {
		log.Debug("stream refused", "peer", p, "error", err)
		_ = stream.ResetWithError(resetCode(err)) // it is gone either way
		return
	}
	session, err := s.begin(stream, answerer, func(t terms) *machine { return newAnswerer(t, time.Now()) })
	if err != nil {
		log.Debug("stream refused", "error", err)
		return
	}
	s.serve(session, func() {
		if !s.push(&Incoming{Session: session, offer: session.m.remote}) {
			session.fail(fmt.Errorf("%w: %d offers wait already", ErrBusy, s.cfg.limits.Backlog))
		}
	})
}

func (s *Service) push(in *Incoming) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.waiting) >= s.cfg.limits.Backlog {
		return false
	}
	s.waiting = append(s.waiting, in)
	close(s.arrived)
	s.arrived = make(chan struct{})
	return true
}

// begin makes a session of a stream. With an error the stream is reset, and
// the session has left.
func (s *Service) begin(stream network.Stream, r role, newMachine func(terms) *machine) (*Session, error) {
	conn := stream.Conn()
	err := s.reserve(stream.Scope())
	session := newSession(s, stream, newMachine(terms{s.cfg.limits, s.cfg.policy, classOf(remoteAddr(conn))}))
	s.mu.Lock()
	if s.slots.closed {
		err = ErrClosed
	}
	if err == nil {
		s.sessions[session] = struct{}{}
	}
	s.mu.Unlock()
	if err != nil {
		_ = stream.ResetWithError(resetCode(err)) // it is gone either way
		s.leave(r, conn.RemotePeer(), err)
		return nil, &Error{Stage: StageStream, Peer: conn.RemotePeer(), Err: err}
	}
	return session, nil
}

// reserve takes the session's memory, which goes back with the stream.
func (s *Service) reserve(scope network.StreamScope) error {
	if err := scope.SetService(ServiceName); err != nil {
		return fmt.Errorf("attach the stream to the service: %w", err)
	}
	if err := scope.ReserveMemory(s.cfg.limits.memory(s.cfg.policy.Max), network.ReservationPriorityAlways); err != nil {
		return fmt.Errorf("reserve memory: %w", err)
	}
	return nil
}

// serve runs a session to its end.
func (s *Service) serve(session *Session, offered func()) {
	session.run(offered)
	s.mu.Lock()
	delete(s.sessions, session)
	s.waiting = slices.DeleteFunc(s.waiting, func(in *Incoming) bool { return in.Session == session })
	s.mu.Unlock()
	s.free(session.m.role, session.Peer(), session.failure())
	close(session.gone)
	s.wg.Done()
}

// enter takes a place for a session, which leave gives back.
func (s *Service) enter(r role, p peer.ID) error {
	s.mu.Lock()
	err := s.slots.take(r, p)
	if err == nil {
		s.wg.Add(1)
	}
	s.mu.Unlock()
	if err != nil {
		s.metrics.sessions.WithLabelValues(string(r), outcome(err)).Inc()
	}
	return err
}

// leave ends a session that has not begun.
func (s *Service) leave(r role, p peer.ID, err error) {
	s.free(r, p, err)
	s.wg.Done()
}

func (s *Service) free(r role, p peer.ID, err error) {
	s.mu.Lock()
	s.slots.give(r, p)
	s.mu.Unlock()
	s.metrics.sessions.WithLabelValues(string(r), outcome(err)).Inc()
}

// Close ends all sessions, by reset, and returns when nothing of the Service
// runs any more. Calls that wait return [ErrClosed]. It is idempotent.
func (s *Service) Close() error {
	s.closeOnce.Do(func() {
		s.mu.Lock()
		s.slots.closed = true
		var resets sync.WaitGroup
		for session := range s.sessions {
			// side by side: on a connection that is stuck each may take seconds
			resets.Go(func() { session.fail(ErrClosed) })
		}
		s.mu.Unlock()
		s.cancel()
		resets.Wait()
		s.wg.Wait()
		if err := s.undo.Run(); err != nil {
			s.closeErr = fmt.Errorf("signaling: close: %w", err)
		}
	})
	return s.closeErr
}

// checkDescription says what is wrong with a local description.
func (s *Service) checkDescription(sdp string) error {
	switch size := (message{typeAnswer, sdp}).size(); {
	case sdp == "":
		return errors.New("the description is empty")
	case !utf8.ValidString(sdp):
		return errors.New("the description is not UTF-8")
	case size > s.cfg.limits.MessageSize:
		return fmt.Errorf("%w: a message of %d bytes, %d are allowed", ErrLimit, size, s.cfg.limits.MessageSize)
	}
	return nil
}
