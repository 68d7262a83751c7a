package discovery

import (
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"golang.org/x/time/rate"
)

const (
	// minExpiry covers js peers at their default interval, which cannot say
	// which interval they use, over three lost announcements.
	minExpiry   = 45 * time.Second
	maxExpiry   = 30 * time.Minute
	missedTicks = 3
	maxSkew     = 10 * time.Minute // how far in our future a record may say it was sent

	// originRate and originBurst bound the updates taken of one peer: a
	// stock js peer at the shortest interval in use (1 s) stays below.
	originRate  = 2
	originBurst = 10
)

type key struct {
	topic string
	peer  peer.ID
}

type entry struct {
	addrs   []ma.Multiaddr
	sent    time.Time // the sender's clock, zero for js peers
	expires time.Time
	updates *rate.Limiter
}

// table holds what is known of others. It is pure: the caller brings the time
// and the lock.
type table struct {
	max       int
	entries   map[key]*entry
	connected func(peer.ID) bool
}

func newTable(limit int, connected func(peer.ID) bool) *table {
	return &table{max: limit, entries: make(map[key]*entry), connected: connected}
}

// put takes a record and returns what it changed. A record that is older than
// one already held, dated in the future or too frequent is stale.
func (t *table) put(k key, r *Record, now time.Time) (changes []Event, stale bool) {
	e := t.entries[k]
	switch {
	case r.Sent.After(now.Add(maxSkew)),
		e != nil && !r.Sent.IsZero() && !r.Sent.After(e.sent),
		e != nil && !e.updates.AllowN(now, 1):
		return nil, true
	case r.Leaving && e == nil:
		return nil, false
	case r.Leaving:
		delete(t.entries, k)
		return []Event{k.event(Left, e.addrs)}, false
	case e == nil:
		changes = t.makeRoom()
		if len(t.entries) >= t.max {
			return changes, true
		}
		e = &entry{updates: rate.NewLimiter(originRate, originBurst)}
		t.entries[k] = e
		changes = append(changes, k.event(Found, r.Addrs))
	case !sameAddrs(e.addrs, r.Addrs):
		changes = append(changes, k.event(Updated, r.Addrs))
	}
	e.addrs, e.sent, e.expires = r.Addrs, r.Sent, now.Add(expiry(r.Interval))
	return changes, false
}

func expiry(interval time.Duration) time.Duration {
	return min(max(missedTicks*interval, minExpiry), maxExpiry)
}

// makeRoom drops one peer that we are not connected to if the table is full.
// Go's map order is random enough that who floods the table with names cannot
// choose whom it drives out.
func (t *table) makeRoom() []Event {
	if len(t.entries) < t.max {
		return nil
	}
	for k, e := range t.entries {
		if !t.connected(k.peer) {
			delete(t.entries, k)
			return []Event{k.event(Expired, e.addrs)}
		}
	}
	return nil
}

// expire drops what has not been heard of for long. A peer that we are
// connected to stays.
func (t *table) expire(now time.Time) (changes []Event) {
	for k, e := range t.entries {
		if now.Before(e.expires) {
			continue
		}
		if t.connected(k.peer) {
			e.expires = now.Add(minExpiry)
			continue
		}
		delete(t.entries, k)
		changes = append(changes, k.event(Expired, e.addrs))
	}
	return changes
}

// peers lists what is known, of one topic or with "" of all.
func (t *table) peers(topic string) []Event {
	var found []Event
	for k, e := range t.entries {
		if topic == "" || topic == k.topic {
			found = append(found, k.event(Found, e.addrs))
		}
	}
	return found
}

func (k key) event(typ EventType, addrs []ma.Multiaddr) Event {
	return Event{Type: typ, Topic: k.topic, Peer: peer.AddrInfo{ID: k.peer, Addrs: slices.Clone(addrs)}}
}

func sameAddrs(a, b []ma.Multiaddr) bool {
	return len(a) == len(b) && !slices.ContainsFunc(a, func(x ma.Multiaddr) bool { return !ma.Contains(b, x) })
}
