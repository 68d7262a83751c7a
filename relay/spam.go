package relay

import (
	"net/netip"
	"slices"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/prometheus/client_golang/prometheus"
)

// guard keeps floods of announcements from those who want to hear of each other.
type guard struct {
	noTracer

	topics  []string
	pace    pace   // of announcements
	own     *rates // of a peer's announcements of itself
	addr    func(peer.ID) netip.Addr
	strike  func(p peer.ID, n int)
	dropped *prometheus.CounterVec
}

func newGuard(h host.Host, cfg *config, hop *hop) *guard {
	return &guard{
		topics: cfg.topics,
		pace:   announcementPace(cfg.limits),
		own:    newRates(ownAnnouncements, ownAnnouncements*ownPause, By{}, nil),
		addr: func(p peer.ID) netip.Addr {
			for _, c := range h.Network().ConnsToPeer(p) {
				return addrOf(c)
			}
			return netip.Addr{}
		},
		strike:  func(p peer.ID, n int) { hop.strike(p, n, h.Network().ConnsToPeer(p)...) },
		dropped: hop.metrics.unforwarded,
	}
}

// Values of the label "reason".
const (
	droppedRate      = "rate"
	droppedSignature = "signature"
	droppedRecord    = "record"
)

// inspect sees each RPC before the router does. It takes announcements away that
// come too often, before their signatures are verified.
func (g *guard) inspect(from peer.ID, rpc *pubsub.RPC) {
	if len(rpc.Publish) == 0 {
		return
	}
	addr, kept, tooMany := g.addr(from), rpc.Publish[:0], 0
	for _, m := range rpc.Publish {
		switch {
		case !slices.Contains(g.topics, m.GetTopic()):
			kept = append(kept, m)
		case peer.ID(m.GetFrom()) == from && !g.own.allow(string(from), time.Now()):
			tooMany++
		case g.pace.allow(from, addr):
			kept = append(kept, m)
		}
	}
	g.dropped.WithLabelValues(droppedRate).Add(float64(len(rpc.Publish) - len(kept)))
	clear(rpc.Publish[len(kept):])
	rpc.Publish = kept
	if tooMany > 0 {
		g.strike(from, tooMany)
	}
}

// RejectMessage implements pubsub.RawTracer.
func (g *guard) RejectMessage(m *pubsub.Message, reason string) {
	if !slices.Contains(g.topics, m.GetTopic()) {
		return
	}
	switch reason {
	case pubsub.RejectInvalidSignature:
		g.dropped.WithLabelValues(droppedSignature).Inc()
		g.strike(m.ReceivedFrom, garbage)
	case pubsub.RejectMissingSignature: // who has turned signatures off may still want a reservation
		g.dropped.WithLabelValues(droppedSignature).Inc()
	case pubsub.RejectValidationFailed:
		g.dropped.WithLabelValues(droppedRecord).Inc()
	}
}
