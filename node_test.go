package tango_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"go.uber.org/goleak"

	"github.com/tangop2p/tango"
	"github.com/tangop2p/tango/discovery"
	"github.com/tangop2p/tango/front"
	"github.com/tangop2p/tango/identity"
	"github.com/tangop2p/tango/relay"
)

func TestMain(m *testing.M) {
	// webrtc-direct sets deadlines on pion's streams, and pion 1.12.1 keeps a
	// goroutine for each until it passes, also if the stream has ended.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/pion/sctp.(*Stream).SetReadDeadline.func1"))
}

const (
	loopback = "/ip4/127.0.0.1"
	aPeer    = "12D3KooWJW3at6B3xcR1p9WN69QcDsdyhy9ndp329TrWDQLYoz5E"
)

func newNode(t *testing.T, opts ...tango.Option) *tango.Node {
	t.Helper()
	n, err := tango.New(append([]tango.Option{tango.WithListen(loopback + "/tcp/0/ws")}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	})
	return n
}

func connect(t *testing.T, from host.Host, to *tango.Node) {
	t.Helper()
	if err := from.Connect(t.Context(), peer.AddrInfo{ID: to.Host().ID(), Addrs: to.Host().Addrs()}); err != nil {
		t.Fatal(err)
	}
}

func awaitFound(t *testing.T, d *discovery.Service, p peer.ID) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for e := range d.Events(ctx) {
		if e.Type == discovery.Found && e.Peer.ID == p {
			return
		}
	}
	t.Fatalf("%v was not found", p)
}

// The main job in Go: two that know only the relay find each other.
func TestTwoMeetThroughARelay(t *testing.T) {
	third := newNode(t, tango.WithRelay(), tango.WithDiscovery())
	a, b := newNode(t, tango.WithDiscovery()), newNode(t, tango.WithDiscovery())
	connect(t, a.Host(), third)
	connect(t, b.Host(), third)
	awaitFound(t, a.Discovery(), b.Host().ID())
	awaitFound(t, b.Discovery(), a.Host().ID())
	awaitFound(t, a.Discovery(), third.Host().ID())
	awaitFound(t, third.Discovery(), a.Host().ID())
}

func TestListensOnAllTransports(t *testing.T) {
	n := newNode(t, tango.WithListen(tango.ListenersOn(loopback, 0)...))
	for _, tr := range []string{"/tcp/", "/ws", "/quic-v1", "/webtransport/certhash/", "/webrtc-direct/certhash/"} {
		if !slices.ContainsFunc(n.Addrs(), func(a ma.Multiaddr) bool { return strings.Contains(a.String(), tr) }) {
			t.Errorf("no address with %s in %v", tr, n.Addrs())
		}
	}
	if got := len(n.BrowserAddrs()); got != 3 {
		t.Errorf("browsers can dial %d of %v, want ws, webtransport and webrtc-direct", got, n.BrowserAddrs())
	}
	for _, a := range n.BrowserAddrs() {
		info, err := peer.AddrInfoFromP2pAddr(a)
		if err != nil {
			t.Fatal(err)
		}
		h, err := libp2p.New(libp2p.NoListenAddrs)
		if err != nil {
			t.Fatal(err)
		}
		if err := h.Connect(t.Context(), *info); err != nil {
			t.Errorf("dial %v: %v", a, err)
		}
		_ = h.Close()
	}
}

func TestOnePortNumber(t *testing.T) {
	want := []string{
		"/ip4/0.0.0.0/tcp/4001", "/ip4/0.0.0.0/tcp/4001/ws", "/ip4/0.0.0.0/udp/4001/quic-v1",
		"/ip4/0.0.0.0/udp/4001/quic-v1/webtransport", "/ip4/0.0.0.0/udp/4001/webrtc-direct",
		"/ip6/::/tcp/4001", "/ip6/::/tcp/4001/ws", "/ip6/::/udp/4001/quic-v1",
		"/ip6/::/udp/4001/quic-v1/webtransport", "/ip6/::/udp/4001/webrtc-direct",
	}
	if got := tango.BrowserListeners(4001); !slices.Equal(got, want) {
		t.Errorf("BrowserListeners(4001): %v, want %v", got, want)
	}
	// all five together on a real port, with HTTP beside WebSocket
	hello := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "hello") })
	n := newNode(t, tango.WithHTTPHandler(hello))
	_, addr, err := manet.DialArgs(n.Host().Addrs()[0].Decapsulate(ma.StringCast("/ws")))
	if err != nil {
		t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "http://"+addr+"/", nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	body, err := io.ReadAll(resp.Body)
	_ = resp.Body.Close()
	http.DefaultClient.CloseIdleConnections()
	if err != nil || string(body) != "hello" {
		t.Errorf("GET on the WebSocket port: %q, %v", body, err)
	}
}

// A certificate's names are in the addresses, and one port serves all.
func TestTLS(t *testing.T) {
	cert := certificate(t, "relay.example")
	n := newNode(t, tango.WithListen(loopback+"/tcp/0", loopback+"/tcp/0/ws", loopback+"/tcp/0/tls/ws"),
		tango.WithFront(front.WithCertificate(cert)), tango.WithRelay())
	port, err := n.Host().Addrs()[0].ValueForProtocol(ma.P_TCP)
	if err != nil {
		t.Fatal(err)
	}
	id := n.Host().ID().String()
	want := []string{loopback + "/tcp/" + port + "/ws/p2p/" + id, "/dns/relay.example/tcp/" + port + "/tls/ws/p2p/" + id}
	var got []string
	for _, a := range n.BrowserAddrs() {
		got = append(got, a.String())
	}
	if slices.Sort(got); !slices.Equal(got, slices.Sorted(slices.Values(want))) {
		t.Errorf("browsers dial %v, want %v", got, want)
	}
	if n.Certificate() != cert {
		t.Error("the node has another certificate")
	}
}

