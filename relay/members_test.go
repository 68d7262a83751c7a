package relay_test

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tangop2p/tango/identity"
	"github.com/tangop2p/tango/relay"
)

// issuer makes invites.
type issuer struct{ *identity.Identity }

func newIssuer(t testing.TB) issuer {
	t.Helper()
	id, err := identity.Ephemeral()
	if err != nil {
		t.Fatal(err)
	}
	return issuer{id}
}

func (i issuer) invite(t testing.TB, in relay.Invite) string {
	t.Helper()
	if in.Expires.IsZero() {
		in.Expires = time.Now().Add(time.Hour)
	}
	token, err := relay.NewInvite(i.PrivKey(), in)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func newMembers(t testing.TB, issuers []peer.ID, opts ...relay.MembersOption) *relay.Members {
	t.Helper()
	m, err := relay.NewMembers(issuers, opts...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// refusal returns why an invite was refused, "" if it was not.
func refusal(t *testing.T, err error) relay.Reason {
	t.Helper()
	if err == nil {
		return ""
	}
	refused, ok := errors.AsType[*relay.InviteError](err)
	if !ok {
		t.Fatal(err)
	}
	return refused.Reason
}

func present(t *testing.T, h, rh host.Host, token string) relay.Reason {
	t.Helper()
	return refusal(t, relay.PresentInvite(t.Context(), h, rh.ID(), token))
}

// TestInvites presents each kind of token and reserves then: the answer, the
// status and the metric.
func TestInvites(t *testing.T) {
	trusted, stranger := newIssuer(t), newIssuer(t)
	const ok, denied, refused = pbv2.Status_OK, pbv2.Status_PERMISSION_DENIED, pbv2.Status_RESERVATION_REFUSED
	now := time.Now()
	for name, c := range map[string]struct {
		token  func(self, rh peer.ID) string
		why    relay.Reason
		status pbv2.Status
	}{
		"good": {func(_, rh peer.ID) string { return trusted.invite(t, relay.Invite{Audience: rh}) }, "", ok},
		"for one": {
			func(p, rh peer.ID) string { return trusted.invite(t, relay.Invite{Audience: rh, Subject: p}) }, "", ok,
		},
		"none": {nil, relay.ReasonNoInvite, denied},
		"another's": {
			func(_, rh peer.ID) string { return trusted.invite(t, relay.Invite{Audience: rh, Subject: rh}) },
			relay.ReasonInviteSubject, denied,
		},
		"another relay's": {
			func(p, _ peer.ID) string { return trusted.invite(t, relay.Invite{Audience: p}) }, relay.ReasonInviteAudience, denied,
		},
		"another issuer's": {
			func(_, rh peer.ID) string { return stranger.invite(t, relay.Invite{Audience: rh}) }, relay.ReasonInviteIssuer, denied,
		},
		"old": {func(_, rh peer.ID) string {
			return trusted.invite(t, relay.Invite{Audience: rh, NotBefore: now.Add(-time.Hour), Expires: now.Add(-time.Minute)})
		}, relay.ReasonInviteExpired, denied},
		"new": {func(_, rh peer.ID) string {
			return trusted.invite(t, relay.Invite{Audience: rh, NotBefore: now.Add(time.Minute)})
		}, relay.ReasonInviteNotYet, denied},
		"a little old": {func(_, rh peer.ID) string {
			return trusted.invite(t, relay.Invite{Audience: rh, NotBefore: now.Add(-time.Hour), Expires: now.Add(-5 * time.Second)})
		}, "", ok},
		"a little new": {func(_, rh peer.ID) string {
			return trusted.invite(t, relay.Invite{Audience: rh, NotBefore: now.Add(20 * time.Second)})
		}, "", ok},
		"garbage": {func(peer.ID, peer.ID) string { return "hello" }, relay.ReasonInviteMalformed, denied},
		"cut": {func(_, rh peer.ID) string {
			token := trusted.invite(t, relay.Invite{Audience: rh})
			return token[:len(token)-4] + "AAAA"
		}, relay.ReasonInviteMalformed, denied},
		"revoked": {func(_, rh peer.ID) string {
			return trusted.invite(t, relay.Invite{Audience: rh, Peers: 7})
		}, relay.ReasonInviteRevoked, denied},
		"used": {func(_, rh peer.ID) string {
			return trusted.invite(t, relay.Invite{Audience: rh})
		}, relay.ReasonInviteUsed, refused},
	} {
		t.Run(name, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			members := newMembers(t, []peer.ID{trusted.ID()}, relay.WithInviteWait(0))
			_, rh := newRelay(t, relay.WithTopics(), relay.WithRegisterer(reg), relay.WithPolicy(members))
			h := newHost(t)
			connect(t, h, rh)
			if c.token != nil {
				token := c.token(h.ID(), rh.ID())
				if name == "revoked" {
					i, err := relay.ParseInvite(token)
					if err != nil {
						t.Fatal(err)
					}
					members.Revoke(i.ID)
				}
				if name == "used" {
					first := newHost(t)
					connect(t, first, rh)
					if why := present(t, first, rh, token); why != "" {
						t.Fatal(why)
					}
				}
				if why := present(t, h, rh, token); why != c.why {
					t.Errorf("presented: %q, want %q", why, c.why)
				}
			}
			if got := hop(t, h, rh, send(hopMessage(pbv2.HopMessage_RESERVE, ""))).GetStatus(); got != c.status {
				t.Errorf("reserve: %v, want %v", got, c.status)
			}
			want := 1.0
			if c.why == "" {
				want = 0
			}
			if n := metric(t, reg, "libp2p_relaysvc_reservation_rejections_total", string(c.why)); n != want {
				t.Errorf("%v rejections for %q", n, c.why)
			}
		})
	}
}

// A place is free again once who had it has gone; who has one keeps it
// whatever it presents.
func TestInviteQuota(t *testing.T) {
	i := newIssuer(t)
	members := newMembers(t, []peer.ID{i.ID()})
	_, rh := newRelay(t, relay.WithTopics(), relay.WithPolicy(members))
	token := i.invite(t, relay.Invite{Audience: rh.ID(), Peers: 2})
	a, b, c := newHost(t), newHost(t), newHost(t)
	for _, h := range []host.Host{a, b, c} {
		connect(t, h, rh)
	}
	for k, p := range []struct {
		h     host.Host
		token string
		want  relay.Reason
	}{
		{a, token, ""},
		{a, token, ""}, // again
		{b, token, ""},
		{c, token, relay.ReasonInviteUsed},
		{a, "garbage", relay.ReasonInviteMalformed},
	} {
		if why := present(t, p.h, rh, p.token); why != p.want {
			t.Errorf("%d: %q, want %q", k, why, p.want)
		}
	}
	reserve(t, a, rh)
	if err := a.Network().ClosePeer(rh.ID()); err != nil {
		t.Fatal(err)
	}
	waitFor(t, func() bool { return present(t, c, rh, token) == "" })
	reserve(t, c, rh)
}

// Revoked is revoked, also what counts already; so is the trust in an issuer.
func TestRevoke(t *testing.T) {
	first, second := newIssuer(t), newIssuer(t)
	members := newMembers(t, []peer.ID{first.ID(), second.ID()})
	r, rh := newRelay(t, relay.WithTopics(), relay.WithPolicy(members))
	a, b := newHost(t), newHost(t)
	connect(t, a, rh)
	connect(t, b, rh)
	token := first.invite(t, relay.Invite{Audience: rh.ID()})
	if present(t, a, rh, token) != "" || present(t, b, rh, second.invite(t, relay.Invite{Audience: rh.ID()})) != "" {
		t.Fatal("not let in")
	}
	reserve(t, a, rh)
	reserve(t, b, rh)
	in, err := relay.ParseInvite(token)
	if err != nil {
		t.Fatal(err)
	}
	members.Revoke(in.ID)
	held := func() (all []peer.ID) {
		if err := r.SetPolicy(t.Context(), members); err != nil {
			t.Fatal(err)
		}
		for _, res := range r.Reservations() {
			all = append(all, res.Peer)
		}
		return all
	}
	if got := held(); len(got) != 1 || got[0] != b.ID() {
		t.Errorf("held by %v", got)
	}
	if why := present(t, a, rh, token); why != relay.ReasonInviteRevoked {
		t.Errorf("again: %q", why)
	}
	if err := members.SetIssuers(first.ID()); err != nil {
		t.Fatal(err)
	}
	if got := held(); len(got) != 0 {
		t.Errorf("held by %v", got)
	}
	members.SetRevoked()
	if why := present(t, a, rh, token); why != "" {
		t.Errorf("no longer revoked: %q", why)
	}
	reserve(t, a, rh)
	if err := r.SetPolicy(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if err := relay.PresentInvite(t.Context(), a, rh.ID(), token); err == nil {
		t.Error("invites are taken without a policy that wants any")
	}
}

// A reservation ends with the invite by which it was made.
func TestInviteBoundsReservation(t *testing.T) {
	i := newIssuer(t)
	members := newMembers(t, []peer.ID{i.ID()}, relay.WithClockSkew(0))
	r, rh := newRelay(t, relay.WithTopics(), relay.WithPolicy(relay.On(members, relay.Reserve)))
	h := newHost(t)
	connect(t, h, rh)
	until := time.Now().Add(10 * time.Minute)
	if why := present(t, h, rh, i.invite(t, relay.Invite{Audience: rh.ID(), Expires: until})); why != "" {
		t.Fatal(why)
	}
	told := reserve(t, h, rh).Expiration
	held := r.Reservations()[0].Expires
	if told.After(until) || held.After(until) || until.Sub(told) > 2*time.Second || until.Sub(held) > 2*time.Second {
		t.Errorf("told %v, held until %v, want %v", told, held, until)
	}
}

// A request waits for its invite, a second one with it; who presents a bad one
// or nothing is refused.
func TestReserveWaits(t *testing.T) {
	i := newIssuer(t)
	members := newMembers(t, []peer.ID{i.ID()}, relay.WithInviteWait(8*time.Second))
	_, rh := newRelay(t, relay.WithTopics(), relay.WithPolicy(members))
	for want, token := range map[pbv2.Status]string{
		pbv2.Status_OK:                i.invite(t, relay.Invite{Audience: rh.ID()}),
		pbv2.Status_PERMISSION_DENIED: "garbage",
	} {
		h := newHost(t)
		connect(t, h, rh)
		answers := make(chan pbv2.Status)
		for range 2 {
			go func() { answers <- hop(t, h, rh, send(hopMessage(pbv2.HopMessage_RESERVE, ""))).GetStatus() }()
		}
		waitFor(t, func() bool { return relay.Waiting(members) == 2 })
		started := time.Now()
		present(t, h, rh, token)
		for range 2 {
			if got := <-answers; got != want || time.Since(started) > 5*time.Second {
				t.Errorf("%v after %v, want %v", got, time.Since(started), want)
			}
		}
	}
	if n := relay.Waiting(members); n != 0 {
		t.Errorf("%d wait", n)
	}
}

// A relay that is closed lets nobody wait.
func TestCloseEndsWaiting(t *testing.T) {
	members := newMembers(t, []peer.ID{newIssuer(t).ID()}, relay.WithInviteWait(8*time.Second))
	r, rh := newRelay(t, relay.WithTopics(), relay.WithPolicy(members))
	h := newHost(t)
	connect(t, h, rh)
	s, err := h.NewStream(t.Context(), rh.ID(), relay.InviteProtocol) // and says nothing
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Reset() }()
	if _, err := s.Write([]byte("a")); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if _, err := client.Reserve(context.Background(), h, *host.InfoFromHost(rh)); err == nil {
			t.Error("reserved without an invite")
		}
	}()
	waitFor(t, func() bool { return relay.Waiting(members) == 1 })
	started := time.Now()
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	<-ended
	if took := time.Since(started); took > 4*time.Second {
		t.Errorf("Close takes %v", took)
	}
}

// The wait has its bounds, for each peer and in time.
func TestWaitBounds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		members := newMembers(t, []peer.ID{newIssuer(t).ID()})
		started := time.Now()
		answers := make(chan time.Duration, 8)
		for range 6 {
			go func() {
				d := question{op: relay.Reserve, peer: "a", addr: "192.0.2.1"}.ask(members, time.Now())
				if got := answerOf(d); got != "no-invite" {
					t.Error(got)
				}
				answers <- time.Since(started)
			}()
		}
		synctest.Wait()
		if relay.Waiting(members) != 4 || len(answers) != 2 {
			t.Errorf("%d wait, %d are answered", relay.Waiting(members), len(answers))
		}
		for i := range 6 {
			if took := <-answers; i >= 2 && took != relay.DefaultInviteWait {
				t.Errorf("answered after %v", took)
			}
		}
		r := &relay.Request{Op: relay.Reserve, Peer: "a", Renewal: true, Addr: netip.MustParseAddr("192.0.2.1"), Time: time.Now()}
		if members.Decide(context.Background(), r); time.Since(started) != relay.DefaultInviteWait {
			t.Error("a renewal waits")
		}
	})
}

