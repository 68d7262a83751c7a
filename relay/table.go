package relay

import (
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
}

// table holds the reservations.
type table struct {
	limits Limits

	mu     sync.Mutex
	held   map[peer.ID]*reservation                  // guarded by mu, as all below
	groups map[netip.Prefix]map[peer.ID]*reservation // by IPv4 address and IPv6 /56, none empty
	asns   map[uint32]int
}

func newTable(l Limits) *table {
	return &table{
		limits: l,
		held:   make(map[peer.ID]*reservation),
		groups: make(map[netip.Prefix]map[peer.ID]*reservation),
		asns:   make(map[uint32]int),
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

// put adds a reservation or renews it. If the relay is full a newcomer takes
// the place of one of a group that holds more, which is returned.
func (t *table) put(r *reservation) (renewal bool, evicted *reservation, why Reason) {
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
		return false, nil, why
	}
	t.add(r)
	if old != nil {
		old.release()
	}
	return old != nil, evicted, ""
}

// room says whether r fits, after who has to go for it has gone.
func (t *table) room(r *reservation) (evicted *reservation, why Reason) {
	switch group := groupOf(r.Addr); {
	case len(t.groups[group]) >= t.limits.ReservationsPerIP:
		return nil, ReasonPerIP
	case r.asn != 0 && t.asns[r.asn] >= t.limits.ReservationsPerASN:
		return nil, ReasonPerASN
	case len(t.held) < t.limits.Reservations:
		return nil, ""
	default:
		if evicted = t.greediest(len(t.groups[group]) + 1); evicted == nil {
			return nil, ReasonCapacity
		}
		t.remove(evicted)
		return evicted, ""
	}
}

// greediest returns the reservation that ends first in the largest group, if
// that has more than so many.
func (t *table) greediest(than int) *reservation {
	var largest map[peer.ID]*reservation
	for _, g := range t.groups {
		if len(g) > max(than, len(largest)) {
			largest = g
		}
	}
	var first *reservation
	for _, r := range largest {
		if first == nil || r.Expires.Before(first.Expires) {
			first = r
		}
	}
	return first
}

func (t *table) add(r *reservation) {
	t.held[r.Peer] = r
	group := groupOf(r.Addr)
	if t.groups[group] == nil {
		t.groups[group] = make(map[peer.ID]*reservation)
	}
	t.groups[group][r.Peer] = r
	if r.asn != 0 {
		t.asns[r.asn]++
	}
}

func (t *table) remove(r *reservation) {
	delete(t.held, r.Peer)
	group := groupOf(r.Addr)
	if delete(t.groups[group], r.Peer); len(t.groups[group]) == 0 {
		delete(t.groups, group)
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

// exchange has a peer's reservation give back something else when it ends, and
// gives back what it had taken. It fails if there is none any more.
func (t *table) exchange(p peer.ID, release func()) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.held[p]
	if r == nil {
		return false
	}
	old := r.release
	r.release = release
	old()
	return true
}

// take removes a peer's reservation and returns it, nil if it held none.
func (t *table) take(p peer.ID) *reservation {
	t.mu.Lock()
	defer t.mu.Unlock()
	r := t.held[p]
	if r != nil {
		t.remove(r)
	}
	return r
}

// expire removes those that have ended.
func (t *table) expire(now time.Time) (ended []*reservation) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, r := range t.held {
		if r.Expires.Before(now) {
			ended = append(ended, r)
		}
	}
	for _, r := range ended {
		t.remove(r)
	}
	return ended
}

// list returns those that are held, the oldest first.
func (t *table) list(now time.Time) []Reservation {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := make([]Reservation, 0, len(t.held))
	for _, r := range t.held {
		if !r.Expires.Before(now) {
			all = append(all, r.Reservation)
		}
	}
	slices.SortFunc(all, func(a, b Reservation) int { return a.Since.Compare(b.Since) })
	return all
}
