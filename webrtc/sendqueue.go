package webrtc

import (
	"slices"
	"sync"
	"sync/atomic"

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
	queued func() int // takes a lock of pion's

	mu   sync.Mutex
	line []*stream // guarded by mu; who waits, the first one first
	held bool      // guarded by mu; nobody sends

	// first is line[0]. It is for drained, which must not take mu: pion waits for
	// it while it closes the connection, with the lock that queued takes.
	first atomic.Pointer[stream]
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
// leaves s in line.
func (q *sendQueue) send(s *stream, frame []byte) (sent bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !slices.Contains(q.line, s) {
		q.change(append(q.line, s))
	}
	// Look for space only now that drained knows who is first, or s might miss it.
	if q.held || q.line[0] != s || !q.fits(len(frame)) {
		return false, nil
	}
	_, err = s.channel.Write(frame)
	q.change(slices.Delete(q.line, 0, 1))
	q.drained() // there may be space for the next one too
	return true, err
}

// fits lets in at least one frame, however small the window.
func (q *sendQueue) fits(n int) bool {
	queued := q.queued()
	return queued == 0 || queued+n <= q.limit
}

// hold has all wait, or lets them go on.
func (q *sendQueue) hold(held bool) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.held == held {
		return
	}
	q.held = held
	q.drained()
}

// leave takes s out of the line.
func (q *sendQueue) leave(s *stream) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if i := slices.Index(q.line, s); i >= 0 {
		q.change(slices.Delete(q.line, i, i+1))
		q.drained()
	}
}

func (q *sendQueue) change(line []*stream) {
	q.line = line
	if len(line) == 0 {
		q.first.Store(nil)
	} else {
		q.first.Store(line[0])
	}
}

// drained says that there may be space.
func (q *sendQueue) drained() {
	if s := q.first.Load(); s != nil {
		s.turn()
	}
}
