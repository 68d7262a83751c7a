package reservation

import (
	"slices"
	"testing"
)

func TestChoose(t *testing.T) {
	// a letter a relay: w waits, h is held, p is hopeful, r was lost and may be back, f failed, b is barred, x is
	// wanted and barred, l is held and leaves, g has been let go and leaves; capitals are own ones
	parse := func(letters string) []standing {
		var all []standing
		for _, l := range letters {
			s := standing{own: l < 'a'}
			switch l | 0x20 {
			case 'h':
				s.wanted, s.held = true, true
			case 'p':
				s.wanted, s.hopeful = true, true
			case 'r':
				s.wanted, s.hopeful, s.returning = true, true, true
			case 'f':
				s.wanted = true
			case 'b':
				s.barred = true
			case 'x':
				s.wanted, s.barred = true, true
			case 'l':
				s.wanted, s.held, s.leaves = true, true, true
			case 'g':
				s.leaves = true
			}
			all = append(all, s)
		}
		return all
	}
	for _, c := range []struct {
		name        string
		target      int
		relays      string
		start, stop []int
	}{
		{"at first", 2, "WWW", []int{0, 1}, nil},
		{"under way", 2, "PPW", nil, nil},
		{"one failed", 2, "PFW", []int{2}, nil},
		{"all is well", 2, "HHW", nil, nil},
		{"a spare was faster", 2, "PHH", nil, []int{0}},
		{"one lost, another holds", 2, "HRW", nil, nil},
		{"the only one lost", 1, "RW", []int{1}, nil},
		{"both lost", 2, "RRW", []int{2}, nil},
		{"none left", 2, "HF", nil, nil},
		{"discovered last", 2, "FWw", []int{1, 2}, nil},
		{"discovered not needed", 1, "Hww", nil, nil},
		{"discovered stands in", 1, "Fh", nil, nil},
		{"own one is back", 1, "Hh", nil, []int{1}},
		{"discovered enough", 2, "Fhhp", nil, []int{3}},
		{"barred", 2, "Fbbw", []int{3}, nil},
		{"barred while wanted", 1, "Fxw", []int{2}, []int{1}},
		{"one too many", 2, "HHH", nil, []int{2}},
		{"one leaves", 2, "LHW", []int{2}, nil},
		{"one leaves, a spare is tried", 2, "LHP", nil, nil},
		{"one leaves, others hold", 2, "LHH", nil, []int{0}},
		{"one leaves, nobody else", 1, "L", nil, nil},
		{"one leaves, another was suggested", 1, "Lw", []int{1}, nil},
		{"one leaves, a suggested one holds", 1, "Lh", nil, []int{0}},
		{"one was let go", 1, "Gh", nil, nil},
		{"one has left", 1, "Wh", []int{0}, nil},
		{"one is back", 1, "Hh", nil, []int{1}},
		{"nothing known", 2, "", nil, nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			start, stop := choose(c.target, parse(c.relays))
			if !slices.Equal(start, c.start) || !slices.Equal(stop, c.stop) {
				t.Errorf("start %v, stop %v; want %v and %v", start, stop, c.start, c.stop)
			}
		})
	}
}
