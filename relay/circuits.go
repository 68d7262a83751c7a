package relay

import (
	"cmp"
	"context"
	"maps"
	"net/netip"
	"slices"
	"sync"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"golang.org/x/time/rate"
)

// openCircuit is a circuit with what is to be given back when it has ended.
type openCircuit struct {
	*circuit
	releases []func()
}

func (c *openCircuit) onRelease(f func()) { c.releases = append(c.releases, f) }

func (c *openCircuit) release() {
	c.cancel()
	for _, f := range slices.Backward(c.releases) {
		f()
	}
	c.releases = nil
}

// circuits is the circuits that are open or about to be.
type circuits struct {
	host   host.Host
	limits Limits

	mu      sync.Mutex
	all     map[*circuit]struct{}       // guarded by mu, as all below
	seats   int                         // taken by those of all that are seated
	bulk    []*circuit                  // those seated that have carried much, in the order in which they became so
	groups  map[netip.Prefix][]*circuit // those seated by where their source is, the oldest first, none empty
	bytes   int64                       // carried by those that have closed
	peers   map[peer.ID]*party
	changed chan struct{} // closed and made anew when a circuit has ended
	closed  bool
}

// party is a peer at an end of circuits.
type party struct {
	circuits map[*circuit]struct{}
	rate     *rate.Limiter // nil without
}

func newCircuits(h host.Host, l Limits) circuits {
	return circuits{
		host: h, limits: l,
		all: make(map[*circuit]struct{}), peers: make(map[peer.ID]*party), groups: make(map[netip.Prefix][]*circuit),
		changed: make(chan struct{}),
	}
}

// enlist counts a circuit, until it is released, if its peers may have another.
// If all places are taken the one that has been bulk for longest makes room:
// signaling always wins. If none is, the oldest does of the address that has
// opened the most, which is done with signaling if it was honest.
func (cs *circuits) enlist(c *openCircuit, rates [2]int64) Reason {
	victim, why := cs.seat(c, rates)
	if victim != nil {
		victim.end(CauseCapacity)
	}
	if why == "" {
		c.onRelease(func() { cs.leave(c.circuit) })
	}
	return why
}

func (cs *circuits) seat(c *openCircuit, rates [2]int64) (victim *circuit, why Reason) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if cs.closed {
		return nil, ReasonShutdown
	}
	ends := [2]peer.ID{c.src, c.dst}
	for _, p := range ends {
		if party := cs.peers[p]; party != nil && len(party.circuits) >= cs.limits.CircuitsPerPeer {
			return nil, ReasonPerPeer
		}
	}
	if cs.seats >= cs.limits.Circuits {
		if victim = cs.weakest(c.group); victim == nil {
			return nil, ReasonCapacity
		}
		cs.unseat(victim)
	}
	cs.all[c.circuit] = struct{}{}
	cs.groups[c.group] = append(cs.groups[c.group], c.circuit)
	cs.seats++
	c.seated, c.bulk = true, func() { cs.becameBulk(c.circuit) }
	for i, p := range ends {
		c.rates[i] = cs.join(c.circuit, p, cmp.Or(rates[i], cs.limits.Rate))
	}
	return victim, ""
}

// weakest returns who makes room for a circuit of a group, nil if nobody does.
func (cs *circuits) weakest(newcomer netip.Prefix) *circuit {
	if len(cs.bulk) > 0 {
		return cs.bulk[0]
	}
	var largest []*circuit
	for _, g := range cs.groups {
		if len(g) > max(len(largest), len(cs.groups[newcomer])+1) {
			largest = g
		}
	}
	if largest == nil {
		return nil
	}
	return largest[0]
}

func (cs *circuits) unseat(c *circuit) {
	if !c.seated {
		return
	}
	c.seated = false
	cs.seats--
	group := cs.groups[c.group]
	at := slices.Index(group, c)
	if cs.groups[c.group] = slices.Delete(group, at, at+1); len(group) == 1 {
		delete(cs.groups, c.group)
	}
	if at := slices.Index(cs.bulk, c); at >= 0 {
		cs.bulk = slices.Delete(cs.bulk, at, at+1)
	}
}

// becameBulk notes that a circuit has carried more than signaling needs.
func (cs *circuits) becameBulk(c *circuit) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if c.seated && !slices.Contains(cs.bulk, c) {
		cs.bulk = append(cs.bulk, c)
	}
}

// join counts a circuit of a peer. Of the rates that its circuits are given the
// smallest counts for all.
func (cs *circuits) join(c *circuit, p peer.ID, perSecond int64) *rate.Limiter {
	e := cs.peers[p]
	if e == nil {
		e = &party{circuits: make(map[*circuit]struct{})}
		cs.peers[p] = e
		cs.host.ConnManager().TagPeer(p, tagCircuit, weightCircuit)
	}
	e.circuits[c] = struct{}{}
	limit, burst := rate.Limit(perSecond), int(max(perSecond, int64(cs.limits.BufferSize)))
	switch {
	case perSecond == 0:
	case e.rate == nil:
		e.rate = rate.NewLimiter(limit, burst)
	case limit < e.rate.Limit():
		e.rate.SetLimit(limit)
		e.rate.SetBurst(burst)
	}
	return e.rate
}

func (cs *circuits) leave(c *circuit) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	delete(cs.all, c)
	cs.unseat(c)
	cs.bytes += c.carried[0].Load() + c.carried[1].Load()
	for _, p := range [2]peer.ID{c.src, c.dst} {
		e := cs.peers[p]
		if e == nil { // its other end was the same
			continue
		}
		delete(e.circuits, c)
		if len(e.circuits) == 0 {
			delete(cs.peers, p)
			cs.host.ConnManager().UntagPeer(p, tagCircuit)
		}
	}
	close(cs.changed)
	cs.changed = make(chan struct{})
}

// transferred returns how many bytes circuits have carried, open ones among them.
func (cs *circuits) transferred() float64 {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	n := cs.bytes
	for c := range cs.all {
		n += c.carried[0].Load() + c.carried[1].Load()
	}
	return float64(n)
}

// list returns the circuits that are open, the oldest first.
func (cs *circuits) list() []Circuit {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	all := make([]Circuit, 0, len(cs.all))
	for c := range cs.all {
		all = append(all, c.public())
	}
	slices.SortFunc(all, func(a, b Circuit) int { return a.Since.Compare(b.Since) })
	return all
}

// endAll ends all circuits and takes no more.
func (cs *circuits) endAll(why Cause) {
	cs.mu.Lock()
	cs.closed = true
	all := slices.Collect(maps.Keys(cs.all))
	cs.mu.Unlock()
	for _, c := range all {
		c.end(why)
	}
}

// endThoseOf ends a peer's circuits, and says how many.
func (cs *circuits) endThoseOf(p peer.ID, why Cause) (n int) {
	for _, c := range cs.those(p) {
		if c.end(why) {
			n++
		}
	}
	return n
}

// lost ends the circuits on a connection that has ended.
func (cs *circuits) lost(conn network.Conn) {
	for _, c := range cs.those(conn.RemotePeer()) {
		c.lost(conn)
	}
}

// those returns a peer's circuits.
func (cs *circuits) those(p peer.ID) []*circuit {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	if e := cs.peers[p]; e != nil {
		return slices.Collect(maps.Keys(e.circuits))
	}
	return nil
}

// idle waits until no circuit is open.
func (cs *circuits) idle(ctx context.Context) error {
	for {
		cs.mu.Lock()
		n, changed := len(cs.all), cs.changed
		cs.mu.Unlock()
		if n == 0 {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
