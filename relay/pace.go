package relay

import (
	"net/netip"
	"time"

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
	// maxStrikes is how often a peer may ask or announce itself too fast, or say what is
	// wrong, before its connection is closed; one is forgiven a second. Opening a stream,
	// or reading an announcement, costs the relay more than refusing it.
	maxStrikes = 16
	// garbage is how many strikes count a request that is not one, and a message whose
	// signature is not its author's, which no honest neighbour passes on.
	garbage = 4
	// ownAnnouncements is how many announcements of itself a peer may make at once, and
	// then one in ownPause: js-libp2p makes one in 10 s.
	ownAnnouncements, ownPause = 16, 500 * time.Millisecond
	// announcements is how many announcements of a peer or an address are forwarded
	// at once, for each reservation that the address may hold; then one a second. A
	// peer passes on what others say too: stock js peers that have two relays carry
	// each announcement, one in 10 s of each peer, from one to the other.
	announcements = 2
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

// strike counts what a peer did wrong, and hangs up on it once that is too much:
// on the connections over which it came, for the peer may be back by another.
func (h *hop) strike(p peer.ID, n int, over ...network.Conn) {
	if h.strikes.allowN(string(p), time.Now(), n) || !h.enter() {
		return
	}
	log.Debugw("a peer floods the relay, connection closed", "peer", p)
	go func() { // this may be GossipSub's one goroutine, and closing waits for the peer a little
		defer h.wg.Done()
		for _, c := range over {
			_ = c.CloseWithError(network.ConnRateLimited)
		}
	}()
}
