package front

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"slices"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/transport/tcpreuse"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
	ma "github.com/multiformats/go-multiaddr"
)

// Transport is go-libp2p's WebSocket transport with listeners that know the
// client's address.
type Transport struct {
	*websocket.WebsocketTransport
	door *door
}

var (
	_ transport.Transport = (*Transport)(nil)
	_ transport.Resolver  = (*Transport)(nil)
)

// Listen implements [transport.Transport] for addresses such as
// /ip4/0.0.0.0/tcp/443/tls/ws, and /ip4/0.0.0.0/tcp/80/ws. Raw TCP, /ws and /tls/ws
// may share a port.
func (t *Transport) Listen(a ma.Multiaddr) (transport.Listener, error) {
	tcpAddr, suffix, secure, err := splitAddr(a)
	if err != nil {
		return nil, err
	}
	kind := tcpreuse.DemultiplexedConnType_HTTP
	var config *tls.Config
	if secure {
		kind = tcpreuse.DemultiplexedConnType_TLS
		if t.door.front.certificate == nil {
			return nil, fmt.Errorf("front: listen on %v: it needs a certificate, see WithCertificate", a)
		}
		config = t.door.front.certificate.config()
	}
	inner, err := t.door.shared.DemultiplexedListen(tcpAddr, kind)
	if err != nil {
		return nil, fmt.Errorf("front: listen on %v: %w", a, err)
	}
	laddr := slices.Clone(inner.Multiaddr()) // with the port that a port 0 became
	if isName(tcpAddr[0]) {
		laddr[0] = tcpAddr[0] // announced as it is, for that is what the certificate is for
	}
	l, err := newListener(t.door, inner, append(laddr, suffix...), suffix, config)
	if err != nil {
		return nil, errors.Join(err, inner.Close())
	}
	return &named{t.door.Upgrader.UpgradeGatedMaListener(t, l)}, nil
}

func isName(c ma.Component) bool {
	return slices.Contains([]int{ma.P_DNS, ma.P_DNS4, ma.P_DNS6, ma.P_DNSADDR}, c.Code())
}

// splitAddr splits a WebSocket multiaddr behind its TCP port; /wss becomes /tls/ws.
func splitAddr(a ma.Multiaddr) (tcpAddr, suffix ma.Multiaddr, secure bool, err error) {
	i := slices.IndexFunc(a, func(c ma.Component) bool { return c.Code() == ma.P_TCP })
	tcpAddr, suffix = slices.Clone(a[:i+1]), slices.Clone(a[i+1:])
	if len(suffix) == 1 && suffix[0].Code() == ma.P_WSS {
		suffix = ma.StringCast("/tls/ws")
	}
	codes := make([]int, len(suffix))
	for i, c := range suffix {
		codes[i] = c.Code()
	}
	switch {
	case i < 1:
	case slices.Equal(codes, []int{ma.P_WS}):
		return tcpAddr, suffix, false, nil
	case slices.Equal(codes, []int{ma.P_TLS, ma.P_WS}), slices.Equal(codes, []int{ma.P_TLS, ma.P_SNI, ma.P_WS}):
		return tcpAddr, suffix, true, nil
	}
	return nil, nil, false, fmt.Errorf("front: listen on %v: it is no WebSocket address, as /ip4/0.0.0.0/tcp/443/tls/ws is", a)
}

// named has connections say what they are, which upgraders do not.
type named struct{ transport.Listener }

func (n *named) Accept() (transport.CapableConn, error) {
	c, err := n.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return &namedConn{c}, nil
}

type namedConn struct{ transport.CapableConn }

func (c *namedConn) ConnState() network.ConnectionState {
	s := c.CapableConn.ConnState()
	s.Transport = "websocket"
	return s
}

// Advertise returns the addresses as clients have to dial them: those of /tls/ws
// listeners with the names of the certificate, where it is not for their IP
// address. Wildcards name no host, and where there is no name the address stays.
func (f *Front) Advertise(addrs []ma.Multiaddr) []ma.Multiaddr {
	if f.certificate == nil {
		return addrs
	}
	var out []ma.Multiaddr
	for _, a := range addrs {
		tcpAddr, suffix, secure, err := splitAddr(a)
		if err != nil || !secure || f.certificate.covers(tcpAddr[0].Value()) {
			out = append(out, a)
			continue
		}
		names := f.certificate.hosts()
		if len(names) == 0 {
			out = append(out, a)
		}
		for _, name := range names {
			if dns, err := ma.NewComponent("dns", name); err == nil {
				out = append(out, slices.Concat(ma.Multiaddr{*dns}, tcpAddr[1:], suffix))
			}
		}
	}
	return ma.Unique(out)
}

// netAddr is for logs of go-libp2p, and for http.Server.
func netAddr(a ma.Multiaddr) (net.Addr, error) {
	return websocket.ConvertWebsocketMultiaddrToNetAddr(a)
}
