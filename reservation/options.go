package reservation

import (
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tangop2p/tango/internal/invite"
)

// Defaults and ranges of the options.
const (
	// DefaultTarget is how many reservations are held by default, if as many relays are given.
	DefaultTarget = 3
	// MaxTarget is the most reservations that one Keeper holds.
	MaxTarget = 8
	// MaxRelays is the most relays that one Keeper is given.
	MaxRelays = 64
	// DefaultMinBackoff is the pause after a first failed attempt.
	DefaultMinBackoff = 250 * time.Millisecond
	// DefaultMaxBackoff is the longest pause between attempts at a relay that does not answer.
	DefaultMaxBackoff = time.Minute
)

const (
	shortestBackoff = 10 * time.Millisecond
	longestBackoff  = 10 * time.Minute
)

// Option configures a [Keeper].
type Option func(*config) error

type config struct {
	target     int // 0: by default
	discovered bool
	backoff    backoff
	registerer prometheus.Registerer
	invites    map[peer.ID]string // by the relay that each is for
}

func newConfig(opts []Option) (config, error) {
	c := config{backoff: backoff{min: DefaultMinBackoff, max: DefaultMaxBackoff}}
	var errs []error
	for _, opt := range opts {
		errs = append(errs, opt(&c))
	}
	return c, errors.Join(errs...)
}

// CheckOptions says what [New] would find wrong with the options.
func CheckOptions(opts ...Option) error {
	if _, err := newConfig(opts); err != nil {
		return fmt.Errorf("reservation: %w", err)
	}
	return nil
}

// settle checks the options against the number of relays given and fills in
// the default target.
func (c *config) settle(relays int) error {
	switch {
	case relays == 0 && !c.discovered:
		return errors.New("no relay given; name at least one or use WithDiscovered")
	case relays > MaxRelays:
		return fmt.Errorf("%d relays: at most %d are allowed", relays, MaxRelays)
	case c.target > relays && !c.discovered:
		return fmt.Errorf("WithTarget(%d): only %d relays are given; name more or use WithDiscovered", c.target, relays)
	case c.target == 0 && c.discovered:
		c.target = DefaultTarget
	case c.target == 0:
		c.target = min(relays, DefaultTarget)
	}
	return nil
}

// WithTarget sets how many reservations to hold at a time, 1 to [MaxTarget].
// Relays beyond that are spares. The default is the number of relays given, at
// most [DefaultTarget]; with [WithDiscovered] it is [DefaultTarget].
func WithTarget(n int) Option {
	return func(c *config) error {
		if n < 1 || n > MaxTarget {
			return fmt.Errorf("WithTarget(%d): use 1 to %d", n, MaxTarget)
		}
		c.target = n
		return nil
	}
}

// WithDiscovered also reserves at peers that we are connected to directly and
// that say to be relays, as js-libp2p does, where the relays given do not
// suffice. Whoever connects to this node can make it such an offer, and a relay
// sees who talks to whom: use it in networks where that is acceptable. The
// default is the relays given only.
func WithDiscovered() Option {
	return func(c *config) error {
		c.discovered = true
		return nil
	}
}

// WithBackoff sets the first and the longest pause between attempts at a relay
// that does not answer, 10 ms to 10 min; the pause doubles from one to the other,
// but stays at 2 s or less for 90 s after a reservation was lost. The default is
// [DefaultMinBackoff] and [DefaultMaxBackoff].
func WithBackoff(shortest, longest time.Duration) Option {
	return func(c *config) error {
		if shortest < shortestBackoff || longest < shortest || longest > longestBackoff {
			return fmt.Errorf("WithBackoff(%v, %v): use %v to %v, the shorter first", shortest, longest, shortestBackoff, longestBackoff)
		}
		c.backoff = backoff{min: shortest, max: longest}
		return nil
	}
}

// WithInvite presents a token before each request to the relay that is its
// audience, which serves only those who have one (relay.Members), and to no
// other; relay.NewInvite makes it. Give it once for each such relay; of several
// tokens for one the last counts. The default is none.
func WithInvite(token string) Option {
	return func(c *config) error {
		i, err := invite.Parse(token, nil)
		if err != nil {
			return fmt.Errorf("WithInvite: %w; take it as the relay's operator gave it", err)
		}
		if c.invites == nil {
			c.invites = make(map[peer.ID]string)
		}
		c.invites[i.Audience] = token
		return nil
	}
}

// WithRegisterer registers the Keeper's metrics. The default is none.
func WithRegisterer(r prometheus.Registerer) Option {
	return func(c *config) error {
		c.registerer = r
		return nil
	}
}
