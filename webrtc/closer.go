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
//
// Browsers hold pion to the rule. A request that comes before all packets that were
// sent before it is in progress, and forgotten when the next request comes: no
// later attempt counts (bad sequence number), the streams are never reset, and
// who uses their ids again is not heard (https://github.com/pion/sctp/pull/508).
// With them channels are closed in rounds, and a round begins only
// while the remote has acknowledged all that was sent, so that none has to wait,
// and has answered all requests. One of many channels may still be two requests, of
// which the second overtakes a lost first. There is a round when
// nobody opens channels, or many wait, for an id that is used again before pion
// knows the answer is lost, see resets.
type closer struct {
	mu      sync.Mutex
	wire    *wire     // guarded by mu, as all below; nil with pion as the remote
	waiting []closing // the first one first
	sent    []channel // closed, but not by the remote yet
	timer   *time.Timer
	due     time.Time // when the timer ends, for some wait; zero if it does not run
	last    time.Time // when channels were closed
	since   time.Time // when the first of waiting came, or last
	asked   int       // requests that are known
	asking  bool      // pion is about to send one more
	doubted bool      // it may be in progress
	busy    time.Time // when a channel was opened

	patience bool // a round waited for channels to come no more
	stopped  bool
}

// closing is a channel that is to be closed, and what is closed with it.
type closing struct {
	channel
	done chan struct{}
}

// wire is what there is to know of the packets that are under way.
type wire struct {
	queued func() int              // bytes that the remote has not acknowledged
	rtt    func() time.Duration    // smoothed
	hold   func(bool)              // keeps payload back
	asks   func() (int, time.Time) // see resets
	most   int                     // channels of a round
}

const (
	// closeAtOnce is below how many channels nothing waits.
	closeAtOnce = 8
	// closeBatch is how many go out together at most, outside rounds. pion puts what
	// it is asked in quick succession into one request, or into two.
	closeBatch = 64
	// roundMost is how many a round has at most. It takes 1.2 s where each has to be
	// doubted, and a browser was seen to open 170 streams/s. A request with as many
	// ids fits into a packet (RFC 6525 §4.1: 2 bytes each).
	roundMost = 512
	// closePatience is how long a remote may hold the others up by not closing
	// its side, or by not acknowledging what was sent. pion repeats a request after
	// 1 s at the earliest (RFC 9260 §16).
	closePatience = 1500 * time.Millisecond
	// closeHurry is how long channels wait for a moment at which all is
	// acknowledged before payload is kept back to make one, which takes up to 200 ms
	// (RFC 9260 §6.2).
	closeHurry = time.Second
	// closePoll is how often that is looked for: nothing tells.
	closePoll = 5 * time.Millisecond
	// roundQuiet is how long no channel is opened before a round of fewer than
	// roundMany. The remote has hundreds of ids, and js-libp2p pings every 10 s.
	roundQuiet = 8 * time.Second
	roundMany  = closeBatch / 2
	// askPatience is how long pion may take to send a request.
	askPatience = 50 * time.Millisecond
	// resetTimer is how long pion's retransmission timer runs on most paths.
	resetTimer = 1200 * time.Millisecond
)

// watch begins to close in rounds.
func (c *closer) watch(w *wire) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wire = w
}

// close is called once for a channel. Nothing is written to it any more.
func (c *closer) close(ch channel) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.stopped {
		return
	}
	if len(c.waiting) == 0 {
		c.since = time.Now()
	}
	c.waiting = append(c.waiting, closing{ch, make(chan struct{})})
	c.next()
}

// await returns when a channel does not wait to be closed any more. Who has read
// all of it that counts waits here before it reads on: pion answers the remote's
// end with a request of its own at once.
func (c *closer) await(ch channel) {
	c.mu.Lock()
	var done <-chan struct{}
	if i := c.index(ch); i >= 0 {
		done = c.waiting[i].done
	}
	c.mu.Unlock()
	if done != nil {
		<-done
	}
}

func (c *closer) index(ch channel) int {
	return slices.IndexFunc(c.waiting, func(w closing) bool { return w.channel == ch })
}