// One address, or IPv6 /56, cannot have the whole waiting room, however many
// peers it makes; who finds no room is told that it is not its invite.
func TestWaitingRoom(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		members := newMembers(t, []peer.ID{newIssuer(t).ID()})
		answers := make(chan string, 2048)
		peers := 0
		ask := func(n int, addr string) {
			for range n {
				peers++
				q := question{op: relay.Reserve, peer: strconv.Itoa(peers), addr: addr}
				go func() { answers <- answerOf(q.ask(members, time.Now())) }()
			}
			synctest.Wait()
		}
		expect := func(why string, n int) {
			t.Helper()
			if len(answers) != n {
				t.Errorf("%d answers at once, want %d", len(answers), n)
			}
			for range len(answers) {
				if got := <-answers; got != why {
					t.Errorf("%s, want %s", got, why)
				}
			}
		}
		for range 2 { // there is room again once they have waited
			ask(64, "192.0.2.1")
			ask(32, "2001:db8::1")
			ask(32, "2001:db8:0:ff::1")
			expect("", 0)
			ask(3, "192.0.2.1")
			ask(1, "2001:db8:0:80::1")
			expect("per-ip", 4)
			for i := range 14 {
				ask(64, fmt.Sprintf("198.51.100.%d", i))
			}
			expect("", 0)
			ask(2, "203.0.113.1")
			expect("capacity", 2)
			<-time.After(relay.DefaultInviteWait)
			synctest.Wait()
			expect("no-invite", 1024)
		}
		if n := relay.WaitingPlaces(members); n != 0 {
			t.Errorf("%d addresses are remembered", n)
		}
	})
}

