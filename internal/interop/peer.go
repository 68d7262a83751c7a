package interop

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/tangop2p/tango/internal/interop/exercise"
)

// Config is how a peer is set up; the fields are those of Config in js/peer.ts.
type Config struct {
	Relays    []string `json:"relays"`
	Topics    []string `json:"topics,omitempty"`
	Interval  int      `json:"interval,omitempty"` // ms between announcements; 0: js-libp2p's default, 10 s
	Subscribe []string `json:"subscribe,omitempty"`
	Dial      *bool    `json:"dial,omitempty"` // nil: true
	// Comeback is how a js-libp2p peer comes back to a relay that was away, if it does; a Go peer always does.
	Comeback Comeback `json:"comeback,omitempty"`
	// ICEServers are URLs of STUN servers.
	ICEServers []string `json:"iceServers,omitempty"`
	// Invite is a token for relays that want one; of js-libp2p only.
	Invite      string `json:"invite,omitempty"`
	InviteAfter int    `json:"inviteAfter,omitempty"` // ms from a connection to the invite
}

// Comeback is how a js-libp2p peer comes back to a relay that was away.
type Comeback string

// The ways to come back.
const (
	// Stock is by what js-libp2p does itself, one dial at the moment of the loss.
	Stock Comeback = "stock"
	// Loop is by a dial a second, too.
	Loop Comeback = "loop"
)

// Peer is a peer of any [Kind]. A js-libp2p one in a browser has a profile of its own.
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

// Connect is Dial; it returns how long it took, as the peer itself measures it.
func (p *Peer) Connect(ctx context.Context, id string, addrs []string) (time.Duration, error) {
	var ms float64
	err := p.method(ctx, &ms, "dial", id, addrs)
	return time.Duration(ms * float64(time.Millisecond)), err
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

// Streams opens count echo streams over the direct connection to a peer, up to
// concurrent at once, each with size bytes of its own.
func (p *Peer) Streams(ctx context.Context, id string, count, concurrent, size int) (exercise.Outcome, error) {
	var got exercise.Outcome
	err := p.method(ctx, &got, "streams", id, count, concurrent, size)
	return got, err
}

// seed is any number but 0, see [exercise.Random].
const seed = 20

// Upload sends bytes to a peer, whose digest of them has to be the same.
func (p *Peer) Upload(ctx context.Context, id string, size int) (exercise.Transfer, error) {
	var got exercise.Transfer
	err := p.method(ctx, &got, "upload", id, size, seed)
	return got, err
}

// Download has a peer send bytes, whose digest has to be the expected one.
func (p *Peer) Download(ctx context.Context, id string, size int) (exercise.Transfer, error) {
	var got exercise.Transfer
	err := p.method(ctx, &got, "download", id, size, seed)
	return got, err
}

// HalfClose has a peer end its direction first, and then sends bytes to it.
func (p *Peer) HalfClose(ctx context.Context, id string, size int) (exercise.HalfClosed, error) {
	var got exercise.HalfClosed
	err := p.method(ctx, &got, "halfClose", id, size, seed)
	return got, err
}

// ResetSeen has a peer reset a stream and returns how it ends here.
func (p *Peer) ResetSeen(ctx context.Context, id string) (string, error) {
	var end string
	err := p.method(ctx, &end, "resetSeen", id)
	return end, err
}

// Received returns the streams of a test protocol that others have opened and that have ended.
func (p *Peer) Received(ctx context.Context, id protocol.ID) ([]exercise.Received, error) {
	var got []exercise.Received
	err := p.method(ctx, &got, "received", id)
	return got, err
}

// Kill ends the peer's process, and its browser, as a crash would.
func (p *Peer) Kill() { p.tab.agent.Kill() }

// AwaitDirect waits for a direct connection to a peer and returns it.
func (p *Peer) AwaitDirect(t testing.TB, limit time.Duration, id string) Connection {
	t.Helper()
	s := p.Await(t, limit, "has a direct connection", func(s State) bool {
		_, ok := s.Direct(id)
		return ok
	})
	c, _ := s.Direct(id)
	return c
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
