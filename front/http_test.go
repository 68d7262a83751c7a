package front_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/tangop2p/tango/front"
)

// whoAmI answers with the client's address.
var whoAmI = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.WriteString(w, r.RemoteAddr+" "+r.Proto) })

func (r *rig) dial(from string) net.Conn {
	r.t.Helper()
	conn, err := client{from: from}.dial(r.t.Context(), "tcp4", "127.0.0.1:"+r.port)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = conn.Close() })
	if err := conn.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		r.t.Fatal(err)
	}
	return conn
}

// get sends requests on one connection and returns status and body of each.
func (r *rig) get(from string, requests ...string) (answers []string) {
	r.t.Helper()
	conn := r.dial(from)
	in := bufio.NewReader(conn)
	for _, request := range requests {
		if _, err := io.WriteString(conn, request); err != nil {
			r.t.Fatal(err)
		}
		resp, err := http.ReadResponse(in, nil)
		if err != nil {
			r.t.Fatal(err)
		}
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			r.t.Fatal(err)
		}
		_ = resp.Body.Close()
		answers = append(answers, resp.Status[:3]+" "+string(body))
	}
	return answers
}

func request(lines ...string) string {
	return "GET / HTTP/1.1\r\nHost: relay.example\r\n" + strings.Join(append(lines, "", ""), "\r\n")
}

// Plain HTTP behind a proxy: clients follow each other on one connection, and the
// gater is asked about each.
func TestHTTP(t *testing.T) {
	r := newRig(t, resources(t, 8), all(false), front.WithTrustedProxies(proxyAddr), front.WithHTTPHandler(whoAmI))
	r.gater.denies("192.0.2.9")
	answers := r.get(proxyAddr,
		request("X-Forwarded-For: 192.0.2.7"), request("Forwarded: for=\"[2001:db8::1]:80\""), request(),
		request("X-Forwarded-For: 192.0.2.9"), request("X-Forwarded-For: oops"))
	for i, want := range []string{"200 192.0.2.7:0 ", "200 [2001:db8::1]:80 ", "200 127.0.0.9:", "403 ", "400 "} {
		if !strings.HasPrefix(answers[i], want) {
			t.Errorf("answer %d: %q, want %q", i, answers[i], want)
		}
	}
	if got := r.get("127.0.0.2", request("X-Forwarded-For: 192.0.2.7"))[0]; !strings.HasPrefix(got, "200 127.0.0.2:") {
		t.Errorf("a stranger's claim makes it %q", got)
	}
	if r.refused("gater") != 1 || r.refused("header") != 1 {
		t.Errorf("%d refused by the gater, %d for their header, want 1 each", r.refused("gater"), r.refused("header"))
	}
}

func TestNoHandler(t *testing.T) {
	r := newRig(t, resources(t, 8), all(false))
	if got := r.get("127.0.0.1", request())[0]; !strings.HasPrefix(got, "404 ") {
		t.Errorf("answer %q", got)
	}
}

// A handshake that fails, before or after the connection was taken from the HTTP
// server, leaves nothing on the account.
func TestFailedHandshake(t *testing.T) {
	const key = "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA=="
	for name, tc := range map[string]struct {
		request, want string
	}{
		"wrong version": {request("Connection: Upgrade", "Upgrade: websocket", key, "Sec-WebSocket-Version: 7"), "HTTP/1.1 400 "},
		"no key":        {request("Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"), "HTTP/1.1 400 "},
		"taken already": {request("Connection: Upgrade", "Upgrade: websocket", key, "Sec-WebSocket-Version: 13") + "more", ""},
	} {
		for _, from := range []string{"127.0.0.1", proxyAddr} {
			t.Run(name+" from "+from, func(t *testing.T) {
				r := newRig(t, resources(t, 8), all(false), front.WithTrustedProxies(proxyAddr))
				conn := r.dial(from)
				text := strings.Replace(tc.request, "Host:", "X-Forwarded-For: 192.0.2.7\r\nHost:", 1)
				if _, err := io.WriteString(conn, text); err != nil {
					t.Fatal(err)
				}
				line, err := bufio.NewReader(conn).ReadString('\n')
				if !strings.HasPrefix(line, tc.want) || tc.want == "" && err == nil {
					t.Errorf("answer %q, %v, want %q", line, err, tc.want)
				}
				_ = conn.Close()
				r.await("nothing is left on the account", func() bool { return r.conns() == 0 })
				r.await("it is counted", func() bool { return r.refused("handshake") == 1 })
			})
		}
	}
}

func TestLongHeader(t *testing.T) {
	r := newRig(t, resources(t, 8), all(false))
	conn := r.dial("127.0.0.1")
	if _, err := io.WriteString(conn, request("Cookie: "+strings.Repeat("x", 2*front.MaxHeaderBytes))); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(conn).ReadString('\n'); !strings.HasPrefix(line, "HTTP/1.1 431 ") {
		t.Errorf("a header of %d KiB: %q, %v", 2*front.MaxHeaderBytes>>10, line, err)
	}
}