// What a peer is told for which there is no room to wait.
func TestWaitingRoomOnTheWire(t *testing.T) {
	i := newIssuer(t)
	reg := prometheus.NewRegistry()
	members := newMembers(t, []peer.ID{i.ID()}, relay.WithInviteWait(8*time.Second))
	_, rh := newRelay(t, relay.WithTopics(), relay.WithRegisterer(reg), relay.WithPolicy(members))
	var crowd []host.Host
	for range 16 { // before the first begins to wait
		h := newHost(t)
		crowd = append(crowd, h)
		connect(t, h, rh)
	}
	late := newHost(t)
	connect(t, late, rh)
	answers := make(chan pbv2.Status)
	for k, h := range crowd {
		for range 4 {
			go func() { answers <- hop(t, h, rh, send(hopMessage(pbv2.HopMessage_RESERVE, ""))).GetStatus() }()
		}
		waitFor(t, func() bool { return relay.Waiting(members) == 4*(k+1) })
	}
	ask := func() pbv2.Status { return hop(t, late, rh, send(hopMessage(pbv2.HopMessage_RESERVE, ""))).GetStatus() }
	if got := ask(); got != pbv2.Status_RESERVATION_REFUSED {
		t.Errorf("without room: %v", got)
	}
	if n := metric(t, reg, "libp2p_relaysvc_reservation_rejections_total", string(relay.ReasonPerIP)); n != 1 {
		t.Errorf("%v rejections for %q", n, relay.ReasonPerIP)
	}
	token := i.invite(t, relay.Invite{Audience: rh.ID(), Peers: 17})
	for _, h := range append(crowd, late) {
		if why := present(t, h, rh, token); why != "" {
			t.Errorf("presented: %q", why)
		}
	}
	for range 64 {
		if got := <-answers; got != pbv2.Status_OK {
			t.Errorf("who had room: %v", got)
		}
	}
	if got := ask(); got != pbv2.Status_OK {
		t.Errorf("with an invite: %v", got)
	}
}

