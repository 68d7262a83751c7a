package relay

import (
	"context"
	"fmt"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"
)

// maxCount is the most that a cap or a rate can be set to.
const maxCount = 1 << 20

// PerPeer caps how many circuits a peer has open at once, at both ends; [On]
// makes it one end. Like all caps it has no opinion on what fits, 1 to 1048576.
func PerPeer(n int) Policy {
	return newQuota(n, ByPeer(), ReasonPerPeer, []Op{ConnectFrom, ConnectTo})
}

// PerIP caps how many peers with one IPv4 address, or in one IPv6 /64, hold a
// reservation at once. Name other operations to cap the circuits that are open
// to or from there instead.
func PerIP(n int, ops ...Op) Policy { return newQuota(n, ByIP(), ReasonPerIP, ops) }

// PerSubnet is [PerIP] for subnets: 24 and 56, for example.
func PerSubnet(v4Bits, v6Bits, n int, ops ...Op) Policy {
	return newQuota(n, BySubnet(v4Bits, v6Bits), ReasonPerSubnet, ops)
}

// PerASN is [PerIP] for autonomous systems: hosters and access providers. Of
// addresses that the table does not know it has no opinion. With a nil table it
// is go-libp2p's, which knows IPv6 only.
func PerASN(n int, table ASNTable, ops ...Op) Policy {
	return newQuota(n, byASN(table), ReasonPerASN, ops)
}

// quota is a cap.
type quota struct {
	n      int
	by     By
	reason Reason
	ops    opSet

	mu   sync.Mutex
	held map[string]*holders // guarded by mu; by group, none empty
}

// holders is who holds something in a group: each peer's reservation counts
// once, also while a renewal overlaps with what it renews, each circuit counts.
type holders struct {
	reservations map[peer.ID]int // how often it was taken for
	circuits     int
}

func (h *holders) count() int { return len(h.reservations) + h.circuits }

func newQuota(n int, by By, reason Reason, ops []Op) *quota {
	if len(ops) == 0 {
		ops = []Op{Reserve}
	}
	return &quota{n: n, by: by, reason: reason, ops: opsOf(ops), held: make(map[string]*holders)}
}

func (q *quota) Decide(_ context.Context, r *Request) Decision {
	if !q.ops.has(r.Op) {
		return Decision{}
	}
	group, why := q.by.group(r)
	switch {
	case why != "":
		return Refuse(why)
	case group == "":
		return Decision{}
	case !q.take(group, r):
		return Refuse(q.reason)
	}
	op, p := r.Op, r.Peer
	return Decision{}.Take(sync.OnceFunc(func() { q.release(group, op, p) }))
}

func (q *quota) take(group string, r *Request) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	h := q.held[group]
	if h == nil {
		h = &holders{reservations: make(map[peer.ID]int)}
	}
	renewed := r.Op == Reserve && h.reservations[r.Peer] > 0
	if h.count() >= q.n && !renewed {
		return false
	}
	if r.Op == Reserve {
		h.reservations[r.Peer]++
	} else {
		h.circuits++
	}
	q.held[group] = h
	return true
}

func (q *quota) release(group string, op Op, p peer.ID) {
	q.mu.Lock()
	defer q.mu.Unlock()
	h := q.held[group]
	if op != Reserve {
		h.circuits--
	} else if h.reservations[p]--; h.reservations[p] == 0 {
		delete(h.reservations, p)
	}
	if h.count() == 0 {
		delete(q.held, group)
	}
}

func (q *quota) about() opSet { return q.ops }

func (q *quota) check() error {
	if q.n < 1 || q.n > maxCount {
		return fmt.Errorf("a cap of %d (%s): use 1 to %d", q.n, q.reason, maxCount)
	}
	return q.by.check()
}
