package interop

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
)

// What the hosts of a lab with NATs look like from outside.
const (
	firstOutside  = "203.0.113.1"
	secondOutside = "203.0.113.2"
)

// nginxServer hands on WebSockets, over TLS at port 443.
const nginxServer = `
	server {
		listen 203.0.113.11:80;
		listen 203.0.113.11:443 ssl;
		ssl_certificate CERT; ssl_certificate_key KEY;
		location / {
			proxy_pass http://203.0.113.10:4001;
			proxy_bind 203.0.113.11;
			proxy_http_version 1.1;
			proxy_set_header Upgrade $http_upgrade;
			proxy_set_header Connection $upgrade;
			proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
			proxy_read_timeout 1h;
		}
	}`

// haproxyServer hands on HTTP or TCP, by MODE, with what OPTION adds.
const haproxyServer = `
		frontend public
			mode MODE
			bind :80
			default_backend relay
		backend relay
			mode MODE
			source 203.0.113.11
			OPTION
			server relay 203.0.113.10:4001 SERVER`

// proxyCase is a proxy before a relay.
type proxyCase struct {
	name   string
	args   []string // of the relay
	proxy  func(t *testing.T, public *Namespace, certs certFiles)
	dial   string // where the peers dial
	hidden bool   // the relay does not learn who its clients are
}

type certFiles struct{ cert, key string }

func proxyCases() []proxyCase {
	trusted := []string{"-trusted-proxies", proxyAddress}
	raw := slices.Concat(trusted, []string{"-proxy-protocol"})
	nginx := startNginxServer
	haproxy := func(mode, option, server string) func(*testing.T, *Namespace, certFiles) {
		return func(t *testing.T, public *Namespace, _ certFiles) {
			StartHAProxy(t, public, "80", strings.NewReplacer("MODE", mode, "OPTION", option, "SERVER", server).Replace(haproxyServer))
		}
	}
	const plain, secure, passed = "/ip4/203.0.113.11/tcp/80/ws", "/ip4/203.0.113.11/tcp/443/tls/ws", "/ip4/203.0.113.11/tcp/80/tls/ws"
	return []proxyCase{
		{"nginx TLS, X-Forwarded-For", trusted, nginx, secure, false},
		{"nginx, X-Forwarded-For", trusted, nginx, plain, false},
		{"nginx, not trusted", nil, nginx, plain, true},
		{"HAProxy, X-Forwarded-For", trusted, haproxy("http", "option forwardfor", ""), plain, false},
		{"HAProxy, Forwarded", trusted, haproxy("http", "http-request set-header Forwarded for=%[src]", ""), plain, false},
		{"HAProxy, no header", trusted, haproxy("http", "", ""), plain, true},
		{"HAProxy, PROXY 1", raw, haproxy("tcp", "", "send-proxy"), plain, false},
		{"HAProxy, PROXY 2", raw, haproxy("tcp", "", "send-proxy-v2"), plain, false},
		{"HAProxy, PROXY 2, TLS of the relay", raw, haproxy("tcp", "", "send-proxy-v2"), passed, false},
	}
}

// newProxyLab is two hosts behind NATs, and an address for a proxy.
func newProxyLab(t *testing.T) *Lab {
	t.Helper()
	lab := NewLab(t, [2]NAT{Cone, Cone})
	if err := lab.Public.IP("addr add " + proxyAddress + "/24 dev br0"); err != nil {
		t.Fatal(err)
	}
	return lab
}

// TestProxies: behind nginx and HAProxy the relay's policy sees who a peer is:
// one address may reserve, another may not. In browsers the first of the proxies.
func TestProxies(t *testing.T) {
	t.Parallel()
	for _, kind := range []Kind{Node, Chromium, Firefox} {
		t.Run(string(kind), func(t *testing.T) {
			t.Parallel()
			Need(t, kind)
			lab, ca := newProxyLab(t), NewCA(t)
			certs := issueIn(t, ca)
			var agents [2]*Agent
			for i, host := range lab.Hosts {
				agents[i] = StartAgentIn(t, host, kind, ca.Trust(t, kind)...)
			}
			cases := proxyCases()
			if kind != Node {
				cases = cases[:1]
			}
			for _, c := range cases {
				t.Run(c.name, func(t *testing.T) { testProxy(t, lab, agents, c, certs) })
			}
		})
	}
}

