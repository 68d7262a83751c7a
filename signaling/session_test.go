package signaling

import (
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// wantError checks reason and stage.
func wantError(t *testing.T, err, reason error, stage Stage) {
	t.Helper()
	e, ok := errors.AsType[*Error](err)
	if !ok || !errors.Is(err, reason) || e.Stage != stage || e.Peer != remotePeer {
		t.Errorf("error %v, want %v at stage %s", err, reason, stage)
	}
}

// wantAfter checks how much of the bubble's time went by.
func wantAfter(t *testing.T, start time.Time, want time.Duration) {
	t.Helper()
	if got := time.Since(start); got != want {
		t.Errorf("took %v, want %v", got, want)
	}
}

func TestSilence(t *testing.T) {
	limits := DefaultLimits()
	t.Run("no offer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, _ := newPipeService(t)
			start := time.Now()
			<-h.dial().reset
			wantAfter(t, start, limits.OfferTimeout)
		})
	})
	t.Run("no answer", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, s := newPipeService(t)
			start := time.Now()
			out, _ := offered(t, h, s)
			_, err := out.Answer(t.Context())
			wantError(t, err, ErrTimeout, StageAnswer)
			wantAfter(t, start, limits.Timeout)
		})
	})
	t.Run("an offer a byte a second", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, _ := newPipeService(t)
			start := time.Now()
			remote := h.dial()
			drip := time.NewTicker(time.Second)
			defer drip.Stop()
			for frame := (message{typeOffer, "0123456789"}).frame(); len(frame) > 0; frame = frame[1:] {
				if _, err := remote.Write(frame[:1]); err != nil {
					break
				}
				select {
				case <-drip.C:
					continue
				case <-remote.reset:
				}
				break
			}
			<-remote.reset
			wantAfter(t, start, limits.OfferTimeout)
		})
	})
	t.Run("nothing is read", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, s := newPipeService(t)
			ours, _ := newPipe()
			h.open = func(context.Context) (network.Stream, error) { return ours, nil }
			start := time.Now()
			_, err := s.Offer(t.Context(), remotePeer, "our offer")
			wantError(t, err, ErrTimeout, StageOffer)
			wantAfter(t, start, limits.Timeout)
		})
	})
	t.Run("no end", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, s := newPipeService(t)
			out, remote := offered(t, h, s)
			remote.send(t, typeAnswer, "answer")
			if sdp, err := out.Answer(t.Context()); sdp != "answer" || err != nil {
				t.Fatal(sdp, err)
			}
			start := time.Now()
			wantError(t, out.Done(t.Context()), ErrTimeout, StageClose)
			wantAfter(t, start, limits.DrainTimeout)
		})
	})
	t.Run("nobody accepts", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			h, s := newPipeService(t)
			start := time.Now()
			remote := h.dial()
			remote.send(t, typeOffer, "offer")
			<-remote.reset
			wantAfter(t, start, limits.Timeout)
			synctest.Wait()
			if s.Waiting() != 0 {
				t.Error("an offer that is over still waits")
			}
		})
	})
}

