package relay_test

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/tangop2p/tango/relay"
)

// The peers of the tests, by their IDs.
const (
	alice = "12D3KooWEcUGo9iGnUMn17qGvzhvFwApy2zBRNDoKML26ozmSmzW"
	bob   = "12D3KooWRw2NVLrmVijVRv29AqhczWZxEgrxmLZbaiG6QoZB1atw"
)

func id(t testing.TB, s string) peer.ID {
	t.Helper()
	p, err := peer.Decode(s)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

func list(t testing.TB, text string) *relay.List {
	t.Helper()
	l, err := relay.ParseList(text)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// question is a request, and the answer that is expected.
type question struct {
	op   relay.Op
	peer string
	addr string
	want string // "allow", "pass", or the reason of a refusal
}

func answerOf(d relay.Decision) string {
	if why, refused := d.Refused(); refused {
		return string(why)
	}
	if d.Terms() != (relay.Terms{}) {
		return "allow " + strconv.FormatInt(d.Terms().Data, 10)
	}
	return "ok"
}

func (q question) ask(p relay.Policy, at time.Time) relay.Decision {
	return p.Decide(context.Background(), &relay.Request{
		Op: q.op, Peer: peer.ID(q.peer), Addr: netip.MustParseAddr(q.addr), Time: at,
	})
}

// TestPolicies asks each policy, alone and combined, a row of questions one
// after another; what is allowed is held.
func TestPolicies(t *testing.T) {
	const home, office, far = "192.0.2.7", "198.51.100.1", "2001:db8:1:2::3"
	a, b := string(id(t, alice)), string(id(t, bob))
	few := list(t, "# friends\n"+alice+"\n198.51.100.0/24 # the office\n2001:db8::/32\n")
	big, small := relay.Terms{Data: 1 << 20}, relay.Terms{Data: 1 << 10}
	refuse := relay.PolicyFunc(func(context.Context, *relay.Request) relay.Decision { return relay.Refuse("no") })
	asn := func(a netip.Addr) uint32 { return uint32(a.As16()[15]) >> 4 } // .0 to .15 is none
	for name, c := range map[string]struct {
		policy relay.Policy
		asked  []question
	}{
		"DenyList": {relay.DenyList(few), []question{
			{relay.Reserve, a, home, "denied"},
			{relay.ConnectFrom, a, home, "denied"},
			{relay.ConnectTo, b, office, "denied"},
			{relay.Reserve, b, far, "denied"},
			{relay.Reserve, b, home, "ok"},
		}},
		"OnlyList": {relay.OnlyList(few), []question{
			{relay.Reserve, a, home, "ok"},
			{relay.Reserve, b, home, "not-listed"},
			{relay.Reserve, b, office, "ok"},
		}},
		"AllowList": {relay.AllowList(few), []question{{relay.Reserve, a, home, "ok"}, {relay.Reserve, b, home, "ok"}}},
		"PerPeer": {relay.PerPeer(2), []question{
			{relay.ConnectFrom, a, home, "ok"},
			{relay.ConnectTo, a, home, "ok"},
			{relay.ConnectFrom, a, home, "per-peer"},
			{relay.ConnectFrom, b, home, "ok"},
			{relay.Reserve, a, home, "ok"},
		}},
		"PerIP": {relay.PerIP(2), []question{
			{relay.Reserve, "1", home, "ok"},
			{relay.Reserve, "2", home, "ok"},
			{relay.Reserve, "3", home, "per-ip"},
			{relay.Reserve, "2", home, "ok"}, // a renewal
			{relay.Reserve, "3", office, "ok"},
			{relay.ConnectFrom, "9", home, "ok"},
			{relay.Reserve, "4", far, "ok"},
			{relay.Reserve, "5", "2001:db8:1:2::99", "ok"},
			{relay.Reserve, "6", far, "per-ip"},
		}},
		"PerIP of circuits": {relay.PerIP(1, relay.ConnectFrom), []question{
			{relay.ConnectFrom, a, home, "ok"},
			{relay.ConnectFrom, b, home, "per-ip"},
			{relay.ConnectTo, b, home, "ok"},
			{relay.Reserve, b, home, "ok"},
		}},
		"PerSubnet": {relay.PerSubnet(24, 56, 1), []question{
			{relay.Reserve, "1", home, "ok"},
			{relay.Reserve, "2", "192.0.2.8", "per-subnet"},
			{relay.Reserve, "3", office, "ok"},
			{relay.Reserve, "4", far, "ok"},
			{relay.Reserve, "5", "2001:db8:1:3::1", "per-subnet"},
		}},
		"PerASN": {relay.PerASN(1, asn), []question{
			{relay.Reserve, "1", "192.0.2.17", "ok"},
			{relay.Reserve, "2", "198.51.100.18", "per-asn"},
			{relay.Reserve, "3", "192.0.2.33", "ok"},
			{relay.Reserve, "4", "192.0.2.1", "ok"},
			{relay.Reserve, "5", "192.0.2.2", "ok"},
		}},
		"PerASN with go-libp2p's table": {relay.PerASN(1, nil), []question{
			{relay.Reserve, "1", "2001:4860::1", "ok"},
			{relay.Reserve, "2", "2001:4860:1::1", "per-asn"},
			{relay.Reserve, "3", home, "ok"},
			{relay.Reserve, "4", home, "ok"},
		}},
		"Rate": {relay.Rate(2, time.Hour, relay.ByPeer()), []question{
			{relay.Reserve, a, home, "ok"},
			{relay.ConnectFrom, a, home, "ok"},
			{relay.Reserve, a, home, "rate"},
			{relay.ConnectTo, a, home, "ok"},
			{relay.Reserve, b, home, "ok"},
		}},
		"Rate by IP": {relay.Rate(1, time.Hour, relay.ByIP()), []question{
			{relay.Reserve, a, home, "ok"},
			{relay.Reserve, b, home, "rate"},
			{relay.Reserve, b, office, "ok"},
		}},
		"Grant": {relay.Grant(big), []question{{relay.Reserve, a, home, "allow 1048576"}}},
		"On":    {relay.On(refuse, relay.ConnectTo), []question{{relay.Reserve, a, home, "ok"}, {relay.ConnectTo, a, home, "no"}}},
		"All": {relay.All(relay.Grant(big), relay.Grant(small), relay.DenyList(few)), []question{
			{relay.Reserve, b, home, "allow 1024"}, {relay.Reserve, a, home, "denied"},
		}},
		"Any": {relay.Any(relay.OnlyList(few), refuse, relay.PolicyFunc(func(_ context.Context, r *relay.Request) relay.Decision {
			if r.Op == relay.ConnectTo {
				return relay.Allow(big)
			}
			return relay.Decision{}
		})), []question{
			{relay.Reserve, a, home, "ok"},
			{relay.Reserve, b, home, "not-listed"},
			{relay.ConnectTo, b, home, "allow 1048576"},
		}},
		"Chain": {relay.Chain(relay.DenyList(list(t, bob)), relay.AllowList(few), refuse), []question{
			{relay.Reserve, b, office, "denied"}, {relay.Reserve, a, home, "ok"}, {relay.Reserve, "1", home, "no"},
		}},
		"friends get more": {relay.Chain(relay.When(few.Has, relay.Grant(big)), relay.PerIP(1), relay.Grant(small)), []question{
			{relay.Reserve, a, home, "allow 1048576"},
			{relay.Reserve, "1", home, "allow 1024"},
			{relay.Reserve, "2", home, "per-ip"},
			{relay.Reserve, b, office, "allow 1048576"},
		}},
		// what a later policy refuses, an earlier one does not count
		"a cap before a refusal": {relay.All(relay.PerIP(1), relay.DenyList(list(t, alice))), []question{
			{relay.Reserve, a, home, "denied"}, {relay.Reserve, b, home, "ok"}, {relay.Reserve, "1", home, "per-ip"},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			stop, err := relay.StartPolicy(nil, c.policy)
			if err != nil {
				t.Fatal(err)
			}
			defer stop()
			now := time.Now()
			var held []relay.Decision
			for i, q := range c.asked {
				d := q.ask(c.policy, now)
				if got := answerOf(d); got != q.want {
					t.Errorf("%d: %v of %q from %s: %q, want %q", i, q.op, q.peer, q.addr, got, q.want)
				}
				held = append(held, d)
			}
			for _, d := range held {
				d.Release()
			}
			if first := c.asked[0]; !strings.HasPrefix(name, "Rate") && answerOf(first.ask(c.policy, now)) != first.want {
				t.Error("once all is given back the first answer is another")
			}
		})
	}
}

func TestRateRecovers(t *testing.T) {
	p, now := relay.Rate(1, time.Second, relay.ByPeer()), time.Now()
	q := question{op: relay.Reserve, peer: "a", addr: "192.0.2.1"}
	for i, c := range []struct {
		after time.Duration
		want  string
	}{{0, "ok"}, {500 * time.Millisecond, "rate"}, {time.Second, "ok"}} {
		if got := answerOf(q.ask(p, now.Add(c.after))); got != c.want {
			t.Errorf("%d: %s", i, got)
		}
	}
}

func TestBadPolicies(t *testing.T) {
	for name, p := range map[string]relay.Policy{
		"0":          relay.PerIP(0),
		"/4":         relay.PerSubnet(4, 64, 1),
		"Rate":       relay.Rate(1, 0, relay.ByPeer()),
		"nil list":   relay.DenyList(nil),
		"nil policy": relay.All(nil),
		"nil match":  relay.When(nil, relay.Grant(relay.Terms{})),
		"-5":         relay.Chain(relay.Grant(relay.Terms{Data: -5})),
		"other oper": relay.On(relay.PerIP(1), relay.ConnectTo),
	} {
		_, err := relay.StartPolicy(nil, p)
		if err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%q: %v", name, err)
		}
	}
}

// hosted is started and stopped.
type hosted struct {
	relay.Policy

	running *int
	err     error
}

func (h hosted) Start(host.Host) (func(), error) {
	if h.err != nil {
		return nil, h.err
	}
	*h.running++
	return func() { *h.running-- }, nil
}

func TestHostPolicies(t *testing.T) {
	var running int
	good := hosted{relay.Grant(relay.Terms{}), &running, nil}
	always := func(*relay.Request) bool { return true }
	r, _ := newRelay(t, relay.WithPolicy(relay.Any(relay.On(good, relay.Reserve), relay.When(always, good))))
	if running != 2 {
		t.Errorf("%d run", running)
	}
	bad := hosted{good, &running, os.ErrPermission}
	if err := r.SetPolicy(t.Context(), relay.Chain(good, bad)); err == nil || running != 2 {
		t.Errorf("%v, %d run", err, running)
	}
	if err := r.SetPolicy(t.Context(), good); err != nil || running != 1 {
		t.Errorf("%v, %d run", err, running)
	}
	if err := r.Close(); err != nil || running != 0 {
		t.Errorf("%v, %d run", err, running)
	}
}

func TestListErrors(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.1\nnobody":           `line 2: "nobody"`,
		"192.0.2.1/24":                "192.0.2.0/24",
		"fe80::1%eth0":                "without a zone",
		strings.Repeat("#", 5<<20):    "bytes",
		"192.0.2.0/33":                "192.0.2.0/33",
		"::ffff:192.0.2.1/120 # same": "::ffff:192.0.2.1/120",
	} {
		if _, err := relay.ParseList(text); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.40q: %v, want %s in it", text, err, want)
		}
	}
	if l := list(t, alice+"\n192.0.2.1\n\n::ffff:198.51.100.0/120\r\n"); l.Len() != 3 {
		t.Errorf("%d entries", l.Len())
	}
}

