package webrtc

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
)

func TestConnClose(t *testing.T) {
	many := func(f func()) {
		var wg sync.WaitGroup
		for range 10 {
			wg.Go(f)
		}
		wg.Wait()
	}
	for name, end := range map[string]func(a, b *side){
		"close":           func(a, _ *side) { _ = a.Close() },
		"remote":          func(_, b *side) { _ = b.Close() },
		"gone":            func(a, _ *side) { a.gone(errors.New("lost")) },
		"both":            func(a, b *side) { go b.Close(); _ = a.Close() },
		"PeerConnection":  func(a, _ *side) { _ = a.pc.Close() },
		"many at once":    func(a, _ *side) { many(func() { _ = a.Close() }) },
		"close with code": func(a, _ *side) { _ = a.CloseWithError(7) },
	} {
		t.Run(name, func(t *testing.T) {
			a, b := newPionPair(t)
			errs := make(chan error, 64)
			var wg sync.WaitGroup
			do := func(f func() error) {
				wg.Go(func() {
					for {
						if err := f(); err != nil {
							errs <- err
							return
						}
					}
				})
			}
			reader := open(t, a)
			for range 8 { // so that some wait in the sendQueue
				writer := open(t, a)
				do(func() error { return writeUntilError(writer) })
			}
			do(func() error { _, err := a.AcceptStream(); return err })
			do(func() error { _, err := reader.Read(make([]byte, 1)); return err })
			do(func() error { // opens, and resets half of them
				s, err := a.OpenStream(context.Background())
				if err == nil {
					if _, err = s.Write([]byte("x")); err == nil && rand.IntN(2) == 0 {
						err = s.Reset()
					}
				}
				return err
			})
			for range 3 {
				_, _ = b.AcceptStream()
			}
			end(a, b)
			wg.Wait()
			close(errs)
			for err := range errs {
				var ce *network.ConnError
				if !errors.As(err, &ce) && !errors.Is(err, network.ErrReset) {
					t.Errorf("a call returned %v", err)
				}
				if name == "close with code" && (ce == nil || ce.Remote || ce.ErrorCode != 7) {
					t.Errorf("a call returned %v", err)
				}
			}
			await(t, "closed", a.IsClosed)
			_ = a.Close()
			_ = b.Close()
			for _, s := range []*side{a, b} {
				if s.closed.Load() != 101 || s.scope.done.Load() != 1 {
					t.Errorf("closePC and onClosed: %d, Done: %d", s.closed.Load(), s.scope.done.Load())
				}
				if !s.scope.empty() {
					t.Errorf("held after Close: %d spans, %d bytes", s.scope.spans.Load(), s.scope.bytes.Load())
				}
			}
			if _, err := a.OpenStream(t.Context()); err == nil {
				t.Error("OpenStream succeeded after Close")
			}
		})
	}
}

// TestOpenedAsTheConnEnds: a remote that takes the stream, resets it and closes the
// connection may do so before OpenStream returns, which is no failure of OpenStream's.
func TestOpenedAsTheConnEnds(t *testing.T) {
	a, _ := newPionPair(t)
	mem, err := a.reserve()
	if err != nil {
		t.Fatal(err)
	}
	before := a.scope.bytes.Load()
	defer a.close()
	a.end(errGone) // while OpenStream is about to open the channel
	s, err := a.openNext(t.Context(), mem, func() {})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.Write([]byte("x")); !errors.Is(err, errGone) {
		t.Errorf("Write returned %v", err)
	}
	if _, err := s.Read(make([]byte, 1)); !errors.Is(err, errGone) {
		t.Errorf("Read returned %v", err)
	}
	if freed := before - a.scope.bytes.Load(); freed != streamCost+firstWindow {
		t.Errorf("%d bytes given back", freed)
	}
}

// TestReadableAfterConnClose reads what a remote has sent, ended, and hung up on.
func TestReadableAfterConnClose(t *testing.T) {
	a, b := newPionPair(t)
	s := open(t, a)
	_, _ = s.Write([]byte("last words"))
	_ = s.CloseWrite()
	r := accept(t, b)
	await(t, "FIN", func() bool { return r.look(func() bool { return r.machine.recv == halfDone }) })
	_ = a.Close()
	<-b.ended
	if got, err := io.ReadAll(r); err != nil || string(got) != "last words" {
		t.Fatal(string(got), err)
	}
}
