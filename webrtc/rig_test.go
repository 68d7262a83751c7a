package webrtc_test

import (
	"context"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/tangop2p/tango/webrtc"
)

// newRelay starts a stock relay on loopback. Its circuits are limited, as those
// of any public relay, but hold for as many as a test wants.
func newRelay(t testing.TB) host.Host {
	t.Helper()
	h := newHost(t, libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"), libp2p.DisableRelay())
	rc := relay.DefaultResources()
	rc.MaxCircuits, rc.MaxReservations, rc.MaxReservationsPerIP = 4096, 1024, 1024
	r, err := relay.New(h, relay.WithResources(rc))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return h
}

func newHost(t testing.TB, opts ...libp2p.Option) host.Host {
	t.Helper()
	h, err := libp2p.New(append([]libp2p.Option{
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.ResourceManager(unlimited(t)),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// unlimited tells what is held, and lets all have it.
func unlimited(t testing.TB) network.ResourceManager {
	t.Helper()
	// Without these, its limits by IP address hold also where there are no others.
	rm, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(rcmgr.InfiniteLimits), webrtc.ResourceManagerOptions(100_000)...)
	if err != nil {
		t.Fatal(err)
	}
	return rm
}

// peerNode is a host with /webrtc that nobody can dial but through a relay.
type peerNode struct {
	host.Host
	*webrtc.Transport
	addr ma.Multiaddr // through the relay
}

// Close is the host's, which closes the Transport too.
func (n *peerNode) Close() error { return n.Host.Close() }

// Connect is the host's; that of the Transport has to be named.
func (n *peerNode) Connect(ctx context.Context, info peer.AddrInfo) error {
	return n.Host.Connect(ctx, info)
}

func newPeer(t testing.TB, r host.Host, opts ...webrtc.Option) *peerNode {
	t.Helper()
	h := newHost(t, libp2p.NoListenAddrs, libp2p.EnableRelay())
	return attach(t, h, r, opts...)
}

func attach(t testing.TB, h, r host.Host, opts ...webrtc.Option) *peerNode {
	t.Helper()
	w, err := webrtc.New(h, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = w.Close() })
	info := peer.AddrInfo{ID: r.ID(), Addrs: r.Addrs()}
	if err := h.Connect(t.Context(), info); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Reserve(t.Context(), h, info); err != nil {
		t.Fatal(err)
	}
	return &peerNode{h, w, r.Addrs()[0].Encapsulate(ma.StringCast("/p2p/" + r.ID().String() + "/p2p-circuit/webrtc"))}
}

func short(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func connect(t testing.TB, from, to *peerNode) webrtc.Path {
	t.Helper()
	path, err := from.Transport.Connect(short(t), to.ID(), to.addr)
	if err != nil {
		t.Fatalf("%v\n%v", err, from.Explain(to.ID()))
	}
	return path
}

// await looks until done is true.
func await(t testing.TB, what string, done func() bool) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(10 * time.Second); !done(); <-ticker.C {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}
