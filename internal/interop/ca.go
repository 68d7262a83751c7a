package interop

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"errors"
	"math/big"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"
)

// CA is a certificate authority that nobody trusts but who is told to.
type CA struct {
	File string // its certificate, PEM
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
	last int64 // serial number given
}

// NewCA makes a CA for a test.
func NewCA(t testing.TB) *CA {
	t.Helper()
	ca := &CA{File: filepath.Join(t.TempDir(), "ca.pem")}
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: "tango interop CA"}, IsCA: true, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageCertSign,
	}
	var der []byte
	ca.key, der = ca.sign(t, template)
	ca.cert, _ = x509.ParseCertificate(der) // just made
	writePEM(t, ca.File, "CERTIFICATE", der)
	return ca
}

// Issue writes a certificate for the names and IP addresses, with its chain and its key.
func (ca *CA) Issue(t testing.TB, certFile, keyFile string, names ...string) {
	t.Helper()
	template := &x509.Certificate{
		Subject: pkix.Name{CommonName: names[0]}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
	}
	for _, name := range names {
		if ip := net.ParseIP(name); ip != nil {
			template.IPAddresses = append(template.IPAddresses, ip)
		} else {
			template.DNSNames = append(template.DNSNames, name)
		}
	}
	key, der := ca.sign(t, template)
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	writePEM(t, certFile, "CERTIFICATE", der)
	writePEM(t, keyFile, "PRIVATE KEY", pkcs8)
}

// sign makes a key, and a certificate for it: the CA's own if there is none yet.
func (ca *CA) sign(t testing.TB, template *x509.Certificate) (*ecdsa.PrivateKey, []byte) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	ca.last++
	template.SerialNumber = big.NewInt(ca.last)
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	parent, signer := ca.cert, ca.key
	if parent == nil {
		parent, signer = template, key
	}
	der, err := x509.CreateCertificate(rand.Reader, template, parent, key.Public(), signer)
	if err != nil {
		t.Fatal(err)
	}
	return key, der
}

func writePEM(t testing.TB, path, kind string, der []byte) {
	t.Helper()
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), 0o600); err != nil {
		t.Fatal(err)
	}
}

// Trust returns the environment in which an agent of that kind trusts the CA, as
// a user's would to whom an administrator has given it: Chromium finds it in the NSS
// database of its home directory, Firefox in that of its profile.
func (ca *CA) Trust(t testing.TB, kind Kind) []string {
	t.Helper()
	home := t.TempDir()
	switch kind {
	case Chromium:
		ca.database(t, filepath.Join(home, ".pki", "nssdb"))
		return []string{"HOME=" + home}
	case Firefox:
		profile := filepath.Join(home, "profile")
		ca.database(t, profile)
		return []string{"TANGO_FIREFOX_PROFILE=" + profile}
	default:
		return []string{"NODE_EXTRA_CA_CERTS=" + ca.File}
	}
}

func (ca *CA) database(t testing.TB, dir string) {
	t.Helper()
	if _, err := exec.LookPath("certutil"); err != nil {
		unavailable(t, errors.New("certutil is missing: `make test` installs it (apt-get install libnss3-tools)"))
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{
		{"-N", "--empty-password"},
		{"-A", "-n", "tango interop", "-t", "C,,", "-i", ca.File},
	} {
		if out, err := exec.Command("certutil", append(args, "-d", "sql:"+dir)...).CombinedOutput(); err != nil {
			t.Fatalf("certutil %v: %v: %s", args, err, out)
		}
	}
}
