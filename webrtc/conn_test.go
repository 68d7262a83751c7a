package webrtc

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"runtime"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	pion "github.com/pion/webrtc/v4"
)

// serveEcho echoes each stream of c until the connection ends.
func serveEcho(t testing.TB, c *side) {
	t.Helper()
	var wg sync.WaitGroup
	wg.Go(func() {
		for {
			s, err := c.AcceptStream()
			if err != nil {
				return
			}
			wg.Go(func() {
				if _, err := io.Copy(s, s); err != nil {
					_ = s.Reset()
					return
				}
				_ = s.Close()
			})
		}
	})
	t.Cleanup(func() {
		_ = c.Close()
		wg.Wait()
	})
}

// echo sends p on a stream of its own, and wants it back.
func echo(c *side, p []byte) error {
	s, err := c.OpenStream(context.Background())
	if err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() {
		_, err := s.Write(p)
		sent <- errors.Join(err, s.CloseWrite())
	}()
	got, err := io.ReadAll(s)
	if err := errors.Join(err, <-sent); err != nil {
		return errors.Join(err, s.Reset())
	}
	if !bytes.Equal(got, p) {
		return fmt.Errorf("%d bytes came back as %d others", len(p), len(got))
	}
	return s.Close()
}

func randomBytes(seed uint64, n int) []byte {
	var s [32]byte
	binary.LittleEndian.PutUint64(s[:], seed)
	b := make([]byte, n)
	_, _ = rand.NewChaCha8(s).Read(b)
	return b
}

// TestSequentialStreams goes several times around the ids, from both sides.
func TestSequentialStreams(t *testing.T) {
	a, b := newPionPair(t)
	serveEcho(t, a)
	serveEcho(t, b)
	for i := range 1500 {
		for _, c := range []*side{a, b} {
			if err := echo(c, randomBytes(uint64(i), i)); err != nil {
				t.Fatalf("stream %d: %v", i, err)
			}
		}
	}
}

func TestConcurrentStreams(t *testing.T) {
	a, b := newPionPair(t)
	serveEcho(t, a)
	serveEcho(t, b)
	var wg sync.WaitGroup
	for i := range 100 {
		for _, c := range []*side{a, b} {
			wg.Go(func() {
				for j := range 5 {
					if err := echo(c, randomBytes(uint64(i), 1000*i+j)); err != nil {
						t.Errorf("stream %d: %v", i, err)
						return
					}
				}
			})
		}
	}
	wg.Wait()
}

// TestOpenStress is the shape of go-libp2p's SubtestStreamOpenStress: streams as
// fast as they open, ended from both sides.
func TestOpenStress(t *testing.T) {
	const workers, count = 5, 2000
	a, b := newPionPair(t)
	fullClose := func(s network.MuxedStream) {
		_ = s.CloseWrite()
		if p, err := io.ReadAll(s); err != nil || len(p) > 0 {
			t.Errorf("read %q, %v", p, err)
		}
		_ = s.Close()
	}
	var wg sync.WaitGroup
	start := time.Now()
	for range workers {
		wg.Go(func() {
			for range count {
				s, err := a.OpenStream(context.Background())
				if err != nil {
					t.Error(err)
					return
				}
				wg.Go(func() { fullClose(s) })
			}
		})
	}
	for range workers * count {
		s, err := b.AcceptStream()
		if err != nil {
			t.Fatal(err)
		}
		wg.Go(func() { fullClose(s) })
	}
	wg.Wait()
	t.Logf("%.0f streams/s", workers*count/time.Since(start).Seconds())
}

