package tango_test

import (
	"bytes"
	"context"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/tangop2p/tango"
	"github.com/tangop2p/tango/identity"
	"github.com/tangop2p/tango/webrtc"
)

// newLeaf makes a node that others reach through the relay only.
func newLeaf(t *testing.T, third *tango.Node) *tango.Node {
	t.Helper()
	return newNode(t, tango.WithListen(), tango.WithRelays(third.Addrs()[0].String()))
}

// browserAddr waits until a node tells others where browsers can reach it.
func browserAddr(t *testing.T, n *tango.Node) ma.Multiaddr {
	t.Helper()
	for deadline := time.Now().Add(time.Second); time.Now().Before(deadline); <-time.After(time.Millisecond) {
		for _, a := range n.Addrs() {
			if _, err := a.ValueForProtocol(ma.P_WEBRTC); err == nil {
				return a
			}
		}
	}
	t.Fatalf("no address for browsers within 1 s: %v, reservations %+v", n.Addrs(), n.Reservations().Reservations())
	return nil
}

func ping(t *testing.T, from, to *tango.Node) network.Conn {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	to.Host().SetStreamHandler("/test/echo", func(s network.Stream) {
		_, _ = io.Copy(s, s)
		_ = s.Close()
	})
	s, err := from.Host().NewStream(ctx, to.Host().ID(), "/test/echo")
	if err != nil {
		t.Fatal(err)
	}
	_, _ = s.Write([]byte("ping"))
	_ = s.CloseWrite()
	if got, err := io.ReadAll(s); err != nil || !bytes.Equal(got, []byte("ping")) {
		t.Fatalf("%q came back: %v", got, err)
	}
	return s.Conn()
}

func TestReachableOverWebRTCWithinASecond(t *testing.T) {
	third := newNode(t, tango.WithRelay())
	a, b := newLeaf(t, third), newLeaf(t, third)
	addr := browserAddr(t, b)
	start := time.Now()
	path, err := a.Connect(t.Context(), b.Host().ID(), addr)
	if err != nil || path.Kind != webrtc.PathDirect {
		t.Fatalf("path %v, error %v\n%v", path, err, a.Explain(b.Host().ID()))
	}
	t.Logf("direct after %v at %v", time.Since(start), path.Addr)
	if c := ping(t, a, b); c.ConnState().Transport != "webrtc" {
		t.Errorf("connection %v", c)
	}
}

// The relay goes away under a direct connection, which does not mind, and comes
// back: the node is reachable through it again without any action.
func TestRelayRestart(t *testing.T) {
	id, err := identity.Ephemeral()
	if err != nil {
		t.Fatal(err)
	}
	third := newNode(t, tango.WithRelay(), tango.WithIdentity(id))
	listen, _, _ := strings.Cut(third.Addrs()[0].String(), "/p2p/")
	a, b := newLeaf(t, third), newLeaf(t, third)
	addr := browserAddr(t, b)
	if _, err := a.Connect(t.Context(), b.Host().ID(), addr); err != nil {
		t.Fatal(err)
	}
	before := ping(t, a, b)
	if err := third.Close(); err != nil {
		t.Fatal(err)
	}
	if c := ping(t, a, b); c.ID() != before.ID() {
		t.Error("another connection is used after the relay has ended")
	}
	newNode(t, tango.WithRelay(), tango.WithIdentity(id), tango.WithListen(listen))
	start := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	c := newNode(t, tango.WithListen())
	for {
		path, err := c.Connect(ctx, b.Host().ID(), addr)
		if err == nil && path.Kind == webrtc.PathDirect {
			break
		}
		select {
		case <-ctx.Done():
			t.Fatalf("not reachable 5 s after the relay's restart: %v\n%+v", err, b.Reservations().Reservations())
		case <-time.After(20 * time.Millisecond):
		}
	}
	t.Logf("reachable %v after the relay's restart", time.Since(start))
	ping(t, c, b)
}

func TestPrivateNetworkHasNoWebRTC(t *testing.T) {
	for name, opt := range map[string]tango.Option{"relay": tango.WithRelay(), "other": tango.WithDiscovery()} {
		_, err := tango.New(tango.WithListen(), opt, tango.WithHostOptions(libp2p.PrivateNetwork(make([]byte, 32))))
		if err == nil || !strings.Contains(err.Error(), "private network") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestBadRelays(t *testing.T) {
	for _, addr := range []string{"", "relay.example.org", "/ip4/192.0.2.1/tcp/1"} {
		if err := tango.CheckOptions(tango.WithRelays(addr)); err == nil || !strings.Contains(err.Error(), "WithRelays(") {
			t.Errorf("%q: %v", addr, err)
		}
	}
}
