package signaling

import (
	"net/netip"
	"strings"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// class is how near an address is; a greater one is nearer.
type class uint8

const (
	classForbidden class = iota // no host has it, or many do
	classPublic
	classPrivate
	classLinkLocal
	classLoopback
)

// prefixes are looked up in this order; the first that contains an address names its class.
var prefixes = [...]struct {
	prefix netip.Prefix
	class  class
}{
	{netip.MustParsePrefix("127.0.0.0/8"), classLoopback},
	{netip.MustParsePrefix("169.254.0.0/16"), classLinkLocal}, // cloud metadata services live here
	{netip.MustParsePrefix("10.0.0.0/8"), classPrivate},
	{netip.MustParsePrefix("172.16.0.0/12"), classPrivate},
	{netip.MustParsePrefix("192.168.0.0/16"), classPrivate},
	{netip.MustParsePrefix("100.64.0.0/10"), classPrivate}, // RFC 6598, between a carrier's NATs; also VPNs
	{netip.MustParsePrefix("198.18.0.0/15"), classPrivate}, // RFC 2544; also proxies' made-up addresses
	{netip.MustParsePrefix("0.0.0.0/8"), classForbidden},   // Linux takes 0.0.0.0 for itself
	{netip.MustParsePrefix("224.0.0.0/3"), classForbidden}, // multicast, reserved, broadcast
	{netip.MustParsePrefix("0.0.0.0/0"), classPublic},

	{netip.MustParsePrefix("::1/128"), classLoopback},
	{netip.MustParsePrefix("fe80::/10"), classLinkLocal},
	{netip.MustParsePrefix("fc00::/7"), classPrivate},
	{netip.MustParsePrefix("2001::/32"), classForbidden}, // Teredo: it names an IPv4 address behind a NAT
	{netip.MustParsePrefix("2000::/3"), classPublic},
	{netip.MustParsePrefix("::/0"), classForbidden},
}

// IPv6 prefixes behind which an IPv4 address stands, and the byte where it begins.
var translated = [...]struct {
	prefix netip.Prefix
	at     int
}{
	{netip.MustParsePrefix("64:ff9b::/96"), 12}, // RFC 6052
	{netip.MustParsePrefix("2002::/16"), 2},     // RFC 3056
}

// classOf returns the class of an address. One that carries a public IPv4
// address is public, and forbidden if that is not: a translator at the
// network's edge would make it a private one again.
func classOf(addr netip.Addr) class {
	addr = addr.Unmap().WithZone("")
	for _, t := range translated {
		if t.prefix.Contains(addr) {
			b := addr.As16()
			inner, _ := netip.AddrFromSlice(b[t.at : t.at+4])
			if classOf(inner) != classPublic {
				return classForbidden
			}
			return classPublic
		}
	}
	for _, p := range prefixes {
		if p.prefix.Contains(addr) {
			return p.class
		}
	}
	return classForbidden // not an address
}

// mayBroadcast says whether a private IPv4 address may be the broadcast
// address of its network. Go's UDP sockets may broadcast.
func mayBroadcast(addr netip.Addr) bool {
	addr = addr.Unmap()
	if !addr.Is4() {
		return false
	}
	last := addr.As4()[3]
	return last == 0 || last == 255
}

// remoteAddr returns the IP address at the far end of a connection: the
// relay's where there is one; not valid where the address begins with a name.
func remoteAddr(conn network.Conn) netip.Addr {
	first, _ := ma.SplitFirst(conn.RemoteMultiaddr())
	if first == nil {
		return netip.Addr{}
	}
	ip, err := manet.ToIP(first.Multiaddr())
	if err != nil {
		return netip.Addr{}
	}
	addr, _ := netip.AddrFromSlice(ip)
	return addr.Unmap()
}

// isMDNSName says whether host is a name as browsers make them up for their
// host candidates, a UUID and ".local" (draft-ietf-mmusic-mdns-ice-candidates
// §3.1.1). Any other name would be somebody's.
func isMDNSName(host string) bool {
	id, ok := strings.CutSuffix(strings.ToLower(host), ".local")
	if !ok || len(id) != 36 {
		return false
	}
	for i, c := range []byte(id) {
		switch i {
		case 8, 13, 18, 23:
			if c != '-' {
				return false
			}
		default:
			if !strings.ContainsRune("0123456789abcdef", rune(c)) {
				return false
			}
		}
	}
	return true
}
