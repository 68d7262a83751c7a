package relay

import (
	"errors"
	"fmt"
	"slices"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tangop2p/tango/discovery"
)

// Option configures a [Relay].
type Option func(*config) error

type config struct {
	limits        Limits
	topics        []string
	forwarded     []string
	pubsub        *pubsub.PubSub
	pubsubOptions []pubsub.Option
	registerer    prometheus.Registerer
	policy        Policy
	stun          string // where to answer; empty for nowhere
}

// CheckOptions says what [New] would find wrong with the options, and which
// limits they set.
func CheckOptions(opts ...Option) (Limits, error) {
	c, err := newConfig(opts)
	if err != nil {
		return Limits{}, fmt.Errorf("relay: %w", err)
	}
	return c.limits, nil
}

func newConfig(opts []Option) (*config, error) {
	c := &config{limits: SignalingOnly(), topics: []string{discovery.DefaultTopic}}
	var errs []error
	for _, opt := range opts {
		errs = append(errs, opt(c))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	return c, c.validate()
}

// validate checks what no option can check alone.
func (c *config) validate() error {
	if err := discovery.CheckTopics(slices.Concat(c.topics, c.forwarded)); err != nil {
		return fmt.Errorf("WithTopics and WithForwarding: %w", err)
	}
	if c.pubsub != nil && len(c.pubsubOptions) > 0 {
		return errors.New("WithPubSub and WithPubSubOptions: give the options to the router that you build")
	}
	return nil
}

// WithLimits sets what the relay gives away. The default is [SignalingOnly].
func WithLimits(l Limits) Option {
	return func(c *config) error {
		c.limits = l
		return l.Validate()
	}
}

// WithTopics sets the discovery topics that the relay forwards: it lets
// through only records that speak of their signer, and repeats the last of
// each peer to newcomers. None turns GossipSub off unless [WithForwarding]
// wants it. The default is [discovery.DefaultTopic].
func WithTopics(topics ...string) Option {
	return func(c *config) error {
		c.topics = slices.Clone(topics)
		return nil
	}
}

// WithForwarding adds GossipSub topics of an application, which the relay
// forwards without looking into them, so that peers between which there is no
// direct connection hear each other. The default is none.
func WithForwarding(topics ...string) Option {
	return func(c *config) error {
		c.forwarded = append(c.forwarded, topics...)
		return nil
	}
}

// WithPubSub makes the relay forward topics on a GossipSub router that runs on
// its host already; build it with [HubOptions]. Announcements are then not
// repeated to newcomers, for which the relay must build the router itself. The
// default is a router of the relay's own, see [Relay.PubSub].
func WithPubSub(ps *pubsub.PubSub) Option {
	return func(c *config) error {
		c.pubsub = ps
		return nil
	}
}

// WithPubSubOptions adds options to the GossipSub router that the relay
// builds, after those of [HubOptions]. Do not use
// pubsub.WithAppSpecificRpcInspector, which the relay needs to repeat
// announcements. The default is none.
func WithPubSubOptions(opts ...pubsub.Option) Option {
	return func(c *config) error {
		c.pubsubOptions = append(c.pubsubOptions, opts...)
		return nil
	}
}

// WithPolicy sets who gets what of the relay, within its limits. The default is
// to serve everybody; [Relay.SetPolicy] changes it.
func WithPolicy(p Policy) Option {
	return func(c *config) error {
		c.policy = p
		return checkPolicy(p)
	}
}

// WithRegisterer registers the relay's metrics, under go-libp2p's names where
// it has such, libp2p_relaysvc_*. The default is none.
func WithRegisterer(r prometheus.Registerer) Option {
	return func(c *config) error {
		c.registerer = r
		return nil
	}
}
