package relay

import (
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
)

// Policy decides who gets what from a relay. It is asked from many goroutines
// at once, and holds up only the request that it is asked about.
type Policy interface {
	Decide(ctx context.Context, r *Request) Decision
}

// PolicyFunc is a function as a policy.
type PolicyFunc func(ctx context.Context, r *Request) Decision

// Decide implements [Policy].
func (f PolicyFunc) Decide(ctx context.Context, r *Request) Decision { return f(ctx, r) }

// Op is what a peer wants, or what is wanted of it.
type Op uint8

// A RESERVE is one request. A CONNECT is two: its source is asked about first,
// its destination if that was allowed.
const (
	Reserve     Op = iota + 1 // hold a reservation, or renew it
	ConnectFrom               // open a circuit to Other
	ConnectTo                 // be reached by Other through a circuit
)

// String returns "reserve", "connect-from" or "connect-to".
func (op Op) String() string {
	switch op {
	case Reserve:
		return "reserve"
	case ConnectFrom:
		return "connect-from"
	case ConnectTo:
		return "connect-to"
	}
	return "unknown"
}

// Request is what a policy is asked about.
type Request struct {
	Op      Op
	Peer    peer.ID
	Addr    netip.Addr   // of Peer, never an IPv4-mapped one; invalid if it has none
	Conn    network.Conn // of Peer, to read only
	Renewal bool         // Peer holds a reservation already
	Other   peer.ID      // the other end of a circuit
	Time    time.Time
}

// Decision is a policy's answer: allow, refuse, or no opinion, which is the zero
// one; what nobody refuses is allowed.
type Decision struct {
	verdict verdict
	terms   Terms // at most these
	granted Terms // in place of the relay's limits
	until   time.Time
	reason  Reason
	release []func()
}

type verdict uint8

const (
	pass verdict = iota
	allow
	refuse
)

// Terms is what a peer is granted. Zero fields leave it to the relay's [Limits],
// which are also the most that it gets, whatever a policy says: only [Grant] goes
// beyond them.
type Terms struct {
	// TTL is how long a reservation lasts unless it is renewed.
	TTL time.Duration
	// Duration is when a circuit is reset.
	Duration time.Duration
	// Data is how many bytes a circuit carries in each direction.
	Data int64
	// Rate is how many bytes per second the peer's circuits carry, all
	// together and both directions.
	Rate int64
}

func (t Terms) validate() error {
	if t.TTL < 0 || t.Duration < 0 || t.Data < 0 || t.Rate < 0 {
		return fmt.Errorf("terms %+v: use positive values, or zero to leave one to the relay's Limits", t)
	}
	return nil
}

// min returns the smaller of each, where zero is no opinion.
func (t Terms) min(o Terms) Terms {
	return Terms{
		TTL:      smaller(t.TTL, o.TTL),
		Duration: smaller(t.Duration, o.Duration),
		Data:     smaller(t.Data, o.Data),
		Rate:     smaller(t.Rate, o.Rate),
	}
}

func smaller[T time.Duration | int64](a, b T) T {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}

// Reason is why a relay refuses or ends something: a label of its metrics, and part of its
// events. Policies of your own may add some; keep their number small.
type Reason string

// The reasons that this package gives.
const (
	ReasonDenied        Reason = "denied"         // on a list of those denied
	ReasonNotListed     Reason = "not-listed"     // not on the list of those allowed
	ReasonPerPeer       Reason = "per-peer"       // too many for one peer
	ReasonPerIP         Reason = "per-ip"         // too many for one IP address
	ReasonPerSubnet     Reason = "per-subnet"     // too many for one subnet
	ReasonPerASN        Reason = "per-asn"        // too many for one autonomous system
	ReasonRate          Reason = "rate"           // too often
	ReasonCapacity      Reason = "capacity"       // the relay is full
	ReasonDraining      Reason = "draining"       // the relay is shutting down
	ReasonNoReservation Reason = "no-reservation" // the destination holds none
	ReasonNoAddress     Reason = "no-address"     // the peer has no IP address, or comes through a relay
	ReasonUnreachable   Reason = "unreachable"    // the destination did not take the circuit
	ReasonMalformed     Reason = "malformed"      // the request is not circuit v2
	ReasonResources     Reason = "resources"      // the resource manager said no
	ReasonExpired       Reason = "expired"        // a reservation was not renewed
	ReasonDisconnected  Reason = "disconnected"   // the peer that held a reservation has left
	ReasonEvicted       Reason = "evicted"        // see [Relay.Evict]
	ReasonShutdown      Reason = "shutdown"       // the relay was closed
)

