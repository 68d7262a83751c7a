package discovery

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"net"
	"sync"
	"time"

	logging "github.com/ipfs/go-log/v2"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"

	"github.com/tangop2p/tango/internal/prom"
	"github.com/tangop2p/tango/internal/undo"
)

var log = logging.Logger("tango/discovery")

// ErrClosed is returned by calls on a [Service] that was closed. It wraps [net.ErrClosed].
var ErrClosed = fmt.Errorf("discovery: %w", net.ErrClosed)

// expireEvery is how often the table is searched for what has expired.
const expireEvery = 5 * time.Second

// Service announces this node on discovery topics and keeps a table of the
// peers that announce themselves there. It is safe for concurrent use.
type Service struct {
	host     host.Host
	ps       *pubsub.PubSub
	cfg      config
	metrics  *metrics
	watchers *watchers
	topics   map[string]*topicFeed
	undo     undo.Stack

	ctx    context.Context //nolint:containedctx // the Service's own lifetime, which Close ends
	cancel context.CancelFunc
	wg     sync.WaitGroup
	hints  chan struct{} // capacity 1: an announcement is wanted
	sent   time.Time     // when the last record says that it was sent; run's own

	mu    sync.Mutex
	table *table // guarded by mu

	closeOnce sync.Once
	closeErr  error
}

type topicFeed struct {
	topic  *pubsub.Topic
	sub    *pubsub.Subscription
	joined *pubsub.TopicEventHandler
}

// New starts a discovery service on h. The GossipSub router ps must run on h
// with its default StrictSign policy and should use [MessageID], as
// [LeafOptions] arranges: a record is believed because its message is signed.
// Close must be called before ps and h end.
func New(h host.Host, ps *pubsub.PubSub, opts ...Option) (*Service, error) {
	cfg, err := newConfig(opts)
	if err != nil {
		return nil, fmt.Errorf("discovery: %w", err)
	}
	s := &Service{
		host:     h,
		ps:       ps,
		cfg:      cfg,
		metrics:  newMetrics(),
		watchers: newWatchers(),
		topics:   make(map[string]*topicFeed, len(cfg.topics)),
		hints:    make(chan struct{}, 1),
	}
	s.table = newTable(cfg.maxPeers, func(p peer.ID) bool {
		c := h.Network().Connectedness(p)
		return c == network.Connected || c == network.Limited
	})
	s.ctx, s.cancel = context.WithCancel(context.Background())
	if err := s.start(); err != nil {
		s.cancel()
		return nil, fmt.Errorf("discovery: %w", errors.Join(err, s.undo.Run()))
	}
	return s, nil
}

// start acquires everything first; nothing can fail after the first goroutine.
func (s *Service) start() error {
	unregister, err := prom.Register(s.cfg.registerer, s.metrics.all()...)
	if err != nil {
		return err
	}
	s.undo.AddFunc(unregister)
	emitter, err := s.host.EventBus().Emitter(new(Event))
	if err != nil {
		return fmt.Errorf("event emitter: %w", err)
	}
	s.undo.Add(emitter.Close)
	addrs, err := s.host.EventBus().Subscribe(new(event.EvtLocalAddressesUpdated), eventbus.Name("tango/discovery"))
	if err != nil {
		return fmt.Errorf("address events: %w", err)
	}
	s.undo.Add(addrs.Close)
	for _, name := range s.cfg.topics {
		if err := s.join(name); err != nil {
			return fmt.Errorf("topic %q: %w", name, err)
		}
	}
	for name, feed := range s.topics {
		s.wg.Go(func() { s.readRecords(name, feed.sub) })
		s.wg.Go(func() { s.watchJoins(feed.joined) })
	}
	s.wg.Go(func() { s.watchAddrs(addrs.Out()) })
	s.wg.Go(s.run)
	s.wg.Go(func() {
		for e := range s.Events(s.ctx) {
			_ = emitter.Emit(e) // fails only once the emitter is closed
		}
	})
	return nil
}

func (s *Service) join(name string) error {
	topic := s.cfg.joined[name]
	if topic == nil {
		var err error
		if topic, err = s.joinGuarded(name); err != nil {
			return err
		}
	}
	joined, err := topic.EventHandler()
	if err != nil {
		return err
	}
	s.undo.AddFunc(joined.Cancel)
	// the default of 32 overflows when many peers announce at once
	sub, err := topic.Subscribe(pubsub.WithBufferSize(256))
	if err != nil {
		return err
	}
	s.undo.AddFunc(sub.Cancel)
	s.topics[name] = &topicFeed{topic: topic, sub: sub, joined: joined}
	return nil
}

