package interop

import (
	"context"
	"fmt"
	"net"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	// chaosPeers is how many light peers there are, beside browsers and whole peers.
	chaosPeers = 200
	// comeback is how long all of them may take to hold a reservation again.
	comeback = 10 * time.Second
	// drainLimit is what the relay's circuits have left after SIGTERM, less than the
	// longest of the crowd's want.
	drainLimit = 2 * time.Second
)

// TestChaos: the relay is killed under 200 peers with traffic on their circuits, and
// started again; then it is drained and started again. Each time all hold a
// reservation again soon, and connections that are direct do not end.
//
// The light peers do what applications write around go-libp2p's client.Reserve: they
// notice the end of the connection, and dial and reserve once a second. The Go peers
// have package reservation, the js-libp2p peers a look once a second (js/peer.ts).
// The relay has its default limits, so the peers come from several addresses.
func TestChaos(t *testing.T) {
	Need(t, Chromium, Node)
	place := newChaos(t)
	t.Run("kill", func(t *testing.T) {
		place.crowd.ask(t, crowdRequest{Op: "mark"})
		place.relay.Kill()
		killed := time.Now()
		place.relay.Restart(t)
		place.recover(t, killed)
	})
	t.Run("drain", func(t *testing.T) {
		place.crowd.ask(t, crowdRequest{Op: "mark"})
		if err := place.relay.Terminate(); err != nil {
			t.Fatal(err)
		}
		gone := time.Now()
		place.relay.Restart(t)
		place.recover(t, gone)
		for what, n := range place.failed {
			if strings.Contains(what, silent) {
				t.Errorf("%d times without a reason: %s", n, what)
			}
		}
		if place.failed[shutdown] == 0 {
			t.Errorf("no circuit that was open to the end ended with the code for it: %v", place.failed)
		}
	})
}

// silent is what crowd/keep.go says of an end without a reason, and shutdown of
// a circuit that the relay reset with network.StreamShutdown.
const silent, shutdown = "no reason", "circuit ended: stream code 0x1007"

// chaos is a relay with all kinds of peers.
type chaos struct {
	relay  *Relay
	crowd  *crowd
	peers  []*Peer
	pairs  [][2]*Peer   // those with a direct connection
	direct []Connection // of the first of each pair
	failed map[string]int
}

func newChaos(t *testing.T) *chaos {
	t.Helper()
	c := &chaos{}
	var addrs []string
	c.relay, addrs = startRelayAt(t, 6, "-drain", drainLimit.String())
	binary, err := build(".", "crowd", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	c.crowd = startCrowd(t, binary, addrs[2:]...)
	c.crowd.ask(t, crowdRequest{Op: "connect", N: chaosPeers})
	c.crowd.ask(t, crowdRequest{Op: "reserve"})
	c.crowd.ask(t, crowdRequest{Op: "keep"})
	browser := StartAgent(t, Chromium)
	c.peers = []*Peer{browser.Open(t), browser.Open(t), StartAgent(t, Node).Open(t), StartAgent(t, Go).Open(t), StartAgent(t, Go).Open(t)}
	c.pairs = [][2]*Peer{{c.peers[0], c.peers[1]}, {c.peers[3], c.peers[2]}, {c.peers[4], c.peers[0]}, {c.peers[3], c.peers[4]}}
	c.meet(t, Config{Relays: addrs[:1], Comeback: Loop})
	Await(t, 20*time.Second, "everybody talks over circuits", func(ctx context.Context) (bool, error) {
		s, err := c.crowd.do(ctx, crowdRequest{Op: "status"})
		return s.Done["held"] == chaosPeers && s.Done["talked"] == chaosPeers, fmt.Errorf("%w: %v", err, s)
	})
	return c
}

// meet starts the whole peers, and connects those of each pair.
func (c *chaos) meet(t *testing.T, config Config) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	dial := false
	config.Dial = &dial
	for i, p := range c.peers {
		p.Name = fmt.Sprintf("%s %d", p.Name, i)
		if err := p.Start(ctx, config); err != nil {
			t.Fatalf("%s does not get a reservation: %v", p.Name, err)
		}
	}
	for _, pair := range c.pairs {
		(&pairing{dialler: pair[0].tab.agent.Kind, listener: pair[1].tab.agent.Kind, a: pair[0], b: pair[1]}).meet(t)
		c.direct = append(c.direct, pair[0].AwaitDirect(t, time.Second, pair[1].ID))
	}
}

