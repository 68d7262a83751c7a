package webrtc_test

import (
	"errors"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tangop2p/tango/webrtc"
)

// What go-libp2p does for, and asks of, each of its transports.

// scope returns what a host's resource manager has granted in all.
func scope(h host.Host) (s network.ScopeStat) {
	_ = h.Network().ResourceManager().ViewSystem(func(r network.ResourceScope) error {
		s = r.Stat()
		return nil
	})
	return s
}

func TestResourcesGoBack(t *testing.T) {
	r := newRelay(t)
	a, b := newPeer(t, r), newPeer(t, r)
	serveEcho(b)
	before := [2]network.ScopeStat{scope(a), scope(b)}
	connect(t, a, b)
	echo(t, a, b, make([]byte, 1<<20))
	if n := scope(a).NumConnsOutbound - before[0].NumConnsOutbound; n != 2 {
		t.Errorf("%d connections are accounted for, want the relayed and the direct one", n)
	}
	if n := scope(a).Memory - before[0].Memory; n < int64(webrtc.DefaultLimits().ReceiveBuffer) {
		t.Errorf("%d bytes are accounted for, less than the receive buffer", n)
	}
	if err := a.Network().ClosePeer(b.ID()); err != nil {
		t.Fatal(err)
	}
	for i, n := range []*peerNode{a, b} {
		await(t, "all is given back", func() bool { return scope(n).NumConnsOutbound+scope(n).NumConnsInbound == 1 })
		await(t, "the memory too", func() bool { return scope(n).Memory <= before[i].Memory })
	}
}

// gater records what it is asked, and refuses what it is told to.
type gater struct {
	mu     sync.Mutex
	refuse string
	asked  []string
	onDial func(peer.ID) // if not nil, called when a peer is about to be dialled
	late   chan struct{} // if not nil, the swarm gets direct connections once it is closed
}

func (g *gater) ask(format string, args ...any) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	q := fmt.Sprintf(format, args...)
	g.asked = append(g.asked, q)
	return g.refuse == "" || !strings.HasPrefix(q, g.refuse) || !ofICE(q)
}

// ofICE says whether a question is about a direct connection.
func ofICE(q string) bool {
	return strings.HasSuffix(q, "/webrtc") && !strings.Contains(q, "p2p-circuit")
}

func (g *gater) allow() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refuse = ""
}

func (g *gater) has(q string) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, a := range g.asked {
		if strings.HasPrefix(a, q) && (q == "dial peer" || ofICE(a)) {
			return true
		}
	}
	return false
}

func (g *gater) InterceptPeerDial(p peer.ID) bool {
	if g.onDial != nil {
		g.onDial(p)
	}
	return g.ask("dial peer")
}

func (g *gater) InterceptAddrDial(_ peer.ID, a ma.Multiaddr) bool {
	return g.ask("dial %v", a)
}

func (g *gater) InterceptAccept(a network.ConnMultiaddrs) bool {
	return g.ask("accept %v", a.RemoteMultiaddr())
}

func (g *gater) InterceptSecured(d network.Direction, _ peer.ID, a network.ConnMultiaddrs) bool {
	return g.ask("secured %v %v", d, a.RemoteMultiaddr())
}

func (g *gater) InterceptUpgraded(c network.Conn) (bool, control.DisconnectReason) {
	q := fmt.Sprintf("upgraded %v %v", c.Stat().Direction, c.RemoteMultiaddr())
	if g.late != nil && ofICE(q) {
		<-g.late
	}
	return g.ask("%s", q), 0
}

func newGated(t *testing.T, r host.Host, g *gater) *peerNode {
	t.Helper()
	h := newHost(t, libp2p.NoListenAddrs, libp2p.EnableRelay(), libp2p.ConnectionGater(g))
	return attach(t, h, r, webrtc.WithConnectionGater(g))
}

func TestGaterIsAsked(t *testing.T) {
	r := newRelay(t)
	ga, gb := &gater{}, &gater{}
	a, b := newGated(t, r, ga), newGated(t, r, gb)
	connect(t, a, b)
	await(t, "both are direct", func() bool { return b.Path(a.ID()).Kind == webrtc.PathDirect })
	for _, q := range []string{"dial peer", "dial /webrtc", "secured Outbound", "upgraded Outbound"} {
		if !ga.has(q) {
			t.Errorf("the dialler's gater was not asked: %s; but %q", q, ga.asked)
		}
	}
	for _, q := range []string{"accept", "secured Inbound", "upgraded Inbound"} {
		if !gb.has(q) {
			t.Errorf("the listener's gater was not asked: %s; but %q", q, gb.asked)
		}
	}
}

func TestGaterRefuses(t *testing.T) {
	for _, side := range []string{"dialler", "listener"} {
		for _, what := range []string{"accept", "secured Inbound", "secured Outbound"} {
			if side == "dialler" != strings.Contains(what, "Outbound") {
				continue
			}
			t.Run(side+" "+what, func(t *testing.T) {
				r := newRelay(t)
				ga, gb := &gater{}, &gater{}
				a, b := newGated(t, r, ga), newGated(t, r, gb)
				if side == "dialler" {
					ga.refuse = what
				} else {
					gb.refuse = what
				}
				path, err := a.Transport.Connect(short(t), b.ID(), b.addr)
				if side == "dialler" && !errors.Is(err, webrtc.ErrGated) {
					t.Errorf("path %v, error %v", path, err)
				}
				await(t, "the relayed path is all there is", func() bool {
					return a.Path(b.ID()).Kind == webrtc.PathRelayed && b.Path(a.ID()).Kind == webrtc.PathRelayed
				})
			})
		}
	}
}

