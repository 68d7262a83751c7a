package relay

// group is the reservations of one network: a heap of which the first is the one
// that ends first, so that a full relay finds who makes room without a search.
type group struct {
	members []*reservation
	at      int // among those of the same size
}

// Len implements [heap.Interface].
func (g *group) Len() int { return len(g.members) }

// Less implements [heap.Interface].
func (g *group) Less(i, j int) bool { return g.members[i].Expires.Before(g.members[j].Expires) }

// Swap implements [heap.Interface].
func (g *group) Swap(i, j int) {
	g.members[i], g.members[j] = g.members[j], g.members[i]
	g.members[i].at, g.members[j].at = i, j
}

// Push implements [heap.Interface].
func (g *group) Push(r any) {
	m, _ := r.(*reservation)
	m.at = len(g.members)
	g.members = append(g.members, m)
}

// Pop implements [heap.Interface].
func (g *group) Pop() any {
	last := len(g.members) - 1
	m := g.members[last]
	g.members[last] = nil
	g.members = g.members[:last]
	return m
}

// sizes has the groups by size: those of one are not ordered. Its length is one
// more than the largest size there is, for a group grows and shrinks by one.
type sizes [][]*group

// take removes a group that is about to grow or to shrink.
func (s *sizes) take(g *group) {
	if g.Len() == 0 {
		return
	}
	same := (*s)[g.Len()]
	last := same[len(same)-1]
	same[g.at], last.at = last, g.at
	same[len(same)-1] = nil
	(*s)[g.Len()] = same[:len(same)-1]
}

// put adds a group that take has removed.
func (s *sizes) put(g *group) {
	n := g.Len()
	for len(*s) <= n {
		*s = append(*s, nil)
	}
	if n > 0 {
		g.at = len((*s)[n])
		(*s)[n] = append((*s)[n], g)
	}
	for len(*s) > 0 && len((*s)[len(*s)-1]) == 0 {
		*s = (*s)[:len(*s)-1]
	}
}

// largest returns a group than which none is larger, nil if there is none.
func (s sizes) largest() *group {
	if len(s) == 0 {
		return nil
	}
	return s[len(s)-1][0]
}
