package signaling

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Option configures a [Service].
type Option func(*config) error

type config struct {
	limits     Limits
	policy     CandidatePolicy
	registerer prometheus.Registerer
}

func newConfig(opts []Option) (config, error) {
	c := config{limits: DefaultLimits(), policy: DefaultCandidatePolicy()}
	var errs []error
	for _, opt := range opts {
		errs = append(errs, opt(&c))
	}
	return c, errors.Join(errs...)
}

// CheckOptions says what [New] would find wrong with the options.
func CheckOptions(opts ...Option) error {
	if _, err := newConfig(opts); err != nil {
		return fmt.Errorf("signaling: %w", err)
	}
	return nil
}

// WithLimits sets what remote peers may take of this node; the fields tell
// units and ranges. The default is [DefaultLimits].
func WithLimits(l Limits) Option {
	return func(c *config) error {
		c.limits = l
		return l.Validate()
	}
}

// WithCandidatePolicy sets which candidates of the remote are handed on. The
// default is [DefaultCandidatePolicy].
func WithCandidatePolicy(p CandidatePolicy) Option {
	return func(c *config) error {
		c.policy = p
		return p.Validate()
	}
}

// WithRegisterer registers the Service's metrics. The default is none.
func WithRegisterer(r prometheus.Registerer) Option {
	return func(c *config) error {
		c.registerer = r
		return nil
	}
}
