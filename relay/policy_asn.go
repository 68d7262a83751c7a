package relay

import (
	"net/netip"

	asnutil "github.com/libp2p/go-libp2p-asn-util"
)

// ASNTable returns the autonomous system that an address belongs to, 0 if it
// does not know.
type ASNTable func(netip.Addr) uint32

// builtinASNs is go-libp2p's table, which has IPv6 only.
func builtinASNs(a netip.Addr) uint32 {
	if a.Is4() {
		return 0
	}
	return asnutil.AsnForIPv6(a.AsSlice())
}
