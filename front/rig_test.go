package front_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"go.uber.org/goleak"

	"github.com/tangop2p/tango/front"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a host behind a front, on loopback.
type rig struct {
	t     *testing.T
	front *front.Front
	host  host.Host
	rm    network.ResourceManager
	gater *gater
	reg   *prometheus.Registry
	port  string // the TCP port that all share
}

func newRig(t *testing.T, rm network.ResourceManager, listen []string, opts ...front.Option) *rig {
	t.Helper()
	r := &rig{t: t, rm: rm, gater: &gater{}, reg: prometheus.NewRegistry()}
	var err error
	if r.front, err = front.New(append(opts, front.WithRegisterer(r.reg))...); err != nil {
		t.Fatal(err)
	}
	r.host, err = libp2p.New(
		libp2p.Transport(r.front.TCP), libp2p.Transport(r.front.WebSocket), libp2p.ListenAddrStrings(listen...),
		libp2p.ResourceManager(rm), libp2p.ConnectionGater(r.gater), libp2p.DisableRelay(),
	)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = r.host.Close()
		_ = r.front.Close()
	})
	if r.port, err = r.host.Addrs()[0].ValueForProtocol(ma.P_TCP); err != nil {
		t.Fatal(err)
	}
	return r
}

// all are the three that share a port.
func all(secure bool) []string {
	addrs := []string{"/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/ws"}
	if secure {
		addrs = append(addrs, "/ip4/127.0.0.1/tcp/0/tls/ws")
	}
	return addrs
}

// resources is a resource manager that admits so many connections of one address,
// loopback's too unless they are of 127.0.0.1.
func resources(t *testing.T, perIP int) network.ResourceManager {
	t.Helper()
	rm, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(rcmgr.DefaultLimits.AutoScale()),
		rcmgr.WithLimitPerSubnet(
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: perIP}},
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 56, ConnCount: perIP}}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rm.Close() })
	return rm
}

// conns is how many connections the resource manager counts.
func (r *rig) conns() int {
	r.t.Helper()
	n := 0
	if err := r.rm.ViewSystem(func(s network.ResourceScope) error {
		n = s.Stat().NumConnsInbound
		return nil
	}); err != nil {
		r.t.Fatal(err)
	}
	return n
}

// refused is how often the front refused for a reason.
func (r *rig) refused(why string) int {
	r.t.Helper()
	families, err := r.reg.Gather()
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "libp2p_front_refused_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			if label(m) == why {
				return int(m.GetCounter().GetValue())
			}
		}
	}
	return 0
}

func label(m *dto.Metric) string { return m.GetLabel()[0].GetValue() }

func (r *rig) await(what string, ok func() bool) {
	r.t.Helper()
	deadline := time.After(10 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !ok() {
		select {
		case <-tick.C:
		case <-deadline:
			r.t.Fatalf("not within 10 s: %s", what)
		}
	}
}

// gater denies an address.
type gater struct {
	mu   sync.Mutex
	deny string
}

func (g *gater) denies(addr string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.deny = addr
}

func (g *gater) InterceptAccept(c network.ConnMultiaddrs) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	ip, _ := c.RemoteMultiaddr().ValueForProtocol(ma.P_IP4)
	return g.deny == "" || ip != g.deny
}

func (*gater) InterceptPeerDial(peer.ID) bool { return true }

func (*gater) InterceptAddrDial(peer.ID, ma.Multiaddr) bool { return true }

func (*gater) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }

func (*gater) InterceptSecured(network.Direction, peer.ID, network.ConnMultiaddrs) bool { return true }

// client dials from an address of loopback's network, with headers and a PROXY
// header before everything.
type client struct {
	from   string
	header http.Header
	proxy  string
	roots  *x509.CertPool
}

// dialer opens the client's TCP connections.
func (c client) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(c.from)}}
	conn, err := d.DialContext(ctx, network, addr)
	if err == nil && c.proxy != "" {
		_, err = conn.Write([]byte(c.proxy))
	}
	return conn, err
}

