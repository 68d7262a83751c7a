package interop

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// Config is how a peer is set up; the fields are those of Config in js/peer.ts.
type Config struct {
	Relays    []string `json:"relays"`
	Topics    []string `json:"topics,omitempty"`
	Interval  int      `json:"interval,omitempty"` // ms between announcements; 0: js-libp2p's default, 10 s
	Subscribe []string `json:"subscribe,omitempty"`
	Dial      *bool    `json:"dial,omitempty"` // nil: true
}

// Peer is a js-libp2p peer in a browser profile of its own, or in Node.
type Peer struct {
	Name string // for messages
	ID   string // empty before Start
	tab  *Tab
}

// Open makes a place for a peer.
func (a *Agent) Open(t testing.TB) *Peer {
	t.Helper()
	p := &Peer{Name: string(a.Kind), tab: a.OpenTab(t)}
	t.Cleanup(func() {
		if t.Failed() {
			p.dump(t)
		}
	})
	return p
}

// Start loads the page that starts the peer, and returns once the peer has a
// reservation at each relay.
func (p *Peer) Start(ctx context.Context, config Config) error {
	return p.tab.call(ctx, request{Op: "start", Config: &config}, &p.ID)
}

// State returns all that the peer knows.
func (p *Peer) State(ctx context.Context) (State, error) {
	var s State
	err := p.method(ctx, &s, "state")
	return s, err
}

// Dial connects to the peer with that id.
func (p *Peer) Dial(ctx context.Context, id string, addrs []string) error {
	return p.method(ctx, nil, "dial", id, addrs)
}

// Abort ends a connection without ceremony.
func (p *Peer) Abort(ctx context.Context, connection string) error {
	return p.method(ctx, nil, "abort", connection)
}

// Publish sends text, padded to size bytes, and returns the peers that it went to.
func (p *Peer) Publish(ctx context.Context, topic, text string, size int) ([]string, error) {
	var recipients []string
	err := p.method(ctx, &recipients, "publish", topic, text, size)
	return recipients, err
}

// Ping returns the round trip time over the direct connection to a peer.
func (p *Peer) Ping(ctx context.Context, id string) (time.Duration, error) {
	var ms float64
	err := p.method(ctx, &ms, "ping", id)
	return time.Duration(ms * float64(time.Millisecond)), err
}

// Close closes the peer's page, as a user does: nothing is said to anybody.
func (p *Peer) Close(ctx context.Context) error {
	return p.tab.Close(ctx)
}

// Await looks at the peer until ok is true, and returns the state that was; it
// ends the test if that takes longer than limit.
func (p *Peer) Await(t testing.TB, limit time.Duration, what string, ok func(State) bool) State {
	t.Helper()
	var s State
	Await(t, limit, p.Name+" "+what, func(ctx context.Context) (bool, error) {
		var err error
		s, err = p.State(ctx)
		return err == nil && ok(s), err
	})
	return s
}

func (p *Peer) method(ctx context.Context, result any, name string, parameters ...any) error {
	return p.tab.call(ctx, request{Op: "call", Method: name, Parameters: append([]any{}, parameters...)}, result)
}

// dumpedEvents covers the last connection attempts, about thirty events each.
const dumpedEvents = 150

func (p *Peer) dump(t testing.TB) {
	t.Helper()
	// Not t.Context(): that ends before cleanup.
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	var out strings.Builder
	s, err := p.State(ctx)
	if err != nil {
		fmt.Fprintf(&out, "no state: %v\n", err)
	}
	fmt.Fprintf(&out, "addresses %v\nsubscribers %v\nmarks %+v\n", s.Addresses, s.Subscribers, s.Marks)
	for _, c := range s.Connections {
		fmt.Fprintf(&out, "connection %+v\n", c)
	}
	for _, d := range s.Dials {
		fmt.Fprintf(&out, "dial %+v\n", d)
	}
	for _, e := range s.Events[max(0, len(s.Events)-dumpedEvents):] {
		fmt.Fprintf(&out, "%s %s %s\n", e.At.Time().Format("15:04:05.000"), e.Kind, e.Detail)
	}
	t.Logf("%s, %s, peer %s:\n%s", p.Name, p.tab.agent.Version, p.ID, out.String())
}
