package reservation

import (
	"errors"
	"time"

	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
)

const (
	// fastFor is how long after a loss we retry fast, so that a relay that restarts has us back at once. Not
	// longer: an attempt dials each address of the relay, and go-libp2p gives UDP up for the whole host when
	// of 100 dials to public addresses fewer than 5 succeed (swarm, BlackHoleSuccessCounter).
	fastFor = 90 * time.Second
	fastMax = 2 * time.Second
	// refill is how long our resource manager, once it has held dials back, takes by default to let one more
	// through to the same IP address.
	refill = 5 * time.Second
)

// backoff is the pause between attempts at a relay that does not answer.
type backoff struct {
	min, max time.Duration
}

// pause returns how long to wait after the n-th failure in a row, counted from
// 0. Random in [0,1) spreads the peers that lost the same relay.
func (b backoff) pause(n int, fast bool, random float64) time.Duration {
	if n == 0 {
		return time.Duration(random * float64(b.min))
	}
	limit := b.max
	if fast {
		limit = min(limit, fastMax)
	}
	return spread(double(b.min, n, limit), random)
}

// refusalPause is the same for a relay that says no. A relay that is full may
// have room at any time; who is not allowed in will rather stay out; and a peer
// that is no relay may be one that is still starting, whose identify push then
// ends the pause.
func refusalPause(err error, n int, random float64) time.Duration {
	first, limit := 5*time.Second, 5*time.Minute
	if refused, ok := errors.AsType[*RefusedError](err); ok {
		switch refused.Status {
		case pbv2.Status_RESERVATION_REFUSED, pbv2.Status_RESOURCE_LIMIT_EXCEEDED:
			first, limit = 2*time.Second, time.Minute
		default:
		}
	}
	if errors.Is(err, ErrUnsupported) {
		first, limit = time.Second, time.Minute
	}
	return spread(double(first, n, limit), random)
}

// refillPause is the pause once our resource manager has held dials back: long
// enough for one dial and for two in turn. With one, only the address that the
// swarm ranks first would ever be tried, by UDP, however unreachable.
func refillPause(n int, random float64) time.Duration {
	return time.Duration(1+n%2)*refill + time.Duration(random*float64(refill)/4)
}

// double doubles d n times, up to the limit.
func double(d time.Duration, n int, limit time.Duration) time.Duration {
	for range n {
		if d >= limit {
			break
		}
		d *= 2
	}
	return min(d, limit)
}

// spread takes up to a quarter off.
func spread(d time.Duration, random float64) time.Duration {
	return d - time.Duration(random*float64(d)/4)
}
