package webrtc

import (
	"errors"
	"os"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
)

func inFirstBubble(t *testing.T, opener bool, f func(t *testing.T, r *fakeRig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		limits := defaultStreamLimits()
		limits.firstAlone = true
		r := newFakeRigOf(t, newFakeChannel(), &shared{closer: &closer{}, limits: limits}, opener)
		f(t, r)
		r.gone(errGone)
		r.ch.over(errGone)
		synctest.Wait()
	})
}

func wantMessages(t *testing.T, r *fakeRig, n int) {
	t.Helper()
	synctest.Wait()
	r.ch.mu.Lock()
	defer r.ch.mu.Unlock()
	if len(r.ch.sent) != n {
		t.Fatalf("%d messages sent, want %d", len(r.ch.sent), n)
	}
}

// TestFirstAlone: nothing follows the first message until the remote has said
// something, or has had the time.
func TestFirstAlone(t *testing.T) {
	for name, free := range map[string]func(t *testing.T, r *fakeRig){
		"the remote speaks": func(_ *testing.T, r *fakeRig) { r.ch.receive(appendData(nil, []byte("yes"))) },
		"it says nothing": func(t *testing.T, r *fakeRig) {
			pass(firstPatience - time.Millisecond)
			wantMessages(t, r, 1)
			pass(time.Millisecond)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inFirstBubble(t, true, func(t *testing.T, r *fakeRig) {
				_, _ = r.Write([]byte("question"))
				_ = r.CloseWrite()
				_ = r.CloseRead()
				wantMessages(t, r, 1)
				free(t, r)
				wantFlags(t, r, flagFIN, flagStopSending)
			})
			inFirstBubble(t, true, func(t *testing.T, r *fakeRig) {
				written := make(chan error, 1)
				go func() {
					_, err := r.Write(make([]byte, 2*maxPayload))
					written <- err
				}()
				wantMessages(t, r, 1)
				free(t, r)
				if err := <-written; err != nil {
					t.Error(err)
				}
				wantMessages(t, r, 2)
				_, _ = r.Write([]byte("more"))
				_ = r.CloseWrite()
				wantMessages(t, r, 4)
			})
		})
	}
}

// TestFirstAloneEnds: who gives the stream up waits for nothing, and what waited
// does not come behind the end.
func TestFirstAloneEnds(t *testing.T) {
	for name, end := range map[string]func(r *fakeRig){
		"reset here":          func(r *fakeRig) { _ = r.Reset() },
		"expelled":            func(r *fakeRig) { r.violated("test") },
		"reset by the remote": func(r *fakeRig) { r.ch.receive(flagFrame(flagReset)) },
	} {
		t.Run(name, func(t *testing.T) {
			inFirstBubble(t, true, func(t *testing.T, r *fakeRig) {
				_, _ = r.Write([]byte("question"))
				written := make(chan error, 1)
				go func() {
					_, err := r.Write([]byte("more"))
					written <- err
				}()
				synctest.Wait()
				end(r)
				if err := <-written; !errors.Is(err, network.ErrReset) {
					t.Errorf("Write returned %v", err)
				}
				pass(2 * firstPatience)
			})
		})
	}
	inFirstBubble(t, true, func(t *testing.T, r *fakeRig) {
		_, _ = r.Write([]byte("question"))
		_ = r.CloseWrite()
		_ = r.Reset()
		wantFlags(t, r, flagReset)
		pass(2 * firstPatience)
		wantFlags(t, r, flagReset)
	})
}

// TestFirstAloneDeadline holds for who waits.
func TestFirstAloneDeadline(t *testing.T) {
	inFirstBubble(t, true, func(t *testing.T, r *fakeRig) {
		_, _ = r.Write([]byte("question"))
		_ = r.SetWriteDeadline(time.Now().Add(time.Millisecond))
		if n, err := r.Write([]byte("more")); n != 0 || !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Error(n, err)
		}
	})
}

// TestFirstIsTheOpeners: the other side's handler is set before it opens a channel.
func TestFirstIsTheOpeners(t *testing.T) {
	inFirstBubble(t, false, func(t *testing.T, r *fakeRig) {
		start := time.Now()
		_, _ = r.Write([]byte("a"))
		_, _ = r.Write([]byte("b"))
		_ = r.CloseWrite()
		wantMessages(t, r, 3)
		if waited := time.Since(start); waited > 0 {
			t.Errorf("it waited %v", waited)
		}
	})
}
