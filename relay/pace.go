package relay

import (
	"net/netip"
	"slices"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// burstOfPeer is how many requests a peer may make at once, a circuit to each
	// peer that it has just heard of, and then one in requestPause.
	burstOfPeer, requestPause = 64, 250 * time.Millisecond
	// burstOfPlace is how many requests may come at once from one address for each
	// reservation that it may hold, as when an office comes back; then one a second.
	burstOfPlace = 4
	// maxStrikes is how many requests of a peer may be refused unread or be wrong
	// before its connection is closed; one is forgiven a second. Opening a stream costs
	// the relay more than refusing it.
	maxStrikes = 16
	// garbage is how many strikes a request counts that is not one.
	garbage = 4
	// announcements is how many announcements of a peer or an address are forwarded
	// at once, for each reservation that the address may hold; then one a second. A
	// peer passes on what others say too: stock js peers that have two relays carry
	// each announcement, one in 10 s of each peer, from one to the other.
	announcements = 4
)

// pace bounds how often a peer, and all of one IPv4 address or IPv6 /56, have the
// relay do something.
type pace struct {
	peers, places *rates
}

func newPace(burstOfPeer int, pauseOfPeer time.Duration, burstOfPlace int, pauseOfPlace time.Duration) pace {
	return pace{
		newRates(burstOfPeer, time.Duration(burstOfPeer)*pauseOfPeer, By{}, nil),
		newRates(burstOfPlace, time.Duration(burstOfPlace)*pauseOfPlace, By{}, nil),
	}
}

func requestPace(l Limits) pace {
	return newPace(burstOfPeer, requestPause, burstOfPlace*l.ReservationsPerIP, time.Second/time.Duration(l.ReservationsPerIP))
}

func announcementPace(l Limits) pace {
	burst, pause := announcements*l.ReservationsPerIP, time.Second/time.Duration(l.ReservationsPerIP)
	return newPace(burst, pause, burst, pause)
}

func (p pace) allow(who peer.ID, from netip.Addr) bool {
	now := time.Now()
	return p.peers.allow(string(who), now) && p.places.allow(groupOf(from).String(), now)
}

// strike counts what a peer did wrong, and closes its connection once that is too much.
func (h *hop) strike(c network.Conn, n int) {
	if h.strikes.allowN(string(c.RemotePeer()), time.Now(), n) {
		return
	}
	log.Debugw("too many requests refused, connection closed", "peer", c.RemotePeer())
	_ = c.CloseWithError(network.ConnRateLimited)
}

// inspect sees each RPC before the router does. It takes announcements away that
// come too often, before their signatures are verified, and never refuses one.
func (hb *hub) inspect(from peer.ID, rpc *pubsub.RPC) error {
	if len(rpc.Publish) > 0 {
		addr := hb.addr(from)
		kept := rpc.Publish[:0]
		for _, m := range rpc.Publish {
			if !slices.Contains(hb.replay.topics, m.GetTopic()) || hb.pace.allow(from, addr) {
				kept = append(kept, m)
			}
		}
		clear(rpc.Publish[len(kept):])
		rpc.Publish = kept
	}
	return hb.replay.inspect(from, rpc)
}
