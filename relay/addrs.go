package relay

import (
	"cmp"
	"slices"
	"strings"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// BrowserDialable says whether a page can dial an address: WebSocket,
// WebTransport or WebRTC-direct, not through another relay.
func BrowserDialable(a ma.Multiaddr) bool {
	dialable := false
	for _, c := range a {
		switch c.Code() {
		case ma.P_WS, ma.P_WSS, ma.P_WEBTRANSPORT, ma.P_WEBRTC_DIRECT:
			dialable = true
		case ma.P_CIRCUIT:
			return false
		}
	}
	return dialable
}

// reservationAddrs chooses the addresses that a reservation hands out, the most
// useful first. Stock go-libp2p hands out public ones only, so none on one
// machine or in a LAN; we hand out public ones if the host has any, else what
// it has. Of these a peer announces each, so those that no page can dial stay
// out as long as others are there. Each way to be dialled comes once before any
// comes twice, for not all may fit into the message.
func reservationAddrs(addrs []ma.Multiaddr) []ma.Multiaddr {
	public := slices.ContainsFunc(addrs, manet.IsPublicAddr)
	browsers := slices.ContainsFunc(addrs, BrowserDialable)
	type ranked struct {
		addr ma.Multiaddr
		rank int
	}
	var chosen []ranked
	seen := make(map[string]int)
	for _, a := range addrs {
		if manet.IsIPUnspecified(a) || public && !manet.IsPublicAddr(a) || browsers && !BrowserDialable(a) {
			continue
		}
		way := wayOf(a)
		chosen = append(chosen, ranked{a, seen[way]})
		seen[way]++
	}
	slices.SortStableFunc(chosen, func(a, b ranked) int { return cmp.Compare(a.rank, b.rank) })
	all := make([]ma.Multiaddr, len(chosen))
	for i, c := range chosen {
		all[i] = c.addr
	}
	return all
}

// addrs says whether a reservation may hand out an address.
func (h *hop) addrs(a ma.Multiaddr) bool {
	return slices.ContainsFunc(reservationAddrs(h.host.Addrs()), a.Equal)
}

// wayOf names an address's protocols.
func wayOf(a ma.Multiaddr) string {
	var way strings.Builder
	for _, c := range a {
		if c.Code() != ma.P_CERTHASH {
			way.WriteString("/" + c.Protocol().Name)
		}
	}
	return way.String()
}
