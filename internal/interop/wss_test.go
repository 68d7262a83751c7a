package interop

import (
	"context"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestWSS: browsers reach the relay's /tls/ws with a certificate of a CA that they
// trust, at its IP address and by name, and not without; a certificate that is
// replaced while the relay runs counts for new connections and ends no old ones.
func TestWSS(t *testing.T) {
	t.Parallel()
	for _, kind := range []Kind{Chromium, Firefox} { // Node resumes its TLS sessions, and then looks at no certificate
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			testWSS(t, kind)
		})
	}
}

func testWSS(t *testing.T, kind Kind) {
	Need(t, kind)
	ca, other := NewCA(t), NewCA(t)
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	ca.Issue(t, cert, key, "127.0.0.1")
	address := freeAddress(t)
	_, port, _ := net.SplitHostPort(address)
	listen := "/ip4/127.0.0.1/tcp/" + port
	relay := startRelay(t, nil, address, os.Getenv(relayEnv), "-listen", listen+"/ws,"+listen+"/tls/ws", "-cert", cert, "-key", key)
	wss := secureAddrs(relay)
	if want := []string{listen + "/tls/ws/p2p/" + relay.ID}; !slices.Equal(wss, want) {
		t.Fatalf("/relay.json names %v, want %v", wss, want)
	}
	stranger := StartAgent(t, kind)
	if err := tryStart(t, stranger, wss); err == nil {
		t.Error("who does not trust the CA gets a reservation over wss")
	}
	agent := StartAgentIn(t, nil, kind, ca.Trust(t, kind)...)
	first := agent.Open(t)
	if err := start(t, first, wss); err != nil {
		t.Fatal(err)
	}
	checkSecure(t, first, relay, wss[0])

	// another CA's: in use, for it does not do
	other.Issue(t, cert, key, "127.0.0.1")
	relay.reload(t)
	if err := tryStart(t, agent, wss); err == nil {
		t.Error("the relay goes on with the old certificate, or the browser takes any")
	}
	ca.Issue(t, cert, key, "localhost")
	relay.reload(t)
	wss = secureAddrs(relay)
	if want := []string{"/dns/localhost/tcp/" + port + "/tls/ws/p2p/" + relay.ID}; !slices.Equal(wss, want) {
		t.Fatalf("/relay.json names %v, want %v", wss, want)
	}
	second := agent.Open(t)
	second.Name += " again"
	if err := start(t, second, wss); err != nil {
		t.Fatal(err)
	}
	checkSecure(t, second, relay, wss[0])
	checkSecure(t, first, relay, listen+"/tls/ws/p2p/"+relay.ID)
}

func secureAddrs(r *Relay) []string {
	return slices.DeleteFunc(slices.Clone(r.Addrs), func(a string) bool { return !strings.Contains(a, "/tls/ws/") })
}

// tryStart starts a peer that may well not get a reservation, and closes it.
func tryStart(t *testing.T, a *Agent, relays []string) error {
	t.Helper()
	p := a.Open(t)
	err := start(t, p, relays)
	if err := p.Close(t.Context()); err != nil {
		t.Error(err)
	}
	return err
}

// start returns nil once the peer has its reservations.
func start(t *testing.T, p *Peer, relays []string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	dial := false
	return p.Start(ctx, Config{Relays: relays, Dial: &dial})
}

// checkSecure: the peer's connection is open, and one over TLS.
func checkSecure(t *testing.T, p *Peer, relay *Relay, addr string) {
	t.Helper()
	s, err := p.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.ContainsFunc(s.To(relay.ID), func(c Connection) bool { return c.Status == "open" && c.Address == addr }) {
		t.Errorf("%s: connections %+v, want one to %s", p.Name, s.To(relay.ID), addr)
	}
}

// reload has the relay read its certificate, and its addresses be read again.
func (r *Relay) reload(t *testing.T) {
	t.Helper()
	before := strings.Count(r.proc.log.String(), "certificate: for ")
	if err := r.proc.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	Await(t, 5*time.Second, "the relay reads its certificate", func(ctx context.Context) (bool, error) {
		if strings.Count(r.proc.log.String(), "certificate: for ") == before {
			return false, nil
		}
		return r.describe(ctx)
	})
}
