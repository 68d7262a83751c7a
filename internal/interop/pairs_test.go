package interop

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"
)

const (
	chatTopic = "interop-chat"
	// discoveryTopic is the default of pubsubPeerDiscovery, and of the relay.
	discoveryTopic = "_peer-discovery._p2p._pubsub"
)

const (
	// discoveryLimit is three announcements at js-libp2p's default of one in 10 s.
	discoveryLimit = 30 * time.Second
	// survival is how long messages must flow once the relay is gone.
	survival = 30 * time.Second
	// messageInterval is the time between two messages of one side.
	messageInterval = 500 * time.Millisecond
)

// TestPairs: two browsers discover each other through the relay, connect directly,
// talk, and go on talking when the relay dies.
func TestPairs(t *testing.T) {
	for _, pair := range []struct{ first, second Kind }{
		{Chromium, Chromium},
		{Firefox, Firefox},
		{Chromium, Firefox},
	} {
		t.Run(string(pair.first)+"-"+string(pair.second), func(t *testing.T) {
			testPair(t, pair.first, pair.second, survival)
		})
	}
}

// TestNodePair is the same without a browser, and shorter: the first to fail.
func TestNodePair(t *testing.T) {
	testPair(t, Node, Node, 5*time.Second)
}

func testPair(t *testing.T, first, second Kind, survival time.Duration) {
	Need(t, first, second)
	relay := StartRelay(t, "-forward", chatTopic)
	a, b := openPeer(t, first, "first"), openPeer(t, second, "second")
	startPeer(t, a, relay)
	startPeer(t, b, relay)
	connectDirectly(t, a, b)
	t.Run("talk", func(t *testing.T) { talk(t, a, b) })
	t.Run("message ids", func(t *testing.T) { compareMessageIDs(t, relay, a, b) })
	t.Run("relay dies", func(t *testing.T) { outliveRelay(t, relay, a, b, survival) })
}

// openPeer starts a browser for one peer: each has a profile and a process of its own.
func openPeer(t testing.TB, kind Kind, name string) *Peer {
	t.Helper()
	p := StartAgent(t, kind).Open(t)
	p.Name = name + " (" + string(kind) + ")"
	return p
}

func startPeer(t *testing.T, p *Peer, relay *Relay) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	if err := p.Start(ctx, Config{Relays: relay.Addrs, Subscribe: []string{chatTopic}}); err != nil {
		t.Fatalf("%s does not get a reservation: %v", p.Name, err)
	}
}

// connectDirectly waits until both peers have discovered each other, have an
// identified WebRTC connection, and run GossipSub on it.
func connectDirectly(t *testing.T, a, b *Peer) {
	t.Helper()
	b.Await(t, discoveryLimit, "discovers the first by pubsub", discovers(a))
	a.Await(t, discoveryLimit, "discovers the second by pubsub", discovers(b))
	awaitIdentified(t, a, b)
	a.Await(t, 10*time.Second, "gossips on the direct connection", gossips(b))
	b.Await(t, 10*time.Second, "gossips on the direct connection", gossips(a))
	for _, side := range [][2]*Peer{{a, b}, {b, a}} {
		rtt, err := side[0].Ping(t.Context(), side[1].ID)
		if err != nil {
			t.Fatalf("%s pings: %v", side[0].Name, err)
		}
		t.Logf("%s: ping %v", side[0].Name, rtt)
	}
}

// discovers: js-libp2p says peer:discovery of a peer also when that peer connects, so
// the announcement itself must have arrived too.
func discovers(other *Peer) func(State) bool {
	return func(s State) bool {
		_, ok := s.Discovery(other.ID)
		return ok && len(s.Received(discoveryTopic, other.ID)) > 0
	}
}

func gossips(other *Peer) func(State) bool {
	return func(s State) bool { return s.Gossips(other.ID) && slices.Contains(s.Subscribers[chatTopic], other.ID) }
}

func identified(s State, id string) bool {
	c, ok := s.Direct(id)
	return ok && c.Identified
}

