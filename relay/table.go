package relay

import (
	"container/heap"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Reservation is a reservation that a peer holds.
type Reservation struct {
	Peer    peer.ID
	Addr    netip.Addr // that it comes from
	Since   time.Time
	Expires time.Time
	Terms   Terms // what was granted, with the relay's limits filled in
}

// reservation is one in the table.
type reservation struct {
	Reservation
	asn     uint32 // 0 for IPv4 and if not known
	release func() // gives back what the policy took
	at      int    // in its group's heap
}

// table holds the reservations.
type table struct {
	limits  Limits
	changed func() // called without mu when something was put or removed

	mu     sync.Mutex
	held   map[peer.ID]*reservation // guarded by mu, as all below
	groups map[netip.Prefix]*group  // by IPv4 address and IPv6 /56, none empty
	sizes  sizes
	asns   map[uint32]int
}

func newTable(l Limits) *table {
	return &table{
		limits:  l,
		changed: func() {},
		held:    make(map[peer.ID]*reservation),
		groups:  make(map[netip.Prefix]*group),
		asns:    make(map[uint32]int),
	}
}

// groupOf returns the network whose peers share a cap: what one customer has.
func groupOf(a netip.Addr) netip.Prefix {
	bits := 56
	if a.Is4() {
		bits = 32
	}
	p, _ := a.Prefix(bits) // fails for more bits than there are
	return p
}

// put adds a reservation, or renews one, which is returned. If the relay is full
// a newcomer takes the place of one of a group that holds more, which is
// returned too. Who calls gives back what both had taken.
func (t *table) put(r *reservation) (renewed, evicted *reservation, why Reason) {
	if renewed, evicted, why = t.exchangeFor(r); why == "" {
		t.changed()
	}
	return renewed, evicted, why
}

func (t *table) exchangeFor(r *reservation) (renewed, evicted *reservation, why Reason) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r.asn = builtinASNs(r.Addr)
	old := t.held[r.Peer]
	if old != nil {
		r.Since = old.Since
		t.remove(old)
	}
	evicted, why = t.room(r)
	if why != "" {
		if old != nil { // it keeps what it has
			t.add(old)
		}
		return nil, nil, why
	}
	t.add(r)
	return old, evicted, ""
}

// room says whether r fits, after who has to go for it has gone.
func (t *table) room(r *reservation) (evicted *reservation, why Reason) {
	own := 0
	if g := t.groups[groupOf(r.Addr)]; g != nil {
		own = g.Len()
	}
	switch {
	case own >= t.limits.ReservationsPerIP:
		return nil, ReasonPerIP
	case r.asn != 0 && t.asns[r.asn] >= t.limits.ReservationsPerASN:
		return nil, ReasonPerASN
	case len(t.held) < t.limits.Reservations:
		return nil, ""
	}
	largest := t.sizes.largest()
	if largest == nil || largest.Len() <= own+1 {
		return nil, ReasonCapacity
	}
	evicted = largest.members[0] // the one that ends first
	t.remove(evicted)
	return evicted, ""
}

func (t *table) add(r *reservation) {
	t.held[r.Peer] = r
	key := groupOf(r.Addr)
	g := t.groups[key]
	if g == nil {
		g = new(group)
		t.groups[key] = g
	}
	t.sizes.take(g)
	heap.Push(g, r)
	t.sizes.put(g)
	if r.asn != 0 {
		t.asns[r.asn]++
	}
}

func (t *table) remove(r *reservation) {
	delete(t.held, r.Peer)
	key := groupOf(r.Addr)
	g := t.groups[key]
	t.sizes.take(g)
	heap.Remove(g, r.at)
	t.sizes.put(g)
	if g.Len() == 0 {
		delete(t.groups, key)
	}
	if r.asn != 0 {
		if t.asns[r.asn]--; t.asns[r.asn] == 0 {
			delete(t.asns, r.asn)
		}
	}
}

// get returns a peer's reservation, nil if it holds none.
func (t *table) get(p peer.ID, now time.Time) *reservation {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.held[p]
	if r == nil || r.Expires.Before(now) {
		return nil
	}
	return r
}

// exchange has a peer's reservation give back something else when it ends. It
// returns what it was to give back until now, nil if it has ended.
func (t *table) exchange(p peer.ID, release func()) (old func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.held[p]
	if r == nil {
		return nil
	}
	old, r.release = r.release, release
	return old
}

// take removes a peer's reservation and returns it, nil if it held none.
func (t *table) take(p peer.ID) *reservation {
	t.mu.Lock()
	r := t.held[p]
	if r != nil {
		t.remove(r)
	}
	t.mu.Unlock()
	if r != nil {
		t.changed()
	}
	return r
}

// expire removes those that have ended.
func (t *table) expire(now time.Time) (ended []*reservation) {
	t.mu.Lock()
	for _, r := range t.held {
		if r.Expires.Before(now) {
			ended = append(ended, r)
		}
	}
	for _, r := range ended {
		t.remove(r)
	}
	t.mu.Unlock()
	if len(ended) > 0 {
		t.changed()
	}
	return ended
}

// list returns those that are held, the oldest first.
func (t *table) list(now time.Time) []Reservation {
	t.mu.Lock()
	all := make([]Reservation, 0, len(t.held))
	for _, r := range t.held {
		if !r.Expires.Before(now) {
			all = append(all, r.Reservation)
		}
	}
	t.mu.Unlock()
	slices.SortFunc(all, func(a, b Reservation) int { return a.Since.Compare(b.Since) })
	return all
}