// A resource manager that admits no more ends the handshake, not the relayed
// path, and nothing stays accounted for.
func TestResourceManagerRefuses(t *testing.T) {
	for name, system := range map[string]rcmgr.ResourceLimits{
		"connections":    {Conns: 2, ConnsOutbound: 2, ConnsInbound: 2},
		"receive buffer": {Memory: 2 << 20}, // the relayed connections need some of it
	} {
		t.Run(name, func(t *testing.T) {
			limits := rcmgr.PartialLimitConfig{System: system}.Build(rcmgr.InfiniteLimits)
			rm, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(limits), webrtc.ResourceManagerOptions(100)...)
			if err != nil {
				t.Fatal(err)
			}
			r := newRelay(t)
			h, err := libp2p.New(libp2p.NoListenAddrs, libp2p.EnableRelay(), libp2p.ResourceManager(rm))
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = h.Close() })
			a, b := attach(t, h, r), newPeer(t, r)
			path, err := a.Transport.Connect(short(t), b.ID(), b.addr)
			if !errors.Is(err, network.ErrResourceLimitExceeded) || path.Kind != webrtc.PathRelayed {
				t.Errorf("path %v, error %v", path, err)
			}
			if s := scope(a); s.NumConnsOutbound != 2 {
				t.Errorf("%+v, want the connections to the relay and through it", s)
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	if _, err := webrtc.New(newHost(t, libp2p.DisableRelay())); err == nil || !strings.Contains(err.Error(), "EnableRelay") {
		t.Errorf("a host without circuits: %v", err)
	}
	h := newHost(t, libp2p.NoListenAddrs, libp2p.EnableRelay())
	w, err := webrtc.New(h)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := webrtc.New(h); err == nil {
		t.Error("a second Transport on a host")
	}
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if _, err := w.Connect(t.Context(), newHost(t).ID()); !errors.Is(err, webrtc.ErrClosed) && err == nil {
		t.Errorf("Connect after Close: %v", err)
	}
	for name, opt := range map[string]webrtc.Option{
		"server without URL": webrtc.WithICEServers(webrtc.ICEServer{}),
		"not a URL":          webrtc.WithICEServers(webrtc.ICEServer{URLs: []string{"example.org"}}),
		"TURN without user":  webrtc.WithICEServers(webrtc.ICEServer{URLs: []string{"turn:example.org"}}),
		"no function":        webrtc.WithICEServersFunc(nil),
		"no limits":          webrtc.WithLimits(webrtc.Limits{}),
		"ports":              webrtc.WithUDPPorts(5, 4),
	} {
		if err := webrtc.CheckOptions(opt); err == nil {
			t.Errorf("%s: no error", name)
		} else {
			t.Log(err)
		}
	}
}

func TestMetrics(t *testing.T) {
	r, registry := newRelay(t), prometheus.NewRegistry()
	a, b := newPeer(t, r, webrtc.WithRegisterer(registry)), newPeer(t, r)
	connect(t, a, b)
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]bool)
	for _, f := range families {
		got[f.GetName()] = true
	}
	for _, want := range []string{"_connections", "_attempts_total", "_attempt_seconds", "signaling_sessions_total"} {
		if !got["libp2p_webrtc"+want] {
			t.Errorf("%s is missing in %v", want, got)
		}
	}
	_ = a.Close()
	if families, _ = registry.Gather(); len(families) != 0 {
		t.Errorf("%d metrics are left after Close", len(families))
	}
}

// TestTwentyPeers: twenty peers come through one relay at once.
func TestTwentyPeers(t *testing.T) {
	r := newRelay(t)
	hub := newPeer(t, r)
	serveEcho(hub)
	var all sync.WaitGroup
	for range 20 {
		n := newPeer(t, r)
		all.Go(func() {
			if _, err := n.Transport.Connect(short(t), hub.ID(), hub.addr); err != nil {
				t.Errorf("%v\n%v\n%v", err, n.Explain(hub.ID()), hub.Explain(n.ID()))
				return
			}
			echo(t, n, hub, []byte(n.ID()))
		})
	}
	all.Wait()
}

// TestManyConnects: connections that come and go leave nothing. There are 1,000
// with TANGO_NIGHTLY=1, else 60.
func TestManyConnects(t *testing.T) {
	count := 60
	if os.Getenv("TANGO_NIGHTLY") == "1" {
		count = 1000
	}
	r := newRelay(t)
	a, b := newPeer(t, r), newPeer(t, r)
	serveEcho(b)
	once := func() {
		start := time.Now()
		connect(t, a, b)
		echo(t, a, b, []byte("hello"))
		_ = a.Network().ClosePeer(b.ID())
		await(t, "both sides have closed", func() bool {
			left := slices.Concat(a.Network().ConnsToPeer(b.ID()), b.Network().ConnsToPeer(a.ID()))
			if len(left) > 0 && time.Since(start) > 9*time.Second {
				t.Fatalf("left: %v\n%v\n%v", left, a.Explain(b.ID()), b.Explain(a.ID()))
			}
			return len(left) == 0
		})
	}
	for range 10 { // what is made once and stays
		once()
	}
	before := holdings(t)
	for range count {
		once()
	}
	await(t, "goroutines and files are gone", func() bool {
		now := holdings(t)
		return now.goroutines <= before.goroutines+5 && now.files <= before.files+2
	})
	now := holdings(t)
	t.Logf("after 10: %+v; after %d more: %+v", before, count, now)
	if now.heap > before.heap+before.heap/4+4<<20 {
		t.Errorf("the heap grew from %d to %d bytes", before.heap, now.heap)
	}
}

type held struct {
	goroutines, files int
	heap              uint64
}

func holdings(t *testing.T) held {
	t.Helper()
	debug.FreeOSMemory()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	files, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Skip(err)
	}
	return held{runtime.NumGoroutine(), len(files), m.HeapAlloc}
}
