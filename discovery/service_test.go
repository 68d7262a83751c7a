package discovery_test

import (
	"context"
	"errors"
	"iter"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	coredisc "github.com/libp2p/go-libp2p/core/discovery"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/tangop2p/tango/discovery"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const topic = "test._peer-discovery._p2p._pubsub"

func newHost(t *testing.T) host.Host {
	t.Helper()
	h, err := libp2p.New(libp2p.Transport(tcp.NewTCPTransport), libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

func newPubSub(t *testing.T, h host.Host) *pubsub.PubSub {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	ps, err := pubsub.NewGossipSub(ctx, h, discovery.LeafOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	return ps
}

func newService(t *testing.T, h host.Host, opts ...discovery.Option) *discovery.Service {
	t.Helper()
	s, err := discovery.New(h, newPubSub(t, h), append([]discovery.Option{discovery.WithTopics(topic)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func connect(t *testing.T, a, b host.Host) {
	t.Helper()
	if err := a.Connect(t.Context(), peer.AddrInfo{ID: b.ID(), Addrs: b.Addrs()}); err != nil {
		t.Fatal(err)
	}
}

// watch starts reading events and returns a function that reads on until one
// is of this type and about this peer.
func watch(t *testing.T, s *discovery.Service) func(discovery.EventType, peer.ID) discovery.Event {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	next, stop := iter.Pull(s.Events(ctx))
	t.Cleanup(func() { cancel(); stop() })
	return func(typ discovery.EventType, p peer.ID) discovery.Event {
		t.Helper()
		for {
			e, more := next()
			if !more {
				t.Fatalf("no event %v of %v", typ, p)
			}
			if e.Type == typ && e.Peer.ID == p {
				return e
			}
		}
	}
}

// awaitFound waits until s knows p.
func awaitFound(t *testing.T, s *discovery.Service, p peer.ID) discovery.Event {
	t.Helper()
	return watch(t, s)(discovery.Found, p)
}

func TestTwoFindEachOther(t *testing.T) {
	a, b := newHost(t), newHost(t)
	reg := prometheus.NewRegistry()
	// an interval so long that only the join can have caused the announcement
	sa := newService(t, a, discovery.WithInterval(discovery.MaxInterval), discovery.WithRegisterer(reg))
	sb := newService(t, b, discovery.WithInterval(discovery.MaxInterval))
	bus, err := a.EventBus().Subscribe(new(discovery.Event))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = bus.Close() })
	start := time.Now()
	connect(t, a, b)

	found := awaitFound(t, sa, b.ID())
	if !slices.ContainsFunc(b.Addrs(), found.Peer.Addrs[0].Equal) || found.Topic != topic {
		t.Errorf("found %v, want addresses of %v on %v", found, b.Addrs(), topic)
	}
	awaitFound(t, sb, a.ID())
	if d := time.Since(start); d > 3*time.Second {
		t.Errorf("took %v; a join is announced at once", d)
	}
	if e, ok := (<-bus.Out()).(discovery.Event); !ok || e.Type != discovery.Found || e.Peer.ID != b.ID() {
		t.Errorf("event bus: %v", e)
	}
	if families, err := reg.Gather(); err != nil || len(families) != 3 {
		t.Errorf("%d metric families, %v, want all three", len(families), err)
	}
}

func TestChangedAddressesAreAnnounced(t *testing.T) {
	a, b := newHost(t), newHost(t)
	sa := newService(t, a, discovery.WithInterval(discovery.MaxInterval))
	newService(t, b, discovery.WithInterval(discovery.MaxInterval))
	connect(t, a, b)
	next := watch(t, sa)
	next(discovery.Found, b.ID())

	if err := b.Network().Listen(ma.StringCast("/ip4/127.0.0.2/tcp/0")); err != nil {
		t.Fatal(err)
	}
	if e := next(discovery.Updated, b.ID()); len(e.Peer.Addrs) != 2 {
		t.Errorf("updated to %v, want two addresses", e.Peer.Addrs)
	}
}

func TestGoodbye(t *testing.T) {
	a, b := newHost(t), newHost(t)
	sa, sb := newService(t, a), newService(t, b)
	connect(t, a, b)
	next := watch(t, sa)
	next(discovery.Found, b.ID())
	if err := sb.Close(); err != nil {
		t.Fatal(err)
	}
	next(discovery.Left, b.ID())
	if peers := sa.Peers(); len(peers) != 0 {
		t.Errorf("still lists %v", peers)
	}
}

func TestListenOnly(t *testing.T) {
	a, b := newHost(t), newHost(t)
	sa, sb := newService(t, a, discovery.WithListenOnly()), newService(t, b)
	connect(t, a, b)
	awaitFound(t, sa, b.ID())
	if peers := sb.Peers(); len(peers) != 0 {
		t.Errorf("a listener was announced: %v", peers)
	}
	if _, err := sa.Advertise(t.Context(), topic); err == nil {
		t.Error("Advertise succeeds although nothing is announced")
	}
}

func TestDiscoveryInterface(t *testing.T) {
	a, b := newHost(t), newHost(t)
	sa, sb := newService(t, a), newService(t, b)
	connect(t, a, b)
	awaitFound(t, sa, b.ID())

	for _, ns := range []string{topic, "test"} {
		found, err := sa.FindPeers(t.Context(), ns, coredisc.Limit(5))
		if err != nil {
			t.Fatal(err)
		}
		if p := <-found; p.ID != b.ID() {
			t.Errorf("FindPeers(%q): %v, want %v", ns, p, b.ID())
		}
		if _, more := <-found; more {
			t.Errorf("FindPeers(%q) did not close its channel", ns)
		}
	}
	if ttl, err := sb.Advertise(t.Context(), "test"); err != nil || ttl != 45*time.Second {
		t.Errorf("Advertise: %v, %v, want 45s", ttl, err)
	}
	if _, err := sa.FindPeers(t.Context(), "elsewhere"); !errors.Is(err, discovery.ErrUnknownNamespace) {
		t.Errorf("unknown namespace: %v", err)
	}
}

// awaitStream waits until from's router has a stream to to: before that it
// drops what is published.
func awaitStream(t *testing.T, from, to host.Host) {
	t.Helper()
	deadline := time.After(20 * time.Second)
	for {
		for _, c := range from.Network().ConnsToPeer(to.ID()) {
			for _, s := range c.GetStreams() {
				if s.Stat().Direction == network.DirOutbound && strings.HasPrefix(string(s.Protocol()), "/meshsub/") {
					return
				}
			}
		}
		select {
		case <-deadline:
			t.Fatal("no GossipSub stream")
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func TestForgedRecordIsRejected(t *testing.T) {
	a, b, victim := newHost(t), newHost(t), newHost(t)
	sa := newService(t, a)
	ps := newPubSub(t, b)
	connect(t, a, b)
	tp, err := ps.Join(topic)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tp.Subscribe(); err != nil {
		t.Fatal(err)
	}
	awaitStream(t, b, a)
	for _, h := range []host.Host{victim, b} { // b's own record last: it proves that the path works
		r := &discovery.Record{Key: h.Peerstore().PubKey(h.ID()), Addrs: b.Addrs()}
		data, err := r.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		if err := tp.Publish(t.Context(), data, pubsub.WithReadiness(pubsub.MinTopicSize(1))); err != nil {
			t.Fatal(err)
		}
	}
	awaitFound(t, sa, b.ID())
	for _, p := range sa.Peers() {
		if p.ID == victim.ID() {
			t.Error("b made a believe that victim has b's addresses")
		}
	}
}

func TestClose(t *testing.T) {
	h := newHost(t)
	s := newService(t, h)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for range s.Events(context.Background()) {
		}
	}()
	for range 2 {
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	<-done
	if _, err := s.FindPeers(t.Context(), topic); !errors.Is(err, discovery.ErrClosed) || !errors.Is(err, net.ErrClosed) {
		t.Errorf("FindPeers after Close: %v", err)
	}
	for range s.Events(t.Context()) {
		t.Error("an event after Close")
	}
	// everything was given back: the same can be had again
	ps := newPubSub(t, newHost(t))
	for range 2 {
		s, err := discovery.New(h, ps, discovery.WithTopics(topic))
		if err != nil {
			t.Fatal(err)
		}
		_ = s.Close()
	}
}

func TestNewRefuses(t *testing.T) {
	h := newHost(t)
	ps := newPubSub(t, h)
	for name, opts := range map[string][]discovery.Option{
		"no topic":       {discovery.WithTopics()},
		"empty topic":    {discovery.WithTopics("")},
		"doubled topic":  {discovery.WithTopics("a", "a")},
		"short interval": {discovery.WithInterval(time.Millisecond)},
		"long interval":  {discovery.WithInterval(time.Hour)},
		"no room":        {discovery.WithMaxPeers(0)},
	} {
		if s, err := discovery.New(h, ps, opts...); err == nil {
			t.Errorf("%s: no error", name)
			_ = s.Close()
		}
	}
	if err := ps.RegisterTopicValidator(topic, discovery.Validate); err != nil {
		t.Fatal(err)
	}
	if _, err := discovery.New(h, ps, discovery.WithTopics("other", topic)); err == nil {
		t.Error("a second validator on a topic: no error")
	}
	s, err := discovery.New(h, ps, discovery.WithTopics("other"))
	if err != nil {
		t.Fatalf("the failed New left something behind: %v", err)
	}
	_ = s.Close()
}
