package webrtc

import (
	"fmt"
	"io"
	"testing"
	"testing/synctest"
	"time"
)

// TestPionTellsOfResets in its log, when they are answered and when they are not.
func TestPionTellsOfResets(t *testing.T) {
	t.Parallel()
	lost := 0
	for k := range int64(4) {
		t.Run(fmt.Sprint("packet ", k+1), func(t *testing.T) {
			n := newLosing(t)
			a, b := newPionPair(t, withNet(n))
			told := make(chan int, 1)
			for _, side := range []*side{a, b} {
				side.channels.resets.watch(func(round int) { told <- round })
			}
			s := open(t, a)
			if err := s.CloseWrite(); err != nil {
				t.Fatal(err)
			}
			r := accept(t, b)
			if _, err := io.ReadAll(r); err != nil {
				t.Fatal(err)
			}
			quiet(t, n)
			before := b.channels.resets.rounds()
			n.lose.Store(n.sent.Load() + k + 1)
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			await(t, "a request", func() bool { return b.channels.resets.rounds() > before })
			await(t, "its answer", func() bool { return !a.channels.resets.pending() && !b.channels.resets.pending() })
			select {
			case <-told:
				lost++
			default:
			}
		})
	}
	if lost == 0 {
		t.Error("none of the packets was a request or an answer")
	}
}

func (r *resets) rounds() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.round
}

// TestResets knows which id was freed by a request that is not answered.
func TestResets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var r resets
		var again []int
		r.watch(func(round int) { again = append(again, round) })
		want := func(id uint16, wantRound int, wantLate, wantPending bool) {
			t.Helper()
			synctest.Wait()
			if round, late := r.taken(id); round != wantRound || late != wantLate || r.pending() != wantPending {
				t.Errorf("round %d, late %v, pending %v", round, late, r.pending())
			}
		}
		say := func(format string, arg any) { r.logged(format, []any{"name", uint32(1), uint32(2), arg}) }
		say(logAsked, []uint16{1, 3})
		want(3, 1, false, true)
		want(5, 0, false, true)
		say(logAnswered, nil)
		want(3, 0, false, false)
		say(logAsked, []uint16{5})
		want(3, 0, false, true)
		say(logAgain, 1)
		want(5, 2, true, true)
		if len(again) != 1 || again[0] != 2 {
			t.Errorf("again in rounds %v", again)
		}
		say(logAnswered, nil)
		want(5, 0, false, false)
		say(logAnswered, nil) // one that nobody has asked for
		say(logAsked, []uint16{7})
		want(7, 3, false, true)
		pass(resetPatience)
		want(7, 3, false, false)
		say(logAsked, "not ids")
		say(logAgain, "not a number")
	})
}

// TestStreamOfLostAnswer is reset, for soon the remote would not hear it, but not
// the one that had the id before.
func TestStreamOfLostAnswer(t *testing.T) {
	a, b := newPionPair(t, withLimits(func(l *streamLimits) { l.rounds, l.eager = true, true }))
	told := b.channels.resets
	next := func() (opened, accepted *stream) {
		opened = open(t, a)
		if _, err := opened.Write([]byte("x")); err != nil {
			t.Fatal(err)
		}
		return opened, accept(t, b)
	}
	_, old := next()
	told.asked([]uint16{old.id, old.id + 2, old.id + 4})
	_, reused := next()
	told.askedAgain(1)
	await(t, "the stream is reset", func() bool { return reused.look(func() bool { return reused.machine.readErr != nil }) })
	late, err := a.OpenStream(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	_ = late.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := late.Write([]byte("x")); err == nil {
		_, err = late.Read(make([]byte, 1))
		if err == nil {
			t.Error("a late stream is answered")
		}
	}
	if old.look(func() bool { return old.machine.readErr != nil }) {
		t.Error("the old one is reset too")
	}
	told.answered()
	_, later := next()
	if later.round != 0 {
		t.Errorf("round %d", later.round)
	}
}