func TestContextEnds(t *testing.T) {
	gone := errors.New("the user has left")
	synctest.Test(t, func(t *testing.T) {
		h, s := newPipeService(t)
		ctx, cancel := context.WithCancelCause(t.Context())
		cancel(gone)
		// what only waits may be called again
		if _, err := s.Accept(ctx); !errors.Is(err, gone) {
			t.Errorf("Accept: %v", err)
		}
		out, remote := offered(t, h, s)
		if _, err := out.Answer(ctx); !errors.Is(err, gone) {
			t.Errorf("Answer: %v", err)
		}
		for _, err := range out.Candidates(ctx) {
			if !errors.Is(err, gone) {
				t.Errorf("Candidates: %v", err)
			}
		}
		remote.send(t, typeAnswer, "answer")
		if _, err := out.Answer(t.Context()); err != nil {
			t.Fatal(err)
		}
		// what leaves the remote in doubt aborts
		wantError(t, out.Done(ctx), gone, StageClose)
		wantError(t, out.Done(t.Context()), ErrAborted, StageClose)
		if <-remote.reset; *remote.code != network.StreamNoError {
			t.Errorf("code %#x", *remote.code)
		}

		ours, unread := newPipe()
		h.open = func(context.Context) (network.Stream, error) { return ours, nil }
		_, err := s.Offer(ctx, remotePeer, "offer")
		wantError(t, err, gone, StageOffer)
		<-unread.reset

		remote = h.dial()
		remote.send(t, typeOffer, "offer")
		in, err := s.Accept(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		wantError(t, in.Answer(ctx, "answer"), gone, StageAnswer)
		<-remote.reset
	})
}

func TestOfferFails(t *testing.T) {
	boom := errors.New("boom")
	synctest.Test(t, func(t *testing.T) {
		h, s := newPipeService(t)
		h.open = func(context.Context) (network.Stream, error) { return nil, boom }
		_, err := s.Offer(t.Context(), remotePeer, "offer")
		wantError(t, err, boom, StageStream)

		h.open = func(ctx context.Context) (network.Stream, error) { // as the host does while it dials
			<-ctx.Done()
			return nil, ctx.Err()
		}
		ctx, cancel := context.WithTimeoutCause(t.Context(), time.Second, boom)
		defer cancel()
		_, err = s.Offer(ctx, remotePeer, "offer")
		wantError(t, err, boom, StageStream)

		for _, sdp := range []string{"", "\xff", string(make([]byte, 16<<10))} {
			if _, err := s.Offer(t.Context(), remotePeer, sdp); err == nil {
				t.Errorf("a description of %d bytes is sent", len(sdp))
			}
		}
		largest := string(make([]byte, 16<<10-6)) // and two tags, a type and a length
		ours, theirs := newPipe()
		h.open = func(context.Context) (network.Stream, error) { return ours, nil }
		go func() { _, _ = io.Copy(io.Discard, theirs) }()
		out, err := s.Offer(t.Context(), remotePeer, largest)
		if err != nil {
			t.Fatal(err)
		}
		out.Abort(nil)
	})
}

func TestNoResources(t *testing.T) {
	for _, scope := range []pipeScope{
		{noService: network.ErrResourceLimitExceeded},
		{noMemory: network.ErrResourceLimitExceeded},
	} {
		synctest.Test(t, func(t *testing.T) {
			h, s := newPipeService(t)
			ours, theirs := newPipe()
			ours.scope = scope
			_, err := s.OfferOver(t.Context(), ours, "offer")
			wantError(t, err, network.ErrResourceLimitExceeded, StageStream)
			if !strings.Contains(err.Error(), "stream, peer ") {
				t.Errorf("%v does not tell the stage", err)
			}
			incoming, remote := newPipe()
			incoming.scope = scope
			h.handler(incoming)
			for _, r := range []*pipeStream{theirs, remote} {
				if <-r.reset; *r.code != network.StreamResourceLimitExceeded {
					t.Errorf("code %#x", *r.code)
				}
			}
			if s.slots.incoming+s.slots.outgoing+len(s.slots.perPeer) != 0 {
				t.Errorf("places are not given back: %+v", s.slots)
			}
		})
	}
}

func TestCloseUnblocks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, s := newPipeService(t)
		waiting, remote := offered(t, h, s)
		stuck, _ := newPipe()
		h.open = func(context.Context) (network.Stream, error) { return stuck, nil }
		silent := h.dial()
		errs := make(chan error, 10)
		n := 0
		call := func(f func() error) {
			n++
			go func() { errs <- f() }()
		}
		call(func() error { _, err := s.Accept(t.Context()); return err })
		call(func() error { _, err := waiting.Answer(t.Context()); return err })
		call(func() error {
			for _, err := range waiting.Candidates(t.Context()) {
				return err
			}
			return nil
		})
		call(func() error { _, err := s.Offer(t.Context(), remotePeer, "nobody reads this"); return err })
		synctest.Wait()
		h.open = func(ctx context.Context) (network.Stream, error) { <-ctx.Done(); return nil, ctx.Err() }
		call(func() error { _, err := s.Offer(t.Context(), remotePeer, "while it dials"); return err })
		synctest.Wait()
		for range 2 {
			if err := s.Close(); err != nil {
				t.Error(err)
			}
		}
		for range n {
			if err := <-errs; !errors.Is(err, ErrClosed) || !errors.Is(err, net.ErrClosed) {
				t.Errorf("a call that waited: %v", err)
			}
		}
		for _, r := range []*pipeStream{remote, silent} {
			if <-r.reset; *r.code != network.StreamShutdown {
				t.Errorf("code %#x, want that of a shutdown", *r.code)
			}
		}
		if _, err := s.Offer(t.Context(), remotePeer, "offer"); !errors.Is(err, ErrClosed) {
			t.Errorf("Offer after Close: %v", err)
		}
		if _, err := s.Accept(t.Context()); !errors.Is(err, ErrClosed) {
			t.Errorf("Accept after Close: %v", err)
		}
		if err := waiting.SendCandidate(Candidate{Candidate: udpCandidate}); !errors.Is(err, ErrClosed) {
			t.Errorf("SendCandidate after Close: %v", err)
		}
		ours, theirs := newPipe()
		if _, err := s.OfferOver(t.Context(), ours, "offer"); !errors.Is(err, ErrClosed) {
			t.Errorf("OfferOver after Close: %v", err)
		}
		<-theirs.reset
		s.handle(ours) // a stream that came just before the handler was removed
	})
}

func TestWriteDeadlineIsATimeout(t *testing.T) {
	if err := streamError(os.ErrDeadlineExceeded); !errors.Is(err, ErrTimeout) {
		t.Error(err)
	}
}
