package reservation

import (
	"bytes"
	"cmp"
	"slices"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

const (
	// maxAddrs bounds what a Keeper publishes: go-libp2p's signed peer record and js-libp2p's identify
	// messages end at 8 KiB, of which other addresses want their part.
	maxAddrs = 32
	// maxAddrsOfRelay and maxAddrsOfKind bound what one relay contributes, and with one kind of address.
	maxAddrsOfRelay = 10
	maxAddrsOfKind  = 3
	minAddrsOfRelay = maxAddrs / MaxTarget
)

// kind is a transport on which a relay listens, the most useful first.
type kind int

const (
	kindWSS          kind = iota // all browsers, from any page
	kindWebTransport             // browsers, from any page
	kindWebRTC                   // browsers, from any page
	kindWS                       // browsers, from pages without TLS
	kindQUIC
	kindTCP
	kindNone // nobody can dial it
)

// kindOf tells what a relay's address without /p2p is.
func kindOf(a ma.Multiaddr) kind {
	if len(a) < 2 {
		return kindNone
	}
	switch a[0].Code() {
	case ma.P_IP4, ma.P_IP6, ma.P_DNS, ma.P_DNS4, ma.P_DNS6:
	default: // dnsaddr is an indirection that browsers do not resolve, the others lead nowhere from elsewhere
		return kindNone
	}
	switch a[1].Code() {
	case ma.P_TCP:
		return kindOfTCP(a[2:])
	case ma.P_UDP:
		return kindOfUDP(a[2:])
	default:
		return kindNone
	}
}

func kindOfTCP(rest ma.Multiaddr) kind {
	switch codes := codesOf(rest); {
	case len(codes) == 0:
		return kindTCP
	case slices.Equal(codes, []int{ma.P_WS}):
		return kindWS
	case slices.Equal(codes, []int{ma.P_WSS}),
		slices.Equal(codes, []int{ma.P_TLS, ma.P_WS}),
		slices.Equal(codes, []int{ma.P_TLS, ma.P_SNI, ma.P_WS}):
		return kindWSS
	default:
		return kindNone
	}
}

// kindOfUDP wants certificate hashes where nobody can dial without them.
func kindOfUDP(rest ma.Multiaddr) kind {
	codes := codesOf(rest)
	hashes := 0
	for len(codes) > 0 && codes[len(codes)-1] == ma.P_CERTHASH {
		codes = codes[:len(codes)-1]
		hashes++
	}
	switch {
	case hashes == 0 && slices.Equal(codes, []int{ma.P_QUIC_V1}):
		return kindQUIC
	case hashes > 0 && slices.Equal(codes, []int{ma.P_QUIC_V1, ma.P_WEBTRANSPORT}):
		return kindWebTransport
	case hashes > 0 && slices.Equal(codes, []int{ma.P_WEBRTC_DIRECT}):
		return kindWebRTC
	default:
		return kindNone
	}
}

func codesOf(a ma.Multiaddr) []int {
	codes := make([]int, 0, len(a))
	for _, c := range a {
		codes = append(codes, c.Code())
	}
	return codes
}

// scope is from where an address can be reached, the widest first.
type scope int

const (
	public scope = iota
	private
	loopback
	nowhere
)

func scopeOf(a ma.Multiaddr) scope {
	switch {
	case manet.IsIPUnspecified(a), manet.IsIP6LinkLocal(a), isMulticast(a):
		return nowhere
	case manet.IsPublicAddr(a):
		return public
	case manet.IsIPLoopback(a), isLocalhost(a):
		return loopback
	default:
		return private
	}
}

func isMulticast(a ma.Multiaddr) bool {
	ip, err := manet.ToIP(a)
	return err == nil && (ip.IsMulticast() || ip.IsLinkLocalUnicast())
}

func isLocalhost(a ma.Multiaddr) bool {
	return len(a) > 0 && a[0].Value() == "localhost"
}

// sources are the addresses of one relay, by who names them.
type sources struct {
	configured []ma.Multiaddr // the caller of New
	dialled    []ma.Multiaddr // the remote ends of connections that we dialled: they work
	reserved   []ma.Multiaddr // the relay, in its grant
	identified []ma.Multiaddr // the relay, by identify
	onLoopback bool           // we are connected to it on this machine
}

// relayAddr is an address of a relay under which to publish this node.
type relayAddr struct {
	addr    ma.Multiaddr
	kind    kind
	scope   scope
	trusted bool // configured or dialled, not only the relay's word
}

// publishable chooses from a relay's addresses at most limit, best first.
//
// js-libp2p publishes what it dialled and what the grant names (reservation-store
// and listener of @libp2p/circuit-relay-v2). A stock go-libp2p relay on a LAN names none in its grant
// and a Go peer dials it by TCP or QUIC, which would leave no address that a
// browser can dial; hence identify's. Private ones are published only if there
// are no others, loopback ones only if the relay is on this machine.
func publishable(relay peer.ID, s sources, limit int) []relayAddr {
	all := s.gather(relay)
	anyPublic := slices.ContainsFunc(all, func(a relayAddr) bool { return a.scope == public })
	all = slices.DeleteFunc(all, func(a relayAddr) bool {
		switch a.scope {
		case public:
			return false
		case private:
			return anyPublic && !a.trusted
		case loopback:
			return !s.onLoopback || anyPublic && !a.trusted
		default:
			return true
		}
	})
	slices.SortFunc(all, relayAddr.compare)
	return capKinds(all, limit)
}

// gather lists a relay's addresses once each.
func (s sources) gather(relay peer.ID) []relayAddr {
	var all []relayAddr
	for i, list := range [][]ma.Multiaddr{s.configured, s.dialled, s.reserved, s.identified} {
		for _, a := range list[:min(len(list), maxRelayAddrs)] {
			a, ok := stripRelay(a, relay)
			if !ok || slices.ContainsFunc(all, func(b relayAddr) bool { return b.addr.Equal(a) }) {
				continue
			}
			if k := kindOf(a); k != kindNone {
				all = append(all, relayAddr{addr: a, kind: k, scope: scopeOf(a), trusted: i < 2})
			}
		}
	}
	return all
}

// stripRelay takes /p2p/<relay> off, however often it is there: js-libp2p and
// go-libp2p had versions that doubled it (go-libp2p#3003). Addresses of other
// peers, and those through another relay, are none.
func stripRelay(a ma.Multiaddr, relay peer.ID) (ma.Multiaddr, bool) {
	for len(a) > 0 && a[len(a)-1].Code() == ma.P_P2P {
		if a[len(a)-1].Value() != relay.String() {
			return nil, false
		}
		a = a[:len(a)-1]
	}
	return a, len(a) > 0
}

func (a relayAddr) compare(b relayAddr) int {
	return cmp.Or(
		cmp.Compare(a.kind, b.kind),
		cmp.Compare(a.scope, b.scope),
		bytes.Compare(a.addr.Bytes(), b.addr.Bytes()),
	)
}

// capKinds takes the first of each kind, up to limit in all.
func capKinds(sorted []relayAddr, limit int) []relayAddr {
	count := make(map[kind]int)
	sorted = slices.DeleteFunc(sorted, func(a relayAddr) bool {
		count[a.kind]++
		return count[a.kind] > maxAddrsOfKind
	})
	return sorted[:min(len(sorted), limit)]
}

// circuits makes this node's addresses of those of its relays, which are given
// in a stable order; what browsers can dial comes first.
func circuits(relays []peer.ID, of map[peer.ID]sources) []ma.Multiaddr {
	if len(relays) == 0 {
		return nil
	}
	type circuit struct {
		kind kind
		addr ma.Multiaddr
	}
	var all []circuit
	limit := max(min(maxAddrs/len(relays), maxAddrsOfRelay), minAddrsOfRelay)
	for _, r := range relays {
		tail, err := ma.NewMultiaddr("/p2p/" + r.String() + "/p2p-circuit")
		if err != nil {
			continue // no peer ID that reserved something
		}
		for _, a := range publishable(r, of[r], limit) {
			all = append(all, circuit{a.kind, a.addr.Encapsulate(tail)})
		}
	}
	slices.SortStableFunc(all, func(a, b circuit) int { return cmp.Compare(a.kind, b.kind) })
	addrs := make([]ma.Multiaddr, 0, len(all))
	for _, c := range all {
		addrs = append(addrs, c.addr)
	}
	return addrs
}
