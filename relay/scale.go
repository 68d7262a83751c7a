package relay

import (
	"github.com/libp2p/go-libp2p/core/protocol"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
)

// What go-libp2p books, which is more than it uses: memory of a stream is taken
// as bytes arrive.
const (
	// yamuxWindow is booked for a stream, at its peer and in the system (go-yamux,
	// initialStreamWindow).
	yamuxWindow = 256 << 10
	// connBuffer makes room for the 100,000 bytes of a webrtc-direct connection, which
	// may take up to 60 % of a limit (go-libp2p, ReservationPriorityMedium).
	connBuffer = 192 << 10
	// identifyRecord is booked for a stream of identify (signedIDSize).
	identifyRecord = 8 << 10
)

// Scale makes room for the reservations and circuits of l in the limits of a
// resource manager on connections, streams and memory; call it after
// libp2p.SetDefaultServiceLimits. By default 252 connections come in on a
// machine with 24 GiB of memory, and on one with 1 GiB what is booked for streams
// fits 170 peers. With [SignalingOnly] 1.7 GiB are booked at most beside the
// defaults, of which yamux uses little.
func (l Limits) Scale(limits *rcmgr.ScalingLimitConfig) {
	const (
		streamsHeld  = 2 // GossipSub's
		streamsAtEnd = 6 // identify, its push, ping and a request come and go, some at once
	)
	holders := 2 * l.Reservations       // a page that reloads overlaps with its former self
	booked := l.Reservations * 5 / 4    // not all reload at once
	coming := max(l.Reservations/4, 64) // at once after a restart
	const perHolder = streamsHeld*yamuxWindow + connBuffer
	system := &limits.SystemBaseLimit
	addConns(system, holders)
	addStreams(system, (streamsHeld+streamsAtEnd)*holders+2*l.Circuits)
	system.Memory += int64(booked)*perHolder + int64(coming)*4*yamuxWindow + l.circuitMemory() + maxUnread*maxMessage
	transient := &limits.TransientBaseLimit
	addConns(transient, coming)
	addStreams(transient, streamsAtEnd*coming)
	transient.Memory += int64(coming) * connBuffer
	addStreams(&limits.ProtocolBaseLimit, (streamsHeld+streamsAtEnd)*holders)
	limits.PeerBaseLimit.Memory += int64(l.CircuitsPerPeer) * yamuxWindow
	addStreams(&limits.PeerBaseLimit, 2*l.CircuitsPerPeer)
	l.scaleServices(limits, coming)
}

// circuitMemory is what is booked for circuits: two streams of yamux, two buffers
// and the messages.
func (l Limits) circuitMemory() int64 {
	return int64(l.Circuits) * int64(2*yamuxWindow+2*l.BufferSize+2*maxMessage)
}

// scaleServices makes room in what counts for protocols: a circuit is two streams
// at the service, one at each peer.
func (l Limits) scaleServices(limits *rcmgr.ScalingLimitConfig, coming int) {
	circuits := rcmgr.BaseLimit{
		StreamsInbound: l.Circuits + maxUnread, StreamsOutbound: l.Circuits, Streams: 2*l.Circuits + maxUnread,
		Memory: int64(l.Circuits)*int64(2*l.BufferSize+2*maxMessage) + maxUnread*maxMessage,
	}
	identified := rcmgr.BaseLimit{
		StreamsInbound: coming, StreamsOutbound: coming, Streams: 2 * coming, Memory: int64(coming) * 2 * identifyRecord,
	}
	addService(limits, relayv2.ServiceName, circuits)
	addService(limits, identify.ServiceName, identified)
	for id, more := range map[protocol.ID]rcmgr.BaseLimit{
		proto.ProtoIDv2Hop: circuits, proto.ProtoIDv2Stop: circuits, identify.ID: identified, identify.IDPush: identified,
	} {
		limit, ok := limits.ProtocolLimits[id]
		if !ok {
			limit.BaseLimit = limits.ProtocolBaseLimit
		}
		add(&limit.BaseLimit, more)
		limits.AddProtocolLimit(id, limit.BaseLimit, limit.BaseLimitIncrease)
	}
	perPeer := rcmgr.BaseLimit{
		StreamsInbound: 2*l.CircuitsPerPeer + maxUnreadOfPeer, StreamsOutbound: 2 * l.CircuitsPerPeer,
		Streams: 2*l.CircuitsPerPeer + maxUnreadOfPeer, Memory: int64(4*l.CircuitsPerPeer*l.BufferSize) + 1<<20,
	}
	limits.AddServicePeerLimit(relayv2.ServiceName, perPeer, rcmgr.BaseLimitIncrease{})
	limits.AddProtocolPeerLimit(proto.ProtoIDv2Hop, perPeer, rcmgr.BaseLimitIncrease{})
	limits.AddProtocolPeerLimit(proto.ProtoIDv2Stop, perPeer, rcmgr.BaseLimitIncrease{})
}

func addService(limits *rcmgr.ScalingLimitConfig, name string, more rcmgr.BaseLimit) {
	limit, ok := limits.ServiceLimits[name]
	if !ok {
		limit.BaseLimit = limits.ServiceBaseLimit
	}
	add(&limit.BaseLimit, more)
	limits.AddServiceLimit(name, limit.BaseLimit, limit.BaseLimitIncrease)
}

func add(limit *rcmgr.BaseLimit, more rcmgr.BaseLimit) {
	limit.StreamsInbound += more.StreamsInbound
	limit.StreamsOutbound += more.StreamsOutbound
	limit.Streams += more.Streams
	limit.Memory += more.Memory
}

func addConns(limit *rcmgr.BaseLimit, inbound int) {
	limit.ConnsInbound += inbound
	limit.Conns += inbound
	limit.FD += inbound
}

func addStreams(limit *rcmgr.BaseLimit, each int) {
	add(limit, rcmgr.BaseLimit{StreamsInbound: each, StreamsOutbound: each, Streams: 2 * each})
}
