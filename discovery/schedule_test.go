package discovery

import (
	"testing"
	"time"
)

func TestSchedule(t *testing.T) {
	start := time.Unix(1_790_000_000, 0)
	at := func(d time.Duration) time.Time { return start.Add(d) }
	s := newSchedule(10*time.Second, start)
	s.random = func() float64 { return 0.5 } // no jitter

	if s.fire(start) {
		t.Error("announced at once, without anybody to hear it")
	}
	s.hint(at(100 * time.Millisecond))
	if s.fire(at(100 * time.Millisecond)) {
		t.Error("did not wait for more causes")
	}
	if !s.fire(at(120 * time.Millisecond)) {
		t.Error("a neighbour joined and nothing was announced")
	}
	s.hint(at(200 * time.Millisecond))
	s.hint(at(300 * time.Millisecond))
	if s.fire(at(1119 * time.Millisecond)) {
		t.Errorf("announced again within %v", minGap)
	}
	if !s.fire(at(1120 * time.Millisecond)) {
		t.Errorf("the hint was not made up for after %v", minGap)
	}
	if s.fire(at(11119*time.Millisecond)) || !s.fire(at(11120*time.Millisecond)) {
		t.Error("the next announcement is not an interval after the last one")
	}
}

func TestScheduleJitter(t *testing.T) {
	now := time.Unix(1_790_000_000, 0)
	for random, want := range map[float64]time.Duration{0: 7500 * time.Millisecond, 0.5: 10 * time.Second, 1: 12500 * time.Millisecond} {
		s := &schedule{interval: 10 * time.Second, random: func() float64 { return random }}
		s.fire(now)
		if got := s.due.Sub(now); got != want {
			t.Errorf("random %v: next after %v, want %v", random, got, want)
		}
	}
}
