package relay_test

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tangop2p/tango/relay"
)

// wired is a relay with three peers.
type wired struct {
	rh    host.Host
	peers map[string]host.Host // "a", "b" and "c"
	reg   *prometheus.Registry
}

// step is a request and its answer: "a" reserves, "a>b" connects a to b.
type step struct {
	who    string
	status pbv2.Status
	reason relay.Reason
}

// ask sends a request and leaves its stream open, for a circuit to stay.
func (w *wired) ask(t *testing.T, who string) *pbv2.HopMessage {
	t.Helper()
	m := hopMessage(pbv2.HopMessage_RESERVE, "")
	if len(who) > 1 {
		m = hopMessage(pbv2.HopMessage_CONNECT, w.peers[who[2:]].ID())
	}
	s, err := w.peers[who[:1]].NewStream(t.Context(), w.rh.ID(), proto.ProtoIDv2Hop)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Reset() })
	if err := util.NewDelimitedWriter(s).WriteMsg(m); err != nil {
		t.Fatal(err)
	}
	var answer pbv2.HopMessage
	in := util.NewDelimitedReader(s, 4096)
	defer in.Close()
	if err := in.ReadMsg(&answer); err != nil {
		t.Fatal(err)
	}
	return &answer
}

func (w *wired) rejections(t *testing.T, who string, why relay.Reason) float64 {
	t.Helper()
	name := "libp2p_relaysvc_reservation_rejections_total"
	if len(who) > 1 {
		name = "libp2p_relaysvc_connection_rejections_total"
	}
	return metric(t, w.reg, name, string(why))
}

func (w *wired) take(t *testing.T, steps []step) {
	t.Helper()
	for i, s := range steps {
		before, want := w.rejections(t, s.who, s.reason), 0.0
		if s.reason != "" {
			want = before + 1
		}
		if answer := w.ask(t, s.who); answer.GetStatus() != s.status {
			t.Errorf("%d: %s is answered %v, want %v", i, s.who, answer.GetStatus(), s.status)
		}
		if after := w.rejections(t, s.who, s.reason); s.reason != "" && after != want {
			t.Errorf("%d: %s: %v rejections for %q, want %v", i, s.who, after, s.reason, want)
		}
	}
}

func wire(t *testing.T, policy func(w *wired) relay.Policy, opts ...relay.Option) (*relay.Relay, *wired) {
	t.Helper()
	w := &wired{reg: prometheus.NewRegistry(), peers: make(map[string]host.Host)}
	for _, name := range []string{"a", "b", "c"} {
		w.peers[name] = newHost(t)
	}
	r, rh := newRelay(t, append([]relay.Option{relay.WithTopics(), relay.WithRegisterer(w.reg), relay.WithPolicy(policy(w))}, opts...)...)
	w.rh = rh
	for _, h := range w.peers {
		connect(t, h, rh)
	}
	return r, w
}

// only is a list of some of the peers.
func (w *wired) only(t *testing.T, names ...string) *relay.List {
	var text strings.Builder
	for _, name := range names {
		fmt.Fprintln(&text, w.peers[name].ID())
	}
	return list(t, text.String())
}

// saying makes a server that refuses some peers when they are in a role, and its policy.
func (w *wired) saying(t *testing.T, no map[string]string) relay.Policy {
	s := httptest.NewServer(http.HandlerFunc(func(out http.ResponseWriter, r *http.Request) {
		var q relay.CalloutRequest
		if err := json.NewDecoder(r.Body).Decode(&q); err != nil {
			t.Error(err)
		}
		for name, role := range no {
			if q.Peer == w.peers[name].ID() && q.Op == role {
				_, _ = io.WriteString(out, `{"allow": false}`)
				return
			}
		}
		_, _ = io.WriteString(out, `{"allow": true}`)
	}))
	t.Cleanup(s.Close)
	return newCallout(t, s.URL)
}