// The reasons of [Members].
const (
	ReasonNoInvite        Reason = "no-invite"        // no invite was presented
	ReasonInviteMalformed Reason = "invite-malformed" // what was presented is none, or not signed by whom it names
	ReasonInviteIssuer    Reason = "invite-issuer"    // its issuer is not trusted
	ReasonInviteAudience  Reason = "invite-audience"  // it is for another relay
	ReasonInviteSubject   Reason = "invite-subject"   // it is for another peer
	ReasonInviteNotYet    Reason = "invite-not-yet"   // its time has not come
	ReasonInviteExpired   Reason = "invite-expired"   // its time is over
	ReasonInviteRevoked   Reason = "invite-revoked"   // see [Members.Revoke]
	ReasonInviteUsed      Reason = "invite-used"      // as many peers use it as may at once
)

// The reasons of [Callout].
const (
	ReasonCallout       Reason = "callout"        // the server said no
	ReasonCalloutFailed Reason = "callout-failed" // the server did not answer
)

// status is what circuit v2 has to say for a reason (libp2p specs,
// relay/circuit-v2.md §Status codes).
func (r Reason) status(op Op) pbv2.Status {
	switch r {
	case ReasonPerPeer, ReasonPerIP, ReasonPerSubnet, ReasonPerASN, ReasonCapacity, ReasonDraining, ReasonInviteUsed:
		if op == Reserve {
			return pbv2.Status_RESERVATION_REFUSED
		}
		return pbv2.Status_RESOURCE_LIMIT_EXCEEDED
	case ReasonRate, ReasonResources:
		return pbv2.Status_RESOURCE_LIMIT_EXCEEDED
	case ReasonNoReservation:
		return pbv2.Status_NO_RESERVATION
	case ReasonUnreachable:
		return pbv2.Status_CONNECTION_FAILED
	case ReasonMalformed:
		return pbv2.Status_MALFORMED_MESSAGE
	default:
		return pbv2.Status_PERMISSION_DENIED
	}
}

// Allow is a decision for the peer. Of the terms of several policies the
// smaller count, and of the relay's limits and these.
func Allow(t Terms) Decision { return Decision{verdict: allow, terms: t} }

// Refuse is a decision against the peer.
func Refuse(why Reason) Decision { return Decision{verdict: refuse, reason: why} }

// Take returns d with a function that is called once when what was allowed has
// ended: the reservation has ended or is renewed (after the renewal was decided
// upon), the circuit is closed, or somebody else refused it after all.
func (d Decision) Take(release func()) Decision {
	d.release = append(slices.Clip(d.release), release)
	return d
}

// Until returns d with the time at which it ends, if it has none that is
// earlier: a reservation does not last longer.
func (d Decision) Until(t time.Time) Decision {
	d.until = earlier(d.until, t)
	return d
}

// earlier returns the earlier of two times, of which zero is never.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// Refused says whether the decision is against the peer, and why.
func (d Decision) Refused() (Reason, bool) { return d.reason, d.verdict == refuse }

// Terms returns what the decision grants.
func (d Decision) Terms() Terms { return d.terms.min(d.granted) }

// Ends returns when the decision ends, see [Decision.Until]; zero if it does not.
func (d Decision) Ends() time.Time { return d.until }

// within returns what a peer gets of a relay with these limits.
func (d Decision) within(l Limits, now time.Time) Terms {
	t := l.terms(d.granted).min(d.terms)
	if !d.until.IsZero() {
		t.TTL = min(t.TTL, max(d.until.Sub(now), time.Second))
	}
	return t
}

// circuitTerms returns what a circuit gets: the smaller of what its ends do and of
// what its destination's reservation has.
func circuitTerms(l Limits, from, to Decision, held Terms) Terms {
	granted := from.granted.min(to.granted).min(Terms{Data: held.Data, Duration: held.Duration})
	return l.terms(granted).min(from.terms).min(to.terms)
}

// Release gives back what policies took for the decision. The relay does so;
// it is for tests and for policies that ask others.
func (d Decision) Release() {
	for _, f := range d.release {
		f()
	}
}

// and joins two decisions neither of which refuses.
func (d Decision) and(o Decision) Decision {
	d.verdict = max(d.verdict, o.verdict)
	d.terms, d.granted, d.until = d.terms.min(o.terms), d.granted.min(o.granted), earlier(d.until, o.until)
	d.release = append(slices.Clip(d.release), o.release...)
	return d
}