// TestMoreStreamsThanIDs waits for ids.
func TestMoreStreamsThanIDs(t *testing.T) {
	a, _ := newPionPair(t, withLimits(func(l *streamLimits) { l.ids, l.rest = idLimit, rest }))
	held := make([]*stream, cap(a.ids.places))
	for i := range held {
		held[i] = open(t, a)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, err := a.OpenStream(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Fatalf("one more stream: %v", err)
	}
	opened := make(chan error)
	openOne := func() {
		_, err := a.OpenStream(context.Background())
		opened <- err
	}
	go openOne()
	_ = held[7].Reset()
	if err := <-opened; err != nil {
		t.Fatal(err)
	}
	go openOne()
	_ = a.Close()
	if err := <-opened; !errors.Is(err, errConnClosed) {
		t.Fatalf("OpenStream returned %v when the connection was closed", err)
	}
}

func TestBulk(t *testing.T) {
	a, b := newPionPair(t)
	const size = 64 << 20
	sent := make(chan error, 1)
	want, got := sha256.New(), sha256.New()
	s := open(t, a)
	go func() {
		p := randomBytes(1, 1<<20)
		for i := range size / len(p) {
			p[0] = byte(i)
			want.Write(p)
			if _, err := s.Write(p); err != nil {
				sent <- err
				return
			}
		}
		sent <- s.CloseWrite()
	}()
	start := time.Now()
	n, err := io.Copy(got, accept(t, b))
	if err := errors.Join(err, <-sent); err != nil {
		t.Fatal(err)
	}
	if n != size || !bytes.Equal(got.Sum(nil), want.Sum(nil)) {
		t.Fatalf("%d bytes arrived, or others", n)
	}
	t.Logf("%.1f MB/s", size/1e6/time.Since(start).Seconds())
}

// TestHalfClose closes each direction by itself.
func TestHalfClose(t *testing.T) {
	a, b := newPionPair(t)
	for _, p := range [][2]*side{{a, b}, {b, a}} {
		s := open(t, p[0])
		_, _ = s.Write([]byte("question"))
		_ = s.CloseWrite()
		if _, err := s.Write([]byte("x")); err == nil {
			t.Error("Write after CloseWrite succeeded")
		}
		r := accept(t, p[1])
		if got, err := io.ReadAll(r); err != nil || string(got) != "question" {
			t.Fatal(string(got), err)
		}
		_, err := r.Write([]byte("answer"))
		if err := errors.Join(err, r.Close()); err != nil {
			t.Fatal(err)
		}
		if got, err := io.ReadAll(s); err != nil || string(got) != "answer" {
			t.Fatal(string(got), err)
		}
		_ = s.Close()
	}
	await(t, "all memory given back", func() bool { return a.scope.empty() && b.scope.empty() })
}

func TestCloseReadStopsTheRemote(t *testing.T) {
	a, b := newPionPair(t)
	s := open(t, a)
	read := make(chan error, 1)
	go func() {
		_, err := s.Read(make([]byte, 1))
		read <- err
	}()
	_, _ = s.Write([]byte("x"))
	r := accept(t, b)
	_ = s.CloseRead()
	if err := <-read; !errors.Is(err, network.ErrReset) || errors.Is(err, io.EOF) {
		t.Errorf("Read returned %v when CloseRead was called", err)
	}
	err := writeUntilError(r)
	if se := (*network.StreamError)(nil); !errors.As(err, &se) || !se.Remote {
		t.Errorf("Write returned %v", err)
	}
	// The other direction is still open.
	_, _ = s.Write([]byte("y"))
	_ = s.CloseWrite()
	if got, err := io.ReadAll(r); err != nil || string(got) != "xy" {
		t.Error(string(got), err)
	}
}

func writeUntilError(s network.MuxedStream) error {
	p := make([]byte, 1<<20)
	for {
		if _, err := s.Write(p); err != nil {
			return err
		}
	}
}

func TestReset(t *testing.T) {
	a, b := newPionPair(t)
	s := open(t, a)
	_, _ = s.Write([]byte("x"))
	r := accept(t, b)
	_, _ = r.Read(make([]byte, 1))
	errs := make(chan error, 2)
	go func() {
		_, err := r.Read(make([]byte, 1))
		errs <- err
	}()
	go func() { errs <- writeUntilError(r) }()
	if err := s.ResetWithError(42); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := <-errs; !errors.Is(err, network.ErrReset) || !errors.Is(err, &network.StreamError{ErrorCode: 42, Remote: true}) {
			t.Errorf("the remote has %v", err)
		}
	}
	_, rerr := s.Read(make([]byte, 1))
	_, werr := s.Write(make([]byte, 1))
	for _, err := range []error{rerr, werr} {
		if !errors.Is(err, network.ErrReset) || !errors.Is(err, &network.StreamError{ErrorCode: 42}) {
			t.Errorf("this side has %v", err)
		}
	}
	await(t, "all memory given back", func() bool { return a.scope.empty() && b.scope.empty() })
}

