package interop

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/tangop2p/tango"
	"github.com/tangop2p/tango/discovery"
)

// TestGoAndJSDiscoverEachOther: a Go node with package discovery and a stock
// js-libp2p peer at its default interval of 10 s, of which the js peer comes
// last: the relay repeats the Go node's record to it, and it is found by Go
// with its next announcement.
func TestGoAndJSDiscoverEachOther(t *testing.T) {
	Need(t, Node)
	relay := StartRelay(t)
	node, err := tango.New(tango.WithListen(tango.ListenersOn("/ip4/127.0.0.1", 0)...), tango.WithDiscovery())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := node.Close(); err != nil {
			t.Error(err)
		}
	})
	connect(t, node.Host(), relay)
	Await(t, 10*time.Second, "the relay has the Go node's record", func(context.Context) (bool, error) {
		trace, err := relay.Trace()
		return err == nil && len(trace.Delivered[discoveryTopic]) > 0, err
	})

	js := openPeer(t, Node, "js")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dial := false
	if err := js.Start(ctx, Config{Relays: relay.Addrs, Dial: &dial}); err != nil {
		t.Fatal(err)
	}
	goID := node.Host().ID()
	s := js.Await(t, 5*time.Second, "discovers the Go node long before its next announcement", func(s State) bool {
		_, ok := s.Discovery(goID.String())
		return ok
	})
	found, _ := s.Discovery(goID.String())
	for _, a := range node.Host().Addrs() { // js-libp2p takes /p2p/<id> off
		if !slices.Contains(found.Addresses, a.String()) {
			t.Errorf("js-libp2p read %v, want %v among them", found.Addresses, a)
		}
	}

	record := awaitFound(t, node.Discovery(), js.ID)
	if want := relay.Addrs[0] + "/p2p-circuit/webrtc"; !slices.ContainsFunc(record.Addrs, mustAddr(t, want).Equal) {
		t.Errorf("Go read %v, want %s among them", record.Addrs, want)
	}
}

func awaitFound(t *testing.T, d *discovery.Service, id string) peer.AddrInfo {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), discoveryLimit)
	defer cancel()
	for e := range d.Events(ctx) {
		if e.Type == discovery.Found && e.Peer.ID.String() == id {
			return e.Peer
		}
	}
	t.Fatalf("Go did not find %s", id)
	return peer.AddrInfo{}
}

func mustAddr(t *testing.T, s string) ma.Multiaddr {
	t.Helper()
	a, err := ma.NewMultiaddr(s)
	if err != nil {
		t.Fatal(err)
	}
	return a
}