// Connections that say nothing hold up nobody. go-libp2p's shared listener waits
// for each of 64 at once.
func TestSilentConnections(t *testing.T) {
	rm, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(rcmgr.InfiniteLimits))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rm.Close() })
	r := newRig(t, rm, all(false), front.WithTrustedProxies(proxyAddr), front.WithProxyProtocol())
	for i := range 200 {
		r.dial([]string{"127.0.0.1", proxyAddr}[i%2])
	}
	r.await("all are accepted", func() bool { return r.conns() == 200 })
	begin := time.Now()
	if _, err := r.connect(client{from: "127.0.0.1"}, "/ws"); err != nil {
		t.Error(err)
	}
	if took := time.Since(begin); took > front.HeaderTimeout-time.Second {
		t.Errorf("it took %v behind 200 silent connections", took)
	}
	r.await("the silent ones are closed", func() bool { return r.conns() == 1 })
}

// What the resource manager does not grant is closed before a byte is read.
func TestNoResources(t *testing.T) {
	limits := rcmgr.InfiniteLimits.ToPartialLimitConfig()
	limits.Transient.ConnsInbound = 2
	rm, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(limits.Build(rcmgr.InfiniteLimits)))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rm.Close() })
	r := newRig(t, rm, all(false), front.WithTrustedProxies(proxyAddr))
	for range 2 {
		r.dial(proxyAddr)
	}
	r.await("two are accepted", func() bool { return r.conns() == 2 })
	if _, err := r.dial(proxyAddr).Read(make([]byte, 1)); err == nil {
		t.Error("a third half-open connection is served")
	}
	if r.refused("resources") != 1 {
		t.Error("not counted")
	}
}

// All that is half open ends with the host; goleak looks.
func TestCloseEndsAll(t *testing.T) {
	cert, roots := loadCertificate(t, "127.0.0.1")
	r := newRig(t, resources(t, 64), all(true), front.WithTrustedProxies(proxyAddr), front.WithProxyProtocol(), front.WithCertificate(cert),
		front.WithHTTPHandler(whoAmI))
	r.dial("127.0.0.1")                                                  // silent
	r.dial(proxyAddr)                                                    // no PROXY header
	_, _ = io.WriteString(r.dial("127.0.0.1"), "GET / HTTP/1.1\r\nHost") // half a header
	_, _ = io.WriteString(r.dial("127.0.0.1"), "\x16\x03\x01")           // half a TLS handshake
	r.get("127.0.0.1", request())                                        // kept alive
	if _, err := r.connect(client{from: "127.0.0.1", roots: roots}, "/tls/ws"); err != nil {
		t.Error(err)
	}
	r.await("all are accepted", func() bool { return r.conns() == 6 })
	if err := r.host.Close(); err != nil {
		t.Error(err)
	}
	if n := r.conns(); n != 0 {
		t.Errorf("%d connections are left on the account", n)
	}
}

// Pages come over HTTP/2 too where there is TLS, and WebSockets beside them.
func TestHTTPS(t *testing.T) {
	cert, roots := loadCertificate(t, "127.0.0.1")
	r := newRig(t, resources(t, 8), all(true), front.WithCertificate(cert), front.WithHTTPHandler(whoAmI))
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}, ForceAttemptHTTP2: true}
	defer transport.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "https://127.0.0.1:"+r.port, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if body, err := io.ReadAll(resp.Body); err != nil || !strings.HasSuffix(string(body), " HTTP/2.0") {
		t.Errorf("%q, %v", body, err)
	}
	seen, err := r.connect(client{from: "127.0.0.2", roots: roots}, "/tls/ws")
	if err != nil || !strings.HasPrefix(seen, "/ip4/127.0.0.2/") {
		t.Errorf("seen as %s, %v", seen, err)
	}
	for _, c := range r.host.Network().Conns() {
		if got := c.ConnState().Transport; got != "websocket" {
			t.Errorf("the connection's transport is %q", got)
		}
	}
}

// Bytes go through whole, both ways, and closing is seen.
func TestStream(t *testing.T) {
	r := newRig(t, resources(t, 8), all(false))
	r.host.SetStreamHandler("/echo", func(s network.Stream) {
		_, _ = io.Copy(s, s)
		_ = s.Close()
	})
	h := r.start(client{})
	h.Peerstore().AddAddr(r.host.ID(), ma.StringCast("/ip4/127.0.0.1/tcp/"+r.port+"/ws"), time.Hour)
	s, err := h.NewStream(t.Context(), r.host.ID(), "/echo")
	if err != nil {
		t.Fatal(err)
	}
	data := strings.Repeat("0123456789abcdef", 1<<16)
	go func() {
		_, _ = io.WriteString(s, data)
		_ = s.CloseWrite()
	}()
	if got, err := io.ReadAll(s); err != nil || string(got) != data {
		t.Errorf("%d bytes came back of %d, %v", len(got), len(data), err)
	}
	_ = h.Close()
	r.await("the host sees that the client is gone", func() bool { return len(r.host.Network().Conns()) == 0 && r.conns() == 0 })
}
