package relay

import (
	"net"
	"net/http"
	"net/netip"
	"time"

	ma "github.com/multiformats/go-multiaddr"
	"github.com/pion/stun/v4"
)

// NoTracer is for tests that watch a router.
type NoTracer = noTracer

// ParseInfo and MarshalInfo are the codec of a RelayInfo.
var (
	ParseInfo   = parseInfo
	MarshalInfo = marshalInfo
)

// STUNURLs names a server that has sockets at bound.
func STUNURLs(addrs []ma.Multiaddr, bound []netip.AddrPort) []string { return stunURLs(addrs, bound) }

// STUNAnswerer returns what answers a packet, nil if it is silent.
func STUNAnswerer() func(packet []byte, from netip.AddrPort) []byte {
	s := &stunServer{limit: newSTUNLimit()}
	return func(packet []byte, from netip.AddrPort) []byte {
		var in, out stun.Message
		if s.answer(&in, &out, packet, from) != stunAnswered {
			return nil
		}
		return out.Raw
	}
}

// Held returns all reservations in the table, also those that are over and wait
// for the sweep.
func Held(r *Relay) []Reservation { return r.hop.table.list(time.Time{}) }

// STUNSockets opens the sockets of a server, each after busy was called.
func STUNSockets(addr string, busy func(network, addr string)) ([]*net.UDPConn, error) {
	return stunSockets(addr, func(network, addr string) (*net.UDPConn, error) {
		busy(network, addr)
		return listenSTUN(network, addr)
	})
}

// CalloutTransport puts something in place of the network.
func CalloutTransport(c *Callout, t http.RoundTripper) { c.client.Transport = t }

// Waiting returns how many requests wait for an invite.
func Waiting(m *Members) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.waiting
}

// WaitingPlaces returns of how many addresses something is remembered.
func WaitingPlaces(m *Members) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.places)
}

// Presenting returns how many streams present an invite.
func Presenting(m *Members) int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.streams)
}