func (c *closer) next() {
	if len(c.waiting) > 0 && c.ready() {
		most := closeBatch
		if c.wire != nil {
			most = c.wire.most
		}
		c.send(min(len(c.waiting), most))
	}
	if len(c.waiting) > 0 || c.asking {
		c.look()
	}
}

// look has tick called soon.
func (c *closer) look() {
	pace := c.pace()
	due := time.Now().Add(pace)
	switch {
	case c.timer == nil:
		c.timer = time.AfterFunc(pace, c.tick)
	case c.due.IsZero() || due.Before(c.due):
		c.timer.Reset(pace)
	default:
		return // it is called sooner
	}
	c.due = due
}

func (c *closer) pace() time.Duration {
	if c.wire == nil {
		return closePatience
	}
	if c.asking {
		return closePoll
	}
	return max(c.patient(), closePoll)
}

// patient returns how long a round may wait for channels to come no more.
func (c *closer) patient() time.Duration {
	if len(c.waiting) >= roundMany {
		return 0
	}
	return roundQuiet - time.Since(c.busy)
}

// opened says that either side has opened a channel.
func (c *closer) opened() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.busy = time.Now()
}

// ready says whether channels may be closed now.
func (c *closer) ready() bool {
	if c.patience {
		c.patience, c.since = false, time.Now() // to hurry from now on
	}
	switch {
	case c.wire == nil:
		return len(c.sent) < closeAtOnce
	case c.patient() > 0:
		c.patience = true
		return false
	case len(c.sent) > 0 || time.Since(c.last) < 2*c.wire.rtt() || !c.answered():
		return false // a request may be under way
	case c.wire.queued() == 0:
		return true
	}
	waited := time.Since(c.since)
	if len(c.waiting) >= closeBatch || waited >= closeHurry {
		c.wire.hold(true)
	}
	return waited >= closeHurry+closePatience
}

// answered says whether the remote has answered all requests for good.
func (c *closer) answered() bool {
	asked, since := c.wire.asks()
	if c.asking {
		if asked == c.asked && time.Since(c.last) < askPatience {
			return false
		}
		// What was sent with the request and is lost has it wait.
		c.asking, c.doubted = false, c.wire.queued() > 0
		c.wire.hold(false)
	} else if asked > c.asked { // it is not one of ours
		c.doubted = true
	}
	c.asked = asked
	if since.IsZero() && asked > 0 {
		return false
	}
	return !c.doubted || time.Since(since) > resetTimer+2*c.wire.rtt()
}

// send closes the first n that wait.
func (c *closer) send(n int) {
	for _, w := range c.waiting[:n] {
		closeChannel(w.channel)
		c.sent = append(c.sent, w.channel)
		close(w.done)
	}
	c.waiting = slices.Delete(c.waiting, 0, n)
	c.last = time.Now()
	c.since = c.last
	if c.wire != nil {
		c.asking = true
		c.wire.hold(true) // until pion has asked, see answered
	}
}

// tick waits no longer for those that were sent long ago.
func (c *closer) tick() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.due = time.Time{}
	if c.stopped {
		return
	}
	if time.Since(c.last) >= closePatience {
		c.sent = nil
	}
	if c.asking {
		c.answered()
	}
	c.next()
}

// ended says that the remote has closed a channel.
func (c *closer) ended(ch channel) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if i := c.index(ch); i >= 0 {
		close(c.waiting[i].done)
		c.waiting = slices.Delete(c.waiting, i, i+1)
		if len(c.waiting) == 0 && c.wire != nil && !c.asking {
			c.wire.hold(false) // nobody is left to do it
		}
		return // pion has just done it
	}
	if i := slices.Index(c.sent, ch); i >= 0 {
		c.sent = slices.Delete(c.sent, i, i+1)
		c.next()
	}
}

// stop ends the closer with the connection.
func (c *closer) stop() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stopped = true
	for _, w := range c.waiting {
		close(w.done)
	}
	c.waiting, c.sent = nil, nil
	if c.timer != nil {
		c.timer.Stop()
	}
}
