package front_test

import (
	"crypto/x509"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/tangop2p/tango/front"
)

const proxyAddr = "127.0.0.9" // trusted where anybody is

func header(name string, values ...string) http.Header { return http.Header{name: values} }

func proxied(h http.Header) client { return client{from: proxyAddr, header: h} }

// trust is whose word a front takes.
type trust int

const (
	nobody  trust = iota
	headers       // of trusted proxies
	both          // these, and the PROXY protocol
)

func (tr trust) options() []front.Option {
	trusted := front.WithTrustedProxies(proxyAddr, "127.0.1.0/24")
	return [][]front.Option{nil, {trusted}, {trusted, front.WithProxyProtocol()}}[tr]
}

// The address of a peer is what trusted proxies say, and what nobody else says.
func TestClientAddress(t *testing.T) {
	const v1 = "PROXY TCP4 192.0.2.7 192.0.2.1 4711 80\r\n"
	const v2 = "\r\n\r\n\x00\r\nQUIT\n" + "\x21\x11\x00\x0c" + "\xc0\x00\x02\x07" + "\xc0\x00\x02\x01" + "\x12\x67\x00\x50"
	const v2local = "\r\n\r\n\x00\r\nQUIT\n" + "\x20\x00\x00\x00"
	xff := func(values ...string) client { return proxied(header("X-Forwarded-For", values...)) }
	raw := func(proxy string) client { return client{from: proxyAddr, proxy: proxy} }
	stranger := func(c client) client { c.from = "127.0.0.2"; return c }
	with := func(c client, h client) client { c.header = h.header; return c }
	for name, tc := range map[string]struct {
		trust  trust
		client client
		suffix string
		want   string // what the host sees, in part; empty if it refuses
		why    string // with which reason
	}{
		"nobody trusted":             {nobody, xff("192.0.2.7"), "/ws", "/ip4/127.0.0.9/tcp/", ""},
		"X-Forwarded-For":            {headers, xff("192.0.2.7"), "/ws", "/ip4/192.0.2.7/tcp/0/ws", ""},
		"with a port":                {headers, xff("192.0.2.7:4711"), "/ws", "/ip4/192.0.2.7/tcp/4711/ws", ""},
		"IPv6":                       {headers, xff("2001:db8::7"), "/ws", "/ip6/2001:db8::7/tcp/0/ws", ""},
		"a client's claim before it": {headers, xff("198.51.100.1, 192.0.2.7"), "/ws", "/ip4/192.0.2.7/", ""},
		"a client's rubbish":         {headers, xff("oops, 192.0.2.7"), "/ws", "/ip4/192.0.2.7/", ""},
		"two proxies":                {headers, xff("192.0.2.7, 127.0.1.5"), "/ws", "/ip4/192.0.2.7/", ""},
		"two lines":                  {headers, xff("198.51.100.1", "192.0.2.7"), "/ws", "/ip4/192.0.2.7/", ""},
		"Forwarded": {
			headers, proxied(header("Forwarded", `for=198.51.100.1, for="[2001:db8::7]:4711";proto=https`)),
			"/ws", "/ip6/2001:db8::7/tcp/4711/ws", "",
		},
		"both agree": {
			headers, proxied(http.Header{"Forwarded": {"for=192.0.2.7"}, "X-Forwarded-For": {"192.0.2.7"}}), "/ws", "/ip4/192.0.2.7/", "",
		},
		"both differ": {
			headers, proxied(http.Header{"Forwarded": {"for=192.0.2.8"}, "X-Forwarded-For": {"192.0.2.7"}}), "/ws", "", "header",
		},
		"malformed":                {headers, xff("192.0.2.7, oops"), "/ws", "", "header"},
		"a stranger's claim":       {headers, stranger(xff("192.0.2.7")), "/ws", "/ip4/127.0.0.2/", ""},
		"a stranger's rubbish":     {headers, stranger(xff("oops")), "/ws", "/ip4/127.0.0.2/", ""},
		"a proxy without a header": {headers, proxied(nil), "/ws", "/ip4/127.0.0.9/", ""},
		"raw TCP of a proxy":       {headers, proxied(nil), "", "/ip4/127.0.0.9/", ""},
		"PROXY 1, ws":              {both, raw(v1), "/ws", "/ip4/192.0.2.7/tcp/4711/ws", ""},
		"PROXY 1, tcp":             {both, raw(v1), "", "/ip4/192.0.2.7/tcp/4711", ""},
		"PROXY 1, tls":             {both, raw(v1), "/tls/ws", "/ip4/192.0.2.7/tcp/4711/tls/ws", ""},
		"PROXY 2, ws":              {both, raw(v2), "/ws", "/ip4/192.0.2.7/tcp/4711/ws", ""},
		"PROXY 2, tls":             {both, raw(v2), "/tls/ws", "/ip4/192.0.2.7/tcp/4711/tls/ws", ""},
		"PROXY 2, for itself":      {both, raw(v2local), "/ws", "/ip4/127.0.0.9/", ""},
		"PROXY 1, unknown":         {both, raw("PROXY UNKNOWN\r\n"), "/ws", "/ip4/127.0.0.9/", ""},
		"PROXY beats the client":   {both, with(raw(v1), xff("198.51.100.1")), "/ws", "/ip4/192.0.2.7/", ""},
		"PROXY of a proxy": {
			both, with(raw(strings.Replace(v1, "192.0.2.7", "127.0.1.5", 1)), xff("192.0.2.7")), "/ws", "/ip4/192.0.2.7/tcp/0", "",
		},
		"PROXY missing":               {both, proxied(nil), "/ws", "", "header"},
		"PROXY malformed":             {both, raw("PROXY TCP4 oops\r\n"), "/ws", "", "header"},
		"PROXY of a multicast":        {both, raw(strings.Replace(v1, "192.0.2.7", "224.0.0.1", 1)), "/ws", "", "header"},
		"PROXY of a stranger":         {both, stranger(raw(v1)), "/ws", "", "untrusted"},
		"PROXY 2 of a stranger":       {both, stranger(raw(v2)), "/ws", "", "untrusted"},
		"a stranger without PROXY":    {both, stranger(client{}), "/ws", "/ip4/127.0.0.2/", ""},
		"PROXY where nobody reads it": {headers, raw(v1), "/ws", "", ""},
	} {
		t.Run(name, func(t *testing.T) {
			opts := tc.trust.options()
			secure := tc.suffix == "/tls/ws"
			if secure {
				cert, roots := loadCertificate(t, "127.0.0.1")
				opts, tc.client.roots = append(opts, front.WithCertificate(cert)), roots
			}
			r := newRig(t, resources(t, 8), all(secure), opts...)
			seen, err := r.connect(tc.client, tc.suffix)
			if (err == nil) != (tc.want != "") || !strings.HasPrefix(seen, tc.want) {
				t.Errorf("seen as %q, %v, want %q", seen, err, tc.want)
			}
			if tc.why != "" && r.refused(tc.why) == 0 {
				t.Errorf("not counted as %q", tc.why)
			}
			if tc.want == "" {
				r.await("nothing is left on the account", func() bool { return r.conns() == 0 })
			}
		})
	}
}

