package webrtc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"sync"
	"time"

	"github.com/pion/mdns/v2"
	"golang.org/x/net/ipv4"
	"golang.org/x/net/ipv6"
)

// askAgain is how often a name is asked for until somebody answers.
const askAgain = 250 * time.Millisecond

// resolver asks the LAN for the names behind which browsers hide the addresses of
// their hosts (draft-ietf-mmusic-mdns-ice-candidates). pion would do it too, with
// sockets of each connection's own, and keep the address that it finds to itself.
//
// It starts with the first name that is asked for.
type resolver struct {
	mu     sync.Mutex
	conn   *mdns.Conn // guarded by mu
	closed bool       // guarded by mu
}

// resolve returns the address of a name that ends in ".local".
func (r *resolver) resolve(ctx context.Context, name string) (netip.Addr, error) {
	conn, err := r.start()
	if err != nil {
		return netip.Addr{}, err
	}
	_, addr, err := conn.QueryAddr(ctx, name)
	return addr, err
}

func (r *resolver) start() (*mdns.Conn, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, ErrClosed
	}
	if r.conn != nil {
		return r.conn, nil
	}
	var v4 *ipv4.PacketConn
	var v6 *ipv6.PacketConn
	l4, err4 := listenMulticast("udp4", mdns.DefaultAddressIPv4)
	if err4 == nil {
		v4 = ipv4.NewPacketConn(l4)
	}
	l6, err6 := listenMulticast("udp6", mdns.DefaultAddressIPv6)
	if err6 == nil {
		v6 = ipv6.NewPacketConn(l6)
	}
	if err4 != nil && err6 != nil {
		return nil, fmt.Errorf("multicast DNS: %w", errors.Join(err4, err6))
	}
	conn, err := mdns.NewServer(v4, v6, mdns.WithLoggerFactory(pionLoggers{}), mdns.WithQueryInterval(askAgain))
	if err != nil {
		return nil, fmt.Errorf("multicast DNS: %w", errors.Join(err, closeAll(l4, l6)))
	}
	r.conn = conn
	return conn, nil
}

func listenMulticast(network, addr string) (*net.UDPConn, error) {
	a, err := net.ResolveUDPAddr(network, addr)
	if err != nil {
		return nil, err
	}
	return net.ListenUDP(network, a) // Go lets others listen on a multicast address too
}

func closeAll(conns ...*net.UDPConn) error {
	var errs []error
	for _, c := range conns {
		if c != nil {
			errs = append(errs, c.Close())
		}
	}
	return errors.Join(errs...)
}

// Close ends all that is asked.
func (r *resolver) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if r.conn == nil {
		return nil
	}
	return r.conn.Close()
}

// addressField is the place of the address in a candidate-attribute (RFC 8839
// §5.1), whose fields are foundation, component, transport, priority, address ...
const addressField = 4

// mdnsName returns the name in a candidate that has one instead of an address.
func mdnsName(candidate string) (string, bool) {
	fields := strings.Fields(candidate)
	if len(fields) <= addressField || !strings.HasSuffix(fields[addressField], ".local") {
		return "", false
	}
	return fields[addressField], true
}

// withAddress returns the candidate with an address instead of the name.
func withAddress(candidate string, addr netip.Addr) string {
	fields := strings.Fields(candidate)
	fields[addressField] = addr.String()
	return strings.Join(fields, " ")
}
