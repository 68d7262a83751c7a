package webrtc

import (
	"bytes"
	"errors"
	"io"
	"os"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
)

// TestFrameIsOneMessage because js-libp2p's early window counts messages.
func TestFrameIsOneMessage(t *testing.T) {
	inBubble(t, func(t *testing.T, r *fakeRig) {
		want := randomBytes(1, 2*maxPayload+1)
		if n, err := r.Write(want); n != len(want) || err != nil {
			t.Fatal(n, err)
		}
		if n, err := r.Write(nil); n != 0 || err != nil {
			t.Fatal(n, err)
		}
		if len(r.ch.sent) != 3 {
			t.Fatalf("%d messages", len(r.ch.sent))
		}
		for _, m := range r.ch.sent {
			if _, complete, err := referenceFrames(m); !complete || err != nil || len(m) > maxFrame {
				t.Errorf("a message of %d bytes is no frame: %v", len(m), err)
			}
		}
		if got, err := readFrames(r.ch.sent...); err != nil || !bytes.Equal(got.payload, want) {
			t.Error("other bytes", err)
		}
	})
}

// TestJSResets closes the channel, whether RESET came through or not.
func TestJSResets(t *testing.T) {
	inBubble(t, func(t *testing.T, r *fakeRig) {
		r.ch.receive(appendData(nil, []byte("some")))
		r.ch.over(io.EOF)
		synctest.Wait()
		got, err := io.ReadAll(r)
		if string(got) != "some" || !errors.Is(err, network.ErrReset) {
			t.Errorf("read %q, %v", got, err)
		}
		if _, err := r.Write([]byte("x")); !errors.Is(err, network.ErrReset) {
			t.Errorf("Write returned %v", err)
		}
	})
}

// TestJSCloses after it has both FINs, and its FIN_ACK is lost with the channel.
func TestJSCloses(t *testing.T) {
	inBubble(t, func(t *testing.T, r *fakeRig) {
		_, _ = r.Write([]byte("ping"))
		_ = r.CloseWrite()
		r.ch.receive([]byte{6}, appendData(nil, []byte("pong"))[1:], flagFrame(flagFIN))
		if got, err := io.ReadAll(r); err != nil || string(got) != "pong" {
			t.Fatal(string(got), err)
		}
		wantFlags(t, r, flagFIN, flagFINAck)
		r.ch.over(io.EOF)
		_ = r.Close()
		synctest.Wait()
		if r.machine.send != halfDone || r.machine.recv != halfDone {
			t.Errorf("%+v", r.machine)
		}
		wantFlags(t, r, flagFIN, flagFINAck)
	})
}

func TestFakeLinger(t *testing.T) {
	inBubble(t, func(t *testing.T, r *fakeRig) {
		_ = r.Close()
		wantFlags(t, r, flagFIN, flagStopSending)
		pass(defaultStreamLimits().linger - time.Millisecond)
		if r.ch.isClosed() {
			t.Fatal("closed too soon")
		}
		pass(2 * time.Millisecond)
		wantFlags(t, r, flagFIN, flagStopSending, flagReset)
		if !r.ch.isClosed() {
			t.Error("not closed")
		}
	})
}

func TestFakeFINAckInTime(t *testing.T) {
	inBubble(t, func(t *testing.T, r *fakeRig) {
		_ = r.Close()
		r.ch.receive(flagFrame(flagFIN), flagFrame(flagFINAck))
		wantFlags(t, r, flagFIN, flagStopSending, flagFINAck)
		if !r.ch.isClosed() {
			t.Error("not closed")
		}
		r.ch.over(io.EOF)
		synctest.Wait()
		pass(time.Hour)
		wantFlags(t, r, flagFIN, flagStopSending, flagFINAck)
	})
}

func TestFakeDeadlines(t *testing.T) {
	inBubble(t, func(t *testing.T, r *fakeRig) {
		start := time.Now()
		_ = r.SetReadDeadline(start.Add(time.Minute))
		if _, err := r.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) || time.Since(start) != time.Minute {
			t.Fatal(err, time.Since(start))
		}
		// Past it, not even what is there is read.
		r.ch.receive(appendData(nil, []byte("x")))
		synctest.Wait()
		if _, err := r.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
		_ = r.SetReadDeadline(time.Time{})
		if _, err := r.Read(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
		// Another deadline, set while a call waits, counts.
		time.AfterFunc(time.Second, func() { _ = r.SetWriteDeadline(time.Now().Add(time.Second)) })
		start = time.Now()
		n, err := r.Write(make([]byte, 1<<20))
		if !errors.Is(err, os.ErrDeadlineExceeded) || n == 0 || time.Since(start) != 2*time.Second {
			t.Fatal(n, err, time.Since(start))
		}
		_ = r.SetWriteDeadline(time.Time{})
		time.AfterFunc(time.Second, func() { r.ch.drain(1 << 20) })
		if _, err := r.Write(make([]byte, 1)); err != nil {
			t.Fatal(err)
		}
	})
}

// TestFakeThrottle goes on when half is acknowledged.
func TestFakeThrottle(t *testing.T) {
	inBubble(t, func(t *testing.T, r *fakeRig) {
		done := make(chan error, 1)
		go func() {
			_, err := r.Write(make([]byte, 1<<20))
			done <- err
		}()
		high := uint64(defaultStreamLimits().writeBuffer)
		for range 100 {
			synctest.Wait()
			queued := r.ch.BufferedAmount()
			if queued > high+maxFrame {
				t.Fatalf("%d bytes are queued", queued)
			}
			select {
			case err := <-done:
				if err != nil {
					t.Fatal(err)
				}
				return
			default:
				r.ch.drain(high / 4)
			}
		}
		t.Fatal("Write does not go on")
	})
}