func loadCertificate(t *testing.T, names ...string) (*front.Certificate, *x509.CertPool) {
	t.Helper()
	certFile, keyFile, roots := certificate(t, t.TempDir(), names...)
	cert, err := front.LoadCertificate(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	return cert, roots
}

// Limits of one address are those of the client, not of the proxy.
func TestLimitsAreTheClients(t *testing.T) {
	const perIP = 2
	rm := &listening{ResourceManager: resources(t, perIP)}
	r := newRig(t, rm, all(false), front.WithTrustedProxies(proxyAddr))
	for _, from := range []string{"192.0.2.1", "192.0.2.2", "192.0.2.3"} {
		for i := range perIP {
			if seen, err := r.connect(proxied(header("X-Forwarded-For", from)), "/ws"); err != nil {
				t.Fatalf("connection %d of %s: %v (seen as %s)", i+1, from, err, seen)
			}
		}
	}
	if _, err := r.connect(proxied(header("X-Forwarded-For", "192.0.2.1")), "/ws"); err == nil {
		t.Error("one address has more connections than the resource manager admits")
	}
	if r.refused("resources") == 0 {
		t.Error("not counted")
	}
	if slices.ContainsFunc(rm.heard(), func(a string) bool { return strings.HasPrefix(a, "/ip4/"+proxyAddr+"/") }) {
		t.Errorf("the proxy's address is counted too: %v", rm.heard())
	}
	r.await("each connection is counted once", func() bool { return r.conns() == 3*perIP })
	for _, c := range r.host.Network().Conns() {
		_ = c.Close()
	}
	r.await("nothing is left on the account", func() bool { return r.conns() == 0 })
}

// A trusted address that has nothing to say of others is an address as any.
func TestTrustedAddressCounts(t *testing.T) {
	for name, tc := range map[string]struct {
		header http.Header
		suffix string
	}{
		"raw TCP":   {nil, ""},
		"no header": {nil, "/ws"},
		"itself":    {header("X-Forwarded-For", proxyAddr), "/ws"},
	} {
		t.Run(name, func(t *testing.T) {
			rm := &listening{ResourceManager: resources(t, 8)}
			r := newRig(t, rm, all(false), front.WithTrustedProxies(proxyAddr))
			if _, err := r.connect(proxied(tc.header), tc.suffix); err != nil {
				t.Fatal(err)
			}
			if !slices.ContainsFunc(rm.heard(), func(a string) bool { return strings.HasPrefix(a, "/ip4/"+proxyAddr+"/") }) {
				t.Errorf("it is on no account: %v", rm.heard())
			}
			r.await("it is counted once", func() bool { return r.conns() == 1 })
		})
	}
}

// listening remembers for which addresses connections were opened.
type listening struct {
	network.ResourceManager
	mu    sync.Mutex
	addrs []string
}

func (l *listening) OpenConnection(dir network.Direction, fd bool, a ma.Multiaddr) (network.ConnManagementScope, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.addrs = append(l.addrs, a.String())
	return l.ResourceManager.OpenConnection(dir, fd, a)
}

func (l *listening) heard() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.addrs)
}

func TestGaterSeesTheClient(t *testing.T) {
	for name, tc := range map[string]struct {
		trust trust
		as    func(addr string) client
	}{
		"a header of HTTP": {headers, func(addr string) client { return proxied(header("X-Forwarded-For", addr)) }},
		"a PROXY header": {both, func(addr string) client {
			return client{from: proxyAddr, proxy: "PROXY TCP4 " + addr + " 192.0.2.1 4711 80\r\n"}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, resources(t, 8), all(false), tc.trust.options()...)
			r.gater.denies("192.0.2.7")
			if _, err := r.connect(tc.as("192.0.2.7"), "/ws"); err == nil {
				t.Error("who is denied gets in through the proxy")
			}
			if r.refused("gater") != 1 {
				t.Error("not counted")
			}
			if _, err := r.connect(tc.as("192.0.2.8"), "/ws"); err != nil {
				t.Error(err)
			}
		})
	}
}
