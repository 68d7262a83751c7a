package discovery

import (
	"context"
	"slices"
	"strings"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// maxAnnounced is the most addresses that we announce: enough for two relays
// on four transports each, and below 2 KiB.
const maxAnnounced = 8

func (s *Service) watchJoins(joined *pubsub.TopicEventHandler) {
	for {
		e, err := joined.NextPeerEvent(s.ctx)
		if err != nil {
			return
		}
		if e.Type == pubsub.PeerJoin {
			s.wg.Go(func() { s.greet(e.Peer) })
		}
	}
}

const (
	greetPoll    = 10 * time.Millisecond
	greetTimeout = 10 * time.Second
)

// greet announces this node once the neighbour can hear it. A neighbour's
// subscription may arrive before the router has a stream to it, and the router
// drops what it has for such a peer.
func (s *Service) greet(p peer.ID) {
	poll := time.NewTicker(greetPoll)
	defer poll.Stop()
	timeout := time.NewTimer(greetTimeout)
	defer timeout.Stop()
	for !s.canHear(p) {
		select {
		case <-s.ctx.Done():
			return
		case <-timeout.C:
			return
		case <-poll.C:
		}
	}
	s.hint()
}

func (s *Service) canHear(p peer.ID) bool {
	for _, c := range s.host.Network().ConnsToPeer(p) {
		for _, stream := range c.GetStreams() {
			gossip := strings.HasPrefix(string(stream.Protocol()), "/meshsub/") || stream.Protocol() == pubsub.FloodSubID
			if gossip && stream.Stat().Direction == network.DirOutbound {
				return true
			}
		}
	}
	return false
}

// announce publishes this node's record on every topic that has a neighbour
// to hear it.
func (s *Service) announce(leaving bool) {
	if s.cfg.listenOnly {
		return
	}
	s.sent = after(s.sent, time.Now())
	r := &Record{
		Key:      s.host.Peerstore().PubKey(s.host.ID()),
		Sent:     s.sent,
		Interval: s.cfg.interval,
		Leaving:  leaving,
	}
	if !leaving {
		if r.Addrs = announced(s.host.Addrs()); len(r.Addrs) == 0 {
			return // nothing to offer yet; an address event brings us back
		}
	}
	data, err := r.Marshal()
	if err != nil {
		log.Warnw("cannot encode own record", "err", err)
		return
	}
	for name, feed := range s.topics {
		if len(feed.topic.ListPeers()) == 0 {
			continue
		}
		// not s.ctx: the goodbye is published after it has ended
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		if err := feed.topic.Publish(ctx, data); err != nil {
			log.Debugw("announcement not published", "topic", name, "err", err)
		} else {
			s.metrics.announcements.Inc()
		}
		cancel()
	}
}

// after returns now, or if that is not after last in a record's milliseconds
// (a goodbye right behind an announcement, a clock set back) the next one:
// receivers take what is not newer for a replay.
func after(last, now time.Time) time.Time {
	if now.UnixMilli() > last.UnixMilli() {
		return now
	}
	return last.Add(time.Millisecond)
}

// announced picks what to tell others: public and relayed addresses if there
// are any, else whatever there is (a LAN or one machine), those that browsers
// can dial first.
func announced(addrs []ma.Multiaddr) []ma.Multiaddr {
	usable := slices.DeleteFunc(slices.Clone(addrs), manet.IsIPUnspecified)
	if slices.ContainsFunc(usable, worldwide) {
		usable = slices.DeleteFunc(usable, func(a ma.Multiaddr) bool { return !worldwide(a) })
	}
	slices.SortStableFunc(usable, func(a, b ma.Multiaddr) int { return browserRank(a) - browserRank(b) })
	return usable[:min(len(usable), maxAnnounced)]
}

func worldwide(a ma.Multiaddr) bool { return hasProtocol(a, ma.P_CIRCUIT) || manet.IsPublicAddr(a) }

// browserRank orders transports by how surely a browser gets through: any page
// can use WebRTC and WebTransport, https pages no ws, and tcp and plain QUIC
// are out of a page's reach.
func browserRank(a ma.Multiaddr) int {
	switch {
	case hasProtocol(a, ma.P_WEBRTC):
		return 0
	case hasProtocol(a, ma.P_WSS), hasProtocol(a, ma.P_TLS):
		return 1
	case hasProtocol(a, ma.P_WEBTRANSPORT):
		return 2
	case hasProtocol(a, ma.P_WEBRTC_DIRECT):
		return 3
	case hasProtocol(a, ma.P_WS):
		return 4
	}
	return 5
}

func hasProtocol(a ma.Multiaddr, code int) bool {
	_, err := a.ValueForProtocol(code)
	return err == nil
}
