package webrtc

import (
	"slices"
	"sync"
	"time"
)

// resets are the requests to reset streams (RFC 6525) that pion has sent and the
// remote has not answered. Only pion's log tells of them.
//
// A browser answers one request at a time, in order. A second one that overtakes a
// lost first is refused, and with it all that come later: no channel of the
// connection ends any more (https://github.com/pion/sctp/pull/508). So the closer
// waits for the answer.
//
// The remote may use an id again as soon as it has performed the request. With the
// answer pion starts the numbers of the stream anew that has the id by then: if the
// answer is late, or lost and repeated, the remote hears nothing on it any more, nor
// on any later one with the id (https://github.com/pion/sctp/pull/494). Such a
// stream is refused while it can hear that.
type resets struct {
	mu    sync.Mutex
	open  int       // guarded by mu, as all below; how many are not answered
	ids   []uint16  // that they are to reset
	count int       // of requests, without repetitions
	since time.Time // when open was not 0 any more, or pion has asked again
	last  time.Time // when pion asked, or the remote has answered
}

// resetPatience is how long requests count as unanswered. Pion would have sent them
// again after 1, 2 and 4 s; if it did not say so, its log has changed.
const resetPatience = 10 * time.Second

// What pion logs, in v1.12 of its SCTP. TestPionTellsOfResets sees it change.
const (
	logAsked    = "[%s] sending RECONFIG: rsn=%d tsn=%d streams=%v"
	logAgain    = "[%s] retransmit %d RECONFIG chunk(s)"
	logAnswered = "[%s] handleReconfigParam (ReconfigResponse)"
)

// logged takes a line of pion's log. pion holds a lock of the association, so
// nothing of it may be called.
func (r *resets) logged(format string, args []any) {
	switch format {
	case logAsked:
		if ids, ok := args[len(args)-1].([]uint16); ok {
			r.asked(ids)
		}
	case logAgain:
		if n, ok := args[len(args)-1].(int); ok {
			r.askedAgain(n)
		}
	case logAnswered:
		r.answered()
	}
}

func (r *resets) asked(ids []uint16) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.last = time.Now()
	if !r.pending() {
		r.open, r.ids, r.since = 0, nil, r.last
	}
	r.open++
	r.count++
	for _, id := range ids {
		if !slices.Contains(r.ids, id) {
			r.ids = append(r.ids, id)
		}
	}
}

// pending says whether a request is not answered. r.mu is held.
func (r *resets) pending() bool { return r.open > 0 && time.Since(r.since) < resetPatience }

func (r *resets) askedAgain(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open, r.last = n, time.Now()
	r.since = r.last
}

func (r *resets) answered() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open, r.last = max(r.open-1, 0), time.Now()
}

// asks returns how many requests pion has sent, and since when all of them have
// been answered. Since when is the zero time while one has not. "In progress" counts
// as an answer; pion asks again when its retransmission timer runs out after that.
func (r *resets) asks() (count int, answered time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.pending() {
		return r.count, time.Time{}
	}
	return r.count, r.last
}

// unanswered says whether the reset of the last stream with an id was not answered.
func (r *resets) unanswered(id uint16) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.pending() && slices.Contains(r.ids, id)
}
