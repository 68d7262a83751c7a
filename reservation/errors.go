package reservation

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strings"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/multiformats/go-multistream"
)

// What the errors of this package may wrap; anything else is the network's or
// the caller's own.
var (
	// ErrClosed is returned by calls on a [Keeper] that was closed. It wraps [net.ErrClosed].
	ErrClosed = fmt.Errorf("reservation: %w", net.ErrClosed)
	// ErrNoCircuits says that the host accepts no circuits, so that a reservation would be of no use.
	ErrNoCircuits = errors.New("reservation: the host accepts no circuits; make it with libp2p.EnableRelay()")
	// ErrUnsupported says that the peer is no relay: it does not speak the hop protocol, or not any longer.
	ErrUnsupported = errors.New("reservation: the peer is not a circuit v2 relay")
	// ErrMalformed says that the relay's answer violates the protocol.
	ErrMalformed = errors.New("reservation: malformed answer")
	// ErrLost says that the connection ended on which a reservation was held.
	ErrLost = errors.New("reservation: the connection to the relay was lost")
	// ErrExpired says that a reservation ran out before the relay had renewed it.
	ErrExpired = errors.New("reservation: expired before it was renewed")
	// ErrRateLimited says that this host's own resource manager held a dial back. Exempt the relay's IP
	// address with rcmgr.WithConnRateLimiters: the default lets 16 dials through, then one in 5 s.
	ErrRateLimited = errors.New("reservation: this host's resource manager limits dials to the relay's IP address")

	errRelayed  = errors.New("the relay was reached over a circuit only")
	errGone     = errors.New("the connection ended at once")
	errReleased = errors.New("enough others are held")
)

// RefusedError is a relay's no.
type RefusedError struct {
	Status pbv2.Status // what the relay gave as the reason
	Invite error       // why it did not take the invite before; nil if it did, or there was none
}

func (e *RefusedError) Error() string {
	if e.Invite != nil {
		return fmt.Sprintf("refused: %v (invite: %v)", e.Status, e.Invite)
	}
	return fmt.Sprintf("refused: %v (%s)", e.Status, hint(e.Status))
}

// Unwrap returns why the invite was not taken.
func (e *RefusedError) Unwrap() error { return e.Invite }

// hint says what a status means in practice (circuit-v2.md §Status Codes).
func hint(s pbv2.Status) string {
	switch s {
	case pbv2.Status_RESERVATION_REFUSED:
		return "the relay is full, or has enough reservations from this IP address"
	case pbv2.Status_RESOURCE_LIMIT_EXCEEDED:
		return "the relay is at its limits"
	case pbv2.Status_PERMISSION_DENIED:
		return "the relay's policy excludes this peer, or wants an invite: see WithInvite"
	default:
		return "the relay did not accept the request"
	}
}

// RelayError is why there is no reservation at one relay.
type RelayError struct {
	Relay peer.ID
	State State // how far it came
	Err   error // the last failure, nil if there was none yet
}

func (e *RelayError) Error() string {
	if e.Err == nil {
		return fmt.Sprintf("relay %v: %v", e.Relay, e.State)
	}
	return fmt.Sprintf("relay %v: %v: %v", e.Relay, e.State, e.Err)
}

// Unwrap returns the last failure.
func (e *RelayError) Unwrap() error { return e.Err }

// classify names what opening, reading or writing the stream returned.
func classify(err error) error {
	if _, ok := errors.AsType[multistream.ErrNotSupported[protocol.ID]](err); ok {
		return fmt.Errorf("%w: %w", ErrUnsupported, err)
	}
	return err
}

// classifyDial tells apart that our own resource manager refused to dial.
//
// It goes by the text, against this tree's rule, for rcmgr.openConnection
// returns a bare errors.New. Should the text change, only the longer pause is lost.
func classifyDial(err error) error {
	dial, ok := errors.AsType[*swarm.DialError](err)
	if !ok {
		return err
	}
	for _, e := range dial.DialErrors {
		if e.Cause != nil && strings.HasSuffix(e.Cause.Error(), "rate limit exceeded") {
			return fmt.Errorf("%w: %w", ErrRateLimited, err)
		}
	}
	return err
}

// isRefusal says whether the relay answered, only not with a reservation.
func isRefusal(err error) bool {
	_, refused := errors.AsType[*RefusedError](err)
	return refused || errors.Is(err, ErrUnsupported) || errors.Is(err, ErrMalformed)
}

func isTimeout(err error) bool {
	return errors.Is(err, os.ErrDeadlineExceeded)
}
