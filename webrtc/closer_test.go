package webrtc

import (
	"io"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"
)

// TestCloser closes some at once, the others together, and does not wait for ever.
func TestCloser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var c closer
		var channels []*fakeChannel
		for range closeAtOnce + closeBatch + 10 {
			ch := newFakeChannel()
			channels = append(channels, ch)
			c.close(ch)
		}
		closed := func(n int) {
			t.Helper()
			for i, ch := range channels {
				if ch.isClosed() != (i < n) {
					t.Fatalf("%d closed: %v", i, ch.isClosed())
				}
			}
		}
		closed(closeAtOnce)
		c.ended(channels[0])
		closed(closeAtOnce + closeBatch)
		last := len(channels) - 1
		c.ended(channels[last])
		channels = channels[:last]
		pass(closePatience + time.Millisecond) // the remote holds the others up
		closed(len(channels))
		for _, ch := range channels[1:] {
			c.ended(ch)
		}
	})
}

// fakeWire is the packets to a browser.
type fakeWire struct {
	bytes     atomic.Int64
	held      atomic.Bool
	resetting atomic.Bool
	asked     int       // guarded by the closer's mu, as all below
	last      time.Time // the closer's, when asked was counted
}

func newRounds() (*closer, *fakeWire) {
	w := &fakeWire{}
	c := &closer{}
	c.watch(&wire{
		queued: func() int { return int(w.bytes.Load()) },
		rtt:    func() time.Duration { return 10 * time.Millisecond },
		hold:   w.held.Store,
		most:   roundMost,
		asks: func() (int, time.Time) {
			if w.last != c.last {
				w.asked, w.last = w.asked+1, c.last
			}
			if w.resetting.Load() {
				return w.asked, time.Time{}
			}
			return w.asked, w.last
		},
	})
	return c, w
}

func closeMany(c *closer, n int) []*fakeChannel {
	var channels []*fakeChannel
	for range n {
		ch := newFakeChannel()
		channels = append(channels, ch)
		c.close(ch)
	}
	return channels
}

func wantClosed(t *testing.T, channels []*fakeChannel, n int) {
	t.Helper()
	synctest.Wait()
	for i, ch := range channels {
		if ch.isClosed() != (i < n) {
			t.Fatalf("channel %d of %d: closed %v, want the first %d", i, len(channels), ch.isClosed(), n)
		}
	}
}

// TestRoundWaitsForAcknowledgement because a browser forgets a request that is in
// progress when the next one comes.
func TestRoundWaitsForAcknowledgement(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, w := newRounds()
		defer c.stop()
		w.bytes.Store(1)
		channels := closeMany(c, 3)
		pass(closeHurry / 2)
		wantClosed(t, channels, 0)
		w.bytes.Store(0)
		pass(closePoll)
		wantClosed(t, channels, 3)
	})
}

// TestRoundsDoNotOverlap, or two requests were under way at a time.
func TestRoundsDoNotOverlap(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, _ := newRounds()
		defer c.stop()
		first, second := closeMany(c, 1), closeMany(c, 2)
		wantClosed(t, first, 1)
		pass(time.Second)
		wantClosed(t, second, 0) // the remote has not closed the first
		c.ended(first[0])
		wantClosed(t, second, 2)
		for _, ch := range second {
			c.ended(ch)
		}
		third := closeMany(c, 1)
		wantClosed(t, third, 0) // the remote may have closed the second by itself
		pass(20*time.Millisecond + closePoll)
		wantClosed(t, third, 1)
	})
}

// TestRoundWaitsForAnswer, or a browser refused the second request and all later
// ones. pion repeats a lost one after a second.
func TestRoundWaitsForAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, w := newRounds()
		defer c.stop()
		first := closeMany(c, 1)
		c.ended(first[0]) // the remote had closed it before
		w.resetting.Store(true)
		second := closeMany(c, 1)
		pass(closeHurry + 2*closePatience)
		wantClosed(t, second, 0)
		if w.held.Load() {
			t.Error("payload is kept back")
		}
		w.resetting.Store(false)
		pass(closePoll)
		wantClosed(t, second, 1)
	})
}

// TestRoundWaitsForQuiet, unless many wait.
func TestRoundWaitsForQuiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, w := newRounds()
		defer c.stop()
		c.opened()
		pass(roundQuiet / 2)
		few := closeMany(c, 1)
		c.opened()
		w.bytes.Store(1)
		pass(roundQuiet - time.Millisecond)
		wantClosed(t, few, 0)
		pass(closeHurry / 2)
		wantClosed(t, few, 0)
		if w.held.Load() {
			t.Error("payload is kept back for who has waited for quiet")
		}
		w.bytes.Store(0)
		pass(2 * closePoll)
		wantClosed(t, few, 1)
		c.ended(few[0])
		pass(time.Second)
		c.opened()
		few = closeMany(c, 1)
		wantClosed(t, few, 0)
		wantClosed(t, closeMany(c, roundMany-1), roundMany-1)
		wantClosed(t, few, 1)
		pass(2 * closePoll)
		if w.held.Load() {
			t.Error("payload is kept back behind the request")
		}
	})
}