// startRelayAt starts a relay with default limits at n addresses that are neither
// loopback, for which resource managers make exceptions, nor private, which AutoRelay
// does not publish, and returns its addresses there. Who dials one of them comes from it.
func startRelayAt(t testing.TB, n int, args ...string) (*Relay, []string) {
	t.Helper()
	unavailable(t, errSandbox)
	sandboxAddresses(t, n)
	_, port, _ := net.SplitHostPort(freeAddress(t))
	announce := fmt.Sprintf("/ip4/%s/tcp/%s/ws", sandboxAddress(0), port)
	r := StartRelayIn(t, nil, "0.0.0.0:"+port, append([]string{"-announce", announce, "-trace", ""}, args...)...)
	var addrs []string
	for i := range n {
		addrs = append(addrs, fmt.Sprintf("/ip4/%s/tcp/%s/ws/p2p/%s", sandboxAddress(i), port, r.ID))
	}
	return r, addrs
}

// sandboxAddress is a public one as far as libp2p can tell.
func sandboxAddress(i int) string { return fmt.Sprintf("11.98.0.%d", i+1) }

func sandboxAddresses(t testing.TB, n int) {
	t.Helper()
	for i := range n {
		var sandbox *Namespace
		if err := sandbox.IP("addr replace " + sandboxAddress(i) + "/32 dev lo"); err != nil {
			t.Fatal(err)
		}
	}
}

// recover waits until everybody is back, and fails unless that was soon.
func (c *chaos) recover(t *testing.T, since time.Time) {
	t.Helper()
	ctx, cancel := context.WithDeadline(t.Context(), since.Add(comeback))
	defer cancel()
	var took time.Duration
	var wg sync.WaitGroup
	wg.Go(func() { took = c.held(ctx, t, since) })
	c.returned(t, since)
	wg.Wait()
	t.Logf("all %d light peers had a reservation after %v", chaosPeers, took.Round(time.Millisecond))
	s, err := c.crowd.do(t.Context(), crowdRequest{Op: "status"})
	if err != nil {
		t.Fatal(err)
	}
	c.failed = s.Failed
	c.crowd.ask(t, crowdRequest{Op: "mark"})
	Await(t, 20*time.Second, "everybody talks over circuits again", func(ctx context.Context) (bool, error) {
		s, err := c.crowd.do(ctx, crowdRequest{Op: "status"})
		return s.Done["talked"] == chaosPeers, fmt.Errorf("%w: %v", err, s)
	})
	t.Logf("what failed meanwhile: %v", c.failed)
	c.stayed(t)
}

// returned waits until all whole peers can be reached through the relay.
func (c *chaos) returned(t *testing.T, since time.Time) {
	t.Helper()
	ctx, cancel := context.WithDeadline(t.Context(), since.Add(comeback))
	defer cancel()
	took := make([]time.Duration, len(c.peers))
	var wg sync.WaitGroup
	for i, p := range c.peers {
		wg.Go(func() { took[i] = c.reached(ctx, t, p.ID, since) })
	}
	wg.Wait()
	for i, p := range c.peers {
		t.Logf("%s was reached through the relay after %v", p.Name, took[i].Round(time.Millisecond))
		if took[i] > comeback/2 {
			p.dump(t) // it was close
		}
	}
}

// stayed fails unless the direct connections are those of the beginning, and work.
func (c *chaos) stayed(t *testing.T) {
	t.Helper()
	for i, pair := range c.pairs {
		if now := pair[0].AwaitDirect(t, time.Second, pair[1].ID); now.ID != c.direct[i].ID {
			t.Errorf("%s lost its direct connection to %s: had %s, has %s", pair[0].Name, pair[1].Name, c.direct[i].ID, now.ID)
		}
		if _, err := pair[0].Ping(t.Context(), pair[1].ID); err != nil {
			t.Errorf("%s pings %s: %v", pair[0].Name, pair[1].Name, err)
		}
	}
}

// reached returns when a peer of the crowd could open a circuit to the peer.
func (c *chaos) reached(ctx context.Context, t *testing.T, id string, since time.Time) time.Duration {
	return c.until(ctx, t, since, crowdRequest{Op: "reach", Peer: id}, func(a crowdAnswer) bool { return len(a.Failed) == 0 })
}

// held returns when all of the crowd had a reservation.
func (c *chaos) held(ctx context.Context, t *testing.T, since time.Time) time.Duration {
	return c.until(ctx, t, since, crowdRequest{Op: "status"}, func(a crowdAnswer) bool { return a.Done["held"] == chaosPeers })
}

// until is Await for use in a goroutine.
func (c *chaos) until(ctx context.Context, t *testing.T, since time.Time, r crowdRequest, ok func(crowdAnswer) bool) time.Duration {
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	for {
		// Not cancelled: what ends in the middle of an answer ends the crowd.
		a, err := c.crowd.do(context.WithoutCancel(ctx), r)
		if err == nil && ok(a) {
			return time.Since(since)
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Errorf("not within %v: %+v (last look: %v, %v)", comeback, r, a, err)
			return comeback
		}
	}
}
