package webrtc

import "time"

// first is the first message with payload of a stream, to a remote that may hand
// what comes right behind the opening of a channel on in another order. In Node
// (libdatachannel, node-datachannel 0.33) about 1 stream in 4,000 suffered that; why,
// was not looked for. The next message waits until the remote has said something. On a
// libp2p stream it does at once (multistream-select), and js-libp2p waits for that too
// before it sends more.
type first struct {
	alone    bool        // nothing may follow yet
	sent     bool        // the first message
	flags    []flag      // that follow it, without RESET
	patience *time.Timer // runs while something may wait
}

// firstPatience is for a remote that says nothing; 10 ms were enough for 24,000 streams.
const firstPatience = time.Second

// firstSent is told of a message with payload. s.mu is held.
func (s *stream) firstSent() {
	if s.first.alone && !s.first.sent {
		s.first.sent = true
		s.first.patience = time.AfterFunc(firstPatience, s.firstOver)
	}
}

// mayFollow says whether a flag may be sent now; if not, firstOver sends it. RESET
// waits for nothing. The lock out is held.
func (s *stream) mayFollow(f flag) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.first.alone && s.first.sent && f != flagReset {
		s.first.flags = append(s.first.flags, f)
		return false
	}
	return true
}

// firstOver sends what waits behind the first message.
func (s *stream) firstOver() {
	s.out.Lock()
	defer s.out.Unlock()
	for _, f := range s.freeFirst() {
		s.sendFlag(f, 0)
	}
}

// freeFirst returns the flags that are to be sent, if the channel is still there.
func (s *stream) freeFirst() []flag {
	s.mu.Lock()
	defer s.mu.Unlock()
	flags := s.first.flags
	if s.first.patience != nil {
		s.first.patience.Stop()
	}
	s.first = first{}
	s.canWrite.Broadcast()
	if s.machine.channel != channelOpen || s.machine.resetSent {
		return nil
	}
	return flags
}