func TestBadMembers(t *testing.T) {
	good := []peer.ID{newIssuer(t).ID()}
	for want, make := range map[string]func() (*relay.Members, error){
		"no issuer":     func() (*relay.Members, error) { return relay.NewMembers(nil) },
		"issuer 2":      func() (*relay.Members, error) { return relay.NewMembers([]peer.ID{good[0], ""}) },
		"Wait(9s)":      func() (*relay.Members, error) { return relay.NewMembers(good, relay.WithInviteWait(9*time.Second)) },
		"Skew(-1s)":     func() (*relay.Members, error) { return relay.NewMembers(good, relay.WithClockSkew(-time.Second)) },
		"use 0s to 1h0": func() (*relay.Members, error) { return relay.NewMembers(good, relay.WithClockSkew(2*time.Hour)) },
	} {
		if _, err := make(); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q in it", err, want)
		}
	}
	members := newMembers(t, good)
	newRelay(t, relay.WithTopics(), relay.WithPolicy(members))
	_, err := relay.New(newHost(t), relay.WithTopics(), relay.WithPolicy(members))
	if err == nil || !strings.Contains(err.Error(), "another relay") {
		t.Errorf("two relays: %v", err)
	}
}

// An application invites those whom it knows. It needs no connection to the relay.
func ExampleNewInvite() {
	issuer, err := identity.Ephemeral()
	if err != nil {
		fmt.Println(err)
		return
	}
	audience, err := peer.Decode(alice)
	if err != nil {
		fmt.Println(err)
		return
	}
	token, err := relay.NewInvite(issuer.PrivKey(), relay.Invite{
		Audience: audience, // the relay
		Expires:  time.Now().Add(24 * time.Hour),
		Peers:    5,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	invite, err := relay.ParseInvite(token)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(invite.Issuer == issuer.ID(), invite.Audience, invite.Peers)
	// Output: true 12D3KooWEcUGo9iGnUMn17qGvzhvFwApy2zBRNDoKML26ozmSmzW 5
}
