package main

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"io"
	"math/big"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestCertificate: a certificate's names are in the addresses and the page's URL,
// and SIGHUP reads it again.
func TestCertificate(t *testing.T) {
	dir := t.TempDir()
	cert, key := filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	roots := writeCertificate(t, cert, key, "localhost", 1)
	p := startRelay(t, "-listen", "127.0.0.1:0", "-identity", filepath.Join(dir, "k"), "-cert", cert, "-key", key)
	if line := p.line(t, "certificate: "); !strings.HasPrefix(line, "for localhost, until ") {
		t.Errorf("the relay says %q", line)
	}
	var pages [2]string
	for i := range pages {
		pages[i] = p.line(t, "page: ")
	}
	secure := pages[1] // loopback's first, which is http
	var i info
	if body := getTLS(t, secure+"relay.json", roots, 1); json.Unmarshal([]byte(body), &i) != nil {
		t.Errorf("GET %srelay.json: %q", secure, body)
	}
	has := func(part string) bool {
		return slices.ContainsFunc(i.Addrs, func(a string) bool { return strings.Contains(a, part) })
	}
	if !has("/dns/localhost/tcp/") || !has("/tls/ws/p2p/") || !has("/ip4/127.0.0.1/tcp/") {
		t.Errorf("relay.json has %q", i.Addrs)
	}
	hangUp := func(want string) {
		t.Helper()
		if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
			t.Fatal(err)
		}
		if got := p.line(t, "certificate: "); !strings.Contains(got, want) {
			t.Errorf("the relay says %q, want %s in it", got, want)
		}
	}
	if err := os.WriteFile(cert, []byte("oops"), 0o600); err != nil {
		t.Fatal(err)
	}
	hangUp("front: load certificate")
	getTLS(t, secure+"livez", roots, 1)
	roots = writeCertificate(t, cert, key, "localhost", 2)
	hangUp("for localhost")
	getTLS(t, secure+"livez", roots, 2)
	p.stop(t, syscall.SIGTERM)
}

// getTLS gets a page, with a certificate of that serial number.
func getTLS(t *testing.T, url string, roots *x509.CertPool, serial int64) string {
	t.Helper()
	transport := &http.Transport{DisableKeepAlives: true, TLSClientConfig: &tls.Config{RootCAs: roots}}
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := (&http.Client{Transport: transport, Timeout: 5 * time.Second}).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if got := resp.TLS.PeerCertificates[0].SerialNumber; got.Int64() != serial {
		t.Errorf("certificate %v, want %d", got, serial)
	}
	body, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		t.Fatalf("GET %s: %s, %v", url, resp.Status, err)
	}
	return string(body)
}

func writeCertificate(t *testing.T, certFile, keyFile, name string, serial int64) *x509.CertPool {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{
		SerialNumber: big.NewInt(serial), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{name},
		IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})
	for file, data := range map[string][]byte{certFile: cert, keyFile: pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8})} {
		if err := os.WriteFile(file, data, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(cert) {
		t.Fatal("no certificate")
	}
	return roots
}

// TestTrustedProxies: the environment names them, and their headers are read.
func TestTrustedProxies(t *testing.T) {
	t.Setenv("TANGO_TRUSTED_PROXIES", "127.0.0.1")
	p := startRelay(t, "-listen", "/ip4/127.0.0.1/tcp/0/ws", "-identity", filepath.Join(t.TempDir(), "k"))
	page := p.line(t, "page: ")
	for claim, want := range map[string]int{"192.0.2.7": http.StatusOK, "oops": http.StatusBadRequest} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, page, nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("X-Forwarded-For", claim)
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s: %s, want %d", claim, resp.Status, want)
		}
	}
	p.stop(t, syscall.SIGTERM)
}
