package front

import (
	"bufio"
	"net/http"
	"net/netip"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/transport"
	manet "github.com/multiformats/go-multiaddr/net"
)

// RefusalDelay and MaxRefused are those of a gate.
const (
	RefusalDelay = refusalDelay
	MaxRefused   = maxRefused
)

// NewGate is what accepts from a TCP port.
func NewGate(l manet.Listener, rm network.ResourceManager) transport.GatedMaListener {
	m, _ := newMetrics(nil, nil) // fails with a registerer only
	return (&door{front: &Front{metrics: m}, resources: rm}).GateMaListener(l)
}

// ClientOf is what a front that trusts these networks makes of headers.
func ClientOf(h http.Header, trusted ...string) (netip.AddrPort, error) {
	ps, err := parseProxies(trusted)
	if err != nil {
		return netip.AddrPort{}, err
	}
	return ps.client(h)
}

// ReadProxyHeader returns the client that a PROXY header names, and what follows it.
func ReadProxyHeader(r *bufio.Reader) (netip.AddrPort, error) { return readProxyHeader(r) }

// SetClock replaces the clock by which c looks at its files.
func (c *Certificate) SetClock(now func() time.Time) { c.now = now }

// Shake is what a TLS handshake does with c; it returns the serial number shown.
func (c *Certificate) Shake() string {
	cert, _ := c.get(nil)
	return cert.Leaf.SerialNumber.String()
}
