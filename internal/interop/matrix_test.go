package interop

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/tangop2p/tango/internal/interop/exercise"
)

// The sizes of the matrix.
const (
	sequential     = 1500 // beyond the 1,024 stream ids that browsers and Go agree upon
	sequentialSize = 1000
	sustained      = 12_000
	concurrent     = 100 // js-libp2p's own limit is 32
	bursts         = 4   // of concurrent streams, one after another
	concurrentSize = 64 << 10
	transferSize   = 64 << 20
	halfCloseSize  = 20_000
	// idle is four rounds of js-libp2p's connection monitor.
	idle     = 45 * time.Second
	longIdle = 10 * time.Minute
	// noticeLimit is for a dialler to notice that the listener is gone, which
	// takes a Firefox up to 32 s.
	noticeLimit = 50 * time.Second
)

// matrix lists who dials whom.
var matrix = [][2]Kind{
	{Go, Go},
	{Go, Node},
	{Node, Go},
	{Go, Chromium},
	{Chromium, Go},
	{Go, Firefox},
	{Firefox, Go},
}

// controls are what js-libp2p does with itself, without Go.
var controls = [][2]Kind{
	{Node, Node},
	{Chromium, Chromium},
	{Chromium, Firefox},
	{Firefox, Chromium},
	{Firefox, Firefox},
}

// pairsEnv names pairs to test instead, as in "node-chromium,chromium-firefox".
const pairsEnv = "TANGO_INTEROP_PAIRS"

func pairsOr(pairs [][2]Kind) [][2]Kind {
	names := os.Getenv(pairsEnv)
	if names == "" {
		return pairs
	}
	pairs = nil
	for name := range strings.SplitSeq(names, ",") {
		first, second, _ := strings.Cut(name, "-")
		pairs = append(pairs, [2]Kind{Kind(first), Kind(second)})
	}
	return pairs
}

// TestMatrix: what a connection has to bear, for each pair of a dialler and a
// listener. The pairs are measured one after another; then they idle and lose
// their listeners together.
func TestMatrix(t *testing.T) {
	all := matrix
	if nightly() {
		all = slices.Concat(matrix, controls)
	}
	pairs := openPairs(t, pairsOr(all))
	for _, p := range pairs {
		p.whole = t.Run(p.name(), p.measure)
	}
	t.Run("idle", func(t *testing.T) { testIdle(t, pairs, idle) })
	t.Run("listener killed", func(t *testing.T) { testKilled(t, pairs) })
	fmt.Println(table(pairs))
}

// TestIdle leaves all pairs alone for longer than any time-out on the way.
func TestIdle(t *testing.T) {
	if !nightly() {
		t.Skip("it takes 12 minutes: TANGO_NIGHTLY=1 runs it")
	}
	pairs := openPairs(t, pairsOr(slices.Concat(matrix, controls)))
	for _, p := range pairs {
		p.whole = t.Run(p.name(), p.meet)
	}
	t.Run("idle", func(t *testing.T) { testIdle(t, pairs, longIdle) })
}

// TestSustained opens stream after stream for a minute: none may fail, however slowly channels end.
func TestSustained(t *testing.T) {
	if !nightly() {
		t.Skip("it takes 7 minutes: TANGO_NIGHTLY=1 runs it")
	}
	for _, p := range openPairs(t, pairsOr(matrix)) {
		t.Run(p.name(), func(t *testing.T) {
			p.meet(t)
			p.streams(t, sustained, 1, sequentialSize)
		})
	}
}

// openPairs starts a relay and, for each pair, two peers that nobody else uses.
func openPairs(t *testing.T, kinds [][2]Kind) []*pairing {
	t.Helper()
	var pairs []*pairing
	for _, k := range kinds {
		Need(t, k[:]...)
		pairs = append(pairs, &pairing{dialler: k[0], listener: k[1]})
	}
	relay := StartRelay(t)
	for _, p := range pairs {
		p.open(t, relay)
	}
	return pairs
}