// awaitIdentified dials again after a fault of js-libp2p, and after nothing else.
func awaitIdentified(t testing.TB, a, b *Peer) {
	t.Helper()
	Await(t, 60*time.Second, "both have an identified direct connection", func(ctx context.Context) (bool, error) {
		sa, err := a.State(ctx)
		if err != nil {
			return false, err
		}
		sb, err := b.State(ctx)
		if err != nil {
			return false, err
		}
		if identified(sa, b.ID) && identified(sb, a.ID) {
			return true, nil
		}
		redial(ctx, t, a, sa, b)
		redial(ctx, t, b, sb, a)
		return false, fmt.Errorf("%s: dials %+v, connections %+v; %s: dials %+v, connections %+v",
			a.Name, sa.Dials, sa.Connections, b.Name, sb.Dials, sb.Connections)
	})
}

// redial looks at p's last dial to the other peer. One that failed must show a
// known fault, or the test has failed.
func redial(ctx context.Context, t testing.TB, p *Peer, s State, other *Peer) {
	t.Helper()
	last, ok := s.LastDial(other.ID)
	if !ok || last.EndedAt == 0 {
		return
	}
	f, ok := findFault(s, last)
	if !ok {
		if _, direct := s.Direct(other.ID); last.Error != "" && !direct {
			t.Fatalf("%s: dial fails: %s", p.Name, last.Error)
		}
		return
	}
	t.Logf("%s: js-libp2p fault %s, dialling again (%s)", p.Name, f.name, f.reference)
	seen.add(f)
	ctx, cancel := context.WithTimeout(ctx, 15*time.Second)
	defer cancel()
	if c, ok := s.Direct(other.ID); ok {
		if err := p.Abort(ctx, c.ID); err != nil {
			t.Fatal(err)
		}
	}
	found, _ := s.Discovery(other.ID)
	if len(found.Addresses) == 0 { // the test has told it the addresses
		theirs, err := other.State(ctx)
		if err != nil {
			t.Fatal(err)
		}
		found.Addresses = theirs.WebRTC()
	}
	// A failure is the next look's to judge: it is in the list of dials.
	_ = p.Dial(ctx, other.ID, found.Addresses)
}

// talk sends a few messages each way while the relay is alive. One is larger than
// 512 bytes, above which js-libp2p announces its id with IDONTWANT.
func talk(t *testing.T, a, b *Peer) {
	for i, size := range []int{0, 100, 2000, 0} {
		for _, side := range [][2]*Peer{{a, b}, {b, a}} {
			text := fmt.Sprintf("message %d of %s", i, side[0].Name)
			if _, err := side[0].Publish(t.Context(), chatTopic, text, size); err != nil {
				t.Fatalf("%s publishes: %v", side[0].Name, err)
			}
			side[1].Await(t, 10*time.Second, "receives "+text, func(s State) bool {
				return s.Reached(chatTopic, side[0].ID, text)
			})
		}
	}
}

