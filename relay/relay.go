package relay

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"time"

	logging "github.com/ipfs/go-log/v2"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/tangop2p/tango/internal/undo"
)

var log = logging.Logger("tango/relay")

// Relay is the third party of browsers that want to meet: it keeps their
// reservations, opens circuits between them and forwards their announcements.
// It is safe for concurrent use.
type Relay struct {
	limits    Limits
	hop       *hop
	stun      *stunServer // nil without
	hub       *hub        // nil without topics
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
	if r.hop, err = newHop(h, cfg); err != nil {
		return nil, fmt.Errorf("relay: start circuit v2: %w", err)
	}
	r.undo.Add(r.hop.close)
	if len(cfg.topics)+len(cfg.forwarded) > 0 {
		if r.hub, err = newHub(h, cfg, r.hop); err != nil {
			return nil, fmt.Errorf("relay: %w", errors.Join(err, r.undo.Run()))
		}
		r.undo.Add(r.hub.undo.Run)
	}
	if cfg.stun != "" {
		if r.stun, err = newSTUNServer(cfg.stun, r.hop.metrics); err != nil {
			return nil, fmt.Errorf("relay: %w", errors.Join(err, r.undo.Run()))
		}
		r.undo.Add(r.stun.close)
	}
	r.undo.AddFunc(serveInfo(r.hop, marshalInfo(r.STUNAddrs())))
	return r, nil
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

// Reservations returns the reservations that are held, the oldest first.
func (r *Relay) Reservations() []Reservation { return r.hop.table.list(time.Now()) }

// Circuits returns the circuits that are open, the oldest first.
func (r *Relay) Circuits() []Circuit { return r.hop.list() }

// Evict ends a peer's reservation and its circuits, and says whether it had any.
// Its connection stays, and nothing in circuit v2 tells it: it may reserve again
// unless the policy is changed first, see [Relay.SetPolicy].
func (r *Relay) Evict(p peer.ID) bool {
	if !r.hop.enter() {
		return false
	}
	defer r.hop.wg.Done()
	return r.hop.evict(p, ReasonEvicted)
}

// SetPolicy changes who gets what of the relay; nil serves everybody. It asks the
// policy about all who hold a reservation, and evicts those that it refuses. What
// else it grants to them counts from their next renewal.
func (r *Relay) SetPolicy(ctx context.Context, p Policy) error {
	if !r.hop.enter() {
		return ErrClosed
	}
	defer r.hop.wg.Done()
	if err := r.hop.setPolicy(ctx, p); err != nil {
		return fmt.Errorf("relay: set policy: %w", err)
	}
	return nil
}

// Shutdown refuses new reservations and circuits, with [ReasonDraining], tells the
// tango peers that hold a reservation, and of [WithAlternatives], waits until no
// circuit is open or ctx ends, and closes the relay.
func (r *Relay) Shutdown(ctx context.Context) error {
	if !r.hop.enter() {
		return r.Close()
	}
	err := r.hop.drain(ctx)
	r.hop.wg.Done()
	return errors.Join(err, r.Close())
}

// ErrClosed is returned once the relay was closed. It wraps [net.ErrClosed].
var ErrClosed = fmt.Errorf("relay: %w", net.ErrClosed)

// Close ends the relay service with its reservations and circuits, and the
// GossipSub router if the relay made it. It is idempotent.
func (r *Relay) Close() error {
	r.closeOnce.Do(func() {
		if err := r.undo.Run(); err != nil {
			r.closeErr = fmt.Errorf("relay: close: %w", err)
		}
	})
	return r.closeErr
}
