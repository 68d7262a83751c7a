package webrtc

import (
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
)

// TestPionTellsOfResets in its log, when they are answered and when they are not.
func TestPionTellsOfResets(t *testing.T) {
	repeated := 0
	for k := range int64(4) {
		n := newLosing(t)
		a, b := newPionPair(t, withNet(n))
		_, r := halfClosed(t, a, b)
		quiet(t, n)
		told := b.channels.resets
		before, _ := told.asks()
		n.lose.Store(n.sent.Load() + k + 1)
		start := time.Now()
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		await(t, "a request", func() bool { n, _ := told.asks(); return n > before })
		if !slices.Equal(told.freed(), []uint16{r.id}) {
			t.Errorf("ids %v, want %d", told.freed(), r.id)
		}
		await(t, "its answer", func() bool { return !pending(told) && !told.unanswered(r.id) })
		if time.Since(start) > 900*time.Millisecond { // pion repeats it after 1 s
			repeated++
		}
	}
	if repeated == 0 || repeated == 4 {
		t.Errorf("with %d of the 4 packets a request or its answer was lost", repeated)
	}
}

func (r *resets) freed() []uint16 {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.ids)
}

func pending(r *resets) bool {
	n, answered := r.asks()
	return n > 0 && answered.IsZero()
}

// TestResets knows which id was freed by a request that is not answered.
func TestResets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r resets
		want := func(id uint16, wantUnanswered, wantPending bool) {
			t.Helper()
			if r.unanswered(id) != wantUnanswered || pending(&r) != wantPending {
				t.Errorf("unanswered %v, pending %v", r.unanswered(id), pending(&r))
			}
		}
		say := func(format string, arg any) { r.logged(format, []any{"name", uint32(1), uint32(2), arg}) }
		say(logAsked, []uint16{1, 3})
		want(3, true, true)
		want(5, false, true)
		say(logAnswered, nil)
		want(3, false, false)
		say(logAsked, []uint16{5})
		want(3, false, true)
		say(logAnswered, nil)
		say(logAgain, 1) // it was in progress
		want(5, true, true)
		say(logAnswered, nil)
		want(5, false, false)
		say(logAnswered, nil) // nobody has asked for it
		say(logAsked, []uint16{7})
		want(7, true, true)
		say(logAsked, []uint16{7}) // the log does not tell of answers any more
		pass(resetPatience)
		want(7, false, false)
		say(logAsked, []uint16{9})
		want(7, false, true)
		want(9, true, true)
		say(logAsked, "not ids")
		say(logAgain, "not a number")
	})
}

// TestEarlyID: a stream is refused with an id whose last reset is not answered.
func TestEarlyID(t *testing.T) {
	a, b := newPionPair(t, withLimits(func(l *streamLimits) { l.rounds, l.eager = true, true }))
	told := b.channels.resets
	old := open(t, a)
	if _, err := old.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	accept(t, b)
	told.asked([]uint16{old.id + 2})
	early := open(t, a)
	_ = early.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := early.Read(make([]byte, 1)); !errors.Is(err, network.ErrReset) {
		t.Errorf("early: %v", err)
	}
	told.answered()
	if _, err := open(t, a).Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	accept(t, b)
}