// compareMessageIDs: js-libp2p and the relay must give a message the same id, or
// each IHAVE and IDONTWANT between them is about nothing.
func compareMessageIDs(t *testing.T, relay *Relay, peers ...*Peer) {
	computed := map[string]bool{}
	for _, p := range peers {
		s, err := p.State(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range s.Messages {
			if m.Topic == chatTopic {
				computed[m.ID] = true
			}
		}
	}
	if len(computed) == 0 {
		t.Fatal("no peer received anything")
	}
	var trace *Trace
	Await(t, 5*time.Second, "the relay has the messages under the ids that js-libp2p computes", func(context.Context) (bool, error) {
		var err error
		if trace, err = relay.Trace(); err != nil {
			return false, err
		}
		if missing := difference(computed, trace.Delivered[chatTopic]); len(missing) > 0 {
			return false, fmt.Errorf("js-libp2p computed %v, the relay has %v", missing, difference(trace.Delivered[chatTopic], computed))
		}
		unknown := trace.Unknown()
		return len(unknown) == 0, fmt.Errorf("ids that only js-libp2p knows: %v", unknown)
	})
	if extra := difference(trace.Delivered[chatTopic], computed); len(extra) > 0 {
		t.Errorf("the relay has ids that no peer computed: %v", extra)
	}
	t.Logf("%d messages under the same ids; %d ids named in control messages, all known", len(computed), len(trace.Named))
}

func difference(a, b map[string]bool) []string {
	var only []string
	for id := range a {
		if !b[id] {
			only = append(only, id)
		}
	}
	slices.Sort(only)
	return only
}

// outliveRelay kills the relay in the middle of a conversation. Messages that are
// sent once both peers have noticed must all arrive; what is lost before that is
// reported only.
func outliveRelay(t *testing.T, relay *Relay, a, b *Peer, survival time.Duration) {
	talks := []*monologue{{from: a, to: b}, {from: b, to: a}}
	ticker := time.NewTicker(messageInterval)
	defer ticker.Stop()
	var killed, noticed time.Time
	for tick := 0; noticed.IsZero() || time.Since(noticed) < survival; tick++ {
		if tick == 4 {
			relay.Kill()
			killed = time.Now()
		}
		sayAll(t, talks, noticed)
		if !killed.IsZero() && noticed.IsZero() {
			if !hasConnection(t, a, relay.ID) && !hasConnection(t, b, relay.ID) {
				noticed = time.Now()
			} else if time.Since(killed) > 15*time.Second {
				t.Fatal("the peers still have connections to the dead relay")
			}
		}
		<-ticker.C
	}
	for _, m := range talks {
		m.settle(t)
		lost, gap := m.judge(t, killed)
		t.Logf("%s to %s: %d sent, %d lost before the peers noticed that the relay was gone (%v), %d after; longest gap %v",
			m.from.Name, m.to.Name, len(m.sent), len(lost)-m.lostAfter, noticed.Sub(killed).Round(time.Millisecond), m.lostAfter, gap)
	}
}

func hasConnection(t *testing.T, p *Peer, id string) bool {
	t.Helper()
	s, err := p.State(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return s.Has(id)
}

// monologue is what one peer says to the other.
type monologue struct {
	from, to  *Peer
	sent      []sentence
	state     State // of the listener, at the end
	lostAfter int
}

type sentence struct {
	text string
	must bool // it was sent after the settle window and must arrive
}

func sayAll(t *testing.T, talks []*monologue, noticed time.Time) {
	t.Helper()
	var wg sync.WaitGroup
	for _, m := range talks {
		wg.Go(func() {
			s := sentence{text: fmt.Sprintf("sentence %d", len(m.sent)), must: !noticed.IsZero()}
			m.sent = append(m.sent, s)
			ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
			defer cancel()
			if _, err := m.from.Publish(ctx, chatTopic, s.text, 0); err != nil && s.must {
				t.Errorf("%s publishes %s: %v", m.from.Name, s.text, err)
			}
		})
	}
	wg.Wait()
}

// settle gives the last sentences the time to arrive.
func (m *monologue) settle(t *testing.T) {
	t.Helper()
	last := m.sent[len(m.sent)-1].text
	m.state = m.to.Await(t, 10*time.Second, "receives "+last, func(s State) bool {
		return s.Reached(chatTopic, m.from.ID, last)
	})
}

// judge returns the sentences that were lost and the longest time without one
// since the relay died.
func (m *monologue) judge(t *testing.T, killed time.Time) (lost []string, gap time.Duration) {
	t.Helper()
	for _, s := range m.sent {
		if m.state.Reached(chatTopic, m.from.ID, s.text) {
			continue
		}
		lost = append(lost, s.text)
		if s.must {
			m.lostAfter++
		}
	}
	if m.lostAfter > 0 {
		t.Errorf("%s did not receive %v", m.to.Name, lost)
	}
	before := killed
	for _, message := range m.state.Received(chatTopic, m.from.ID) {
		at := message.At.Time()
		if at.Before(killed) {
			continue
		}
		gap = max(gap, at.Sub(before))
		before = at
	}
	return lost, gap.Round(time.Millisecond)
}
