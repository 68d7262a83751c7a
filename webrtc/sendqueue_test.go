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