// TestPoliciesOnTheWire has each policy, alone and combined, refuse reservations
// and both ends of circuits: the status that the peer gets, and the reason that
// the metrics have.
func TestPoliciesOnTheWire(t *testing.T) {
	const (
		ok     = pbv2.Status_OK
		denied = pbv2.Status_PERMISSION_DENIED
		full   = pbv2.Status_RESERVATION_REFUSED
		limit  = pbv2.Status_RESOURCE_LIMIT_EXCEEDED
	)
	issuer := []peer.ID{newIssuer(t).ID()}
	one := func(netip.Addr) uint32 { return 64500 }
	no := relay.PolicyFunc(func(context.Context, *relay.Request) relay.Decision { return relay.Refuse(relay.ReasonDenied) })
	members := func(*wired) relay.Policy { return newMembers(t, issuer, relay.WithInviteWait(0)) }
	for name, c := range map[string]struct {
		policy func(w *wired) relay.Policy
		steps  []step
	}{
		"DenyList": {
			func(w *wired) relay.Policy { return relay.DenyList(w.only(t, "a")) },
			[]step{{"a", denied, relay.ReasonDenied}, {"b", ok, ""}, {"a>b", denied, relay.ReasonDenied}, {"c>b", ok, ""}},
		},
		"DenyList of destinations": {
			func(w *wired) relay.Policy { return relay.On(relay.DenyList(w.only(t, "b")), relay.ConnectTo) },
			[]step{{"b", ok, ""}, {"a>b", denied, relay.ReasonDenied}, {"a", ok, ""}, {"b>a", ok, ""}},
		},
		"OnlyList": {
			func(w *wired) relay.Policy { return relay.OnlyList(w.only(t, "b", "c")) },
			[]step{{"b", ok, ""}, {"a", denied, relay.ReasonNotListed}, {"a>b", denied, relay.ReasonNotListed}, {"c>b", ok, ""}},
		},
		"OnlyList of destinations": {
			func(w *wired) relay.Policy { return relay.On(relay.OnlyList(w.only(t, "a")), relay.ConnectTo) },
			[]step{{"b", ok, ""}, {"a", ok, ""}, {"a>b", denied, relay.ReasonNotListed}, {"b>a", ok, ""}},
		},
		"AllowList": {
			func(w *wired) relay.Policy { return relay.AllowList(w.only(t, "a")) },
			[]step{{"a", ok, ""}, {"b", ok, ""}, {"a>b", ok, ""}},
		},
		"PerPeer": {
			func(*wired) relay.Policy { return relay.PerPeer(1) },
			[]step{{"b", ok, ""}, {"c", ok, ""}, {"a>b", ok, ""}, {"a>c", limit, relay.ReasonPerPeer}, {"c>b", limit, relay.ReasonPerPeer}},
		},
		"PerIP": {
			func(*wired) relay.Policy { return relay.PerIP(1) },
			[]step{{"b", ok, ""}, {"a", full, relay.ReasonPerIP}, {"b", ok, ""}, {"a>b", ok, ""}},
		},
		"PerIP of sources": {
			func(*wired) relay.Policy { return relay.PerIP(1, relay.ConnectFrom) },
			[]step{{"b", ok, ""}, {"a", ok, ""}, {"a>b", ok, ""}, {"c>b", limit, relay.ReasonPerIP}},
		},
		"PerIP of destinations": {
			func(*wired) relay.Policy { return relay.PerIP(1, relay.ConnectTo) },
			[]step{{"b", ok, ""}, {"a", ok, ""}, {"a>b", ok, ""}, {"c>a", limit, relay.ReasonPerIP}},
		},
		"PerSubnet": {
			func(*wired) relay.Policy { return relay.PerSubnet(24, 56, 1, relay.Reserve, relay.ConnectFrom) },
			[]step{{"b", ok, ""}, {"a", full, relay.ReasonPerSubnet}, {"a>b", limit, relay.ReasonPerSubnet}},
		},
		"PerASN": {
			func(*wired) relay.Policy { return relay.PerASN(1, one) },
			[]step{{"b", ok, ""}, {"a", full, relay.ReasonPerASN}, {"a>b", ok, ""}},
		},
		"PerASN of circuits": {
			func(*wired) relay.Policy { return relay.PerASN(1, one, relay.ConnectFrom) },
			[]step{{"b", ok, ""}, {"a>b", ok, ""}, {"a>b", limit, relay.ReasonPerASN}},
		},
		"Rate": {
			func(*wired) relay.Policy { return relay.Rate(1, time.Hour, relay.ByPeer()) },
			[]step{{"b", ok, ""}, {"b", limit, relay.ReasonRate}, {"a>b", ok, ""}, {"a>b", limit, relay.ReasonRate}},
		},
		"Rate of destinations": {
			func(*wired) relay.Policy { return relay.Rate(1, time.Hour, relay.ByPeer(), relay.ConnectTo) },
			[]step{{"b", ok, ""}, {"b", ok, ""}, {"a>b", ok, ""}, {"c>b", limit, relay.ReasonRate}},
		},
		"Grant": {
			func(*wired) relay.Policy { return relay.Grant(relay.Terms{}) },
			[]step{{"b", ok, ""}, {"a>b", ok, ""}},
		},
		"Members": {members, []step{{"b", denied, relay.ReasonNoInvite}, {"a>b", denied, relay.ReasonNoInvite}}},
		"Members of destinations": {
			func(w *wired) relay.Policy { return relay.On(members(w), relay.ConnectTo) },
			[]step{{"b", ok, ""}, {"a>b", denied, relay.ReasonNoInvite}},
		},
		"Callout": {
			func(w *wired) relay.Policy {
				return w.saying(t, map[string]string{"a": "reserve", "c": "connect-from"})
			},
			[]step{{"a", denied, relay.ReasonCallout}, {"b", ok, ""}, {"a>b", ok, ""}, {"c>b", denied, relay.ReasonCallout}},
		},
		"Callout on destinations": {
			func(w *wired) relay.Policy { return w.saying(t, map[string]string{"b": "connect-to"}) },
			[]step{{"b", ok, ""}, {"a>b", denied, relay.ReasonCallout}},
		},
		"Callout that is down": {
			func(*wired) relay.Policy {
				return relay.On(newCallout(t, "http://127.0.0.1:1/"), relay.Reserve, relay.ConnectFrom)
			},
			[]step{{"b", denied, relay.ReasonCalloutFailed}, {"a>b", denied, relay.ReasonCalloutFailed}},
		},
		"Callout that is down, on destinations": {
			func(*wired) relay.Policy { return relay.On(newCallout(t, "http://127.0.0.1:1/"), relay.ConnectTo) },
			[]step{{"b", ok, ""}, {"a>b", denied, relay.ReasonCalloutFailed}},
		},
		"Callout that is down and open": {
			func(*wired) relay.Policy { return newCallout(t, "http://127.0.0.1:1/", relay.FailOpen()) },
			[]step{{"b", ok, ""}, {"a>b", ok, ""}},
		},
		// What All refuses in the end, it has not counted.
		"All": {
			func(w *wired) relay.Policy {
				return relay.All(relay.PerIP(1), relay.DenyList(w.only(t, "a")), members(w))
			},
			[]step{{"a", denied, relay.ReasonDenied}, {"b", denied, relay.ReasonNoInvite}, {"a>b", denied, relay.ReasonDenied}},
		},
		"All with a cap": {
			func(w *wired) relay.Policy { return relay.All(relay.PerIP(1), relay.DenyList(w.only(t, "a"))) },
			[]step{{"a", denied, relay.ReasonDenied}, {"b", ok, ""}, {"c", full, relay.ReasonPerIP}, {"c>b", ok, ""}},
		},
		// The first of the refusals counts.
		"Any": {
			func(w *wired) relay.Policy { return relay.Any(relay.OnlyList(w.only(t, "b")), members(w)) },
			[]step{{"b", ok, ""}, {"a", denied, relay.ReasonNotListed}, {"a>b", denied, relay.ReasonNotListed}},
		},
		"Any callout or list": {
			func(w *wired) relay.Policy {
				return relay.Any(relay.OnlyList(w.only(t, "b")), w.saying(t, map[string]string{"a": "reserve"}))
			},
			[]step{{"b", ok, ""}, {"c", ok, ""}, {"a", denied, relay.ReasonNotListed}, {"a>b", ok, ""}},
		},
		"Chain": {
			func(w *wired) relay.Policy {
				return relay.Chain(relay.DenyList(w.only(t, "a")), relay.AllowList(w.only(t, "b")), members(w))
			},
			[]step{
				{"a", denied, relay.ReasonDenied},
				{"b", ok, ""},
				{"c", denied, relay.ReasonNoInvite},
				{"c>b", denied, relay.ReasonNoInvite},
			},
		},
		"When": {
			func(w *wired) relay.Policy { return relay.When(w.only(t, "a").Has, no) },
			[]step{{"b", ok, ""}, {"a", denied, relay.ReasonDenied}, {"a>b", denied, relay.ReasonDenied}, {"c>b", ok, ""}},
		},
		"all of it": {
			func(w *wired) relay.Policy {
				return relay.All(
					relay.DenyList(w.only(t, "c")),
					relay.Any(relay.OnlyList(w.only(t, "a", "b")), members(w)),
					relay.Rate(2, time.Hour, relay.ByPeer(), relay.Reserve),
					w.saying(t, map[string]string{"a": "connect-to"}),
					relay.PerIP(1, relay.ConnectFrom),
				)
			},
			[]step{
				{"c", denied, relay.ReasonDenied},
				{"b", ok, ""},
				{"b", ok, ""},
				{"b", limit, relay.ReasonRate},
				{"a", ok, ""},
				{"b>a", denied, relay.ReasonCallout},
				{"a>b", ok, ""},
				{"a>b", limit, relay.ReasonPerIP},
			},
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, w := wire(t, c.policy)
			w.take(t, c.steps)
		})
	}
}

