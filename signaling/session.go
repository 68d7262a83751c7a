package signaling

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Session is what both roles have in common: candidates go to and fro until
// one side is done or gives up. End each session with Done or Abort; its
// [Limits.Timeout] ends it otherwise. It is safe for concurrent use.
type Session struct {
	service *Service
	stream  network.Stream
	gone    chan struct{} // closed once nothing of the session runs any more

	mu      sync.Mutex
	m       *machine      // guarded by mu
	changed chan struct{} // guarded by mu; closed and replaced when m has changed
}

func newSession(s *Service, stream network.Stream, m *machine) *Session {
	return &Session{
		service: s,
		stream:  stream,
		m:       m,
		gone:    make(chan struct{}),
		changed: make(chan struct{}),
	}
}

// Conn returns the connection that carries the signaling: it is authenticated,
// and what binds the descriptions to the remote's identity and key.
func (s *Session) Conn() network.Conn { return s.stream.Conn() }

// Peer returns the remote.
func (s *Session) Peer() peer.ID { return s.stream.Conn().RemotePeer() }

// SendCandidate sends a local candidate; it does not block. The answerer's wait
// until its answer is sent. End-of-candidates is not sent. An error says that
// this candidate is not sent, and matters only if the session has not ended:
// agents go on finding candidates after they are connected.
func (s *Session) SendCandidate(c Candidate) error {
	var err error
	s.update(func(time.Time) { err = s.m.send(c) })
	return s.wrap(err)
}

// Candidates yields the remote's candidates that the policy lets through, each
// once, until the remote has sent all, which says that it is connected or will
// not be, or until this side is done. An error is the last that it yields. If
// the loop ends before, another takes up where it was.
func (s *Session) Candidates(ctx context.Context) iter.Seq2[Candidate, error] {
	return func(yield func(Candidate, error) bool) {
		for {
			c, err := s.nextCandidate(ctx)
			switch {
			case errors.Is(err, io.EOF):
				return
			case err != nil:
				yield(Candidate{}, err)
				return
			case !yield(c, nil):
				return
			}
		}
	}
}

func (s *Session) nextCandidate(ctx context.Context) (c Candidate, err error) {
	ready := func() bool {
		switch {
		case len(s.m.inbox) > 0:
			c = s.m.inbox[0]
			s.m.inbox = s.m.inbox[1:]
		case s.m.phase == over && s.m.err != nil:
			err = s.m.err
		case s.m.ended, s.m.phase >= closing:
			err = io.EOF
		default:
			return false
		}
		return true
	}
	if ctxErr := s.await(ctx, ready); ctxErr != nil {
		return c, ctxErr
	}
	if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
		return c, io.EOF
	}
	return c, s.wrap(err)
}

// Done says that the connection stands: it closes this end of the stream once
// what was given is written, then waits for the remote to close the other, for
// [Limits.DrainTimeout] altogether.
// js-libp2p does so when it is connected, just before it takes streams.
//
// With an error the connection may stand all the same, but the remote has not
// confirmed it. If ctx ends first the session is aborted.
func (s *Session) Done(ctx context.Context) error {
	var err error
	s.update(func(now time.Time) { err = s.m.finish(now) })
	if err != nil {
		return s.wrap(err)
	}
	select {
	case <-s.gone:
	case <-ctx.Done():
		s.Abort(context.Cause(ctx))
		<-s.gone
	}
	return s.failure()
}

// Abort gives up: the remote sees a reset, and calls that wait return
// [ErrAborted] with err, which may be nil. It does nothing on a session that
// has ended.
func (s *Session) Abort(err error) {
	if err == nil {
		s.fail(ErrAborted)
		return
	}
	s.fail(fmt.Errorf("%w: %w", ErrAborted, err))
}

// fail ends the session with err, unless it is over.
func (s *Session) fail(err error) {
	s.update(func(time.Time) { s.m.fail(err) })
}

// update changes the machine, and tells all who wait. A failure resets the
// stream, from here, since whoever reads or writes it may be stuck in there.
// What it returns is closed by the next update.
func (s *Session) update(change func(now time.Time)) <-chan struct{} {
	s.mu.Lock()
	was := s.m.phase
	change(time.Now())
	err := s.m.err
	failed := err != nil && was != over
	refused := s.m.takeRefused()
	close(s.changed)
	s.changed = make(chan struct{})
	changed := s.changed
	s.mu.Unlock()
	for why, n := range refused {
		s.service.metrics.refused.WithLabelValues(string(why)).Add(float64(n))
		log.Debug("candidates refused", "peer", s.Peer(), "reason", string(why), "count", n)
	}
	if failed {
		log.Debug("session failed", "error", s.failure())
		_ = s.stream.ResetWithError(resetCode(err)) // it is gone either way
	}
	return changed
}

// await waits until ready, which it calls with mu held, says true.
func (s *Session) await(ctx context.Context, ready func() bool) error {
	for {
		s.mu.Lock()
		ok, changed := ready(), s.changed
		s.mu.Unlock()
		if ok {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// flush waits until all that was given is written; if ctx ends first the
// session is aborted, since nobody knows what the remote has got.
func (s *Session) flush(ctx context.Context) error {
	err := s.await(ctx, func() bool { return s.m.phase == over || s.m.flushed() })
	if err != nil {
		s.Abort(err)
	}
	return s.failure()
}

// failure returns why the session is over, nil if it is not or ended well.
func (s *Session) failure() error {
	s.mu.Lock()
	err := s.m.err
	s.mu.Unlock()
	return s.wrap(err)
}

// wrap adds the stage and the peer.
func (s *Session) wrap(err error) error {
	if err == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	stage := s.m.stage()
	if s.m.failedAt != "" {
		stage = s.m.failedAt
	}
	return &Error{Stage: stage, Peer: s.Peer(), Err: err}
}

// run reads and writes the stream until the session is over. It calls offered
// when the remote's offer has come.
func (s *Session) run(offered func()) {
	var reading sync.WaitGroup
	reading.Go(func() { s.read(offered) })
	s.write()
	s.mu.Lock()
	err := s.m.err
	s.mu.Unlock()
	if err != nil {
		// update may not have come to it yet, and a Close before would look like an end
		_ = s.stream.ResetWithError(resetCode(err)) // it is gone either way
	} else {
		_ = s.stream.Close() // both ends are closed
	}
	reading.Wait()
}

func (s *Session) read(offered func()) {
	r := newReader(s.stream, s.m.limits.MessageSize)
	for {
		msg, err := r.next()
		var offer, end bool
		s.update(func(time.Time) {
			was := s.m.phase
			switch {
			case err == nil:
				s.m.receive(msg)
			case errors.Is(err, io.EOF):
				s.m.receiveEnd()
			default:
				s.m.fail(err)
			}
			offer = was == awaitOffer && s.m.phase == awaitAnswer
			end = err != nil || s.m.phase == over
		})
		if offer {
			offered()
		}
		if end {
			return
		}
	}
}

// write does what the machine says until it is over, and brings it the time.
func (s *Session) write() {
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		var todo step
		changed := s.update(func(now time.Time) { todo = s.m.next(now) })
		var err error
		switch {
		case todo.over:
			return
		case todo.write != nil:
			_ = s.stream.SetWriteDeadline(todo.deadline) // where there are none, a reset ends Write
			_, err = s.stream.Write(todo.write)
		case todo.closing:
			err = s.stream.CloseWrite()
		default:
			timer.Reset(time.Until(todo.deadline))
			select {
			case <-changed:
			case <-timer.C:
			}
			continue
		}
		s.update(func(time.Time) { s.m.wrote(streamError(err)) })
	}
}
