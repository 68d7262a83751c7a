package interop

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/tangop2p/tango/identity"
	"github.com/tangop2p/tango/relay"
	"github.com/tangop2p/tango/reservation"
)

// startWith starts a peer with an invite, which may be empty.
func startWith(t *testing.T, p *Peer, at *Relay, invite string) error {
	t.Helper()
	return startLate(t, p, at, invite, 0)
}

// startLate starts a peer that presents its invite when js-libp2p has long asked
// for the reservation.
func startLate(t *testing.T, p *Peer, at *Relay, invite string, after time.Duration) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	return p.Start(ctx, Config{
		Relays: at.Addrs, Subscribe: []string{chatTopic}, Invite: invite, InviteAfter: int(after.Milliseconds()),
	})
}

func wantDenied(t *testing.T, what string, err error) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), "PERMISSION_DENIED") {
		t.Errorf("%s: %v, want PERMISSION_DENIED", what, err)
	}
}

// file writes a file and returns its path.
func file(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// TestMembers: at a relay that wants invites js-libp2p as it is gets its
// reservation if the page presents one when it is connected, and is denied
// without.
func TestMembers(t *testing.T) {
	Need(t, Node, Chromium)
	issuer, err := identity.Ephemeral()
	if err != nil {
		t.Fatal(err)
	}
	at := StartRelay(t, "-invite-issuers", file(t, issuer.ID().String()))
	self, err := peer.Decode(at.ID)
	if err != nil {
		t.Fatal(err)
	}
	invite := func(audience peer.ID, peers int) string {
		token, err := relay.NewInvite(issuer.PrivKey(), relay.Invite{Audience: audience, Expires: time.Now().Add(time.Hour), Peers: peers})
		if err != nil {
			t.Fatal(err)
		}
		return token
	}
	shared := invite(self, 2)
	var members []*Peer
	for _, kind := range []Kind{Node, Chromium} {
		agent := StartAgent(t, kind)
		wantDenied(t, string(kind)+" without an invite", startWith(t, agent.Open(t), at, ""))
		wantDenied(t, string(kind)+" with another relay's invite", startWith(t, agent.Open(t), at, invite(issuer.ID(), 1)))
		if err := startLate(t, agent.Open(t), at, invite(self, 1), time.Second); err != nil {
			t.Errorf("%s with an invite that comes late: %v", kind, err)
		}
		p := agent.Open(t)
		if err := startWith(t, p, at, shared); err != nil {
			t.Fatalf("%s with an invite: %v", kind, err)
		}
		// The page notes it once it has closed the stream, perhaps after the reservation.
		p.Await(t, 5*time.Second, "hears the relay say ok", func(s State) bool {
			return slices.ContainsFunc(s.Events, func(e Event) bool { return e.Kind == "invite" && e.Detail == "ok" })
		})
		members = append(members, p)
	}
	members[0].AwaitDirect(t, 30*time.Second, members[1].ID)
	// both places are taken
	if err := startWith(t, openPeer(t, Node, "third"), at, shared); err == nil || !strings.Contains(err.Error(), "RESERVATION_REFUSED") {
		t.Errorf("a third with an invite for two: %v", err)
	}
	if err := members[0].Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	late := openPeer(t, Node, "late")
	Await(t, 20*time.Second, "a place is free once its peer has left", func(ctx context.Context) (bool, error) {
		err := late.Start(ctx, Config{Relays: at.Addrs, Invite: shared})
		return err == nil, err
	})
}

// TestGoMember: package reservation presents its invite by itself, and says why there
// is no reservation without.
func TestGoMember(t *testing.T) {
	issuer, err := identity.Ephemeral()
	if err != nil {
		t.Fatal(err)
	}
	at := StartRelay(t, "-invite-issuers", file(t, issuer.ID().String()))
	self, err := peer.AddrInfoFromString(at.Addrs[0])
	if err != nil {
		t.Fatal(err)
	}
	token, err := relay.NewInvite(issuer.PrivKey(), relay.Invite{Audience: self.ID, Expires: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	keep := func(limit time.Duration, opts ...reservation.Option) error {
		k, err := reservation.New(stockHost(t), []peer.AddrInfo{*self}, opts...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = k.Close() })
		ctx, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		return k.Wait(ctx)
	}
	if err := keep(10*time.Second, reservation.WithInvite(token)); err != nil {
		t.Errorf("with an invite: %v", err)
	}
	wantDenied(t, "without an invite", keep(5*time.Second)) // of which the relay waits 3 s for one
}

// TestAllowList: js-libp2p as it is gets a reservation if it is on the list.
func TestAllowList(t *testing.T) {
	Need(t, Node, Chromium)
	here, elsewhere := StartRelay(t, "-allow", file(t, "127.0.0.0/8\n")), StartRelay(t, "-allow", file(t, "192.0.2.0/24\n"))
	for _, kind := range []Kind{Node, Chromium} {
		agent := StartAgent(t, kind)
		if err := startWith(t, agent.Open(t), here, ""); err != nil {
			t.Errorf("%s on the list: %v", kind, err)
		}
		wantDenied(t, string(kind)+" that is not on the list", startWith(t, agent.Open(t), elsewhere, ""))
	}
}