func TestDeadlines(t *testing.T) {
	a, b := newPionPair(t)
	s := open(t, a)
	_, _ = s.Write([]byte("x"))
	r := accept(t, b)
	for range 2 { // a stream is of use after it
		_ = s.SetReadDeadline(time.Now().Add(30 * time.Millisecond))
		if _, err := s.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
	}
	// In the past, it interrupts a call.
	_ = s.SetDeadline(time.Time{})
	errs := make(chan error, 2)
	go func() {
		_, err := s.Read(make([]byte, 1))
		errs <- err
	}()
	go func() { errs <- writeUntilError(s) }()
	if _, err := io.ReadFull(r, make([]byte, 2)); err != nil { // so a Write has begun
		t.Fatal(err)
	}
	time.AfterFunc(50*time.Millisecond, func() { _ = s.SetDeadline(time.Now().Add(-time.Hour)) })
	for range 2 {
		if err := <-errs; !errors.Is(err, os.ErrDeadlineExceeded) {
			t.Fatal(err)
		}
	}
	_ = s.SetDeadline(time.Time{})
	_ = s.CloseWrite()
	if _, err := io.Copy(io.Discard, r); err != nil {
		t.Fatal(err)
	}
	_, _ = r.Write([]byte("z"))
	if _, err := s.Read(make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
}

// TestUnreadStream has a stream that nobody reads next to one in use.
func TestUnreadStream(t *testing.T) {
	// The echo may take a second between two reads on a busy machine.
	const stall = time.Hour
	a, b := newPionPair(t, withLimits(func(l *streamLimits) { l.stall = stall }))
	s := open(t, a)
	wrote := make(chan error, 1)
	go func() { wrote <- writeUntilError(s) }()
	unread := accept(t, b)
	await(t, "full", func() bool { return unread.look(func() bool { return unread.stalled != nil }) })
	serveEcho(t, b)
	echoed := make(chan error, 1)
	go func() { echoed <- echo(a, randomBytes(1, 4<<20)) }()
	unread.look(func() bool { // an hour later
		unread.lastRead = unread.lastRead.Add(-stall)
		return unread.stalled.Reset(0)
	})
	if err := <-echoed; err != nil {
		t.Fatal(err)
	}
	if err := <-wrote; !errors.Is(err, &network.StreamError{ErrorCode: network.StreamResourceLimitExceeded, Remote: true}) {
		t.Fatal(err)
	}
	if held := b.scope.bytes.Load(); held > 4<<20 {
		t.Errorf("%d bytes are held", held)
	}
}

// TestSlowReader reads a stream so slowly that its buffer is always full. It is
// not reset, and loses nothing.
func TestSlowReader(t *testing.T) {
	a, b := newPionPair(t, withLimits(func(l *streamLimits) { l.stall, l.readBuffer = 300*time.Millisecond, 64<<10 }))
	s := open(t, a)
	want := randomBytes(1, 2<<20)
	go func() {
		_, _ = s.Write(want)
		_ = s.CloseWrite()
	}()
	r := accept(t, b)
	var got []byte
	p := make([]byte, 128<<10)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		n, err := r.Read(p)
		got = append(got, p[:n]...)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		<-tick.C
	}
	if !bytes.Equal(got, want) {
		t.Fatal("other bytes")
	}
	if n := b.scope.bytes.Load(); n > streamCost+64<<10 {
		t.Errorf("%d bytes were reserved", n)
	}
}