func TestListReloads(t *testing.T) {
	path := filepath.Join(t.TempDir(), "denied")
	write := func(text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := relay.LoadList(path); err == nil || !strings.Contains(err.Error(), path) {
		t.Errorf("no file: %v", err)
	}
	write("192.0.2.1\n")
	l, err := relay.LoadList(path)
	if err != nil {
		t.Fatal(err)
	}
	p, q := relay.DenyList(l), question{op: relay.Reserve, peer: "a", addr: "192.0.2.2"}
	write("192.0.2.0/24\n")
	if got := answerOf(q.ask(p, time.Now())); got != "ok" {
		t.Error(got)
	}
	if err := l.Reload(); err != nil || answerOf(q.ask(p, time.Now())) != "denied" {
		t.Error(err)
	}
	write("oops\n")
	if err := l.Reload(); err == nil || !strings.Contains(err.Error(), path) || answerOf(q.ask(p, time.Now())) != "denied" {
		t.Errorf("%v: the list must stay", err)
	}
}

// Twenty browsers of one address, an office or a proxy, get their reservations
// with the caps of the documentation, and one that asks for a hundred does not.
func TestOfficeAndAbuser(t *testing.T) {
	p := relay.All(relay.PerIP(32), relay.PerSubnet(24, 56, 64))
	held := func(addr string, n int) (ok int) {
		for i := range n {
			q := question{op: relay.Reserve, peer: fmt.Sprint(addr, i), addr: addr}
			if answerOf(q.ask(p, time.Now())) == "ok" {
				ok++
			}
		}
		return ok
	}
	if n := held("203.0.113.9", 100); n != 32 {
		t.Errorf("the abuser holds %d", n)
	}
	if n := held("198.51.100.1", 20); n != 20 {
		t.Errorf("%d of the office", n)
	}
}

func FuzzParseList(f *testing.F) {
	f.Add("# a comment\n" + alice + "\n192.0.2.0/24\n2001:db8::/32 # more\n")
	f.Add("::ffff:1.2.3.4/100\n0.0.0.0/0\n")
	f.Fuzz(func(t *testing.T, text string) {
		l, err := relay.ParseList(text)
		if err != nil {
			return
		}
		if n := strings.Count(text, "\n") + 1; l.Len() > n {
			t.Errorf("%d entries of %d lines", l.Len(), n)
		}
		l.Has(&relay.Request{Peer: "a", Addr: netip.MustParseAddr("192.0.2.1")})
	})
}

// Friends may send more through the relay, nobody holds more than four
// reservations at once from one address, and some are not welcome.
func ExampleChain() {
	friends, err := relay.ParseList("192.0.2.0/24 # the office")
	if err != nil {
		fmt.Println(err)
		return
	}
	banned, err := relay.ParseList(alice)
	if err != nil {
		fmt.Println(err)
		return
	}
	policy := relay.All(
		relay.DenyList(banned),
		relay.PerIP(4),
		relay.Chain(relay.When(friends.Has, relay.Grant(relay.Terms{Data: 1 << 30})), relay.Grant(relay.Terms{})),
	)
	for _, addr := range []string{"192.0.2.9", "198.51.100.9"} {
		d := policy.Decide(context.Background(), &relay.Request{Op: relay.Reserve, Peer: "somebody", Addr: netip.MustParseAddr(addr)})
		_, refused := d.Refused()
		fmt.Println(addr, refused, d.Terms().Data)
	}
	// Output:
	// 192.0.2.9 false 1073741824
	// 198.51.100.9 false 0
}
