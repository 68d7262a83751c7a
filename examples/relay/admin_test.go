package main

import (
	"encoding/json"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	ma "github.com/multiformats/go-multiaddr"
)

// TestAdmin looks at a relay from outside while it serves and while it drains.
func TestAdmin(t *testing.T) {
	p := startRelay(t, "-listen", "/ip4/127.0.0.1/tcp/0/ws", "-identity", filepath.Join(t.TempDir(), "k"),
		"-admin", "127.0.0.1:0", "-drain", "1m")
	id, _, _ := strings.Cut(p.line(t, "relay "), ",")
	admin := p.line(t, "admin: ")
	relay := p.dial(t)
	for _, path := range []string{"livez", "readyz"} {
		if code, body := get(t, admin+path); code != http.StatusOK || body != "ok\n" {
			t.Errorf("GET /%s: %d %q", path, code, body)
		}
	}
	a, b := newClient(t), newClient(t)
	if _, err := client.Reserve(t.Context(), a, *relay); err != nil {
		t.Fatal(err)
	}
	circuit := relay.Addrs[0].Encapsulate(ma.StringCast("/p2p/" + id + "/p2p-circuit"))
	if err := b.Connect(t.Context(), peer.AddrInfo{ID: a.ID(), Addrs: []ma.Multiaddr{circuit}}); err != nil {
		t.Fatal(err)
	}

	var s status
	if _, body := get(t, admin+"status.json"); json.Unmarshal([]byte(body), &s) != nil {
		t.Errorf("GET /status.json: %q", body)
	}
	if s.ID != id || !s.Ready || s.Limits.Reservations == 0 ||
		len(s.Reservations) != 1 || s.Reservations[0].Peer != a.ID().String() || s.Reservations[0].Addr != "127.0.0.1" ||
		len(s.Circuits) != 1 || s.Circuits[0].Source != b.ID().String() || s.Circuits[0].Sent == 0 {
		t.Errorf("status %+v", s)
	}
	_, metrics := get(t, admin+"metrics")
	for _, line := range []string{
		"libp2p_relaysvc_reservations 1", "libp2p_swarm_connections_opened_total", "libp2p_front_",
		"go_goroutines", "process_open_fds",
	} {
		if !strings.Contains(metrics, line) {
			t.Errorf("/metrics has no %q", line)
		}
	}
	if _, profile := get(t, admin+"debug/pprof/goroutine?debug=1"); !strings.Contains(profile, "relay.(*hop).") {
		t.Errorf("no goroutine of the relay in %q", profile)
	}

	// SIGTERM waits for the circuit, but is ready for nobody else.
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	p.line(t, "relay drains")
	if code, body := get(t, admin+"readyz"); code != http.StatusServiceUnavailable || !strings.Contains(body, "drains") {
		t.Errorf("GET /readyz while it drains: %d %q", code, body)
	}
	_ = b.Network().ClosePeer(a.ID())
	p.wait(t)
}

func newClient(t *testing.T) host.Host {
	t.Helper()
	h, err := libp2p.New(libp2p.NoListenAddrs, libp2p.EnableRelay())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// TestAdminAddress that is taken is named.
func TestAdminAddress(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	for _, addr := range []string{l.Addr().String(), "nonsense"} {
		if err := newAdmin().listen(addr); err == nil || !strings.Contains(err.Error(), addr) {
			t.Errorf("%s: %v", addr, err)
		}
	}
}
