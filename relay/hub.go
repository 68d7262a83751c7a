package relay

import (
	"context"
	"errors"
	"fmt"
	"slices"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/tangop2p/tango/discovery"
	"github.com/tangop2p/tango/internal/undo"
)

// hubWidth is up to how many peers a relay keeps in its mesh of a topic. A
// default router keeps 12 and reaches the others by gossip: of 100 browsers 58
// hear an announcement. Beyond some hundreds a star costs more bandwidth than
// it should.
const hubWidth = 400

// historyLength is how many heartbeats (seconds) a relay keeps messages, to
// repeat the last announcement of each peer to newcomers: three intervals of
// stock js peers.
const historyLength = 31

// maxSubscriptions is how many topics one RPC may subscribe to, ours or not,
// before it is dropped: an application may well have some of its own.
const maxSubscriptions = 128

// HubOptions returns the GossipSub options of a relay: every peer in the mesh,
// js-libp2p's message ID, and queues for many peers. [New] uses them; they are
// exported for those who build the router for [WithPubSub] themselves.
func HubOptions() []pubsub.Option {
	params := pubsub.DefaultGossipSubParams()
	params.Dlo = 6
	params.Dscore = 8
	params.Dout = 2
	params.D = hubWidth - 8
	params.Dhi = hubWidth
	params.HistoryLength = historyLength
	// those beyond hubWidth are told of every message, not of one in four
	params.GossipFactor = 1
	return []pubsub.Option{
		pubsub.WithGossipSubParams(params),
		pubsub.WithMessageIdFn(discovery.MessageID),
		// the defaults of 32 lose a quarter of a burst of 200 peers
		pubsub.WithValidateQueueSize(1024),
		pubsub.WithPeerOutboundQueueSize(256),
	}
}

// hub forwards topics without consuming them.
type hub struct {
	ps     *pubsub.PubSub
	topics []*pubsub.Topic // the discovery topics
	replay *replay
	guard  *guard
	undo   undo.Stack
}

func newHub(h host.Host, cfg *config, hop *hop) (_ *hub, err error) {
	hb := &hub{ps: cfg.pubsub, replay: newReplay(cfg.topics), guard: newGuard(h, cfg, hop)}
	defer func() {
		if err != nil {
			err = errors.Join(err, hb.undo.Run())
		}
	}()
	if hb.ps == nil {
		ctx, cancel := context.WithCancel(context.Background())
		hb.undo.AddFunc(cancel)
		router := pubsub.DefaultGossipSubRouter(h)
		hb.replay.have = func(p peer.ID, topic string, ids []string) {
			router.SendControl(p, &pb.ControlMessage{Ihave: []*pb.ControlIHave{{TopicID: &topic, MessageIDs: ids}}})
		}
		opts := append(hb.options(cfg), router.WithDefaultTagTracer())
		if hb.ps, err = pubsub.NewGossipSubWithRouter(ctx, h, router, opts...); err != nil {
			return nil, fmt.Errorf("start GossipSub: %w", err)
		}
	}
	for _, name := range cfg.topics {
		topic, err := hb.forwardGuarded(name)
		if err != nil {
			return nil, fmt.Errorf("discovery topic %q: %w", name, err)
		}
		hb.topics = append(hb.topics, topic)
	}
	for _, name := range cfg.forwarded {
		if _, err := hb.forward(name); err != nil {
			return nil, fmt.Errorf("topic %q: %w", name, err)
		}
	}
	return hb, nil
}

func (hb *hub) options(cfg *config) []pubsub.Option {
	known := slices.Concat(cfg.topics, cfg.forwarded)
	opts := append(HubOptions(),
		pubsub.WithRawTracer(hb.replay),
		pubsub.WithRawTracer(hb.guard),
		pubsub.WithAppSpecificRpcInspector(hb.inspect),
		// strangers cannot make us keep lists of topics of their own
		pubsub.WithSubscriptionFilter(
			pubsub.WrapLimitSubscriptionFilter(pubsub.NewAllowlistSubscriptionFilter(known...), maxSubscriptions)))
	return append(opts, cfg.pubsubOptions...)
}

// inspect sees each RPC before the router does, and never refuses one.
func (hb *hub) inspect(from peer.ID, rpc *pubsub.RPC) error {
	hb.guard.inspect(from, rpc)
	return hb.replay.inspect(from, rpc)
}

func (hb *hub) forwardGuarded(name string) (*pubsub.Topic, error) {
	if err := hb.ps.RegisterTopicValidator(name, hb.validate, pubsub.WithValidatorInline(true)); err != nil {
		return nil, err
	}
	hb.undo.Add(func() error { return hb.ps.UnregisterTopicValidator(name) })
	return hb.forward(name)
}

func (hb *hub) forward(name string) (*pubsub.Topic, error) {
	topic, err := hb.ps.Join(name)
	if err != nil {
		return nil, err
	}
	hb.undo.Add(topic.Close)
	cancel, err := topic.Relay()
	if err != nil {
		return nil, err
	}
	hb.undo.AddFunc(cancel)
	return topic, nil
}

// validate lets through only records that speak of their signer, and
// remembers which message was each peer's last.
func (hb *hub) validate(ctx context.Context, from peer.ID, msg *pubsub.Message) pubsub.ValidationResult {
	verdict := discovery.Validate(ctx, from, msg)
	if verdict == pubsub.ValidationAccept {
		r, _ := msg.ValidatorData.(*discovery.Record)
		hb.replay.remember(msg.GetTopic(), msg.GetFrom(), discovery.MessageID(msg.Message), r)
	}
	return verdict
}