// pairing is a dialler and a listener, and what was measured of them.
type pairing struct {
	dialler, listener Kind
	a, b              *Peer
	conns             [2]string // the ids that a and b give their connection
	whole             bool      // nothing has failed yet

	connect, ping time.Duration
	one, many     exercise.Outcome // sequential and concurrent streams
	up, down      exercise.Transfer
	idled         time.Duration
	noticed       time.Duration
}

func (p *pairing) name() string { return string(p.dialler) + "-" + string(p.listener) }

// strict: js-libp2p's own faults excuse no failed dial where Go takes part.
func (p *pairing) strict() bool { return p.dialler == Go || p.listener == Go }

func (p *pairing) open(t *testing.T, relay *Relay) {
	t.Helper()
	p.a, p.b = openPeer(t, p.dialler, p.name()+" dialler"), openPeer(t, p.listener, p.name()+" listener")
	for _, peer := range []*Peer{p.a, p.b} {
		startQuiet(t, peer, Config{Relays: relay.Addrs})
	}
}

// startQuiet starts a peer that dials nobody on its own.
func startQuiet(t *testing.T, p *Peer, config Config) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	dial := false
	config.Dial = &dial
	if err := p.Start(ctx, config); err != nil {
		t.Fatalf("%s does not get a reservation: %v", p.Name, err)
	}
}

// measure goes on until something fails: after that the connection is good for
// nothing, or time-outs add up to minutes.
func (p *pairing) measure(t *testing.T) {
	p.meet(t)
	for _, step := range []struct {
		name string
		run  func(*testing.T)
	}{
		{"ping", func(t *testing.T) { p.ping = p.pingBoth(t) }},
		{"sequential streams", func(t *testing.T) { p.one = p.streams(t, sequential, 1, sequentialSize) }},
		{"concurrent streams", p.bursts},
		{"upload", func(t *testing.T) { p.up = transfer(t, p.a.Upload, p.b) }},
		{"download", func(t *testing.T) { p.down = transfer(t, p.a.Download, p.b) }},
		{"half-close", func(t *testing.T) { halfClose(t, p.a, p.b); halfClose(t, p.b, p.a) }},
		{"reset", func(t *testing.T) { p.resetSeen(t, p.a, p.b); p.resetSeen(t, p.b, p.a) }},
	} {
		if !t.Run(step.name, step.run) {
			return
		}
	}
}

// meet connects the two and waits until both have identified each other.
func (p *pairing) meet(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	_, err := p.a.Connect(ctx, p.b.ID, webrtcAddrs(t, p.b))
	if err != nil && p.strict() {
		t.Fatalf("%s dials: %v", p.a.Name, err)
	}
	if p.strict() {
		for _, side := range [][2]*Peer{{p.a, p.b}, {p.b, p.a}} {
			side[0].Await(t, identifyTimeout, "is identified", func(s State) bool { return identified(s, side[1].ID) })
		}
	} else {
		awaitIdentified(t, p.a, p.b) // judges a failed dial too
		p.awaitOne(t)
	}
	s, err := p.a.State(ctx)
	if err != nil {
		t.Fatal(err)
	}
	last, _ := s.LastDial(p.b.ID)
	p.connect = last.EndedAt.Sub(last.StartedAt)
	p.conns = [2]string{p.a.AwaitDirect(t, time.Second, p.b.ID).ID, p.b.AwaitDirect(t, time.Second, p.a.ID).ID}
}

// awaitOne waits until both have only one direct connection: after a dial that was
// tried again, js-libp2p learns late that the other side gave up the first.
func (p *pairing) awaitOne(t *testing.T) {
	t.Helper()
	for _, side := range [][2]*Peer{{p.a, p.b}, {p.b, p.a}} {
		side[0].Await(t, noticeLimit, "has one direct connection", func(s State) bool {
			return len(slices.DeleteFunc(s.To(side[1].ID), func(c Connection) bool { return !c.Direct() })) == 1
		})
	}
}

