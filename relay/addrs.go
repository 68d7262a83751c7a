package relay

import (
	"slices"

	"github.com/libp2p/go-libp2p/core/host"
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

// reservationAddrs returns the filter for the addresses that a reservation
// hands out. Stock go-libp2p hands out public ones only, so none on one
// machine or in a LAN; we hand out public ones if the host has any, else what
// it has. Of these a peer announces each, so those that no page can dial stay
// out as long as others are there.
func reservationAddrs(h host.Host) func(ma.Multiaddr) bool {
	return func(a ma.Multiaddr) bool {
		if manet.IsIPUnspecified(a) {
			return false
		}
		addrs := h.Addrs()
		if slices.ContainsFunc(addrs, manet.IsPublicAddr) && !manet.IsPublicAddr(a) {
			return false
		}
		return BrowserDialable(a) || !slices.ContainsFunc(addrs, BrowserDialable)
	}
}