// connect makes a libp2p connection and returns the address that the host sees.
func (r *rig) connect(c client, suffix string) (string, error) {
	r.t.Helper()
	h := r.start(c)
	ctx, cancel := context.WithTimeout(r.t.Context(), 5*time.Second)
	defer cancel()
	// through a front end of the test's own where there are headers to add, for go-libp2p adds none
	port := r.through(c)
	addr := ma.StringCast("/ip4/127.0.0.1/tcp/" + port + suffix)
	h.Peerstore().AddAddr(r.host.ID(), addr, peerstore.PermanentAddrTTL)
	if _, err := h.Network().DialPeer(ctx, r.host.ID()); err != nil {
		return "", err
	}
	var seen string
	r.await("the host has the connection", func() bool {
		for _, conn := range r.host.Network().ConnsToPeer(h.ID()) {
			seen = conn.RemoteMultiaddr().String()
		}
		return seen != ""
	})
	return seen, nil
}

func (r *rig) start(c client) host.Host {
	r.t.Helper()
	h, err := libp2p.New(libp2p.NoListenAddrs, libp2p.Transport(tcp.NewTCPTransport), libp2p.DisableRelay(),
		libp2p.Transport(websocket.New, websocket.WithTLSClientConfig(&tls.Config{RootCAs: c.roots})))
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { _ = h.Close() })
	return h
}

// through starts a proxy that opens connections as c, and returns its port.
func (r *rig) through(c client) string {
	r.t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		r.t.Fatal(err)
	}
	var wg sync.WaitGroup
	ctx, cancel := context.WithCancel(context.Background())
	r.t.Cleanup(func() {
		cancel()
		_ = l.Close()
		wg.Wait()
	})
	wg.Go(func() {
		for {
			in, err := l.Accept()
			if err != nil {
				return
			}
			wg.Go(func() { c.relay(ctx, in, "127.0.0.1:"+r.port) })
		}
	})
	_, port, _ := net.SplitHostPort(l.Addr().String())
	return port
}

// certificate makes a self-signed certificate and returns its files.
func certificate(t *testing.T, dir string, names ...string) (certFile, keyFile string, roots *x509.CertPool) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	serial, err := rand.Int(rand.Reader, big.NewInt(1<<62))
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "test"}, IsCA: true, BasicConstraintsValid: true,
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour),
	}
	for _, n := range names {
		if ip := net.ParseIP(n); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, n)
		}
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	certFile, keyFile = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	write(t, certFile, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
	write(t, keyFile, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
	parsed, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	roots = x509.NewCertPool()
	roots.AddCert(parsed)
	return certFile, keyFile, roots
}

func write(t *testing.T, path string, data []byte) {
	t.Helper()
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
}

// relay carries bytes between in and the host, with the header lines put behind
// the request line.
func (c client) relay(ctx context.Context, in net.Conn, addr string) {
	defer func() { _ = in.Close() }()
	out, err := c.dial(ctx, "tcp4", addr)
	if err != nil {
		return
	}
	defer func() { _ = out.Close() }()
	stop := context.AfterFunc(ctx, func() { _, _ = in.Close(), out.Close() })
	defer stop()
	var wg sync.WaitGroup
	wg.Go(func() { c.copy(out, in, true); _ = out.Close() })
	wg.Go(func() { c.copy(in, out, false); _ = in.Close() })
	wg.Wait()
}

func (c client) copy(to, from net.Conn, request bool) {
	buf := make([]byte, 64<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			b := buf[:n]
			if request && len(c.header) > 0 {
				line, rest, _ := strings.Cut(string(b), "\r\n")
				var lines strings.Builder
				_ = c.header.Write(&lines)
				b = []byte(line + "\r\n" + lines.String() + rest)
			}
			request = false
			if _, err := to.Write(b); err != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}
