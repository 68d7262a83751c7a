package webrtc

import (
	"io"
	"sync"
	"testing"

	pion "github.com/pion/webrtc/v4"
)

// BenchmarkStreamBulk writes one stream as fast as it goes, 64 KiB at a time.
// Compare it with BenchmarkBareChannel.
func BenchmarkStreamBulk(b *testing.B) {
	from, to := newPionPair(b)
	s := open(b, from)
	p := randomBytes(1, 64<<10)
	b.SetBytes(int64(len(p)))
	b.ReportAllocs()
	_, _ = s.Write(p)
	r := accept(b, to)
	var reading sync.WaitGroup
	reading.Go(func() { _, _ = io.CopyBuffer(struct{ io.Writer }{io.Discard}, r, make([]byte, 64<<10)) })
	for b.Loop() {
		if _, err := s.Write(p); err != nil {
			b.Fatal(err)
		}
	}
	_ = s.CloseWrite()
	reading.Wait()
}

// BenchmarkBareChannel is what pion does by itself: messages of 16 KiB on a
// detached channel, with as much queued as a stream may have.
func BenchmarkBareChannel(b *testing.B) {
	from, to := newPionPair(b, withRawRemote)
	received := make(chan channel, 1)
	to.pc.OnDataChannel(func(dc *pion.DataChannel) {
		dc.OnOpen(func() {
			ch, err := detach(dc)
			if err == nil && dc.Label() != initLabel {
				received <- ch
			}
		})
	})
	ch, err := from.channels.open(3)
	if err != nil {
		b.Fatal(err)
	}
	high := uint64(defaultStreamLimits().writeBuffer)
	low := make(chan struct{}, 1)
	ch.SetBufferedAmountLowThreshold(high / 2)
	ch.OnBufferedAmountLow(func() {
		select {
		case low <- struct{}{}:
		default:
		}
	})
	r := <-received
	var reading sync.WaitGroup
	reading.Go(func() {
		p := make([]byte, maxFrame)
		for {
			if _, _, err := r.ReadDataChannel(p); err != nil {
				return
			}
		}
	})
	p := randomBytes(1, maxFrame)
	b.SetBytes(int64(4 * len(p)))
	b.ReportAllocs()
	for b.Loop() {
		for range 4 {
			for ch.BufferedAmount() >= high {
				<-low
			}
			if _, err := ch.Write(p); err != nil {
				b.Fatal(err)
			}
		}
	}
	_ = ch.Close()
	reading.Wait()
}

// BenchmarkOpenStream opens a stream, sends a byte, and has it closed from both
// sides.
func BenchmarkOpenStream(b *testing.B) {
	from, to := newPionPair(b)
	serveEcho(b, to)
	b.ReportAllocs()
	for b.Loop() {
		if err := echo(from, []byte("x")); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkOpenStreamParallel has many streams at once.
func BenchmarkOpenStreamParallel(b *testing.B) {
	from, to := newPionPair(b)
	serveEcho(b, to)
	b.ReportAllocs()
	b.SetParallelism(50)
	b.RunParallel(func(pb *testing.PB) {
		for pb.Next() {
			if err := echo(from, []byte("x")); err != nil {
				b.Error(err)
				return
			}
		}
	})
}

// BenchmarkPingPong is a round trip of 32 bytes on a stream that is open.
func BenchmarkPingPong(b *testing.B) {
	from, to := newPionPair(b)
	serveEcho(b, to)
	s := open(b, from)
	p := make([]byte, 32)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Write(p); err != nil {
			b.Fatal(err)
		}
		if _, err := io.ReadFull(s, p); err != nil {
			b.Fatal(err)
		}
	}
	_ = s.Close()
}
