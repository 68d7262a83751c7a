package webrtc

import (
	"slices"
	"sync"
	"time"
)

// closer closes channels, a few at once and many together: what comes while some
// are not closed by the remote yet goes out with what else comes.
//
// RFC 6525 §5.1.1 allows one request to reset streams at a time. pion sends one
// whenever asked, and has its remote answer each of those that wait for a lost
// packet again with each packet that comes. A hundred streams that ended together
// were seen to drown the connection in answers.
type closer struct {
	mu      sync.Mutex
	waiting []channel // guarded by mu, as all below
	sent    []channel // closed, but not by the remote yet
	timer   *time.Timer
	timing  bool // the timer runs, for some wait
}

const (
	// closeAtOnce is below how many channels nothing waits.
	closeAtOnce = 8
	// closeBatch is how many go out together at most. pion puts what it is asked
	// in quick succession into one request.
	closeBatch = 64
	// closePatience is how long a remote may hold the others up by not closing
	// its side.
	closePatience = time.Second
)

// close is called once for a channel. Nothing is written to it any more.
func (c *closer) close(ch channel) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting = append(c.waiting, ch)
	c.next()
}

func (c *closer) next() {
	if len(c.sent) < closeAtOnce {
		n := min(len(c.waiting), closeBatch)
		for _, ch := range c.waiting[:n] {
			closeChannel(ch)
		}
		c.sent = append(c.sent, c.waiting[:n]...)
		c.waiting = slices.Delete(c.waiting, 0, n)
	}
	if len(c.waiting) > 0 && !c.timing {
		c.timing = true
		c.timer = time.AfterFunc(closePatience, c.giveUp)
	}
}

// giveUp waits no longer for those that were sent.
func (c *closer) giveUp() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.timing = false
	c.sent = nil
	c.next()
}

// ended says that the remote has closed a channel, and returns whether this side
// had done so before.
func (c *closer) ended(ch channel) (closed bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := slices.Index(c.waiting, ch); i >= 0 {
		c.waiting = slices.Delete(c.waiting, i, i+1)
		return false // and pion has just done it
	}
	if i := slices.Index(c.sent, ch); i >= 0 {
		c.sent = slices.Delete(c.sent, i, i+1)
		c.next()
	}
	return true
}

// stop ends the closer with the connection.
func (c *closer) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.waiting, c.sent = nil, nil
	if c.timer != nil {
		c.timer.Stop()
	}
}
