package relay

import (
	"errors"
	"fmt"
	"slices"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tangop2p/tango/discovery"
	"github.com/tangop2p/tango/internal/notice"
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
	savedTable    string // the file; empty for none
	saved         []savedReservation
	alternatives  []peer.AddrInfo
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
func (c *config) validate() (err error) {
	if c.savedTable != "" {
		if c.saved, err = loadSaved(c.savedTable); err != nil {
			return err
		}
	}
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

// WithSavedTable keeps the reservations in a file, which is made with mode 0600
// and replaced as a whole at most every half second and by [Relay.Close]. After a
// restart a peer that is connected again has its reservation back at once, until
// that expires, if the policy allows it anew: a CONNECT to it need not wait for
// its RESERVE. After a crash what was reserved in the last second may be missing.
// The default is none.
func WithSavedTable(path string) Option {
	return func(c *config) error {
		c.savedTable = path
		if path == "" {
			return errors.New("WithSavedTable(\"\"): name a file, or leave the option out")
		}
		return nil
	}
}

// WithAlternatives names other relays, at most 8 addresses that each end in /p2p/
// and the relay's ID. [Relay.Shutdown] tells them to the tango peers that hold a
// reservation, which then reserve there before this relay is gone. The default
// is none: peers look among the relays that they were given.
func WithAlternatives(addrs ...string) Option {
	return func(c *config) error {
		c.alternatives = nil
		var errs []error
		for _, a := range addrs {
			info, err := notice.ParseAddr(a)
			if err != nil {
				errs = append(errs, fmt.Errorf(
					"WithAlternatives(%q): %w; write it as in /dns4/relay.example.org/tcp/443/tls/ws/p2p/ and the ID", a, err))
				continue
			}
			c.alternatives = append(c.alternatives, info)
		}
		if _, err := (notice.Notice{Alternatives: c.alternatives}).Marshal(); err != nil {
			errs = append(errs, fmt.Errorf("WithAlternatives: %w", err))
		}
		return errors.Join(errs...)
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