// TestTermsOnTheWire has what peers are told: no policy but Grant goes beyond the
// limits, and of several the smallest counts, whichever end it is for.
func TestTermsOnTheWire(t *testing.T) {
	limits := relay.SignalingOnly()
	const kib = 1 << 10
	allow := func(data int64, ops ...relay.Op) relay.Policy {
		p := relay.PolicyFunc(func(context.Context, *relay.Request) relay.Decision { return relay.Allow(relay.Terms{Data: data}) })
		return relay.On(p, ops...)
	}
	grant := func(data int64, ops ...relay.Op) relay.Policy {
		return relay.On(relay.Grant(relay.Terms{Data: data}), ops...)
	}
	every := []relay.Op{relay.Reserve, relay.ConnectFrom, relay.ConnectTo}
	for name, c := range map[string]struct {
		policy        relay.Policy
		held, circuit int64
	}{
		"nothing":                      {relay.All(), 128 * kib, 128 * kib},
		"less":                         {allow(64*kib, every...), 64 * kib, 64 * kib},
		"more":                         {allow(256*kib, every...), 128 * kib, 128 * kib},
		"more is granted":              {grant(256*kib, every...), 256 * kib, 256 * kib},
		"granted, allowed less":        {relay.All(grant(512*kib, every...), allow(256*kib, every...)), 256 * kib, 256 * kib},
		"granted, allowed more":        {relay.All(grant(256*kib, every...), allow(512*kib, every...)), 256 * kib, 256 * kib},
		"granted twice":                {relay.All(grant(256*kib, every...), grant(512*kib, every...)), 256 * kib, 256 * kib},
		"granted to a holder":          {grant(256*kib, relay.Reserve), 256 * kib, 256 * kib},
		"granted to a source":          {grant(256*kib, relay.ConnectFrom), 128 * kib, 128 * kib},
		"granted, less to a source":    {relay.All(grant(256*kib, relay.Reserve), allow(64*kib, relay.ConnectFrom)), 256 * kib, 64 * kib},
		"granted, less to destination": {relay.All(grant(256*kib, relay.Reserve), allow(64*kib, relay.ConnectTo)), 256 * kib, 64 * kib},
		"granted less":                 {grant(64*kib, every...), 64 * kib, 64 * kib},
	} {
		t.Run(name, func(t *testing.T) {
			r, w := wire(t, func(*wired) relay.Policy { return c.policy }, relay.WithLimits(limits))
			if got := w.ask(t, "b").GetLimit().GetData(); got != uint64(c.held) {
				t.Errorf("the holder is told %d, want %d", got, c.held)
			}
			if got := r.Reservations()[0].Terms.Data; got != c.held {
				t.Errorf("the reservation has %d, want %d", got, c.held)
			}
			if got := w.ask(t, "a>b").GetLimit().GetData(); got != uint64(c.circuit) {
				t.Errorf("the circuit is told %d, want %d", got, c.circuit)
			}
		})
	}
}

