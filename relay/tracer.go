package relay

import (
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// noTracer is a pubsub.RawTracer that is told everything and does nothing.
type noTracer struct{}

var _ pubsub.RawTracer = noTracer{}

func (noTracer) OnNewOutboundStream(peer.ID, protocol.ID)             {}
func (noTracer) OnClosedOutboundStream(peer.ID)                       {}
func (noTracer) Join(string)                                          {}
func (noTracer) Leave(string)                                         {}
func (noTracer) Graft(peer.ID, string)                                {}
func (noTracer) Prune(peer.ID, string)                                {}
func (noTracer) ValidateMessage(*pubsub.Message)                      {}
func (noTracer) DeliverMessage(*pubsub.Message)                       {}
func (noTracer) RejectMessage(*pubsub.Message, string)                {}
func (noTracer) DuplicateMessage(*pubsub.Message)                     {}
func (noTracer) ThrottlePeer(peer.ID)                                 {}
func (noTracer) RecvRPC(*pubsub.RPC)                                  {}
func (noTracer) SendRPC(*pubsub.RPC, peer.ID)                         {}
func (noTracer) SendRPCCompleted(*pubsub.RPC, peer.ID, time.Duration) {}
func (noTracer) DropRPC(*pubsub.RPC, peer.ID)                         {}
func (noTracer) UndeliverableMessage(*pubsub.Message)                 {}
