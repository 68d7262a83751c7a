package reservation

import "slices"

// standing is how a relay stands, as far as the choice of relays goes.
type standing struct {
	own       bool // configured, not discovered
	wanted    bool
	held      bool
	hopeful   bool // may yet come
	returning bool // hopeful, but was lost
	barred    bool // not to be tried now
	leaves    bool // what it holds does not count any longer
}

// choose says which relays to start with and which to stop, given the target;
// relays are given in the order of preference, own ones first.
//
// As long as others hold, a lost relay has its grace to come back before a
// spare is tried; nobody waits for it when none holds. An own relay that failed is tried on until enough other own ones hold, also
// while discovered ones stand in for it; when it is back, they go. One that
// leaves is let go when enough others hold, and tried again when it has left.
func choose(target int, relays []standing) (start, stop []int) {
	held, own, ownWanted := count(relays)
	hopeful := 0
	for i, r := range relays {
		enough := own >= target || !r.own && held >= target
		switch {
		case r.leaves && r.held && held >= target:
			stop = append(stop, i)
		case r.wanted && !r.held && (enough || r.barred || r.leaves):
			stop = append(stop, i)
		case r.leaves:
		case r.hopeful && (held > 0 || !r.returning):
			hopeful++
		}
	}
	for i, r := range slices.Backward(relays) {
		if r.held && !r.leaves && held > target {
			stop = append(stop, i)
			held--
		}
	}
	missing := target - held - hopeful
	for i, r := range relays {
		if r.wanted || r.barred || r.leaves {
			continue
		}
		if missing > 0 || r.own && ownWanted < target {
			start = append(start, i)
			missing--
			ownWanted++
		}
	}
	return start, stop
}

// count counts what counts: not those that leave.
func count(relays []standing) (held, own, ownWanted int) {
	for _, r := range relays {
		if r.leaves {
			continue
		}
		if r.held {
			held++
		}
		if r.held && r.own {
			own++
		}
		if r.wanted && r.own {
			ownWanted++
		}
	}
	return held, own, ownWanted
}
