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
	// connBuffer is booked for a connection of webrtc-direct, if then no more than 60 %
	// of a limit are taken (go-libp2p, sctpReceiveBufferSize, ReservationPriorityMedium).
	connBuffer = 100_000
	// identifyRecord is booked for a stream of identify (signedIDSize).
	identifyRecord = 8 << 10
)

// Scale makes room for the reservations and circuits of l in the limits of a
// resource manager on connections, streams and memory; call it after
// libp2p.SetDefaultServiceLimits. By default 252 connections come in on a
// machine with 24 GiB of memory, and on one with 1 GiB all memory is booked after
// 129 peers of webrtc-direct. [SignalingOnly] adds 1.9 GiB to what may be booked,
// of which yamux uses little.
func (l Limits) Scale(limits *rcmgr.ScalingLimitConfig) {
	const (
		streamsHeld  = 2 // GossipSub's
		streamsAtEnd = 6 // identify, its push, ping and a request come and go, some at once
	)
	holders := 2 * l.Reservations       // a page that reloads overlaps with its former self
	coming := max(l.Reservations/4, 64) // at once after a restart
	system := &limits.SystemBaseLimit
	addConns(system, holders)
	addStreams(system, (streamsHeld+streamsAtEnd)*holders+2*l.Circuits)
	// the last one that comes must find 60 % enough; the rest is for what comes and goes
	memory := int64(l.Reservations)*(streamsHeld*yamuxWindow+connBuffer) + l.circuitMemory() + maxUnread*maxMessage
	system.Memory += memory * 5 / 3
	transient := &limits.TransientBaseLimit
	addConns(transient, coming)
	addStreams(transient, streamsAtEnd*coming)
	transient.Memory += int64(coming) * connBuffer * 5 / 3
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
