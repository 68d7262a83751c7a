package webrtc

import (
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
	mu       sync.Mutex
	count    int            // guarded by mu, as all below; of requests, without repetitions
	open     int            // how many are not answered
	ids      map[uint16]int // that they are to reset, and those before them; which request it was
	repeated bool           // pion has asked again, and does not tell for which
	since    time.Time      // when open was not 0 any more, or pion has asked again
	last     time.Time      // when pion asked, or the remote has answered
	changed  chan struct{}  // closed with the next change, for who waits; nil if nobody does
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
		r.open, r.ids, r.repeated, r.since = 0, make(map[uint16]int, len(ids)), false, r.last
	}
	r.open++
	r.count++
	for _, id := range ids {
		r.ids[id] = r.count
	}
}

// pending says whether a request is not answered. r.mu is held.
func (r *resets) pending() bool { return r.open > 0 && time.Since(r.since) < resetPatience }

func (r *resets) askedAgain(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open, r.repeated, r.last = n, true, time.Now()
	r.since = r.last
	r.tell()
}

func (r *resets) answered() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open, r.last = max(r.open-1, 0), time.Now()
	r.tell()
}

func (r *resets) tell() {
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
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

// rested says whether the reset of the last stream with an id was answered, so that
// the next one may have the id.
//
// An answer does not tell which of several requests it is for. They come in the order
// of the requests, unless one was lost; so who has the id of one that seems to be
// answered waits until all are, or pion asks again.
func (r *resets) rested(id uint16, closed <-chan struct{}) bool {
	patience := time.NewTimer(resetPatience)
	defer patience.Stop()
	for {
		rested, changed := r.look(id)
		if changed == nil {
			return rested
		}
		select {
		case <-changed:
		case <-patience.C:
			return true
		case <-closed:
			return false
		}
	}
}

// look returns what rested does, or what is closed when there may be more to know.
func (r *resets) look(id uint16) (rested bool, changed <-chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	request, known := r.ids[id]
	switch {
	case !known || !r.pending():
		return true, nil
	case r.repeated || request > r.count-r.open:
		return false, nil
	case r.changed == nil:
		r.changed = make(chan struct{})
	}
	return false, r.changed
}
