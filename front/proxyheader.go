package front

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"net/netip"

	"github.com/pires/go-proxyproto"
)

// maxProxyHeader is the buffer for a PROXY header. One of version 1 is 107 bytes at
// most (PROXY protocol §2.1) and must be there at once; version 2 may be longer, and
// go-proxyproto bounds it at 4 KiB.
const maxProxyHeader = 512

var (
	errNotTCP     = errors.New("the PROXY header is not about a TCP connection")
	errBadAddress = errors.New("no address of a client")
)

// readProxyHeader returns the client's address; none if the proxy speaks for
// itself, as in health checks.
func readProxyHeader(r *bufio.Reader) (netip.AddrPort, error) {
	h, err := proxyproto.Read(r)
	if err != nil {
		return netip.AddrPort{}, err
	}
	if h.Command.IsLocal() || h.TransportProtocol.IsUnspec() {
		return netip.AddrPort{}, nil
	}
	tcp, ok := h.SourceAddr.(*net.TCPAddr)
	if !ok {
		return netip.AddrPort{}, errNotTCP
	}
	client := tcp.AddrPort()
	client = netip.AddrPortFrom(client.Addr().Unmap(), client.Port())
	return client, checkClient(client.Addr())
}

// checkClient refuses what no connection can come from.
func checkClient(a netip.Addr) error {
	if !a.IsValid() || a.IsUnspecified() || a.IsMulticast() || a.Zone() != "" {
		return fmt.Errorf("%w: %v", errBadAddress, a)
	}
	return nil
}

// startsProxyHeader says whether bytes are the start of a PROXY header, of either
// version. No protocol that is served starts so.
func startsProxyHeader(first []byte) bool {
	return string(first) == string(proxyproto.SIGV1[:len(first)]) || string(first) == string(proxyproto.SIGV2[:len(first)])
}