// TestRoundTakesAll that wait, as far as one request can hold them: who opens more
// streams than rounds can end runs out of memory, and of ids.
func TestRoundTakesAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, w := newRounds()
		defer c.stop()
		w.bytes.Store(1)
		channels := closeMany(c, roundMost+1)
		wantClosed(t, channels, 0)
		w.bytes.Store(0)
		pass(closePoll)
		wantClosed(t, channels, roundMost)
	})
}

// TestDoubtedAnswer: a request that went out with payload may be in progress, and
// is answered again once pion has repeated it.
func TestDoubtedAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, w := newRounds()
		defer c.stop()
		c.ended(closeMany(c, 1)[0])
		w.bytes.Store(1)
		second := closeMany(c, 1)
		if !w.held.Load() {
			t.Error("payload is not kept back from the request")
		}
		pass(2 * closePoll)
		if w.held.Load() {
			t.Error("payload is kept back behind the request")
		}
		w.bytes.Store(0)
		pass(resetTimer)
		wantClosed(t, second, 0)
		pass(20*time.Millisecond + closePoll)
		wantClosed(t, second, 1)
	})
}

// TestRoundIsNotHeldUp by a remote that closes nothing, nor by payload without end.
func TestRoundIsNotHeldUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, w := newRounds()
		defer c.stop()
		closeMany(c, 1)
		channels := closeMany(c, 1)
		pass(closePatience + closePoll)
		wantClosed(t, channels, 1)
		c.ended(channels[0])
		pass(time.Second)

		w.bytes.Store(1)
		channels = closeMany(c, 1)
		pass(closeHurry - closePoll)
		if w.held.Load() {
			t.Error("payload is kept back for a channel that has just come")
		}
		pass(2 * closePoll)
		if !w.held.Load() {
			t.Error("payload is not kept back")
		}
		wantClosed(t, channels, 0)
		pass(closePatience)
		wantClosed(t, channels, 1)
		if w.held.Load() {
			t.Error("payload is kept back for ever")
		}
	})
}

// TestManyHurry, or a remote that opens streams runs out of ids.
func TestManyHurry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, w := newRounds()
		defer c.stop()
		w.bytes.Store(1)
		closeMany(c, closeBatch-1)
		if w.held.Load() {
			t.Error("payload is kept back for a few")
		}
		closeMany(c, 1)
		if !w.held.Load() {
			t.Error("payload is not kept back")
		}
	})
}

// TestStreamWaitsForItsRound before it finds the channel's end, which pion would
// answer at once.
func TestStreamWaitsForItsRound(t *testing.T) {
	for _, opener := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			c, w := newRounds()
			limits := defaultStreamLimits()
			limits.eager = true
			ch := newFakeChannel()
			r := newFakeRigOf(t, ch, &shared{closer: c, limits: limits}, opener)
			w.bytes.Store(1)
			_ = r.CloseWrite()
			ch.receive(flagFrame(flagFINAck), flagFrame(flagFIN))
			ch.over(io.EOF)
			wantClosed(t, []*fakeChannel{ch}, 0)
			w.bytes.Store(0)
			pass(closePoll)
			wantClosed(t, []*fakeChannel{ch}, 1)
			synctest.Wait()
			if r.owner.nEnded != 1 {
				t.Errorf("ended %d times", r.owner.nEnded)
			}
		})
	}
}

// TestStoppedCloser lets nobody wait.
func TestStoppedCloser(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, w := newRounds()
		w.bytes.Store(1)
		channels := closeMany(c, 1)
		go c.stop()
		c.await(channels[0])
		late := closeMany(c, 1)
		c.await(late[0])
		wantClosed(t, late, 0)
	})
}

// Payload is kept back for those that wait, the last of which the remote may end.
func TestHoldEndsWithTheLastWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, w := newRounds()
		defer c.stop()
		w.bytes.Store(1)
		ch := closeMany(c, 1)[0]
		pass(closeHurry + 2*closePoll)
		if !w.held.Load() {
			t.Fatal("payload is not kept back")
		}
		c.ended(ch)
		w.bytes.Store(0)
		pass(time.Hour)
		if w.held.Load() {
			t.Error("payload is kept back for ever")
		}
	})
}
