package webrtc

import (
	"os"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
)

// Write queues p to be sent, and waits while too much is queued.
func (s *stream) Write(p []byte) (int, error) {
	s.writing.Lock()
	defer s.writing.Unlock()
	frame := s.shared.pools.get(min(len(p)+maxFrame-maxPayload, maxFrame))
	defer s.shared.pools.put(frame)
	written := 0
	for {
		if err := s.awaitSpace(); err != nil {
			return written, s.leave(err)
		}
		n := min(len(p)-written, s.shared.queue.payload())
		if n == 0 {
			return 0, nil
		}
		sent, err := s.send(appendData(frame[:0], p[written:written+n]))
		if err != nil {
			return written, s.leave(err)
		}
		if !sent {
			continue
		}
		if written += n; written == len(p) {
			return written, nil
		}
	}
}

// awaitSpace waits until this stream may queue a frame.
func (s *stream) awaitSpace() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.machine.writeErr != nil:
			return s.machine.writeErr
		case s.sending.passed():
			return os.ErrDeadlineExceeded
		case s.first.alone && s.first.sent: // wait
		case (!s.inLine || s.turned) && s.hasSpace():
			return nil
		}
		s.canWrite.Wait()
	}
}

// hasSpace says whether there is less in the queue than may be; if not, drained
// will be called.
func (s *stream) hasSpace() bool {
	limit := s.shared.limits.writeBuffer
	if int(s.channel.BufferedAmount()) >= limit {
		s.setLowMark(true)
		// Again, lest the mark was passed before it was set.
		if int(s.channel.BufferedAmount()) >= limit {
			return false
		}
	}
	s.setLowMark(false)
	return true
}

// setLowMark has pion call drained when half of writeBuffer is left, for a Write
// that waits, or when nothing is, for others that wait in the sendQueue.
func (s *stream) setLowMark(half bool) {
	if half == s.lowMark {
		return
	}
	s.lowMark = half
	mark := 0
	if half {
		mark = s.shared.limits.writeBuffer / 2
	}
	s.channel.SetBufferedAmountLowThreshold(uint64(mark))
}

// drained is called by pion, which handles no packet meanwhile, and does not get
// to close the connection. So it takes no lock but mu, which is never held for
// anything that takes a lock of the connection's in pion.
func (s *stream) drained() {
	s.mu.Lock()
	s.canWrite.Broadcast()
	s.mu.Unlock()
	s.shared.queue.drained()
}

// turn tells that the stream is the first in the sendQueue's line.
func (s *stream) turn() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turned = true
	s.canWrite.Broadcast()
}

// send queues a frame if the stream is still open for it and the sendQueue has
// space.
func (s *stream) send(frame []byte) (sent bool, err error) {
	s.out.Lock()
	defer s.out.Unlock()
	if err := s.beforeSend(); err != nil {
		return false, err
	}
	sent, err = s.shared.queue.send(s, frame)
	s.mu.Lock()
	s.inLine = !sent
	if sent {
		s.firstSent()
	}
	s.mu.Unlock()
	if err != nil {
		// The channel has ended, or the connection; the pump is about to find it.
		if ended := s.writeErr(); ended != nil {
			return false, ended
		}
		return false, &network.StreamError{Remote: true, TransportError: err}
	}
	return sent, nil
}

func (s *stream) beforeSend() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.turned = false
	return s.machine.writeErr
}

// leave ends a Write that fails with err, wherever it waits.
func (s *stream) leave(err error) error {
	s.mu.Lock()
	inLine := s.inLine
	s.inLine = false
	s.setLowMark(false)
	s.mu.Unlock()
	if inLine {
		s.shared.queue.leave(s)
	}
	return err
}

func (s *stream) writeErr() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.machine.writeErr
}

// CloseWrite sends what was written, and FIN. It does not wait.
func (s *stream) CloseWrite() error {
	s.step((*machine).closeWrite)
	return nil
}

// SetWriteDeadline sets when Write gives up; zero is never.
func (s *stream) SetWriteDeadline(t time.Time) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.sending.set(t, &s.canWrite)
	return nil
}
