package webrtc

import (
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestSendQueue lets streams in as they came, and loses none.
func TestSendQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 20
		var channels []*fakeChannel
		queue := &sendQueue{limit: 64 << 10, queued: func() int {
			total := 0
			for _, c := range channels {
				total += int(c.BufferedAmount())
			}
			return total
		}}
		var rigs []*fakeRig
		for range n {
			ch := newFakeChannel()
			channels = append(channels, ch)
			rigs = append(rigs, newFakeRig(t, ch, queue))
		}
		var wg sync.WaitGroup
		for i, r := range rigs {
			wg.Go(func() {
				if i == 3 { // gives up while it waits
					_ = r.SetWriteDeadline(time.Now().Add(time.Millisecond))
				}
				_, err := r.Write(make([]byte, 100<<10))
				if (err == nil) != (i != 3) {
					t.Error(i, err)
				}
			})
		}
		done := make(chan struct{})
		go func() {
			wg.Wait()
			close(done)
		}()
		for range 10000 {
			pass(time.Millisecond)
			if total := queue.queued(); total > 64<<10 {
				t.Fatalf("%d bytes are queued", total)
			}
			for _, c := range channels {
				c.drain(8 << 10)
			}
			select {
			case <-done:
				for _, r := range rigs {
					r.ch.over(io.EOF)
					_ = r.Reset()
				}
				return
			default:
			}
		}
		t.Fatal("not all were sent")
	})
}

// TestSendQueueOnSlowPath has no more than keeps the path busy, so that another
// stream need not wait for all of a big one.
func TestSendQueueOnSlowPath(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const window, rtt, size = 4 << 10, 200 * time.Millisecond, 128 << 10
		big, small := newFakeChannel(), newFakeChannel()
		queue := &sendQueue{
			limit:  1 << 20,
			queued: func() int { return int(big.BufferedAmount() + small.BufferedAmount()) },
			path:   func() (int, time.Duration) { return window, rtt },
		}
		r, other := newFakeRig(t, big, queue), newFakeRig(t, small, queue)
		start := time.Now()
		var wrote, wroteBig time.Duration
		var all sync.WaitGroup
		all.Go(func() {
			_, _ = r.Write(make([]byte, size))
			wroteBig = time.Since(start)
		})
		synctest.Wait()
		all.Go(func() {
			_, _ = other.Write([]byte("ping"))
			wrote = time.Since(start)
		})
		for total := queue.queued(); total > 0; total = queue.queued() {
			if total > 2*window+maxFrame {
				t.Fatalf("%d bytes are queued", total)
			}
			pass(rtt)
			big.drain(window)
			small.drain(window)
			pass(maxLook) // or the queue may be empty for a moment
		}
		all.Wait()
		if wrote > 2*maxFrame/window*rtt {
			t.Errorf("a small message is queued after %v, a big one of another stream after %v", wrote, wroteBig)
		}
		if took := time.Since(start); took > size/window*(rtt+maxLook)*5/4 {
			t.Errorf("all was sent after %v: the path was idle", took)
		}
		for _, r := range []*fakeRig{r, other} {
			r.ch.over(io.EOF)
			_ = r.Reset()
		}
	})
}

// TestHeldSendQueue goes on where it was.
func TestHeldSendQueue(t *testing.T) {
	inBubble(t, func(t *testing.T, r *fakeRig) {
		r.shared.queue.hold(true)
		done := make(chan error, 1)
		go func() {
			_, err := r.Write([]byte("later"))
			done <- err
		}()
		pass(time.Second)
		if n := r.ch.BufferedAmount(); n != 0 {
			t.Errorf("%d bytes were sent meanwhile", n)
		}
		r.shared.queue.hold(false)
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}
