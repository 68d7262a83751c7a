package relay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/tangop2p/tango/internal/invite"
)

// InviteProtocol is the protocol by which a peer presents an invite to a relay: it
// writes the token and a line feed, and reads "ok", or "no" and a [Reason], and a
// line feed. A page of js-libp2p does so on the event connection:open.
const InviteProtocol = invite.Protocol

// Invite is what an issuer says for a peer, or for those whom it gives the
// token to. As a token it is a signed envelope (libp2p RFC 0002) in base64url.
type Invite struct {
	ID       string  // 32 hexadecimal digits, by which it is revoked; [NewInvite] makes it
	Issuer   peer.ID // whose key has signed it
	Audience peer.ID // the relay that it is for
	Subject  peer.ID // the only peer that may use it; empty for anybody who has it

	NotBefore time.Time // in whole seconds
	Expires   time.Time

	// Peers is how many peers may use it at once, 1 to 65536. One uses it from when it presents it until its
	// connection ends.
	Peers int
}

// NewInvite makes a token for an invite that key signs. The invite needs an
// Audience and a time at which it Expires; it is for one peer unless it says
// otherwise, and from now on.
func NewInvite(key crypto.PrivKey, i Invite) (token string, err error) {
	i.Peers = cmp.Or(i.Peers, 1)
	if i.NotBefore.IsZero() {
		i.NotBefore = time.Now()
	}
	if token, err = invite.Seal(key, invite.Invite(i)); err != nil {
		return "", fmt.Errorf("relay: new invite: %w", err)
	}
	return token, nil
}

// ParseInvite reads a token of at most 2048 bytes and checks who has signed it,
// but not whether it counts here and now.
func ParseInvite(token string) (Invite, error) {
	i, err := invite.Parse(token, nil)
	if err != nil {
		return Invite{}, fmt.Errorf("relay: %w", err)
	}
	return Invite(i), nil
}

// InviteError is a relay's no to an invite.
type InviteError struct {
	Reason Reason // the relay's word; "rate" for too many attempts
}

func (e *InviteError) Error() string { return "the relay refuses the invite: " + string(e.Reason) }

// PresentInvite gives a token to a relay that h is connected to or knows the
// address of, within 10 s. It counts until the last connection to the relay
// ends. A no is an [*InviteError]. Present it to its audience only: another relay
// could use it in your place unless it has a Subject. Package reservation does
// this by itself, see reservation.WithInvite.
func PresentInvite(ctx context.Context, h host.Host, relay peer.ID, token string) error {
	err := invite.Present(ctx, h, relay, token)
	if refused, ok := errors.AsType[*invite.RefusedError](err); ok {
		err = &InviteError{Reason: Reason(refused.Reason)}
	}
	if err != nil {
		return fmt.Errorf("relay: present invite to %v: %w", relay, err)
	}
	return nil
}
