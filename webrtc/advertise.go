package webrtc

import (
	"github.com/libp2p/go-libp2p/core/event"
	ma "github.com/multiformats/go-multiaddr"
)

// Advertise returns addrs with …/p2p-circuit/webrtc behind each …/p2p-circuit in
// it, which tells others that they may come over /webrtc. It is an AddrsFactory
// for libp2p.AddrsFactory.
//
// A host whose relays were found by AutoRelay needs none: [New] adds the addresses
// to those that AutoRelay publishes. The host shows these if its reachability is
// private only, whereas a factory is always asked.
func Advertise(addrs []ma.Multiaddr) []ma.Multiaddr {
	all := make([]ma.Multiaddr, 0, len(addrs)+1)
	for _, a := range addrs {
		if a.Equal(circuitAddr) || a.Equal(pseudoAddr) {
			continue // nobody can dial these
		}
		all = append(all, a)
		if _, last := ma.SplitLast(a); last != nil && last.Code() == ma.P_CIRCUIT {
			all = append(all, a.Encapsulate(pseudoAddr))
		}
	}
	return ma.Unique(all)
}

// advertise adds to what AutoRelay publishes.
func (u *upgrader) advertise(e event.EvtAutoRelayAddrsUpdated) {
	all := Advertise(e.RelayAddrs)
	if len(all) == len(ma.Unique(append([]ma.Multiaddr(nil), e.RelayAddrs...))) {
		return // they are in there, ours is the event
	}
	if err := u.addrs.Emit(event.EvtAutoRelayAddrsUpdated{RelayAddrs: all}); err != nil {
		log.Debugw("addresses not published", "error", err)
	}
}
