package tango_test

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/routing"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tangop2p/tango"
	"github.com/tangop2p/tango/identity"
	"github.com/tangop2p/tango/relay"
	"github.com/tangop2p/tango/reservation"
	"github.com/tangop2p/tango/webrtc"
)

// newSTUNRelay makes a relay with a STUN server, and returns what counts its answers.
func newSTUNRelay(t *testing.T) (third *tango.Node, answers func() float64) {
	t.Helper()
	reg := prometheus.NewRegistry()
	third = newNode(t, tango.WithRelay(relay.WithSTUN("127.0.0.1:0"), relay.WithRegisterer(reg)))
	return third, func() (n float64) {
		families, err := reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, f := range families {
			for _, m := range f.GetMetric() {
				if f.GetName() == "libp2p_relaysvc_stun_requests_total" && m.GetLabel()[0].GetValue() == "answered" {
					n += m.GetCounter().GetValue()
				}
			}
		}
		return n
	}
}

// reserved waits until a node holds a reservation made after a time.
func reserved(t *testing.T, n *tango.Node, after time.Time) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); time.Now().Before(deadline); <-time.After(time.Millisecond) {
		if r := n.Reservations().Reservations()[0]; r.State == reservation.Reserved && r.Since.After(after) {
			return
		}
	}
	t.Fatalf("no reservation within 5 s: %+v", n.Reservations().Reservations())
}

// meet connects two nodes directly and returns the attempt that did.
func meet(t *testing.T, ab [2]*tango.Node) webrtc.Attempt {
	t.Helper()
	a, b := ab[0], ab[1]
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if path, err := a.Connect(ctx, b.Host().ID(), browserAddr(t, b)); err != nil || path.Kind != webrtc.PathDirect {
		t.Fatalf("path %v, error %v\n%v", path, err, a.Explain(b.Host().ID()))
	}
	attempts := a.Explain(b.Host().ID()).Attempts
	return attempts[len(attempts)-1]
}

func newLeaves(t *testing.T, third *tango.Node, opts ...tango.Option) (ab [2]*tango.Node) {
	t.Helper()
	start := time.Now()
	opts = append([]tango.Option{tango.WithListen(), tango.WithRelays(third.Addrs()[0].String())}, opts...)
	for i := range ab {
		ab[i] = newNode(t, opts...)
		reserved(t, ab[i], start)
	}
	return ab
}

func TestRelaysSTUN(t *testing.T) {
	third, answers := newSTUNRelay(t)
	last := meet(t, newLeaves(t, third))
	for deadline := time.Now().Add(5 * time.Second); answers() < 2 && time.Now().Before(deadline); {
		<-time.After(time.Millisecond) // a connection may be quicker than the answer to its second node
	}
	if last.Servers != 1 || answers() < 2 || last.Local["srflx"]+last.Remote["srflx"] == 0 {
		t.Errorf("%d servers, %v answers, candidates %v and %v, want one server, an answer for each node and server-reflexive candidates",
			last.Servers, answers(), last.Local, last.Remote)
	}
}

// noRouting finds nobody.
type noRouting struct{}

func (noRouting) FindPeer(context.Context, peer.ID) (peer.AddrInfo, error) {
	return peer.AddrInfo{}, routing.ErrNotFound
}

// TestRelaysSTUNAtOnce: who has waited for a reservation connects by it, before any
// event tells of it.
func TestRelaysSTUNAtOnce(t *testing.T) {
	third, _ := newSTUNRelay(t)
	var first event.Subscription // of events, which others get once it has read them
	a := newNode(t, tango.WithListen(), tango.WithRelays(third.Addrs()[0].String()), tango.WithHostOptions(
		libp2p.Routing(func(h host.Host) (routing.PeerRouting, error) {
			var err error
			first, err = h.EventBus().Subscribe(new(reservation.EvtReservationChanged), eventbus.BufSize(0))
			return noRouting{}, err
		})))
	t.Cleanup(func() { _ = first.Close() })
	reserved(t, a, time.Time{})
	if last := meet(t, [2]*tango.Node{a, newLeaf(t, third)}); last.Servers != 1 {
		t.Errorf("%d servers, want the relay's", last.Servers)
	}
}

func TestUsersSTUNWins(t *testing.T) {
	third, answers := newSTUNRelay(t)
	users, usersAnswers := newSTUNRelay(t)
	for _, servers := range [][]webrtc.ICEServer{nil, {{URLs: users.Relay().ICEServers()}}} {
		last := meet(t, newLeaves(t, third, tango.WithWebRTC(webrtc.WithICEServers(servers...))))
		if last.Servers != len(servers) || answers() > 0 {
			t.Errorf("%d servers asked, %v answers of the relay's, want %v only", last.Servers, answers(), servers)
		}
	}
	for deadline := time.Now().Add(5 * time.Second); usersAnswers() == 0; <-time.After(time.Millisecond) {
		if time.Now().After(deadline) { // a connection may be quicker than the answer
			t.Fatal("the user's is not asked")
		}
	}
}

// What a relay said does not outlive its reservation.
func TestRelaysSTUNIsForgotten(t *testing.T) {
	id, err := identity.Ephemeral()
	if err != nil {
		t.Fatal(err)
	}
	third := newNode(t, tango.WithRelay(relay.WithSTUN("127.0.0.1:0")), tango.WithIdentity(id))
	listen, _, _ := strings.Cut(third.Addrs()[0].String(), "/p2p/")
	ab := newLeaves(t, third)
	restart := time.Now()
	if err := third.Close(); err != nil {
		t.Fatal(err)
	}
	newNode(t, tango.WithRelay(), tango.WithIdentity(id), tango.WithListen(listen))
	for _, n := range ab {
		reserved(t, n, restart)
	}
	if last := meet(t, ab); last.Servers != 0 {
		t.Errorf("%d servers of a relay that has none any more", last.Servers)
	}
}

// A relay that never answers holds an attempt up for a second.
func TestSilentRelayInfo(t *testing.T) {
	third, _ := newSTUNRelay(t)
	third.Host().SetStreamHandler(relay.InfoID, func(network.Stream) { <-t.Context().Done() })
	start := time.Now()
	last := meet(t, newLeaves(t, third))
	if took := time.Since(start); last.Servers != 0 || took > 4*time.Second {
		t.Errorf("%d servers, connected after %v", last.Servers, took)
	}
}
