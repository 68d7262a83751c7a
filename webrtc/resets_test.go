package webrtc

import (
	"errors"
	"maps"
	"slices"
	"sync"
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
		await(t, "its answer", func() bool { return !pending(told) })
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
	return slices.Collect(maps.Keys(r.ids))
}

// What becomes of a stream with an id.
const (
	taken   = "taken"
	refused = "refused"
	waits   = "waiting"
)

func fate(r *resets, id uint16) string {
	switch rested, changed := r.look(id); {
	case changed != nil:
		return waits
	case rested:
		return taken
	default:
		return refused
	}
}

func pending(r *resets) bool {
	n, answered := r.asks()
	return n > 0 && answered.IsZero()
}

// TestResets knows which ids were freed by a request that is not answered.
func TestResets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r resets
		want := func(id uint16, want string, wantPending bool) {
			t.Helper()
			if got := fate(&r, id); got != want || pending(&r) != wantPending {
				t.Errorf("%d is %s, want %s; pending %v", id, got, want, pending(&r))
			}
		}
		say := func(format string, arg any) { r.logged(format, []any{"name", uint32(1), uint32(2), arg}) }
		say(logAsked, []uint16{1, 3})
		want(3, refused, true)
		want(5, taken, true)
		say(logAnswered, nil)
		want(3, taken, false)
		say(logAsked, []uint16{5})
		want(3, taken, true)
		say(logAnswered, nil)
		say(logAgain, 1) // it was in progress
		want(5, refused, true)
		say(logAnswered, nil)
		want(5, taken, false)
		say(logAnswered, nil) // nobody has asked for it
		say(logAsked, []uint16{7})
		want(7, refused, true)
		say(logAsked, []uint16{7}) // the log does not tell of answers any more
		pass(resetPatience)
		want(7, taken, false)
		say(logAsked, []uint16{9})
		want(7, taken, true)
		want(9, refused, true)
		say(logAsked, "not ids")
		say(logAgain, "not a number")
		say(logAnswered, nil)

		say(logAsked, []uint16{1, 3})
		say(logAsked, []uint16{5, 7})
		want(3, refused, true)
		say(logAnswered, nil)
		want(3, waits, true)
		want(7, refused, true)
		say(logAgain, 1) // so one was lost
		want(3, refused, true)
		want(7, refused, true)
		say(logAnswered, nil)
		want(3, taken, false)
		want(7, taken, false)
	})
}

// TestResetsWait for the answer to another request.
func TestResetsWait(t *testing.T) {
	for _, test := range []struct {
		name   string
		happen func(r *resets, end func())
		want   bool
	}{
		{"answered", func(r *resets, _ func()) { r.answered() }, true},
		{"one more is asked, both answered", func(r *resets, _ func()) { r.asked([]uint16{9}); r.answered(); r.answered() }, true},
		{"lost", func(r *resets, _ func()) { r.askedAgain(1) }, false},
		{"pion's log has changed", func(*resets, func()) { pass(resetPatience) }, true},
		{"the connection ends", func(_ *resets, end func()) { end() }, false},
	} {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var r resets
				r.asked([]uint16{3})
				r.asked([]uint16{5})
				r.answered()
				ended, got := make(chan struct{}), make(chan bool)
				go func() { got <- r.rested(3, ended) }()
				synctest.Wait()
				select {
				case <-got:
					t.Fatal("it did not wait")
				default:
				}
				test.happen(&r, sync.OnceFunc(func() { close(ended) }))
				if rested := <-got; rested != test.want {
					t.Errorf("%v, want %v", rested, test.want)
				}
			})
		})
	}
}

// TestEarlyID: a stream is refused with an id whose last reset is not answered, and
// waits if that seems to be answered, but another is not.
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

	told.asked([]uint16{early.id + 2})
	told.asked([]uint16{early.id + 4})
	told.answered()
	waiting := open(t, a)
	if _, err := waiting.Write([]byte("y")); err != nil {
		t.Fatal(err)
	}
	await(t, "the stream waits", told.awaited)
	told.answered()
	if got := accept(t, b); got.id != waiting.id {
		t.Errorf("accepted %d, want %d", got.id, waiting.id)
	}
	if _, err := open(t, a).Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	accept(t, b)
}

func (r *resets) awaited() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.changed != nil
}