// TestFakeCloseInterrupts calls that wait.
func TestFakeCloseInterrupts(t *testing.T) {
	for name, end := range map[string]func(*stream){
		"Close":      func(s *stream) { _ = s.Close() },
		"Reset":      func(s *stream) { _ = s.Reset() },
		"connection": func(s *stream) { s.gone(errGone) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *fakeRig) {
				errs := make(chan error, 2)
				go func() {
					_, err := r.Read(make([]byte, 1))
					errs <- err
				}()
				go func() { errs <- writeUntilError(r) }()
				synctest.Wait()
				end(r.stream)
				for range 2 {
					if err := <-errs; err == nil || errors.Is(err, io.EOF) {
						t.Errorf("a call returned %v", err)
					}
				}
			})
		})
	}
}

// TestFakeStall resets a stream that nobody reads.
func TestFakeStall(t *testing.T) {
	inBubble(t, func(t *testing.T, r *fakeRig) {
		frame := appendData(nil, make([]byte, maxPayload))
		for range 70 {
			r.ch.receive(frame)
		}
		pass(4 * time.Second)
		left := r.ch.left()
		if left == 0 {
			t.Fatal("all is read")
		}
		if held := r.scope.bytes.Load(); held > streamCost+1<<20 {
			t.Fatalf("%d bytes are held", held)
		}
		// Reading anything gives it time again.
		_, _ = r.Read(make([]byte, 100))
		pass(4 * time.Second)
		wantFlags(t, r)
		pass(2 * time.Second)
		wantFlags(t, r, flagReset)
		if r.ch.left() > 0 {
			t.Error("what was held back is not read")
		}
	})
}

// TestFakeNoMemory has nothing to grow with.
func TestFakeNoMemory(t *testing.T) {
	inBubble(t, func(t *testing.T, r *fakeRig) {
		r.scope.limit.Store(1)
		want := randomBytes(1, 20*maxPayload)
		for i := range 20 {
			r.ch.receive(appendData(nil, want[i*maxPayload:][:maxPayload]))
		}
		r.ch.receive(flagFrame(flagFIN))
		got, err := io.ReadAll(r)
		if err != nil || !bytes.Equal(got, want) {
			t.Fatal(len(got), err)
		}
		if r.scope.bytes.Load() > streamCost+firstWindow {
			t.Error(r.scope.bytes.Load())
		}
		// A message that there will never be memory for.
		r2 := newFakeRig(t, newFakeChannel(), nil)
		r2.scope.limit.Store(1)
		r2.ch.receive(appendData(nil, make([]byte, 100<<10)))
		wantFlags(t, r2, flagReset)
		r2.ch.over(io.EOF)
	})
}

// TestFakeSmallFrames holds many frames of one byte in little memory.
func TestFakeSmallFrames(t *testing.T) {
	inBubble(t, func(t *testing.T, r *fakeRig) {
		frame := appendData(nil, []byte("x"))
		for range 10000 {
			r.ch.receive(frame)
		}
		synctest.Wait()
		r.look(func() bool {
			if r.buffer.held > 12<<10 || r.granted != firstWindow {
				t.Errorf("%d bytes are held, %d granted", r.buffer.held, r.granted)
			}
			return true
		})
		r.ch.receive(flagFrame(flagFIN))
		if got, err := io.ReadAll(r); err != nil || len(got) != 10000 {
			t.Fatal(len(got), err)
		}
	})
}

// TestFakeViolations resets the stream, and reads on to the channel's end.
func TestFakeViolations(t *testing.T) {
	for name, send := range map[string]func(*fakeChannel){
		"text":             func(c *fakeChannel) { c.receiveText("hello") },
		"malformed":        func(c *fakeChannel) { c.receive([]byte{2, 0, 0}) },
		"frame too long":   func(c *fakeChannel) { c.receive([]byte{0xff, 0xff, 0xff, 0x7f}) },
		"message too long": func(c *fakeChannel) { c.receive(make([]byte, 700<<10)) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T, r *fakeRig) {
				r.ch.receive(appendData(nil, []byte("x")))
				send(r.ch)
				r.ch.receive(flagFrame(flagFIN), make([]byte, 600<<10))
				r.ch.receiveText("more")
				wantFlags(t, r, flagReset)
				if _, err := r.Read(make([]byte, 1)); !errors.Is(err, &network.StreamError{ErrorCode: network.StreamProtocolViolation}) {
					t.Errorf("Read returned %v", err)
				}
				if r.ch.left() != 0 || !r.ch.isClosed() {
					t.Errorf("%d messages are left, closed %v", r.ch.left(), r.ch.isClosed())
				}
			})
		})
	}
}

// TestFakeLargeMessage is what browsers may send at once.
func TestFakeLargeMessage(t *testing.T) {
	inBubble(t, func(t *testing.T, r *fakeRig) {
		want := randomBytes(1, maxMessage-8)
		r.ch.receive(appendData(nil, want), flagFrame(flagFIN))
		if got, err := io.ReadAll(r); err != nil || !bytes.Equal(got, want) {
			t.Fatal(len(got), err)
		}
	})
}

// TestFakeConcurrentWrites does not mix them.
func TestFakeConcurrentWrites(t *testing.T) {
	inBubble(t, func(t *testing.T, r *fakeRig) {
		var wg sync.WaitGroup
		for i := range 4 {
			wg.Go(func() {
				_, _ = r.Write(bytes.Repeat([]byte{byte(i)}, 50000))
			})
		}
		wg.Wait()
		got, err := readFrames(r.ch.sent...)
		if err != nil || len(got.payload) != 200000 {
			t.Fatal(err)
		}
		for i, c := range got.payload {
			if c != got.payload[i/50000*50000] {
				t.Fatal("mixed")
			}
		}
	})
}
