package relay

import (
	"fmt"
	"net/netip"
	"testing"
	"testing/synctest"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/prometheus/client_golang/prometheus"
)

func TestPace(t *testing.T) {
	home, office := netip.MustParseAddr("203.0.113.1"), netip.MustParseAddr("203.0.113.2")
	synctest.Test(t, func(t *testing.T) {
		p := newPace(4, time.Second, 8, time.Second/2)
		allowed := func(who peer.ID, from netip.Addr, n int) (ok int) {
			for range n {
				if p.allow(who, from) {
					ok++
				}
			}
			return ok
		}
		for _, c := range []struct {
			what string
			who  peer.ID
			from netip.Addr
			n    int
			want int
		}{
			{"a peer at once", "a", home, 10, 4},
			{"another one of the same address", "b", home, 10, 4},
			{"a third, for which the address has nothing left", "c", home, 10, 0},
			{"one from elsewhere", "d", office, 3, 3},
		} {
			if got := allowed(c.who, c.from, c.n); got != c.want {
				t.Errorf("%s: %d of %d, want %d", c.what, got, c.n, c.want)
			}
		}
		<-time.After(2 * time.Second)
		if got := allowed("a", home, 10); got != 2 {
			t.Errorf("a peer after two pauses: %d, want 2", got)
		}
	})
}

// TestAnnouncementsArePaced: of what a peer publishes at once the first remain, and
// what is not for a discovery topic.
func TestAnnouncementsArePaced(t *testing.T) {
	l := SignalingOnly()
	g := &guard{
		topics: []string{"discovery"}, pace: announcementPace(l),
		addr:    func(peer.ID) netip.Addr { return netip.MustParseAddr("203.0.113.1") },
		dropped: prometheus.NewCounterVec(prometheus.CounterOpts{}, []string{"reason"}),
	}
	publish := func(from peer.ID, topic string, n int) int {
		rpc := new(pubsub.RPC)
		for range n {
			rpc.Publish = append(rpc.Publish, &pb.Message{Topic: &topic})
		}
		g.inspect(from, rpc)
		return len(rpc.Publish)
	}
	most := announcements * l.ReservationsPerIP
	if got := publish("a", "discovery", most/2); got != most/2 {
		t.Errorf("%d announcements of a peer remain, want %d", got, most/2)
	}
	if got := publish("b", "discovery", most); got < most/2 || got > most/2+most/10 {
		t.Errorf("%d announcements of another peer of the address remain, want %d and what a moment adds", got, most/2)
	}
	if got := publish("a", "chat", most); got != most {
		t.Errorf("%d messages on another topic remain, want all", got)
	}
}

type tagless struct{ host.Host }

func (tagless) ConnManager() connmgr.ConnManager { return connmgr.NullConnMgr{} }

// TestNobodyTakesAllCircuits: when all places are taken, the oldest circuit of the
// address that has the most makes room, but not for that address itself.
func TestNobodyTakesAllCircuits(t *testing.T) {
	l := SignalingOnly()
	l.Circuits = 8
	cs := newCircuits(tagless{}, l)
	opened := func(from string, i int) (*openCircuit, Reason) {
		c := &openCircuit{circuit: newCircuit(t.Context(), peer.ID(fmt.Sprint(from, i)), "destination")}
		t.Cleanup(c.cancel)
		c.group = groupOf(netip.MustParseAddr(from))
		return c, cs.enlist(c, [2]int64{})
	}
	var greedy []*openCircuit
	for i := range l.Circuits {
		c, why := opened("203.0.113.1", i)
		if why != "" {
			t.Fatal(why)
		}
		greedy = append(greedy, c)
	}
	if _, why := opened("203.0.113.1", 100); why != ReasonCapacity {
		t.Errorf("one more of the greedy address: %q, want %q", why, ReasonCapacity)
	}
	for i := range 5 {
		if _, why := opened("203.0.113.2", i); (why == "") != (i < 4) {
			t.Errorf("circuit %d of another address: %q", i, why)
		}
	}
	for i, c := range greedy {
		if ended := c.ended() == CauseCapacity; ended != (i < 4) {
			t.Errorf("circuit %d of the greedy address has ended: %v", i, ended)
		}
	}
	greedy[0].release() // its place was given away already
	greedy[7].release()
	if _, why := opened("203.0.113.3", 0); why != "" {
		t.Errorf("a place was given back, but: %q", why)
	}
	if cs.seats != l.Circuits {
		t.Errorf("%d places are taken, want %d", cs.seats, l.Circuits)
	}
}
