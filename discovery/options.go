package discovery

import (
	"errors"
	"fmt"
	"slices"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/prometheus/client_golang/prometheus"
)

// Defaults and ranges of the options.
const (
	// DefaultInterval is js-libp2p's interval between announcements.
	DefaultInterval = 10 * time.Second
	// MinInterval is the shortest interval between announcements.
	MinInterval = time.Second
	// MaxInterval is the longest interval between announcements.
	MaxInterval = 5 * time.Minute
	// DefaultMaxPeers is the number of peers that the table holds by default.
	DefaultMaxPeers = 512
	// MaxTopics is the most topics that one Service watches.
	MaxTopics = 32
)

// Option configures a [Service].
type Option func(*config) error

type config struct {
	topics     []string
	interval   time.Duration
	maxPeers   int
	listenOnly bool
	joined     map[string]*pubsub.Topic
	registerer prometheus.Registerer
}

func newConfig(opts []Option) (config, error) {
	c := config{
		topics:   []string{DefaultTopic},
		interval: DefaultInterval,
		maxPeers: DefaultMaxPeers,
		joined:   make(map[string]*pubsub.Topic),
	}
	var errs []error
	for _, opt := range opts {
		errs = append(errs, opt(&c))
	}
	return c, errors.Join(errs...)
}

// CheckOptions says what [New] would find wrong with the options.
func CheckOptions(opts ...Option) error {
	if _, err := newConfig(opts); err != nil {
		return fmt.Errorf("discovery: %w", err)
	}
	return nil
}

// CheckTopics says what is wrong with a list of topic names: empty, doubled,
// too long or too many.
func CheckTopics(topics []string) error {
	if len(topics) > MaxTopics {
		return fmt.Errorf("%d topics: at most %d are allowed", len(topics), MaxTopics)
	}
	for i, t := range topics {
		if t == "" || len(t) > 256 {
			return fmt.Errorf("topic %q: a topic name has 1 to 256 bytes", t)
		}
		if slices.Contains(topics[:i], t) {
			return fmt.Errorf("topic %q: given twice; name it once", t)
		}
	}
	return nil
}

// WithTopics sets the topics on which to announce and to listen, 1 to
// [MaxTopics]. An application does well to use its own, see [AppTopic]. The
// default is [DefaultTopic].
func WithTopics(topics ...string) Option {
	return func(c *config) error {
		if len(topics) == 0 {
			return errors.New("WithTopics: no topic given; name at least one")
		}
		if err := CheckTopics(topics); err != nil {
			return fmt.Errorf("WithTopics: %w", err)
		}
		c.topics = slices.Clone(topics)
		return nil
	}
}

// WithInterval sets the time between two announcements, [MinInterval] to
// [MaxInterval]; each is moved by up to a quarter at random. Announcements
// also go out when a neighbour joins the topic and when addresses change. The
// default is [DefaultInterval].
func WithInterval(d time.Duration) Option {
	return func(c *config) error {
		if d < MinInterval || d > MaxInterval {
			return fmt.Errorf("WithInterval(%v): use %v to %v", d, MinInterval, MaxInterval)
		}
		c.interval = d
		return nil
	}
}

// WithMaxPeers sets how many peers the table holds, 1 to 65536. When it is
// full, a newcomer takes the place of a random peer that we are not connected
// to. The default is [DefaultMaxPeers].
func WithMaxPeers(n int) Option {
	return func(c *config) error {
		if n < 1 || n > 1<<16 {
			return fmt.Errorf("WithMaxPeers(%d): use 1 to %d", n, 1<<16)
		}
		c.maxPeers = n
		return nil
	}
}

// WithListenOnly makes the Service learn of others without announcing this
// node. The default is to announce.
func WithListenOnly() Option {
	return func(c *config) error {
		c.listenOnly = true
		return nil
	}
}

// WithJoined makes the Service use these topics, which the caller has joined on
// its GossipSub router and guards with a validator that does what [Validate]
// does, where it would join one of the same name itself: a router allows each
// topic one handle and one validator. It does not add to [WithTopics]. The
// default is none.
func WithJoined(topics ...*pubsub.Topic) Option {
	return func(c *config) error {
		for _, t := range topics {
			c.joined[t.String()] = t
		}
		return nil
	}
}

// WithRegisterer registers the Service's metrics. The default is none.
func WithRegisterer(r prometheus.Registerer) Option {
	return func(c *config) error {
		c.registerer = r
		return nil
	}
}
