package relay

import (
	"errors"
	"fmt"
	"slices"
	"sync"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/host"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"

	"github.com/tangop2p/tango/internal/undo"
)

// Relay is the third party of browsers that want to meet: it keeps their
// reservations, opens circuits between them and forwards their announcements.
// It is safe for concurrent use.
type Relay struct {
	limits    Limits
	hub       *hub // nil without topics
	undo      undo.Stack
	closeOnce sync.Once
	closeErr  error
}

// New starts a relay on h, which must be reachable by those it shall serve.
// Close must be called before h is closed.
//
// The host's resource manager bounds the relay too, see [Limits.Scale] and
// [Limits.ResourceManagerOptions]; tango.ResourceManager makes one that fits.
func New(h host.Host, opts ...Option) (*Relay, error) {
	cfg, err := newConfig(opts)
	if err != nil {
		return nil, fmt.Errorf("relay: %w", err)
	}
	r := &Relay{limits: cfg.limits}
	if len(cfg.topics)+len(cfg.forwarded) > 0 {
		if r.hub, err = newHub(h, cfg); err != nil {
			return nil, fmt.Errorf("relay: %w", err)
		}
		r.undo.Add(r.hub.undo.Run)
	}
	circuits, err := relayv2.New(h, circuitOptions(h, cfg)...)
	if err != nil {
		return nil, fmt.Errorf("relay: start circuit v2: %w", errors.Join(err, r.undo.Run()))
	}
	r.undo.Add(circuits.Close)
	return r, nil
}

func circuitOptions(h host.Host, cfg *config) []relayv2.Option {
	opts := []relayv2.Option{
		relayv2.WithResources(cfg.limits.resources()),
		relayv2.WithReservationAddressFilter(reservationAddrs(h)),
	}
	if cfg.registerer != nil {
		tracer := relayv2.NewMetricsTracer(relayv2.WithRegisterer(cfg.registerer))
		opts = append(opts, relayv2.WithMetricsTracer(tracer))
	}
	return opts
}

// Limits returns what the relay gives away.
func (r *Relay) Limits() Limits { return r.limits }

// PubSub returns the GossipSub router that forwards the topics, nil if the
// relay forwards none. A host can have one router only; that of the relay
// knows no topics but the relay's.
func (r *Relay) PubSub() *pubsub.PubSub {
	if r.hub == nil {
		return nil
	}
	return r.hub.ps
}

// Topics returns the discovery topics that the relay has joined, for
// [discovery.WithJoined].
func (r *Relay) Topics() []*pubsub.Topic {
	if r.hub == nil {
		return nil
	}
	return slices.Clone(r.hub.topics)
}

// Close ends the relay service, and the GossipSub router if the relay made it.
// Circuits that are open then run on to their limits unless the host is
// closed. It is idempotent.
func (r *Relay) Close() error {
	r.closeOnce.Do(func() {
		if err := r.undo.Run(); err != nil {
			r.closeErr = fmt.Errorf("relay: close: %w", err)
		}
	})
	return r.closeErr
}
