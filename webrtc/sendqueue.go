package webrtc

import (
	"slices"
	"sync"

	pion "github.com/pion/webrtc/v4"
)

// sendQueue bounds what all streams of a connection have in pion's queue, which
// has no bound of its own, acknowledged bytes left out. Who finds it full waits
// in line.
//
// It is more than courtesy. Two pions send messages interleaved (RFC 8260), a
// fragment of each stream in turn. Were there more of it than the remote's
// receive window holds, the window could fill with parts of messages none of
// which is complete; then nothing can be read, and nothing sent, ever again. A
// hundred streams of 100 kB do it.
type sendQueue struct {
	limit  int
	queued func() int

	mu   sync.Mutex
	line []*stream // guarded by mu; who waits, the first one first
}

func newSendQueue(pc *pion.PeerConnection, limit int) *sendQueue {
	sctp := pc.SCTP()
	if m, ok := sctp.Metadata(); ok && m.MessageInterleavingEnabled {
		// Nearly nothing is under way yet, so this is all of the window. A part is
		// left for what goes past the queue: flags, acknowledgements of channels.
		limit = min(limit, int(sctp.Stats().ReceiverWindow)/4*3)
	}
	return &sendQueue{limit: limit, queued: sctp.BufferedAmount}
}

// send queues a frame of s if there is space and nobody is before s, or else
// puts s in line. The next in line is woken when something was sent.
func (q *sendQueue) send(s *stream, frame []byte) (sent bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	first := len(q.line) == 0 || q.line[0] == s
	if queued := q.queued(); !first || queued > 0 && queued+len(frame) > q.limit {
		if !slices.Contains(q.line, s) {
			q.line = append(q.line, s)
		}
		return false, nil
	}
	if len(q.line) > 0 {
		q.line = slices.Delete(q.line, 0, 1)
	}
	_, err = s.channel.Write(frame)
	q.wake()
	return true, err
}

// leave takes s out of the line.
func (q *sendQueue) leave(s *stream) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if i := slices.Index(q.line, s); i >= 0 {
		q.line = slices.Delete(q.line, i, i+1)
		q.wake()
	}
}

// drained says that there may be space.
func (q *sendQueue) drained() {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.wake()
}

func (q *sendQueue) wake() {
	if len(q.line) > 0 {
		q.line[0].turn()
	}
}