// joinGuarded joins a topic with our validator on it.
func (s *Service) joinGuarded(name string) (*pubsub.Topic, error) {
	if err := s.ps.RegisterTopicValidator(name, s.validate, pubsub.WithValidatorInline(true)); err != nil {
		return nil, fmt.Errorf("register validator (for a topic that is in use already, see WithJoined): %w", err)
	}
	s.undo.Add(func() error { return s.ps.UnregisterTopicValidator(name) })
	topic, err := s.ps.Join(name)
	if err != nil {
		return nil, err
	}
	s.undo.Add(topic.Close)
	return topic, nil
}

// validate is Validate with its verdicts counted.
func (s *Service) validate(ctx context.Context, from peer.ID, msg *pubsub.Message) pubsub.ValidationResult {
	verdict := Validate(ctx, from, msg)
	if verdict == pubsub.ValidationReject {
		s.metrics.records.WithLabelValues(recordRejected).Inc()
	}
	return verdict
}

func (s *Service) readRecords(topic string, sub *pubsub.Subscription) {
	for {
		msg, err := sub.Next(s.ctx)
		if err != nil {
			return // Close ended the context or the subscription
		}
		if msg.GetFrom() == s.host.ID() {
			continue
		}
		if r, ok := recordOf(msg); ok {
			s.take(key{topic, msg.GetFrom()}, r)
		}
	}
}

// recordOf returns what the validator has parsed, or parses it if the
// validator is not ours.
func recordOf(msg *pubsub.Message) (*Record, bool) {
	if r, ok := msg.ValidatorData.(*Record); ok {
		return r, true
	}
	r, err := ParseRecord(msg.GetFrom(), msg.GetData())
	return r, err == nil
}

func (s *Service) take(k key, r *Record) {
	s.mu.Lock()
	defer s.mu.Unlock()
	changes, stale := s.table.put(k, r, time.Now())
	verdict := recordAccepted
	if stale {
		verdict = recordStale
	}
	s.metrics.records.WithLabelValues(verdict).Inc()
	s.metrics.peers.Set(float64(len(s.table.entries)))
	s.watchers.emit(changes)
}

func (s *Service) watchAddrs(updates <-chan any) {
	for {
		select {
		case <-s.ctx.Done():
			return
		case _, ok := <-updates:
			if !ok {
				return
			}
			s.hint()
		}
	}
}

func (s *Service) hint() {
	select {
	case s.hints <- struct{}{}:
	default:
	}
}

// run is the only place that announces and expires.
func (s *Service) run() {
	sched := newSchedule(s.cfg.interval, time.Now())
	expire := time.NewTicker(expireEvery)
	defer expire.Stop()
	timer := time.NewTimer(time.Until(sched.due))
	defer timer.Stop()
	for {
		select {
		case <-s.ctx.Done():
			s.announce(true)
			return
		case <-s.hints:
			sched.hint(time.Now())
		case <-expire.C:
			s.expire()
		case <-timer.C:
		}
		if sched.fire(time.Now()) {
			s.announce(false)
		}
		timer.Reset(time.Until(sched.due))
	}
}

func (s *Service) expire() {
	s.mu.Lock()
	defer s.mu.Unlock()
	changes := s.table.expire(time.Now())
	s.metrics.peers.Set(float64(len(s.table.entries)))
	s.watchers.emit(changes)
}

// Peers lists the peers known on all topics; one that announced itself on two
// topics is listed twice.
func (s *Service) Peers() []peer.AddrInfo {
	s.mu.Lock()
	defer s.mu.Unlock()
	var infos []peer.AddrInfo
	for _, e := range s.table.peers("") {
		infos = append(infos, e.Peer)
	}
	return infos
}

// Events yields first a [Found] event for each peer known, then each change,
// until ctx ends or the Service is closed. A reader that is slow sees fewer
// events, never wrong ones: what it missed of one peer is made one event.
func (s *Service) Events(ctx context.Context) iter.Seq[Event] {
	return func(yield func(Event) bool) {
		s.mu.Lock()
		w := s.watchers.watch(s.table.peers(""))
		s.mu.Unlock()
		s.watchers.each(ctx, w, yield)
	}
}

// Close says goodbye on each topic, as far as that still gets out, stops
// everything that the Service started and waits for it. It is idempotent.
func (s *Service) Close() error {
	s.closeOnce.Do(func() {
		s.cancel()
		s.watchers.close()
		s.wg.Wait()
		if err := s.undo.Run(); err != nil {
			s.closeErr = fmt.Errorf("discovery: close: %w", err)
		}
	})
	return s.closeErr
}

func (s *Service) closed() error {
	if errors.Is(s.ctx.Err(), context.Canceled) {
		return ErrClosed
	}
	return nil
}