// certificate makes a self-signed one.
func certificate(t *testing.T, names ...string) *front.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: names}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	// both in one file, as some keep them
	file := filepath.Join(t.TempDir(), "both.pem")
	data := append(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})...)
	if err := os.WriteFile(file, data, 0o600); err != nil {
		t.Fatal(err)
	}
	cert, err := front.LoadCertificate(file, file)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

func TestPortTaken(t *testing.T) {
	n := newNode(t)
	taken := n.Host().Addrs()[0].String()
	if _, err := tango.New(tango.WithListen(loopback+"/tcp/0", taken)); err == nil || !strings.Contains(err.Error(), taken) {
		t.Errorf("one of two ports is taken: %v", err)
	}
}

func TestAnnounce(t *testing.T) {
	const public = "/dns4/relay.example/tcp/443/tls/ws"
	n := newNode(t, tango.WithAnnounce(public), tango.WithRelay())
	if got := n.BrowserAddrs(); len(got) != 1 || got[0].String() != public+"/p2p/"+n.Host().ID().String() {
		t.Errorf("announces %v", got)
	}
}

func TestIdentity(t *testing.T) {
	id, err := identity.Ephemeral()
	if err != nil {
		t.Fatal(err)
	}
	if n := newNode(t, tango.WithIdentity(id)); n.Host().ID() != id.ID() {
		t.Errorf("peer ID %v, want %v", n.Host().ID(), id.ID())
	}
}

func TestNewRefuses(t *testing.T) {
	for name, tc := range map[string]struct {
		opt  tango.Option
		says string
	}{
		"not a multiaddr":        {tango.WithListen("localhost:4001"), `"localhost:4001"`},
		"address with a peer ID": {tango.WithAnnounce("/ip4/192.0.2.1/tcp/1/p2p/" + aPeer), "leave out /p2p"},
		"no identity":            {tango.WithIdentity(nil), "identity.Load"},
		"bad relay option":       {tango.WithRelay(relay.WithTopics("")), "topic"},
		"bad discovery option":   {tango.WithDiscovery(discovery.WithInterval(1)), "WithInterval"},
		"bad front option":       {tango.WithFront(front.WithTrustedProxies("oops")), `"oops"`},
		"certificate unused":     {tango.WithFront(front.WithCertificate(certificate(t))), "/tls/ws"},
		"no certificate":         {tango.WithListen("/ip4/127.0.0.1/tcp/0/tls/ws"), "WithCertificate"},
		"unknown transport":      {tango.WithListen("/ip4/127.0.0.1/udp/1"), "listen on /ip4/127.0.0.1/udp/1"},
	} {
		t.Run(name, func(t *testing.T) {
			n, err := tango.New(tc.opt)
			if err == nil {
				_ = n.Close()
				t.Fatal("no error")
			}
			if !strings.Contains(err.Error(), tc.says) {
				t.Errorf("%q does not say %q", err, tc.says)
			}
		})
	}
}

func TestCloseIsIdempotent(t *testing.T) {
	n := newNode(t, tango.WithRelay(), tango.WithDiscovery())
	for range 2 {
		if err := n.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// With go-libp2p's default limits and 24 GiB of memory 252 connections come in.
func TestRelayReservationsFit(t *testing.T) {
	l := relay.SignalingOnly()
	rm, err := tango.ResourceManager(l)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = rm.Close() }()
	for i := range l.Reservations {
		addr := ma.StringCast(fmt.Sprintf("/ip4/192.0.%d.%d/tcp/1/ws", i/250, i%250+1))
		conn, err := rm.OpenConnection(network.DirInbound, true, addr)
		if err != nil {
			t.Fatalf("connection %d: %v", i+1, err)
		}
		p := peer.ID(addr.String())
		if err := conn.SetPeer(p); err != nil {
			t.Fatalf("peer %d: %v", i+1, err)
		}
		for _, dir := range []network.Direction{network.DirInbound, network.DirOutbound} {
			stream, err := rm.OpenStream(p, dir)
			if err != nil {
				t.Fatalf("stream of peer %d: %v", i+1, err)
			}
			if err := stream.SetProtocol(pubsub.GossipSubID_v12); err != nil {
				t.Fatalf("GossipSub stream of peer %d: %v", i+1, err)
			}
		}
	}
}

// go-libp2p's default begins to close connections at 192.
func TestRelayKeepsItsConnections(t *testing.T) {
	n := newNode(t, tango.WithRelay())
	cm, ok := n.Host().ConnManager().(*connmgr.BasicConnMgr)
	if !ok {
		t.Fatalf("connection manager is a %T", n.Host().ConnManager())
	}
	if info, want := cm.GetInfo(), relay.SignalingOnly().Reservations; info.LowWater <= want || info.HighWater <= info.LowWater {
		t.Errorf("closes connections from %d down to %d, want room for %d", info.HighWater, info.LowWater, want)
	}
}
