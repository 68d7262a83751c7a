package front

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// CertificatePoll is how often the files of a [Certificate] are looked at while
// handshakes come in.
const CertificatePoll = 10 * time.Second

// Certificate is a TLS certificate with its key, from files that are read again
// when they change. It is safe for concurrent use.
type Certificate struct {
	certFile, keyFile string
	now               func() time.Time
	current           atomic.Pointer[loaded]

	mu      sync.Mutex // held while the files are looked at
	looked  time.Time
	version [2]fileVersion // of the files when they were last read
}

// loaded is one state of the files, and what became of later ones.
type loaded struct {
	cert *tls.Certificate
	at   time.Time
	err  error // why what the files hold now is not in use
}

// fileVersion tells two states of a file apart.
type fileVersion struct {
	modified time.Time
	size     int64
}

// CertificateStatus is what a [Certificate] shows at the moment.
type CertificateStatus struct {
	Names   []string  // DNS names and IP addresses that it is for
	Expires time.Time // when clients begin to refuse it
	Loaded  time.Time // when it was read
	Err     error     // why what the files hold now is not in use; nil if it is
}

// LoadCertificate reads a certificate chain and its key, both PEM.
func LoadCertificate(certFile, keyFile string) (*Certificate, error) {
	c := &Certificate{certFile: certFile, keyFile: keyFile, now: time.Now}
	if err := c.Reload(); err != nil {
		return nil, err
	}
	return c, nil
}

// Reload reads the files again. If that fails, the certificate stays as it was;
// [Certificate.Status] tells of it until a later reload succeeds. There is no need
// to call it: handshakes look whether the files have changed, at most every
// [CertificatePoll].
func (c *Certificate) Reload() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reload()
}

// reload wants mu held.
func (c *Certificate) reload() error {
	c.looked = c.now()
	c.version = c.stat() // before they are read: what changes meanwhile is seen next time
	cert, err := tls.LoadX509KeyPair(c.certFile, c.keyFile)
	if err == nil {
		c.current.Store(&loaded{cert: &cert, at: c.now()})
		return nil
	}
	err = fmt.Errorf("front: load certificate: %w", err)
	if old := c.current.Load(); old != nil {
		c.current.Store(&loaded{cert: old.cert, at: old.at, err: err})
	}
	return err
}

func (c *Certificate) stat() (v [2]fileVersion) {
	for i, name := range []string{c.certFile, c.keyFile} {
		if info, err := os.Stat(name); err == nil {
			v[i] = fileVersion{info.ModTime(), info.Size()}
		}
	}
	return v
}

// Status returns what is shown.
func (c *Certificate) Status() CertificateStatus {
	l := c.current.Load()
	leaf := l.cert.Leaf
	names := slices.Clone(leaf.DNSNames)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	return CertificateStatus{Names: names, Expires: leaf.NotAfter, Loaded: l.at, Err: l.err}
}

// covers says whether clients that dial the name or address accept it.
func (c *Certificate) covers(name string) bool {
	if ip := net.ParseIP(name); ip != nil {
		name = "[" + name + "]" // as VerifyHostname wants addresses
	}
	return c.current.Load().cert.Leaf.VerifyHostname(name) == nil
}

// get is for tls.Config. It looks at the files now and then; handshakes that come
// in meanwhile get what there is.
func (c *Certificate) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if c.mu.TryLock() {
		c.poll()
		c.mu.Unlock()
	}
	return c.current.Load().cert, nil
}

// poll wants mu held.
func (c *Certificate) poll() {
	now := c.now()
	if now.Sub(c.looked) < CertificatePoll {
		return
	}
	c.looked = now
	if c.stat() == c.version {
		return
	}
	if err := c.reload(); err != nil {
		log.Warnw("certificate stays as it was", "cert", c.certFile, "key", c.keyFile, "error", err)
		return
	}
	log.Infow("certificate read again", "cert", c.certFile, "expires", c.current.Load().cert.Leaf.NotAfter)
}

func (c *Certificate) config() *tls.Config {
	return &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: c.get}
}

// hosts returns the DNS names that are one host's.
func (c *Certificate) hosts() []string {
	names := slices.Clone(c.current.Load().cert.Leaf.DNSNames)
	return slices.DeleteFunc(names, func(name string) bool { return strings.HasPrefix(name, "*") })
}
