package relay

import (
	"encoding/binary"
	"fmt"
	"net/netip"
)

// By says what is counted together: [ByPeer], [ByIP] or [BySubnet].
type By struct {
	kind   byKind
	v4, v6 int // prefix lengths
	table  ASNTable
}

type byKind uint8

const (
	byPeer byKind = iota
	bySubnet
	byAutonomousSystem
)

// ByPeer is each peer by itself. Peers cost nothing to make.
func ByPeer() By { return By{} }

// ByIP is each IPv4 address and IPv6 /64, the least that anybody has.
func ByIP() By { return BySubnet(32, 64) }

// BySubnet is the networks of these prefix lengths in IPv4, 8 to 32, and IPv6,
// 16 to 128. Access providers give a customer a /56 or a /48 of IPv6.
func BySubnet(v4Bits, v6Bits int) By { return By{kind: bySubnet, v4: v4Bits, v6: v6Bits} }

func byASN(table ASNTable) By {
	if table == nil {
		table = builtinASNs
	}
	return By{kind: byAutonomousSystem, table: table}
}

// group names the group of a request, "" if it is in none, or says why it
// cannot be in any.
func (b By) group(r *Request) (string, Reason) {
	if b.kind == byPeer {
		return string(r.Peer), ""
	}
	if !r.Addr.IsValid() {
		return "", ReasonNoAddress
	}
	if b.kind == byAutonomousSystem {
		asn := b.table(r.Addr)
		if asn == 0 {
			return "", ""
		}
		return string(binary.BigEndian.AppendUint32(nil, asn)), ""
	}
	return b.network(r.Addr), ""
}

func (b By) network(a netip.Addr) string {
	bits := b.v6
	if a.Is4() {
		bits = b.v4
	}
	network, err := a.Prefix(bits)
	if err != nil { // check was not heeded
		return a.String()
	}
	return network.String()
}

func (b By) check() error {
	if b.kind != bySubnet || b.v4 >= 8 && b.v4 <= 32 && b.v6 >= 16 && b.v6 <= 128 {
		return nil
	}
	return fmt.Errorf("subnets of /%d and /%d: use /8 to /32 for IPv4 and /16 to /128 for IPv6", b.v4, b.v6)
}
