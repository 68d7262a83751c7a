package front

import (
	"errors"
	"fmt"
	"net/http"
	"net/netip"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Bounds on what a connection may cost before a libp2p peer speaks on it. How
// many there may be at once is the resource manager's to say.
const (
	// HeaderTimeout is how long a connection may take for its PROXY protocol header
	// and the first 3 bytes after it, by which the protocol is told. Proxies send the
	// header at once (PROXY protocol §2).
	HeaderTimeout = 5 * time.Second
	// HandshakeTimeout is how long TLS may take, then the header of an HTTP request,
	// then the answer to it. It is that of go-libp2p's WebSocket transport.
	HandshakeTimeout = 15 * time.Second
	// MaxHeaderBytes bounds the header of an HTTP request. It is some times what a
	// browser sends with the cookies of a page.
	MaxHeaderBytes = 16 << 10
	// MaxHops is how many proxies a request may have come through.
	MaxHops = 16
)

const (
	requestTimeout = time.Minute      // for the body of a plain HTTP request
	idleTimeout    = 30 * time.Second // between two plain HTTP requests
	maxStreams     = 32               // HTTP/2 requests at once on a connection
)

// Option configures a [Front].
type Option func(*config) error

type config struct {
	proxies       proxies
	proxyProtocol bool
	certificate   *Certificate
	handler       http.Handler
	registerer    prometheus.Registerer
}

// CheckOptions says what [New] would find wrong with the options, and which
// certificate they set, nil for none.
func CheckOptions(opts ...Option) (*Certificate, error) {
	c, err := newConfig(opts)
	if err != nil {
		return nil, fmt.Errorf("front: %w", err)
	}
	return c.certificate, nil
}

func newConfig(opts []Option) (*config, error) {
	c := new(config)
	var errs []error
	for _, opt := range opts {
		errs = append(errs, opt(c))
	}
	if c.proxyProtocol && len(c.proxies) == 0 {
		errs = append(errs, errors.New("WithProxyProtocol without WithTrustedProxies: say whose headers to believe"))
	}
	return c, errors.Join(errs...)
}

// WithTrustedProxies sets the addresses of reverse proxies, each an IP address or
// a network such as 10.0.0.0/8. What they say of a client's address in
// X-Forwarded-For or Forwarded is believed, and nobody else's word. The default is
// none.
//
// A trusted proxy must set one of the two headers, or append to it: one that
// hands on what the client sent lets clients choose their address.
func WithTrustedProxies(networks ...string) Option {
	return func(c *config) (err error) {
		c.proxies, err = parseProxies(networks)
		return err
	}
}

// WithProxyProtocol makes trusted proxies begin each connection with a PROXY
// protocol header, version 1 or 2; one that does not is refused. It is for proxies
// that hand on TCP or TLS as it is. Connections from elsewhere are served without,
// and refused if they begin with one. The default is that nobody sends it.
func WithProxyProtocol() Option {
	return func(c *config) error {
		c.proxyProtocol = true
		return nil
	}
}

// WithCertificate sets what /tls/ws listeners show. The default is none, without
// which there can be no such listener.
func WithCertificate(cert *Certificate) Option {
	return func(c *config) error {
		if cert == nil {
			return errors.New("WithCertificate(nil): give what front.LoadCertificate returned")
		}
		c.certificate = cert
		return nil
	}
}

// WithHTTPHandler serves HTTP requests that are no WebSocket's, on the same ports.
// Behind a trusted proxy their RemoteAddr is the client's, and the host's
// connection gater is asked about it; the resource manager counts the proxy's
// connection, on which several clients may follow each other. The default answers
// 404.
func WithHTTPHandler(h http.Handler) Option {
	return func(c *config) error {
		c.handler = h
		return nil
	}
}

// WithRegisterer registers the front's metrics, libp2p_front_*. The default is
// none.
func WithRegisterer(r prometheus.Registerer) Option {
	return func(c *config) error {
		c.registerer = r
		return nil
	}
}

// proxies are the networks whose word counts.
type proxies []netip.Prefix

func parseProxies(networks []string) (proxies, error) {
	var ps proxies
	var errs []error
	for _, s := range networks {
		p, err := netip.ParsePrefix(s)
		if err != nil {
			var a netip.Addr
			if a, err = netip.ParseAddr(s); err == nil {
				p = netip.PrefixFrom(a, a.BitLen())
			}
		}
		switch {
		case err != nil || p.Addr().Zone() != "" || p.Addr().Is4In6():
			errs = append(errs, fmt.Errorf("WithTrustedProxies(%q): use an IP address or a network such as 10.0.0.0/8", s))
		case p.Bits() == 0:
			errs = append(errs, fmt.Errorf("WithTrustedProxies(%q): who trusts everybody lets clients choose their address", s))
		}
		ps = append(ps, p.Masked())
	}
	return ps, errors.Join(errs...)
}

func (ps proxies) trusts(a netip.Addr) bool {
	for _, p := range ps {
		if p.Contains(a) {
			return true
		}
	}
	return false
}
