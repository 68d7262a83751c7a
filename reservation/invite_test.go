package reservation_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"

	"github.com/tangop2p/tango/identity"
	"github.com/tangop2p/tango/relay"
	"github.com/tangop2p/tango/reservation"
)

// membersOnly makes a relay for those whom the issuer invites.
func membersOnly(t *testing.T) (issuer *identity.Identity, members *relay.Members, at peer.AddrInfo) {
	t.Helper()
	issuer, err := identity.Ephemeral()
	if err != nil {
		t.Fatal(err)
	}
	members, err = relay.NewMembers([]peer.ID{issuer.ID()}, relay.WithInviteWait(0))
	if err != nil {
		t.Fatal(err)
	}
	h := newHost(t)
	r, err := relay.New(h, relay.WithTopics(), relay.WithPolicy(members))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return issuer, members, peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()}
}

func invitation(t *testing.T, issuer *identity.Identity, audience peer.ID) string {
	t.Helper()
	token, err := relay.NewInvite(issuer.PrivKey(), relay.Invite{Audience: audience, Expires: time.Now().Add(time.Hour)})
	if err != nil {
		t.Fatal(err)
	}
	return token
}

// Who could show the invite of another in its place never sees it.
func TestInvite(t *testing.T) {
	issuer, _, at := membersOnly(t)
	stock := newRelay(t)
	stock.host.SetStreamHandler(relay.InviteProtocol, func(s network.Stream) {
		t.Error("an invite is shown to another relay")
		_ = s.Reset()
	})
	h := newHost(t)
	first, second := events(t, h), events(t, h)
	newKeeper(t, h, []peer.AddrInfo{at, stock.info()},
		reservation.WithInvite(invitation(t, issuer, issuer.ID())), reservation.WithInvite(invitation(t, issuer, at.ID)))
	first(at.ID, reservation.Reserved)
	second(stock.host.ID(), reservation.Reserved)
}

// Without an invite that counts the error says so.
func TestInviteRefused(t *testing.T) {
	issuer, members, at := membersOnly(t)
	revoked := invitation(t, issuer, at.ID)
	i, err := relay.ParseInvite(revoked)
	if err != nil {
		t.Fatal(err)
	}
	members.Revoke(i.ID)
	for want, opts := range map[string][]reservation.Option{
		"WithInvite":     nil,
		"see WithInvite": {reservation.WithInvite(invitation(t, issuer, issuer.ID()))}, // another relay's
		"invite-revoked": {reservation.WithInvite(revoked)},
	} {
		h := newHost(t)
		told := events(t, h)
		k := newKeeper(t, h, []peer.AddrInfo{at}, opts...)
		told(at.ID, reservation.Refused)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		err := k.Wait(ctx)
		refused, ok := errors.AsType[*reservation.RefusedError](err)
		if !ok || refused.Status != pbv2.Status_PERMISSION_DENIED || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %q in it", err, want)
		}
	}
	for _, bad := range []string{"", "hello"} {
		if _, err := reservation.New(newHost(t), []peer.AddrInfo{at}, reservation.WithInvite(bad)); err == nil {
			t.Errorf("%q is taken for an invite", bad)
		}
	}
}
