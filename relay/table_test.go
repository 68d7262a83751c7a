package relay

import (
	"fmt"
	"net/netip"
	"strconv"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// put has a peer of an address hold a reservation that ends after so many minutes.
func put(t *testing.T, tb *table, name, addr string, minutes int) (renewed, evicted *reservation, why Reason) {
	t.Helper()
	start := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	return tb.put(&reservation{
		Reservation: Reservation{
			Peer: peer.ID(name), Addr: netip.MustParseAddr(addr), Since: start, Expires: start.Add(time.Duration(minutes) * time.Minute),
		},
		release: func() {},
	})
}

func TestTableCaps(t *testing.T) {
	l := SignalingOnly()
	l.Reservations, l.ReservationsPerIP, l.ReservationsPerASN = 8, 2, 3
	tb := newTable(l)
	const google = "2001:4860:%x::1" // all of AS 15169
	for i, c := range []struct {
		name, addr string
		why        Reason
	}{
		{"a", "192.0.2.1", ""},
		{"b", "192.0.2.1", ""},
		{"c", "192.0.2.1", ReasonPerIP},
		{"a", "192.0.2.1", ""}, // a renewal
		{"c", "192.0.2.2", ""},
		{"d", fmt.Sprintf(google, 0x100), ""},
		{"e", "2001:4860:100:ff::9", ""}, // the same /56
		{"f", "2001:4860:100:1::1", ReasonPerIP},
		{"f", fmt.Sprintf(google, 0x200), ""},
		{"g", fmt.Sprintf(google, 0x300), ReasonPerASN},
		{"b", "192.0.2.2", ""}, // it has moved
		{"g", "192.0.2.1", ""},
	} {
		if _, _, why := put(t, tb, c.name, c.addr, 60); why != c.why {
			t.Errorf("%d: %s from %s: %q, want %q", i, c.name, c.addr, why, c.why)
		}
	}
	if r, _, _ := put(t, tb, "a", "192.0.2.1", 60); r == nil {
		t.Error("a renewal counts as new")
	}
}

// When the relay is full who holds most makes room.
func TestTableIsFair(t *testing.T) {
	l := SignalingOnly()
	l.Reservations = 6
	tb := newTable(l)
	for i := range 5 {
		put(t, tb, "hog"+strconv.Itoa(i), "192.0.2.1", 60-i)
	}
	put(t, tb, "a", "192.0.2.2", 1)
	for _, want := range []string{"hog4", "hog3"} {
		_, evicted, why := put(t, tb, "for "+want, "198.51.100."+want[3:], 60)
		if why != "" || evicted == nil || string(evicted.Peer) != want {
			t.Fatalf("%v, %q, want the place of %s", evicted, why, want)
		}
	}
	if _, _, why := put(t, tb, "hog5", "192.0.2.1", 60); why != ReasonCapacity {
		t.Errorf("the hog gets more: %q", why)
	}
	put(t, tb, "b", "203.0.113.1", 60) // takes a place of the hog's three
	if _, _, why := put(t, tb, "c", "203.0.113.2", 60); why != "" {
		t.Errorf("%q, though the hog has two", why)
	}
	if _, _, why := put(t, tb, "d", "203.0.113.3", 60); why != ReasonCapacity {
		t.Errorf("%q, though nobody has more than d would", why)
	}
	if n := len(tb.list(time.Time{})); n != 6 {
		t.Errorf("%d held", n)
	}
}

func TestTableForgets(t *testing.T) {
	tb := newTable(SignalingOnly())
	put(t, tb, "a", "192.0.2.1", 1)
	put(t, tb, "b", "2001:4860::1", 60)
	later := time.Date(2026, 1, 1, 0, 2, 0, 0, time.UTC)
	if tb.get("a", later) != nil || tb.get("b", later) == nil || len(tb.list(later)) != 1 {
		t.Error("what has expired counts")
	}
	if ended := tb.expire(later); len(ended) != 1 || ended[0].Peer != "a" {
		t.Errorf("%v", ended)
	}
	if tb.take("b") == nil || tb.take("b") != nil {
		t.Error("b")
	}
	if len(tb.held)+len(tb.groups)+len(tb.asns) > 0 {
		t.Errorf("%d, %d, %d kept", len(tb.held), len(tb.groups), len(tb.asns))
	}
}
