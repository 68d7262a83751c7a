package tango

import (
	"fmt"
	"net"
	"slices"

	"github.com/libp2p/go-libp2p/core/host"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// listen listens on each address or fails. libp2p.New would be content with
// one of them, and leaks a host when it gets none.
func listen(h host.Host, addrs []ma.Multiaddr) error {
	addrs = slices.Clone(addrs)
	// WebRTC-direct shares QUIC's UDP port if that listens first
	slices.SortStableFunc(addrs, func(a, b ma.Multiaddr) int { return listenRank(a) - listenRank(b) })
	if !hasIPv6() {
		addrs = slices.DeleteFunc(addrs, func(a ma.Multiaddr) bool { return a[0].Code() == ma.P_IP6 })
	}
	for _, a := range addrs {
		if err := checkFree(a); err != nil {
			return fmt.Errorf("listen on %v: %w; stop what runs there or take another port", a, err)
		}
	}
	for _, a := range addrs {
		if err := h.Network().Listen(a); err != nil {
			return fmt.Errorf("listen on %v: %w", a, err)
		}
	}
	return nil
}

// isTLS says whether a listener there shows a certificate.
func isTLS(a ma.Multiaddr) bool {
	return slices.ContainsFunc(a, func(c ma.Component) bool { return c.Code() == ma.P_TLS || c.Code() == ma.P_WSS })
}

func listenRank(a ma.Multiaddr) int {
	if _, err := a.ValueForProtocol(ma.P_WEBRTC_DIRECT); err == nil {
		return 1
	}
	return 0
}

// checkFree fails if another process listens on the address. go-libp2p listens
// with SO_REUSEPORT, with which two nodes on one TCP port get half of the
// connections each, and nobody notices why.
func checkFree(a ma.Multiaddr) error {
	tcp, _ := ma.SplitFunc(a, func(c ma.Component) bool { return c.Code() != ma.P_IP4 && c.Code() != ma.P_IP6 && c.Code() != ma.P_TCP })
	network, addr, err := manet.DialArgs(tcp)
	if err != nil || len(tcp) != 2 {
		return nil //nolint:nilerr // no TCP address: a UDP port can be taken only once anyway
	}
	l, err := net.Listen(network, addr) //nolint:noctx // bind and close, nothing blocks
	if err != nil {
		return err
	}
	return l.Close()
}

// hasIPv6 says whether this machine has IPv6 at all; addresses of it are
// passed over where it does not, as in many containers.
func hasIPv6() bool {
	l, err := net.ListenUDP("udp6", &net.UDPAddr{IP: net.IPv6loopback})
	if err != nil {
		return false
	}
	_ = l.Close()
	return true
}
