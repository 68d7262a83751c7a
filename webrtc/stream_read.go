package webrtc

import (
	"errors"
	"io"
	"os"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
)

// Read reads what the remote has written. After its FIN it returns io.EOF.
func (s *stream) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.reading.passed():
			return 0, os.ErrDeadlineExceeded
		case !s.buffer.empty():
			if len(p) == 0 {
				return 0, nil
			}
			return s.take(p), nil
		case s.machine.readErr != nil:
			return 0, s.machine.readErr
		case len(p) == 0:
			return 0, nil
		}
		s.canRead.Wait()
	}
}

func (s *stream) take(p []byte) int {
	held := s.buffer.held
	n := s.buffer.read(p)
	if s.stalled != nil { // the pump waits
		s.lastRead = time.Now()
		if s.buffer.held < held {
			s.canPump.Signal()
		}
	}
	s.retire()
	return n
}

// CloseRead tells the remote that nothing more will be read.
func (s *stream) CloseRead() error {
	s.step(func(m *machine) effects { return m.closeRead(!s.buffer.empty()) })
	return nil
}

// SetReadDeadline sets when Read gives up; zero is never.
func (s *stream) SetReadDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.reading.set(t, &s.canRead)
	return nil
}

// The most bytes of an SCTP message that is accepted: what a browser sends.
const maxMessage = 256 << 10

// pump reads the channel to its end.
func (s *stream) pump() {
	err := s.receive()
	s.mu.Lock()
	if s.machine.channel != channelEnded { // or else the connection has ended, and told why
		s.changed(s.over(err))
	}
	s.pumped = true
	s.retire()
	s.mu.Unlock()
	s.shared.closer.ended(s.channel)
	s.shared.owner.channelEnded(s)
}

// over gives the machine the end of the channel: io.EOF is the remote's, and
// anything else that the connection is over.
func (s *stream) over(err error) effects {
	if errors.Is(err, io.EOF) {
		return s.machine.onEnd()
	}
	return s.machine.onGone(&network.ConnError{Remote: true, TransportError: err})
}

// receive reads until there is an error.
func (s *stream) receive() error {
	var (
		frames frameReader
		first  [128]byte
		spoken bool
	)
	for {
		s.awaitRoom(smallSegment)
		b, owned := first[:], false
		n, text, err := s.channel.ReadDataChannel(b)
		for errors.Is(err, io.ErrShortBuffer) {
			// pion keeps the message until there is a buffer for it, so a stream
			// that waits for one holds none. It does not tell the size.
			s.recycle(b, owned)
			b, owned = s.larger(len(b)), true
			n, text, err = s.channel.ReadDataChannel(b)
		}
		s.heard()
		if err != nil {
			s.recycle(b, owned)
			return err
		}
		if s.shared.limits.firstAlone && !spoken {
			spoken = true
			s.firstOver()
		}
		switch {
		case text:
			s.violated("a text message")
			s.recycle(b, owned)
		case n > maxMessage:
			s.violated("a message above 256 KiB")
			s.recycle(b, owned)
		default:
			s.message(&frames, b[:n], owned)
		}
		s.shared.closer.await(s.channel)
	}
}

// larger returns a buffer for a message that n bytes do not suffice for.
func (s *stream) larger(n int) []byte {
	switch {
	case n < frameSegment:
		n = frameSegment
	case n < maxMessage:
		n = maxMessage
	default: // it has to be read, or it would take of the receive window for good
		return make([]byte, 2*n)
	}
	s.awaitRoom(n)
	return s.shared.pools.get(n)
}

func (s *stream) recycle(b []byte, owned bool) {
	if owned {
		s.shared.pools.put(b)
	}
}

// message takes a message apart, which may begin and end anywhere in a frame.
// Payload is moved together in b, which goes into the buffer as it is if it is
// owned. Bytes on a stream that is over are passed over.
func (s *stream) message(frames *frameReader, b []byte, owned bool) {
	if s.isOver() {
		s.recycle(b, owned)
		return
	}
	run := segment{b: b}
	for i := 0; i < len(b); {
		next, p, err := frames.next(b, i)
		if err != nil {
			s.violated(err.Error())
			s.recycle(b, owned)
			return
		}
		run.join(p)
		if p.flag != noFlag {
			s.deliver(run, false)
			run = segment{b: b}
			s.step(func(m *machine) effects { return m.onFlag(p.flag, p.code) })
		}
		i = next
	}
	s.deliver(run, owned)
}

// join adds the payload of a piece of s.b.
func (s *segment) join(p piece) {
	switch {
	case p.start == p.end:
	case s.empty():
		s.start, s.end = p.start, p.end
	default:
		s.end += copy(s.b[s.end:], s.b[p.start:p.end])
	}
}

func (s *stream) isOver() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.machine.channel != channelOpen
}

// violated resets the stream for what the remote did. The connection stays.
func (s *stream) violated(what string) {
	log.Debugw("stream reset for the remote's fault", "stream", s.id, "reason", what)
	s.step(func(m *machine) effects { return m.expel(network.StreamProtocolViolation) })
}

// deliver puts payload into the buffer.
func (s *stream) deliver(seg segment, owned bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if seg.empty() || !s.machine.accepts() {
		s.recycle(seg.b, owned)
		return
	}
	if owned {
		s.buffer.push(seg)
	} else {
		s.buffer.write(seg.b[seg.start:seg.end])
	}
	s.canRead.Broadcast()
}

// awaitRoom waits until the buffer can take n bytes more, or nobody wants them.
func (s *stream) awaitRoom(n int) {
	if !s.room(n) {
		log.Debugw("stream reset for lack of memory", "stream", s.id, "message", n)
		s.step(func(m *machine) effects { return m.expel(network.StreamResourceLimitExceeded) })
	}
}

// room is false if there cannot be room, however much the application reads.
func (s *stream) room(n int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.stopStall()
	for s.machine.accepts() && s.buffer.held+n > s.granted && !s.grow(s.buffer.held+n) {
		if s.buffer.empty() {
			return false
		}
		if s.stalled == nil {
			s.lastRead = time.Now()
			s.stalled = time.AfterFunc(s.shared.limits.stall, s.checkStall)
		}
		s.canPump.Wait()
	}
	return true
}

// grow has the resource manager grant at least n bytes for the buffer.
func (s *stream) grow(n int) bool {
	if n > s.shared.limits.readBuffer || s.memory == nil {
		return false
	}
	for _, want := range [...]int{min(max(2*s.granted, n), s.shared.limits.readBuffer), n} {
		if s.memory.ReserveMemory(want-s.granted, network.ReservationPriorityMedium) == nil {
			s.granted = want
			return true
		}
	}
	return false
}

// checkStall resets a stream whose application reads nothing.
func (s *stream) checkStall() {
	s.mu.Lock()
	if s.stalled == nil {
		s.mu.Unlock()
		return
	}
	if left := s.shared.limits.stall - time.Since(s.lastRead); left > 0 {
		s.stalled.Reset(left)
		s.mu.Unlock()
		return
	}
	s.mu.Unlock()
	log.Debugw("stream reset that is not read", "stream", s.id, "after", s.shared.limits.stall)
	s.step(func(m *machine) effects { return m.expel(network.StreamResourceLimitExceeded) })
}

func (s *stream) stopStall() {
	if s.stalled != nil {
		s.stalled.Stop()
		s.stalled = nil
	}
}
