package front_test

import (
	"errors"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/tangop2p/tango/front"
)

func TestCertificateFollowsItsFiles(t *testing.T) {
	dir := t.TempDir()
	certFile, keyFile, _ := certificate(t, dir, "relay.example", "127.0.0.1")
	cert, err := front.LoadCertificate(certFile, keyFile)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	cert.SetClock(func() time.Time { return now })
	if s := cert.Status(); !slices.Equal(s.Names, []string{"relay.example", "127.0.0.1"}) || s.Err != nil || s.Expires.Before(now) {
		t.Errorf("status %+v", s)
	}
	first := cert.Shake()
	newer(t, certFile, func() { certificate(t, dir, "relay.example") })
	if cert.Shake() != first {
		t.Error("the files are looked at by each handshake")
	}
	now = now.Add(front.CertificatePoll)
	second := cert.Shake()
	if second == first {
		t.Error("the certificate does not follow its files")
	}
	newer(t, certFile, func() { write(t, certFile, []byte("half of a certifi")) })
	now = now.Add(front.CertificatePoll)
	if cert.Shake() != second || cert.Status().Err == nil {
		t.Errorf("a broken file: status %+v", cert.Status())
	}
	if err := cert.Reload(); err == nil {
		t.Error("Reload does not say that the file is broken")
	}
	newer(t, certFile, func() { certificate(t, dir, "relay.example") })
	if err := cert.Reload(); err != nil || cert.Status().Err != nil || cert.Shake() == second {
		t.Errorf("repaired: %v, status %+v", err, cert.Status())
	}
	if err := os.Remove(keyFile); err != nil {
		t.Fatal(err)
	}
	if err := cert.Reload(); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("no key: %v", err)
	}
}

// newer has what change writes be later than what is there, by the clock of the
// file system, which may be coarse.
func newer(t *testing.T, file string, change func()) {
	t.Helper()
	before, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	change()
	if err := os.Chtimes(file, time.Time{}, before.ModTime().Add(time.Second)); err != nil {
		t.Fatal(err)
	}
}

func TestLoadCertificateRefuses(t *testing.T) {
	certFile, _, _ := certificate(t, t.TempDir(), "a.example")
	_, otherKey, _ := certificate(t, t.TempDir(), "b.example")
	for _, key := range []string{"/nowhere/key.pem", certFile, otherKey} {
		if c, err := front.LoadCertificate(certFile, key); err == nil || c != nil {
			t.Errorf("key %s: %v, %v", key, c, err)
		}
	}
}

// Without a certificate there is no /tls/ws.
func TestTLSWantsACertificate(t *testing.T) {
	f, err := front.New()
	if err != nil {
		t.Fatal(err)
	}
	h, err := libp2p.New(libp2p.Transport(f.TCP), libp2p.Transport(f.WebSocket), libp2p.NoListenAddrs)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = h.Close() }()
	err = h.Network().Listen(ma.StringCast("/ip4/127.0.0.1/tcp/0/tls/ws"))
	if err == nil || !strings.Contains(err.Error(), "WithCertificate") {
		t.Errorf("listen without a certificate: %v", err)
	}
}

func TestAdvertise(t *testing.T) {
	cert, _ := loadCertificate(t, "relay.example", "*.wild.example", "192.0.2.1")
	f, err := front.New(front.WithCertificate(cert))
	if err != nil {
		t.Fatal(err)
	}
	for from, want := range map[string]string{
		"/ip4/192.0.2.1/tcp/443/tls/ws":                              "/ip4/192.0.2.1/tcp/443/tls/ws",
		"/ip4/192.0.2.2/tcp/443/tls/ws":                              "/dns/relay.example/tcp/443/tls/ws",
		"/ip4/192.0.2.2/tcp/443/tls/ws /ip6/2001:db8::1/tcp/443/wss": "/dns/relay.example/tcp/443/tls/ws",
		"/dns4/other.example/tcp/443/tls/ws":                         "/dns/relay.example/tcp/443/tls/ws",
		"/dns4/relay.example/tcp/443/tls/ws":                         "/dns4/relay.example/tcp/443/tls/ws",
		"/dns4/a.wild.example/tcp/443/tls/ws":                        "/dns4/a.wild.example/tcp/443/tls/ws",
		"/ip4/192.0.2.2/tcp/80/ws /p2p-circuit":                      "/ip4/192.0.2.2/tcp/80/ws /p2p-circuit",
	} {
		var addrs []ma.Multiaddr
		for s := range strings.FieldsSeq(from) {
			addrs = append(addrs, ma.StringCast(s))
		}
		var got []string
		for _, a := range f.Advertise(addrs) {
			got = append(got, a.String())
		}
		if strings.Join(got, " ") != want {
			t.Errorf("%s: %v, want %s", from, got, want)
		}
	}
}

func TestAdvertiseWithoutNames(t *testing.T) {
	cert, _ := loadCertificate(t, "*.wild.example")
	f, err := front.New(front.WithCertificate(cert))
	if err != nil {
		t.Fatal(err)
	}
	addrs := []ma.Multiaddr{ma.StringCast("/ip4/192.0.2.2/tcp/443/tls/ws")}
	if got := f.Advertise(addrs); len(got) != 1 || !got[0].Equal(addrs[0]) {
		t.Errorf("%v, want %v", got, addrs)
	}
}

func TestOptionsRefuse(t *testing.T) {
	for says, opts := range map[string][]front.Option{
		`"oops"`:             {front.WithTrustedProxies("10.0.0.1", "oops")},
		`"::ffff:10.0.0.1"`:  {front.WithTrustedProxies("::ffff:10.0.0.1")},
		`"0.0.0.0/0"`:        {front.WithTrustedProxies("0.0.0.0/0")},
		"LoadCertificate":    {front.WithCertificate(nil)},
		"WithTrustedProxies": {front.WithProxyProtocol()},
	} {
		if _, err := front.CheckOptions(opts...); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("want an error that says %s: %v", says, err)
		}
		if f, err := front.New(opts...); err == nil || f != nil {
			t.Errorf("New: %v, %v", f, err)
		}
	}
	good := []front.Option{front.WithTrustedProxies("10.0.0.1", "2001:db8::/32"), front.WithHTTPHandler(http.NotFoundHandler())}
	if _, err := front.CheckOptions(good...); err != nil {
		t.Error(err)
	}
}
