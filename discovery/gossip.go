package discovery

import (
	"context"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/multiformats/go-multihash"
)

// DefaultTopic is the topic on which js-libp2p's pubsub-peer-discovery
// announces peers unless it is configured otherwise.
const DefaultTopic = "_peer-discovery._p2p._pubsub"

// AppTopic returns the discovery topic that, by js-libp2p's convention, an
// application called name uses.
func AppTopic(name string) string { return name + "." + DefaultTopic }

// MessageID is the message ID that js-libp2p's gossipsub computes under
// StrictSign: the author's public key protobuf and the sequence number. The
// default of go-libp2p-pubsub differs, with which every IHAVE, IWANT and
// IDONTWANT that crosses between js and Go names a message that the other
// side does not know. Use it on each topic that js peers share.
func MessageID(m *pb.Message) string {
	key := m.GetKey()
	if digest, err := multihash.Decode(m.GetFrom()); err == nil && digest.Code == multihash.IDENTITY {
		key = digest.Digest // an Ed25519 author's ID is its key; Go leaves the key field empty then
	}
	return string(key) + string(m.GetSeqno())
}

// LeafOptions returns the GossipSub options of a node that reaches the others
// through few connections, as browsers do: js message IDs, own messages sent
// to every neighbour (js and rust do so by default, go-libp2p-pubsub does
// not), and queues that hold a burst of announcements.
func LeafOptions() []pubsub.Option {
	return []pubsub.Option{
		pubsub.WithMessageIdFn(MessageID),
		pubsub.WithFloodPublish(true),
		pubsub.WithValidateQueueSize(256),
		pubsub.WithPeerOutboundQueueSize(128),
	}
}

// Validate is a GossipSub validator for discovery topics: it rejects each
// message that [ParseRecord] refuses, and leaves the [*Record] of an accepted
// one in its ValidatorData. It keeps no state and is safe for concurrent use.
// A [Service] registers it by itself; it is exported for nodes that forward a
// discovery topic without a Service.
func Validate(_ context.Context, _ peer.ID, msg *pubsub.Message) pubsub.ValidationResult {
	r, err := ParseRecord(msg.GetFrom(), msg.GetData())
	if err != nil {
		log.Debugw("record rejected", "author", msg.GetFrom(), "from", msg.ReceivedFrom, "err", err)
		return pubsub.ValidationReject
	}
	msg.ValidatorData = r
	return pubsub.ValidationAccept
}