// webrtcAddrs waits until a peer has addresses to be dialled at.
func webrtcAddrs(t testing.TB, p *Peer) []string {
	t.Helper()
	return p.Await(t, 10*time.Second, "has a /webrtc address", func(s State) bool { return len(s.WebRTC()) > 0 }).WebRTC()
}

// pingBoth returns the dialler's round trip time, the better of two: the first
// ping of a connection runs through cold code.
func (p *pairing) pingBoth(t *testing.T) time.Duration {
	t.Helper()
	var best time.Duration
	for _, side := range [][2]*Peer{{p.a, p.b}, {p.b, p.a}, {p.a, p.b}} {
		rtt, err := side[0].Ping(t.Context(), side[1].ID)
		if err != nil {
			t.Fatalf("%s pings: %v", side[0].Name, err)
		}
		if side[0] == p.a && (best == 0 || rtt < best) {
			best = rtt
		}
	}
	return best
}

func (p *pairing) streams(t *testing.T, count, concurrent, size int) exercise.Outcome {
	t.Helper()
	got, err := p.a.Streams(t.Context(), p.b.ID, count, concurrent, size)
	if err != nil {
		t.Fatal(err)
	}
	if got.OK == count {
		return got
	}
	f, ok := findStreamFault(p.dialler, p.listener, got)
	if !ok {
		t.Errorf("%d of %d streams went well, %d failed: %v", got.OK, count, got.Failed, got.Errors)
		return got
	}
	seen.add(f)
	t.Logf("js-libp2p fault %s: %v (%s)", f.name, got.Errors, f.reference)
	return got
}

// bursts uses ids again that browsers may not have freed, with packets lost that
// their sockets have no room for. It keeps the first for the table.
func (p *pairing) bursts(t *testing.T) {
	for i := range bursts {
		got := p.streams(t, concurrent, concurrent, concurrentSize)
		if i == 0 {
			p.many = got
		}
		if t.Failed() {
			return
		}
	}
}

func transfer(t *testing.T, run func(context.Context, string, int) (exercise.Transfer, error), to *Peer) exercise.Transfer {
	t.Helper()
	got, err := run(t.Context(), to.ID, transferSize)
	if err != nil {
		t.Error(err)
	}
	return got
}

// halfClose: the listener ends its direction first; what the dialler sends after that arrives.
func halfClose(t *testing.T, from, to *Peer) {
	t.Helper()
	sent, err := from.HalfClose(t.Context(), to.ID, halfCloseSize)
	if err != nil {
		t.Errorf("%s: %v", from.Name, err)
		return
	}
	if sent.Greeting != exercise.Greeting || sent.End != exercise.EOF {
		t.Errorf("%s read %q and %s, want %q and %s", from.Name, sent.Greeting, sent.End, exercise.Greeting, exercise.EOF)
	}
	got := awaitReceived(t, to, exercise.HalfClose, from)
	if got.Bytes != sent.Bytes || got.SHA256 != sent.SHA256 || got.End != exercise.EOF {
		t.Errorf("%s sent %d bytes %s, %s received %+v", from.Name, sent.Bytes, sent.SHA256, to.Name, got)
	}
}

// awaitReceived returns the last stream of a protocol that came from a peer.
func awaitReceived(t *testing.T, p *Peer, id protocol.ID, from *Peer) (got exercise.Received) {
	t.Helper()
	Await(t, 10*time.Second, p.Name+" has received a stream", func(ctx context.Context) (bool, error) {
		all, err := p.Received(ctx, id)
		all = slices.DeleteFunc(all, func(r exercise.Received) bool { return r.Peer != from.ID })
		if len(all) > 0 {
			got = all[len(all)-1]
		}
		return len(all) > 0, err
	})
	return got
}