func testProxy(t *testing.T, lab *Lab, agents [2]*Agent, c proxyCase, certs certFiles) {
	allow := filepath.Join(t.TempDir(), "allowed")
	if err := os.WriteFile(allow, []byte(firstOutside+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	const listen = "/ip4/203.0.113.10/tcp/4001"
	relay := StartRelayIn(t, lab.Public, relayAddress, append([]string{
		"-listen", listen + "/ws," + listen + "/tls/ws", "-cert", certs.cert, "-key", certs.key, "-allow", allow,
	}, c.args...)...)
	c.proxy(t, lab.Public, certs)
	addr := []string{c.dial + "/p2p/" + relay.ID}
	var errs [2]error
	var wg sync.WaitGroup
	for i, a := range agents {
		wg.Go(func() { errs[i] = tryStart(t, a, addr) })
	}
	wg.Wait()
	if (errs[0] == nil) == c.hidden {
		t.Errorf("the peer at %s, which is allowed: %v", firstOutside, errs[0])
	}
	// what Firefox has of an error within an error is its stack, without the message
	if errs[1] == nil || agents[1].Kind != Firefox && !strings.Contains(errs[1].Error(), "PERMISSION_DENIED") {
		t.Errorf("the peer at %s, which is not: %v, want PERMISSION_DENIED", secondOutside, errs[1])
	}
}

// officeTabs is how many browsers an office has.
const officeTabs = 20

// TestOffice: with the documented settings an office of browsers behind a NAT and a
// proxy reserves, and one host that asks for too much gets what one address may
// have, whatever came first. Where the relay does not trust the proxy they share
// that.
func TestOffice(t *testing.T) {
	t.Parallel()
	t.Run("trusted", func(t *testing.T) {
		t.Parallel()
		testOffice(t, officeTabs, true, "-trusted-proxies", proxyAddress)
	})
	t.Run("not trusted", func(t *testing.T) {
		t.Parallel()
		testOffice(t, 1, false)
	})
}

func testOffice(t *testing.T, tabs int, ok bool, args ...string) {
	Need(t, Chromium)
	const perIP, asked = 64, 100 // relay.SignalingOnly's ReservationsPerIP
	binary, err := build(".", "crowd", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	ca := NewCA(t)
	certs := issueIn(t, ca)
	lab := newProxyLab(t)
	startNginxServer(t, lab.Public, certs)
	relay := StartRelayIn(t, lab.Public, relayAddress, args...)
	addr := "/ip4/203.0.113.11/tcp/80/ws/p2p/" + relay.ID
	abuser := startCrowdBy(t, lab.Hosts[1], exec.Command(binary, addr))
	abuser.ask(t, crowdRequest{Op: "connect", N: asked})
	greed := func() {
		t.Helper()
		a, err := abuser.do(t.Context(), crowdRequest{Op: "reserve"})
		if err != nil || len(a.Failed) != 1 || a.Failed["RESERVATION_REFUSED"] != asked-perIP {
			t.Errorf("of %d reservations of one address %v, %v, want %d refused", asked, a.Failed, err, asked-perIP)
		}
	}
	greed()
	office := StartAgentIn(t, lab.Hosts[0], Chromium)
	for i := range tabs {
		if err := start(t, office.Open(t), []string{addr}); (err == nil) != ok {
			t.Errorf("browser %d of the office: %v", i+1, err)
		}
	}
	greed()
}

// issueIn makes a certificate for the proxy.
func issueIn(t *testing.T, ca *CA) certFiles {
	t.Helper()
	dir := t.TempDir()
	certs := certFiles{filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")}
	ca.Issue(t, certs.cert, certs.key, proxyAddress)
	return certs
}

func startNginxServer(t *testing.T, public *Namespace, certs certFiles) {
	t.Helper()
	StartNginx(t, public, "80", strings.NewReplacer("CERT", certs.cert, "KEY", certs.key).Replace(nginxServer))
}
