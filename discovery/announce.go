package discovery

import (
	"context"
	"slices"
	"time"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// maxAnnounced is the most addresses that we announce: enough for two relays
// on four transports each, and below 2 KiB.
const maxAnnounced = 8

// announce publishes this node's record on every topic that has a neighbour
// to hear it.
func (s *Service) announce(leaving bool) {
	if s.cfg.listenOnly {
		return
	}
	r := &Record{
		Key:      s.host.Peerstore().PubKey(s.host.ID()),
		Sent:     time.Now(),
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
