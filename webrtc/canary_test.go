package webrtc_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/core/transport"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/tangop2p/tango/webrtc"
)

// Behaviours of go-libp2p that no interface promises, and on which this package
// relies. Each test names what breaks without.

// dials is what a swarm chooses its transport by.
type dials interface {
	TransportForDialing(a ma.Multiaddr) transport.Transport
}

func TestCanaryTransportAddedToARunningHost(t *testing.T) {
	h := newHost(t, libp2p.NoListenAddrs, libp2p.EnableRelay())
	if _, err := webrtc.New(h); err != nil {
		t.Fatal(err)
	}
	tr := h.Network().(dials).TransportForDialing(ma.StringCast("/webrtc"))
	if tr == nil || !slices.Contains(tr.Protocols(), ma.P_WEBRTC) {
		t.Errorf("the swarm dials /webrtc by %T: New has no effect, no upgrade ever begins", tr)
	}
}

func TestCanaryRelayedAddressIsDialledAsACircuit(t *testing.T) {
	r := newRelay(t)
	a, b := newHost(t, libp2p.NoListenAddrs, libp2p.EnableRelay()), newPeer(t, r)
	ctx := network.WithAllowLimitedConn(short(t), "test")
	a.Peerstore().AddAddr(b.ID(), b.addr, peerstore.TempAddrTTL)
	c, err := a.Network().DialPeer(ctx, b.ID())
	if err != nil {
		t.Fatalf("%v is not dialled as a circuit (%v): Connect finds nothing to signal over", b.addr, err)
	}
	if !c.Stat().Limited || !strings.HasSuffix(c.RemoteMultiaddr().String(), "/p2p-circuit") {
		t.Errorf("connection %v, %+v: pathOf takes it for a direct one", c.RemoteMultiaddr(), c.Stat())
	}
}

func TestCanaryForcedDialLeavesRelaysOut(t *testing.T) {
	r := newRelay(t)
	a, b := newHost(t, libp2p.NoListenAddrs, libp2p.EnableRelay()), newPeer(t, r)
	a.Peerstore().AddAddr(b.ID(), b.addr, peerstore.TempAddrTTL)
	ctx := network.WithForceDirectDial(short(t), "test")
	if c, err := a.Network().DialPeer(ctx, b.ID()); err == nil {
		t.Errorf("a dial that is forced to be direct ends in %v: an upgrade would be satisfied with the circuit", c.RemoteMultiaddr())
	}
}

func TestCanaryLimitedConnectionBlocksNewStream(t *testing.T) {
	r := newRelay(t)
	a, b := newPeer(t, r, nothing()), newPeer(t, r, nothing())
	serveEcho(b)
	circuit(t, a, b)
	s, err := a.NewStream(network.WithAllowLimitedConn(short(t), "test"), b.ID(), echoID)
	if err != nil { // so that it is not for another reason that none opens
		t.Fatal(err)
	}
	_ = s.Reset()
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if s, err := a.NewStream(ctx, b.ID(), echoID); err == nil {
		t.Errorf("a stream opens over %v: applications do not wait for the direct connection", s.Conn().RemoteMultiaddr())
	}
}

func TestCanaryListenerIsHidden(t *testing.T) {
	r := newRelay(t)
	a := newPeer(t, r)
	if err := a.Network().Listen(ma.StringCast("/ip4/127.0.0.1/tcp/0")); err != nil {
		t.Fatal(err)
	}
	// The host looks at all that it listens on at once.
	await(t, "the host tells where it listens", func() bool {
		return slices.ContainsFunc(a.Addrs(), func(addr ma.Multiaddr) bool { return len(addr) == 2 && addr[1].Code() == ma.P_TCP })
	})
	for _, addr := range a.Addrs() {
		if addr.Equal(ma.StringCast("/webrtc")) || addr.Equal(ma.StringCast("/p2p-circuit")) {
			t.Errorf("the host tells others %v: js-libp2p dials it for 6 s in vain", addr)
		}
	}
}

// With AutoRelay and nothing else, the addresses for /webrtc are told to others.
func TestCanaryAddressesAreAddedToThoseOfAutoRelay(t *testing.T) {
	h := newHost(t, libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.ForceReachabilityPrivate())
	if _, err := webrtc.New(h); err != nil {
		t.Fatal(err)
	}
	em, err := h.EventBus().Emitter(new(event.EvtAutoRelayAddrsUpdated))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = em.Close() }()
	relayed := ma.StringCast("/ip4/127.0.0.1/tcp/1/p2p/" + h.ID().String() + "/p2p-circuit")
	if err := em.Emit(event.EvtAutoRelayAddrsUpdated{RelayAddrs: []ma.Multiaddr{relayed}}); err != nil {
		t.Fatal(err)
	}
	want := relayed.Encapsulate(ma.StringCast("/webrtc"))
	await(t, "the host tells the address for /webrtc too", func() bool {
		return slices.ContainsFunc(h.Addrs(), relayed.Equal) && slices.ContainsFunc(h.Addrs(), want.Equal)
	})
}

func TestCanaryRelaySaysNoReservation(t *testing.T) {
	r := newRelay(t)
	a, b := newPeer(t, r), newHost(t, libp2p.NoListenAddrs)
	_, err := a.Transport.Connect(short(t), b.ID(), a.addr)
	if err == nil || !strings.Contains(err.Error(), "NO_RESERVATION") {
		t.Errorf("error %v: a missing reservation is told as a failed dial", err)
	}
}

func TestAdvertise(t *testing.T) {
	r := newHost(t).ID().String()
	circuit := ma.StringCast("/dns4/relay.example/tcp/443/wss/p2p/" + r + "/p2p-circuit")
	direct := ma.StringCast("/ip4/192.0.2.1/tcp/1")
	got := webrtc.Advertise([]ma.Multiaddr{direct, circuit, ma.StringCast("/webrtc")})
	want := []ma.Multiaddr{direct, circuit, circuit.Encapsulate(ma.StringCast("/webrtc"))}
	for _, a := range want {
		if !slices.ContainsFunc(got, a.Equal) {
			t.Errorf("%v is missing in %v", a, got)
		}
	}
	if len(got) != len(want) {
		t.Errorf("%v, want %v", got, want)
	}
}
