package relay_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
	ma "github.com/multiformats/go-multiaddr"
	"go.uber.org/goleak"

	"github.com/tangop2p/tango/discovery"
	"github.com/tangop2p/tango/relay"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const topic = "test._peer-discovery._p2p._pubsub"

func newHost(t *testing.T, opts ...libp2p.Option) host.Host {
	t.Helper()
	h, err := libp2p.New(append([]libp2p.Option{
		libp2p.Transport(tcp.NewTCPTransport), libp2p.Transport(websocket.New),
		libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0/ws", "/ip4/127.0.0.1/tcp/0"),
	}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

func newRelay(t *testing.T, opts ...relay.Option) (*relay.Relay, host.Host) {
	t.Helper()
	h := newHost(t, libp2p.ResourceManager(resources(t)))
	r, err := relay.New(h, append([]relay.Option{relay.WithTopics(topic)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r, h
}

// resources is what tango.ResourceManager makes, which stands above.
func resources(t *testing.T) network.ResourceManager {
	t.Helper()
	l := relay.SignalingOnly()
	scaling := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&scaling)
	l.Scale(&scaling)
	rm, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(scaling.AutoScale()), l.ResourceManagerOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	return rm
}

func newPubSub(t *testing.T, h host.Host, opts ...pubsub.Option) *pubsub.PubSub {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	ps, err := pubsub.NewGossipSub(ctx, h, append(discovery.LeafOptions(), opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return ps
}

func join(t *testing.T, ps *pubsub.PubSub, topic string) (*pubsub.Topic, *pubsub.Subscription) {
	t.Helper()
	tp, err := ps.Join(topic)
	if err != nil {
		t.Fatal(err)
	}
	sub, err := tp.Subscribe(pubsub.WithBufferSize(1024))
	if err != nil {
		t.Fatal(err)
	}
	return tp, sub
}

func info(h host.Host) peer.AddrInfo { return peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()} }

func connect(t *testing.T, a, b host.Host) {
	t.Helper()
	if err := a.Connect(t.Context(), info(b)); err != nil {
		t.Fatal(err)
	}
}

func record(t *testing.T, of, at host.Host) []byte {
	t.Helper()
	data, err := (&discovery.Record{Key: of.Peerstore().PubKey(of.ID()), Addrs: at.Addrs()}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// connectGossip connects a leaf to the relay and waits until its router has a
// stream there: before that it drops what is published.
func connectGossip(t *testing.T, leaf, relay host.Host) {
	t.Helper()
	connect(t, leaf, relay)
	waitFor(t, func() bool {
		for _, c := range leaf.Network().ConnsToPeer(relay.ID()) {
			for _, s := range c.GetStreams() {
				if s.Stat().Direction == network.DirOutbound && strings.HasPrefix(string(s.Protocol()), "/meshsub/") {
					return true
				}
			}
		}
		return false
	})
}

func publish(t *testing.T, tp *pubsub.Topic, data []byte) {
	t.Helper()
	if err := tp.Publish(t.Context(), data, pubsub.WithReadiness(pubsub.MinTopicSize(1))); err != nil {
		t.Fatal(err)
	}
}

func next(t *testing.T, sub *pubsub.Subscription) *pubsub.Message {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	msg, err := sub.Next(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return msg
}

// A stock relay on loopback hands out no addresses at all.
func TestReservationOnLoopback(t *testing.T) {
	_, rh := newRelay(t)
	h := newHost(t)
	connect(t, h, rh)
	rsvp, err := client.Reserve(t.Context(), h, info(rh))
	if err != nil {
		t.Fatal(err)
	}
	if len(rsvp.Addrs) != 1 || !relay.BrowserDialable(rsvp.Addrs[0]) {
		t.Errorf("reservation addresses %v, want the one that browsers can dial", rsvp.Addrs)
	}
	if rsvp.LimitData != 128<<10 || rsvp.LimitDuration != 2*time.Minute {
		t.Errorf("limit %d bytes, %v: a circuit without a limit traps GossipSub", rsvp.LimitData, rsvp.LimitDuration)
	}
}

func TestReservationAddrsWithoutWebSocket(t *testing.T) {
	h, err := libp2p.New(libp2p.Transport(tcp.NewTCPTransport), libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	r, err := relay.New(h, relay.WithTopics())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	if r.PubSub() != nil {
		t.Error("a router although there is no topic")
	}
	c := newHost(t)
	connect(t, c, h)
	rsvp, err := client.Reserve(t.Context(), c, info(h))
	if err != nil {
		t.Fatal(err)
	}
	if len(rsvp.Addrs) != 1 {
		t.Errorf("reservation addresses %v, want the TCP one for want of better", rsvp.Addrs)
	}
}

func TestCircuitIsLimited(t *testing.T) {
	_, rh := newRelay(t)
	a, b := newHost(t), newHost(t)
	connect(t, b, rh)
	if _, err := client.Reserve(t.Context(), b, info(rh)); err != nil {
		t.Fatal(err)
	}
	circuit := rh.Addrs()[0].Encapsulate(ma.StringCast(fmt.Sprintf("/p2p/%s/p2p-circuit", rh.ID())))
	ctx := network.WithAllowLimitedConn(t.Context(), "test")
	if err := a.Connect(ctx, peer.AddrInfo{ID: b.ID(), Addrs: []ma.Multiaddr{circuit}}); err != nil {
		t.Fatal(err)
	}
	if c := a.Network().ConnsToPeer(b.ID()); len(c) != 1 || !c[0].Stat().Limited {
		t.Errorf("connections %v, want one that is limited", c)
	}
}

// The defaults of go-libp2p admit 8 connections from one address and 8
// reservations. Loopback is exempt there, so the resource manager is asked
// about an address that is not.
func TestAnOfficeFits(t *testing.T) {
	rm := resources(t)
	defer func() { _ = rm.Close() }()
	office := ma.StringCast("/ip4/192.0.2.1/tcp/1234/ws")
	for i := range relay.SignalingOnly().ReservationsPerIP {
		if _, err := rm.OpenConnection(network.DirInbound, true, office); err != nil {
			t.Fatalf("connection %d from one address: %v", i+1, err)
		}
	}
	_, rh := newRelay(t)
	for i := range 20 {
		h := newHost(t, libp2p.NoListenAddrs)
		connect(t, h, rh)
		if _, err := client.Reserve(t.Context(), h, info(rh)); err != nil {
			t.Fatalf("reservation %d from one address: %v", i+1, err)
		}
	}
}

func TestNewcomerHearsAtOnce(t *testing.T) {
	_, rh := newRelay(t)
	var early []host.Host
	for range 3 {
		h := newHost(t)
		early = append(early, h)
		tp, sub := join(t, newPubSub(t, h), topic)
		connectGossip(t, h, rh)
		publish(t, tp, []byte("not a record"))
		publish(t, tp, record(t, h, h))
		for next(t, sub).GetFrom() != h.ID() { // own messages are delivered too
		}
	}
	h := newHost(t)
	_, sub := join(t, newPubSub(t, h), topic)
	connect(t, h, rh)
	heard := map[peer.ID]bool{}
	for len(heard) < len(early) { // nobody announces any more
		msg := next(t, sub)
		if _, err := discovery.ParseRecord(msg.GetFrom(), msg.GetData()); err != nil {
			t.Errorf("heard %q: %v", msg.GetData(), err)
		}
		heard[msg.GetFrom()] = true
	}
}

// A newcomer may say nothing after its subscription: no heartbeat of its own
// asks for a place in the mesh, and it announces itself later. It hears of
// those there whether its subscription comes before our stream to it or after,
// which is a matter of chance, thus eight newcomers; then, of those who announce
// themselves before our first heartbeat, with that heartbeat.
func TestSilentNewcomerHears(t *testing.T) {
	const firstHeartbeat = 4 * time.Second
	started := time.Now()
	_, rh := newRelay(t, relay.WithPubSubOptions(heartbeatAfter(firstHeartbeat)))
	h := newHost(t)
	tp, _ := join(t, newPubSub(t, h), topic)
	connectGossip(t, h, rh)
	publish(t, tp, record(t, h, h))
	silent := make([]*pubsub.Subscription, 8)
	for i := range silent {
		leaf := newHost(t)
		_, silent[i] = join(t, newPubSub(t, leaf, heartbeatAfter(time.Hour)), topic)
		connect(t, leaf, rh)
		if got := next(t, silent[i]).GetFrom(); got != h.ID() {
			t.Errorf("newcomer %d hears of %v", i, got)
		}
	}
	if took := time.Since(started); took > firstHeartbeat {
		t.Logf("in %v: the first heartbeat may have helped", took)
	}
	late := record(t, h, h)
	publish(t, tp, late)
	for i, sub := range silent {
		if !slices.Equal(next(t, sub).GetData(), late) {
			t.Errorf("newcomer %d hears something else", i)
		}
	}
}

// heartbeatAfter delays a router's first heartbeat.
func heartbeatAfter(d time.Duration) pubsub.Option {
	params := pubsub.DefaultGossipSubParams()
	params.HistoryLength = 31 // as a relay has it
	params.HeartbeatInitialDelay = d
	return pubsub.WithGossipSubParams(params)
}

func TestNewcomerDoesNotHearOfTheGone(t *testing.T) {
	var heard deliveries
	r, rh := newRelay(t, relay.WithPubSubOptions(pubsub.WithRawTracer(&heard)))
	gone, leaving, here := newHost(t), newHost(t), newHost(t)
	for _, h := range []host.Host{gone, leaving, here} {
		tp, sub := join(t, newPubSub(t, h), topic)
		connectGossip(t, h, rh)
		publish(t, tp, record(t, h, h))
		next(t, sub)
		if h == leaving {
			data, err := (&discovery.Record{Key: h.Peerstore().PubKey(h.ID()), Leaving: true}).Marshal()
			if err != nil {
				t.Fatal(err)
			}
			publish(t, tp, data)
		}
	}
	waitFor(t, func() bool { return heard.n.Load() == 4 }) // what the three have said
	_ = gone.Close()
	waitFor(t, func() bool { return len(r.PubSub().ListPeers(topic)) == 2 })

	h := newHost(t)
	_, sub := join(t, newPubSub(t, h), topic)
	connect(t, h, rh)
	if msg := next(t, sub); msg.GetFrom() != here.ID() {
		t.Errorf("heard of %v (gone %v, leaving %v), want %v", msg.GetFrom(), gone.ID(), leaving.ID(), here.ID())
	}
}

// deliveries counts the messages that the relay has taken.
type deliveries struct {
	relay.NoTracer

	n atomic.Int64
}

func (d *deliveries) DeliverMessage(*pubsub.Message) { d.n.Add(1) }

func waitFor(t *testing.T, ok func() bool) {
	t.Helper()
	deadline := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-deadline:
			t.Fatal("waited 10 s in vain")
		case <-time.After(5 * time.Millisecond):
		}
	}
}

func TestForgedRecordsAreNotForwarded(t *testing.T) {
	var mesh meshCounter
	_, rh := newRelay(t, relay.WithPubSubOptions(pubsub.WithRawTracer(&mesh)))
	liar, victim, reader := newHost(t), newHost(t), newHost(t)
	tp, _ := join(t, newPubSub(t, liar), topic)
	_, sub := join(t, newPubSub(t, reader), topic)
	connectGossip(t, liar, rh)
	connect(t, reader, rh)
	waitFor(t, func() bool { return mesh.grafted.Load() == 2 }) // so that it would get what is forwarded
	publish(t, tp, record(t, victim, liar))
	publish(t, tp, slices.Concat(record(t, liar, liar), slices.Repeat([]byte{0x12, 0x08, 4, 127, 0, 0, 1, 6, 0, 1}, 20_000)))
	publish(t, tp, []byte{0xff})
	honest := record(t, liar, liar)
	publish(t, tp, honest)
	if msg := next(t, sub); !slices.Equal(msg.GetData(), honest) {
		t.Errorf("forwarded %d bytes from %v, want the honest record only", len(msg.GetData()), msg.GetFrom())
	}
}

// meshCounter counts how many peers the relay has taken into its mesh.
type meshCounter struct {
	relay.NoTracer

	grafted atomic.Int64
}

func (m *meshCounter) Graft(peer.ID, string) { m.grafted.Add(1) }

// With go-libp2p-pubsub's default parameters a relay keeps 12 peers in its
// mesh and the others miss part of the announcements.
func TestEveryoneHearsEveryone(t *testing.T) {
	const n = 30
	var mesh meshCounter
	_, rh := newRelay(t, relay.WithTopics(), relay.WithForwarding("chat"),
		relay.WithPubSubOptions(pubsub.WithRawTracer(&mesh)))
	var topics []*pubsub.Topic
	var subs []*pubsub.Subscription
	for range n {
		h := newHost(t, libp2p.NoListenAddrs)
		tp, sub := join(t, newPubSub(t, h), "chat")
		connectGossip(t, h, rh)
		topics, subs = append(topics, tp), append(subs, sub)
	}
	waitFor(t, func() bool { return mesh.grafted.Load() == n })
	for i, tp := range topics {
		publish(t, tp, []byte{byte(i)})
	}
	var missed atomic.Int64
	var wg sync.WaitGroup
	for _, sub := range subs {
		wg.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
			defer cancel()
			for got := range n {
				if _, err := sub.Next(ctx); err != nil {
					missed.Add(int64(n - got))
					return
				}
			}
		})
	}
	wg.Wait()
	if m := missed.Load(); m > 0 {
		t.Errorf("%d of %d deliveries missing", m, n*n)
	}
}

func TestUnknownTopicsAreNotKept(t *testing.T) {
	r, rh := newRelay(t)
	h := newHost(t)
	ps := newPubSub(t, h)
	for i := range 50 {
		join(t, ps, fmt.Sprint("own topic ", i))
	}
	join(t, ps, topic)
	connect(t, h, rh)
	waitFor(t, func() bool { return len(r.PubSub().ListPeers(topic)) == 1 })
	if p := r.PubSub().ListPeers("own topic 1"); len(p) != 0 {
		t.Errorf("keeps %v for a topic of a stranger", p)
	}
}

func TestWithPubSub(t *testing.T) {
	h := newHost(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	ps, err := pubsub.NewGossipSub(ctx, h, relay.HubOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	r, err := relay.New(h, relay.WithTopics(topic), relay.WithPubSub(ps))
	if err != nil {
		t.Fatal(err)
	}
	if r.PubSub() != ps || len(r.Topics()) != 1 {
		t.Error("does not use the router given")
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := ps.Join(topic); err != nil {
		t.Errorf("Close left the topic behind: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	limits := func(change func(*relay.Limits)) relay.Option {
		l := relay.SignalingOnly()
		change(&l)
		return relay.WithLimits(l)
	}
	h := newHost(t)
	ps := newPubSub(t, h)
	for name, opts := range map[string][]relay.Option{
		"unlimited data":                        {limits(func(l *relay.Limits) { l.CircuitBytes = 0 })},
		"unlimited duration":                    {limits(func(l *relay.Limits) { l.CircuitDuration = 0 })},
		"no reservation":                        {limits(func(l *relay.Limits) { l.Reservations = 0 })},
		"empty topic":                           {relay.WithTopics("")},
		"topic twice":                           {relay.WithTopics("a"), relay.WithForwarding("a")},
		"options for a router that is not ours": {relay.WithPubSub(ps), relay.WithPubSubOptions(pubsub.WithFloodPublish(true))},
	} {
		if _, err := relay.CheckOptions(opts...); err == nil {
			t.Errorf("%s: CheckOptions finds nothing", name)
		}
		if r, err := relay.New(h, opts...); err == nil {
			t.Errorf("%s: no error", name)
			_ = r.Close()
		}
	}
	for _, l := range []relay.Limits{relay.SignalingOnly(), relay.Data()} {
		if err := l.Validate(); err != nil {
			t.Errorf("preset: %v", err)
		}
	}
}

func TestClose(t *testing.T) {
	r, rh := newRelay(t)
	for range 2 {
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
	}
	h := newHost(t)
	connect(t, h, rh)
	var refused client.ReservationError
	if _, err := client.Reserve(t.Context(), h, info(rh)); !errors.As(err, &refused) {
		t.Errorf("reserve after Close: %v, want a refusal", err)
	}
}