// A reservation lasts as long as the relay's limits and the policy's times let it.
func TestTTLOnTheWire(t *testing.T) {
	yes := relay.Allow(relay.Terms{})
	for name, c := range map[string]struct {
		decide func(now time.Time) relay.Decision
		want   time.Duration
	}{
		"none":           {func(time.Time) relay.Decision { return relay.Decision{} }, time.Hour},
		"shorter":        {func(time.Time) relay.Decision { return relay.Allow(relay.Terms{TTL: time.Minute}) }, time.Minute},
		"longer":         {func(time.Time) relay.Decision { return relay.Allow(relay.Terms{TTL: 2 * time.Hour}) }, time.Hour},
		"until":          {func(now time.Time) relay.Decision { return yes.Until(now.Add(time.Minute)) }, time.Minute},
		"until later":    {func(now time.Time) relay.Decision { return yes.Until(now.Add(2 * time.Hour)) }, time.Hour},
		"until no times": {func(time.Time) relay.Decision { return relay.Decision{}.Until(time.Time{}) }, time.Hour},
		"until earlier": {func(now time.Time) relay.Decision {
			return relay.Decision{}.Until(now.Add(time.Minute)).Until(now.Add(time.Hour)).Until(time.Time{})
		}, time.Minute},
		"until it was over": {func(now time.Time) relay.Decision { return relay.Decision{}.Until(now.Add(-time.Hour)) }, time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			p := relay.PolicyFunc(func(_ context.Context, r *relay.Request) relay.Decision { return c.decide(r.Time) })
			r, w := wire(t, func(*wired) relay.Policy { return relay.All(relay.Chain(p), relay.PerIP(9)) })
			w.ask(t, "b")
			held := relay.Held(r) // the shortest may be over by now
			if len(held) != 1 || held[0].Expires.Sub(held[0].Since) != c.want || held[0].Terms.TTL != c.want {
				t.Errorf("%+v, want one for %v", held, c.want)
			}
		})
	}
}