// TestFINIsAnsweredUnread has an application that only writes, and a remote that
// does nothing with the stream at all.
func TestFINIsAnsweredUnread(t *testing.T) {
	a, b := newPionPair(t)
	s := open(t, a)
	_, _ = s.Write([]byte("only written"))
	_ = s.CloseWrite()
	start := time.Now()
	await(t, "FIN_ACK", func() bool { return s.look(func() bool { return s.machine.send == halfDone }) })
	if took := time.Since(start); took > time.Second {
		t.Errorf("FIN_ACK took %v", took)
	}
	if got, err := io.ReadAll(accept(t, b)); err != nil || string(got) != "only written" {
		t.Fatal(string(got), err)
	}
}

// TestCloseFreesTheStream though the remote's application does nothing.
func TestCloseFreesTheStream(t *testing.T) {
	a, b := newPionPair(t)
	s := open(t, a)
	_, _ = s.Write([]byte("x"))
	r := accept(t, b)
	_ = s.Close()
	await(t, "the stream is gone", a.scope.empty)
	if got, err := io.ReadAll(r); err != nil || string(got) != "x" {
		t.Error(string(got), err)
	}
	if _, err := r.Write([]byte("x")); !errors.Is(err, network.ErrReset) {
		t.Errorf("Write returned %v", err)
	}
	await(t, "the remote's too", b.scope.empty)
}

// TestNothingStays opens thousands of streams and looks what is left of them.
func TestNothingStays(t *testing.T) {
	a, b := newPionPair(t)
	serveEcho(t, b)
	run := func(n int) {
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				for range n / 20 {
					if err := echo(a, []byte("hello")); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		wg.Wait()
		await(t, "all spans done", func() bool { return a.scope.empty() && b.scope.empty() })
	}
	measure := func() (goroutines int, heap uint64) {
		runtime.GC()
		runtime.GC()
		var m runtime.MemStats
		runtime.ReadMemStats(&m)
		return runtime.NumGoroutine(), m.HeapAlloc
	}
	run(1000)
	g0, h0 := measure()
	run(5000)
	var g1 int
	var h1 uint64
	await(t, "goroutines and heap as before", func() bool {
		g1, h1 = measure()
		return g1 <= g0+2 && h1 < h0+1<<20
	})
	t.Logf("goroutines %d to %d, heap %d to %d", g0, g1, h0, h1)
}

// TestIdleStreams measures what streams cost that are open and do nothing.
func TestIdleStreams(t *testing.T) {
	a, b := newPionPair(t)
	runtime.GC()
	var m0, m1 runtime.MemStats
	runtime.ReadMemStats(&m0)
	g0 := runtime.NumGoroutine()
	const n = 400
	for range n {
		s := open(t, a)
		_, _ = s.Write([]byte("x"))
		_, _ = accept(t, b).Read(make([]byte, 1))
	}
	runtime.GC()
	runtime.ReadMemStats(&m1)
	per := float64(m1.HeapAlloc+m1.StackInuse-m0.HeapAlloc-m0.StackInuse) / n
	gs := float64(runtime.NumGoroutine()-g0) / n
	t.Logf("a stream costs %.0f bytes and %.2f goroutines, both sides together", per, gs)
	if gs > 2.1 {
		t.Errorf("%.2f goroutines a stream", gs)
	}
}

func TestAs(t *testing.T) {
	a, _ := newPionPair(t)
	var pc *pion.PeerConnection
	if !a.As(&pc) || pc != a.pc {
		t.Error("no PeerConnection")
	}
	var s string
	if a.As(&s) {
		t.Error("a string")
	}
	if a.ConnState().Transport != "webrtc" {
		t.Error(a.ConnState())
	}
}