// resetSeen: a reset is not taken for a clean end. js-libp2p closes the channel
// right behind its RESET and may lose it, so to js-libp2p itself it may look like that.
func (p *pairing) resetSeen(t *testing.T, from, to *Peer) {
	t.Helper()
	end, err := from.ResetSeen(t.Context(), to.ID)
	switch {
	case err == nil && end == exercise.EOF && !p.strict():
		t.Logf("%s sees the reset of %s as %q", from.Name, to.Name, end)
	case err != nil || end != exercise.ByReset:
		t.Errorf("%s sees the reset of %s as %q, %v", from.Name, to.Name, end, err)
	}
}

// testIdle: a connection on which nothing happens but js-libp2p's connection
// monitor stays.
func testIdle(t *testing.T, pairs []*pairing, wait time.Duration) {
	<-time.After(wait) // it is the time itself that is tested
	for _, p := range pairs {
		if p.whole {
			p.whole = t.Run(p.name(), func(t *testing.T) { p.check(t) })
			p.idled = wait
		}
	}
}

// check finds the connection as it was, and alive.
func (p *pairing) check(t *testing.T) {
	for i, side := range [][2]*Peer{{p.a, p.b}, {p.b, p.a}} {
		s, err := side[0].State(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if c, ok := s.Direct(side[1].ID); !ok || c.ID != p.conns[i] {
			t.Errorf("%s has the connection %+v, want the one with id %s", side[0].Name, c, p.conns[i])
		}
	}
	p.pingBoth(t)
}

// testKilled kills all listeners and waits until their diallers have noticed.
func testKilled(t *testing.T, pairs []*pairing) {
	killed := map[*pairing]time.Time{}
	for _, p := range pairs {
		if p.whole {
			p.b.Kill()
			killed[p] = time.Now()
		}
	}
	Await(t, noticeLimit, "all diallers notice that their listeners are gone", func(ctx context.Context) (bool, error) {
		var waiting []string
		for p, at := range killed {
			s, err := p.a.State(ctx)
			if err != nil {
				return false, err
			}
			if _, ok := s.Direct(p.b.ID); ok {
				waiting = append(waiting, p.name())
				continue
			}
			p.noticed = time.Since(at)
			t.Logf("%s: the direct connection is gone after %v; left are %+v", p.name(), p.noticed.Round(time.Millisecond), s.To(p.b.ID))
			delete(killed, p)
		}
		return len(waiting) == 0, fmt.Errorf("still connected: %v", waiting)
	})
}

// nightly says whether tests may take their time.
func nightly() bool { return os.Getenv("TANGO_NIGHTLY") == "1" }

// table shows the measurements as Markdown.
func table(pairs []*pairing) string {
	var out strings.Builder
	fmt.Fprintf(&out, "\n| dials | listens | connect, ms | ping, ms | %d streams, s | %d at once, ms "+
		"| up, MB/s | down, MB/s | idle, s | listener's death noticed, s |\n%s|\n",
		sequential, concurrent, strings.Repeat("| --- ", 10))
	for _, p := range pairs {
		fmt.Fprintf(&out, "| %s | %s | %s | %s | %s | %s | %s | %s | %s | %s |\n", p.dialler, p.listener,
			number(p.connect.Seconds()*1000, "%.0f"), number(p.ping.Seconds()*1000, "%.1f"),
			number(p.one.MS/1000, "%.1f"), number(p.many.MS, "%.0f"),
			number(speed(p.up), "%.1f"), number(speed(p.down), "%.1f"),
			number(p.idled.Seconds(), "%.0f"), number(p.noticed.Seconds(), "%.1f"))
	}
	return out.String()
}

func speed(t exercise.Transfer) float64 {
	if t.MS == 0 {
		return 0
	}
	return t.MBps()
}

func number(v float64, format string) string {
	if v == 0 {
		return "failed"
	}
	return fmt.Sprintf(format, v)
}
