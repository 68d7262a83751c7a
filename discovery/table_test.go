package discovery

import (
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

var t0 = time.Unix(1_790_000_000, 0)

func addrs(s ...string) []ma.Multiaddr {
	var as []ma.Multiaddr
	for _, a := range s {
		as = append(as, ma.StringCast(a))
	}
	return as
}

func types(events []Event) []EventType {
	var ts []EventType
	for _, e := range events {
		ts = append(ts, e.Type)
	}
	return ts
}

func TestTableLife(t *testing.T) {
	connected := false
	tb := newTable(4, func(peer.ID) bool { return connected })
	k := key{"topic", "peer"}
	one, two := addrs("/ip4/192.0.2.1/tcp/1"), addrs("/ip4/192.0.2.1/tcp/1", "/ip4/192.0.2.2/tcp/1")

	clocked := &Record{Addrs: one, Sent: t0.Add(2 * time.Minute), Interval: time.Minute}
	for _, step := range []struct {
		name  string
		at    time.Duration
		rec   *Record // nil: expire
		want  []EventType
		stale bool
	}{
		{"first record", 0, &Record{Addrs: one}, []EventType{Found}, false},
		{"same again", 10 * time.Second, &Record{Addrs: one}, nil, false},
		{"new address", 20 * time.Second, &Record{Addrs: two}, []EventType{Updated}, false},
		{"not yet", 20*time.Second + minExpiry - 1, nil, nil, false},
		{"silent for too long", 20*time.Second + minExpiry, nil, []EventType{Expired}, false},
		{"back, with a clock and an interval", 2 * time.Minute, clocked, []EventType{Found}, false},
		{"an older record replayed", 130 * time.Second, &Record{Addrs: two, Sent: t0.Add(time.Minute)}, nil, true},
		{"the same record replayed", 130 * time.Second, &Record{Addrs: two, Sent: t0.Add(2 * time.Minute)}, nil, true},
		{"dated in the far future", 130 * time.Second, &Record{Addrs: two, Sent: t0.Add(time.Hour)}, nil, true},
		{"its own interval holds", 5*time.Minute - 1, nil, nil, false},
		{"and ends", 5 * time.Minute, nil, []EventType{Expired}, false},
		{"a goodbye of a stranger", 6 * time.Minute, &Record{Leaving: true}, nil, false},
		{"back again", 6 * time.Minute, &Record{Addrs: one}, []EventType{Found}, false},
		{"goodbye", 7 * time.Minute, &Record{Leaving: true}, []EventType{Left}, false},
	} {
		now := t0.Add(step.at)
		var got []Event
		var stale bool
		if step.rec != nil {
			got, stale = tb.put(k, step.rec, now)
		} else {
			got = tb.expire(now)
		}
		if !slices.Equal(types(got), step.want) || stale != step.stale {
			t.Errorf("%s: events %v, stale %v, want %v, %v", step.name, types(got), stale, step.want, step.stale)
		}
	}

	tb.put(k, &Record{Addrs: one}, t0.Add(8*time.Minute))
	connected = true
	if got := tb.expire(t0.Add(time.Hour)); len(got) > 0 {
		t.Errorf("a connected peer: %v", types(got))
	}
}

func TestTableIsBounded(t *testing.T) {
	friend := peer.ID("friend")
	tb := newTable(8, func(p peer.ID) bool { return p == friend })
	tb.put(key{"t", friend}, &Record{}, t0)
	evicted := 0
	for i := range 100 {
		changes, stale := tb.put(key{"t", peer.ID(strconv.Itoa(i))}, &Record{}, t0)
		if stale {
			t.Fatal("a newcomer was not let in")
		}
		evicted += len(changes) - 1
	}
	if len(tb.entries) != 8 || evicted != 93 {
		t.Errorf("%d entries, %d evicted, want 8 and 93", len(tb.entries), evicted)
	}
	if tb.entries[key{"t", friend}] == nil {
		t.Error("the peer that we are connected to was driven out")
	}

	tb = newTable(1, func(peer.ID) bool { return true })
	tb.put(key{"t", friend}, &Record{}, t0)
	if changes, stale := tb.put(key{"t", "other"}, &Record{}, t0); !stale || len(changes) > 0 || len(tb.entries) != 1 {
		t.Errorf("full of connected peers: %v, stale %v", changes, stale)
	}
}

func TestTableLimitsUpdates(t *testing.T) {
	tb := newTable(4, func(peer.ID) bool { return false })
	k := key{"t", "flooder"}
	taken := 0
	for i := range 1000 {
		if _, stale := tb.put(k, &Record{Addrs: addrs(fmt.Sprintf("/ip4/192.0.2.1/tcp/%d", i))}, t0); !stale {
			taken++
		}
	}
	if want := originBurst + 1; taken != want {
		t.Errorf("took %d updates in one instant, want %d", taken, want)
	}
	if _, stale := tb.put(k, &Record{}, t0.Add(time.Second)); stale {
		t.Error("an update a second later was refused")
	}
}

func TestMerge(t *testing.T) {
	for _, tc := range []struct {
		old, e, want EventType
		keep         bool
	}{
		{Found, Updated, Found, true},
		{Found, Expired, 0, false},
		{Found, Left, 0, false},
		{Updated, Updated, Updated, true},
		{Updated, Expired, Expired, true},
		{Expired, Found, Updated, true},
		{Left, Found, Updated, true},
	} {
		got, keep := merge(Event{Type: tc.old}, Event{Type: tc.e})
		if got.Type != tc.want || keep != tc.keep {
			t.Errorf("%v then %v: %v, %v, want %v, %v", tc.old, tc.e, got.Type, keep, tc.want, tc.keep)
		}
	}
}

func TestSlowWatcherIsBounded(t *testing.T) {
	ws := newWatchers()
	w := ws.watch(nil)
	for i := range 10_000 {
		k := key{"t", peer.ID(strconv.Itoa(i))}
		ws.emit([]Event{k.event(Found, nil)})
		ws.emit([]Event{k.event(Expired, nil)})
	}
	ws.emit([]Event{key{"t", "last"}.event(Found, nil)})
	if len(w.order) != 1 || len(w.pending) != 1 {
		t.Errorf("%d pending, %d in order, want the one that is still there", len(w.pending), len(w.order))
	}
}
