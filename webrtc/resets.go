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
// The remote may use an id again as soon as it has performed the request. If its
// answer is lost, pion asks again, and when the second answer comes starts the
// numbers of the stream anew that has the id by then: the remote hears nothing on
// it any more, nor on any later one with the id
// (https://github.com/pion/sctp/pull/494). Such a stream is better reset.
type resets struct {
	mu    sync.Mutex
	open  int       // guarded by mu, as all below; how many are not answered
	ids   []uint16  // that they are to reset
	round int       // counts the times that open was 0 before
	late  bool      // pion has asked again
	last  time.Time // when pion asked
	// again may be nil. It is called from a goroutine of its own when pion asks
	// again.
	again func(round int)
}

// resetPatience is how long a request counts as unanswered after pion has sent it.
// pion would have sent it again, after 1, 2 and 4 s; so its log has changed.
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
	if r.open == 0 {
		r.round++
		r.ids, r.late = nil, false
	}
	r.open++
	r.ids = append(r.ids, ids...)
	r.last = time.Now()
}

func (r *resets) askedAgain(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.open, r.late, r.last = n, n > 0, time.Now()
	if r.late && r.again != nil {
		go r.again(r.round)
	}
}

func (r *resets) answered() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open--; r.open <= 0 {
		r.open, r.late = 0, false
	}
}

// pending says whether a request is not answered.
func (r *resets) pending() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.open > 0 && time.Since(r.last) < resetPatience
}

// taken says that the remote uses an id. If this side does not know yet that the
// reset of its last stream was performed, the round of the request is returned,
// and whether pion has asked again.
func (r *resets) taken(id uint16) (round int, late bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open == 0 || !slices.Contains(r.ids, id) {
		return 0, false
	}
	return r.round, r.late
}

// watch has f called when pion asks again.
func (r *resets) watch(f func(round int)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.again = f
}
