package relay

import (
	"cmp"
	"context"
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
	for _, f := range slices.Backward(c.releases) {
		f()
	}
	c.releases = nil
}

// begin gives the circuit its streams, unless it was ended before.
func (c *circuit) begin(src, dst network.Stream) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != "" {
		return false
	}
	c.streams = [2]network.Stream{src, dst}
	return true
}

// circuits is the circuits that are open or about to be.
type circuits struct {
	host   host.Host
	limits Limits

	mu      sync.Mutex
	all     map[*circuit]struct{} // guarded by mu, as all below
	peers   map[peer.ID]*party
	changed chan struct{} // closed and made anew when a circuit has ended
}

// party is a peer at an end of circuits.
type party struct {
	circuits int
	rate     *rate.Limiter // nil without
}

func newCircuits(h host.Host, l Limits) circuits {
	return circuits{
		host: h, limits: l,
		all: make(map[*circuit]struct{}), peers: make(map[peer.ID]*party), changed: make(chan struct{}),
	}
}

// enlist counts a circuit, until it is released, if its peers may have another.
func (cs *circuits) enlist(c *openCircuit, rates [2]int64) Reason {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	ends := [2]peer.ID{c.src, c.dst}
	for _, p := range ends {
		if party := cs.peers[p]; party != nil && party.circuits >= cs.limits.CircuitsPerPeer {
			return ReasonPerPeer
		}
	}
	if len(cs.all) >= cs.limits.Circuits {
		return ReasonCapacity
	}
	cs.all[c.circuit] = struct{}{}
	for i, p := range ends {
		c.rates[i] = cs.join(p, cmp.Or(rates[i], cs.limits.Rate))
	}
	c.onRelease(func() { cs.leave(c.circuit) })
	return ""
}

func (cs *circuits) join(p peer.ID, perSecond int64) *rate.Limiter {
	e := cs.peers[p]
	if e == nil {
		e = new(party)
		cs.peers[p] = e
		cs.host.ConnManager().TagPeer(p, tagCircuit, weightCircuit)
	}
	e.circuits++
	if perSecond > 0 && e.rate == nil {
		e.rate = rate.NewLimiter(rate.Limit(perSecond), int(max(perSecond, int64(cs.limits.BufferSize))))
	}
	return e.rate
}

func (cs *circuits) leave(c *circuit) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	delete(cs.all, c)
	for _, p := range [2]peer.ID{c.src, c.dst} {
		e := cs.peers[p]
		if e.circuits--; e.circuits == 0 {
			delete(cs.peers, p)
			cs.host.ConnManager().UntagPeer(p, tagCircuit)
		}
	}
	close(cs.changed)
	cs.changed = make(chan struct{})
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

func (cs *circuits) endAll(why Cause) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for c := range cs.all {
		c.end(why)
	}
}

func (cs *circuits) endThoseOf(p peer.ID, why Cause) (n int) {
	cs.mu.Lock()
	defer cs.mu.Unlock()
	for c := range cs.all {
		if c.src == p || c.dst == p {
			c.end(why)
			n++
		}
	}
	return n
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
