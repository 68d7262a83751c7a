package webrtc

import (
	"slices"
	"sync"
	"sync/atomic"
	"time"

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
//
// To all others pion sends messages in the order in which they came, whosoever
// they are. So there is no more of them in its queue than keeps the path busy:
// on a slow path the first byte of a stream would wait behind all the payload of
// another one, and js-libp2p closes a connection whose ping takes 5 s.
type sendQueue struct {
	limit  int
	queued func() int                             // takes a lock of pion's
	path   func() (window int, rtt time.Duration) // SCTP's congestion window in bytes; nil if messages are interleaved

	mu      sync.Mutex
	line    []*stream // guarded by mu; who waits, the first one first
	held    bool      // guarded by mu; nobody sends
	looking bool      // guarded by mu; look runs soon

	// first is line[0]. It is for drained, which must not take mu: pion waits for
	// it while it closes the connection, with the lock that queued takes.
	first atomic.Pointer[stream]
}

func newSendQueue(pc *pion.PeerConnection, limit int) *sendQueue {
	sctp := pc.SCTP()
	q := &sendQueue{limit: limit, queued: sctp.BufferedAmount}
	if m, ok := sctp.Metadata(); ok && m.MessageInterleavingEnabled {
		// Nearly nothing is under way yet, so this is all of the window. A part is
		// left for what goes past the queue: flags, acknowledgements of channels.
		q.limit = min(limit, int(sctp.Stats().ReceiverWindow)/4*3)
		return q
	}
	q.path = func() (int, time.Duration) {
		s := sctp.Stats()
		return int(s.CongestionWindow), time.Duration(s.SmoothedRoundTripTime * float64(time.Second))
	}
	return q
}

// small is a frame that goes with others into one packet. Such a one need not wait
// if it is all that its stream has to send: it is a question or an answer.
const small = 1 << 10

// send queues a frame of s if there is space and nobody is before s, or else
// leaves s in line.
func (q *sendQueue) send(s *stream, frame []byte) (sent bool, err error) {
	q.mu.Lock()
	defer q.mu.Unlock()
	if !slices.Contains(q.line, s) {
		if q.path != nil && !q.held && len(frame) <= small && s.channel.BufferedAmount() == 0 {
			_, err = s.channel.Write(frame)
			return true, err
		}
		q.change(append(q.line, s))
	}
	// Look for space only now that drained knows who is first, or s might miss it.
	if q.held || q.line[0] != s {
		return false, nil
	}
	if fits, again := q.fits(len(frame)); !fits {
		q.lookIn(again)
		return false, nil
	}
	_, err = s.channel.Write(frame)
	q.change(slices.Delete(q.line, 0, 1))
	q.drained() // there may be space for the next one too
	return true, err
}

// fits says whether a frame of n bytes may be queued, and if not, in what time to
// look again; 0 is when pion tells that there is space. It lets in at least one
// frame, however small the window.
func (q *sendQueue) fits(n int) (_ bool, again time.Duration) {
	queued := q.queued()
	if queued == 0 {
		return true, 0
	}
	if q.path != nil {
		// One window is under way. Another one waits for its acknowledgements: with
		// nothing left to send pion's window would not grow.
		window, rtt := q.path()
		if queued >= 2*window {
			return false, min(max(rtt/8, minLook), maxLook)
		}
	}
	return queued+n <= q.limit, 0
}

// payload is how much of it may be in a frame, which nothing comes between: no
// more than what is under way at a time.
func (q *sendQueue) payload() int {
	if q.path == nil {
		return maxPayload
	}
	window, _ := q.path()
	return min(max(window, small), maxPayload)
}

// pion tells when a stream has nothing left in its queue, but not when all of them
// together have less than a window. So it is looked for that often.
const (
	minLook = time.Millisecond
	maxLook = 20 * time.Millisecond
)

func (q *sendQueue) lookIn(d time.Duration) {
	if d > 0 && !q.looking {
		q.looking = true
		time.AfterFunc(d, q.look)
	}
}

func (q *sendQueue) look() {
	q.mu.Lock()
	q.looking = false
	q.mu.Unlock()
	q.drained()
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
