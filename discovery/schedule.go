package discovery

import (
	"math/rand/v2"
	"time"
)

const (
	// minGap bounds how often one node announces itself, whatever happens
	// around it: joins must not be answered by storms.
	minGap = time.Second
	// settle is how long an announcement that something asked for waits, so
	// that several causes at once (a start, a reconnect) end in one.
	settle = 20 * time.Millisecond
	jitter = 0.25
)

// schedule decides when to announce. It is pure: the caller brings the time.
type schedule struct {
	interval time.Duration
	random   func() float64 // in [0,1)
	last     time.Time      // when the last announcement went out
	due      time.Time      // when the next one shall
}

func newSchedule(interval time.Duration, now time.Time) *schedule {
	s := &schedule{interval: interval, random: rand.Float64}
	s.due = now.Add(s.spread())
	return s
}

func (s *schedule) spread() time.Duration {
	f := 1 - jitter + 2*jitter*s.random()
	return time.Duration(f * float64(s.interval))
}

// hint brings the next announcement forward: a neighbour joined or addresses changed.
func (s *schedule) hint(now time.Time) {
	at := now.Add(settle)
	if earliest := s.last.Add(minGap); at.Before(earliest) {
		at = earliest
	}
	if at.Before(s.due) {
		s.due = at
	}
}

// fire says whether to announce now, and if so plans the next one.
func (s *schedule) fire(now time.Time) bool {
	if now.Before(s.due) {
		return false
	}
	s.last = now
	s.due = now.Add(s.spread())
	return true
}
