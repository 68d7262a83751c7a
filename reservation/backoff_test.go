package reservation

import (
	"errors"
	"fmt"
	"testing"
	"time"

	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
)

func TestPause(t *testing.T) {
	b := backoff{min: 250 * time.Millisecond, max: time.Minute}
	for _, c := range []struct {
		n      int
		fast   bool
		random float64
		want   time.Duration
	}{
		{0, true, 0, 0},
		{0, false, 0.5, 125 * time.Millisecond},
		{1, true, 0, 500 * time.Millisecond},
		{2, true, 0, time.Second},
		{3, true, 0, 2 * time.Second},
		{30, true, 0, 2 * time.Second},
		{30, true, 1, 1500 * time.Millisecond},
		{4, false, 0, 4 * time.Second},
		{8, false, 0, time.Minute},
		{1 << 30, false, 0, time.Minute},
	} {
		if got := b.pause(c.n, c.fast, c.random); got != c.want {
			t.Errorf("failure %d, fast %v, random %v: %v, want %v", c.n, c.fast, c.random, got, c.want)
		}
	}
	if got := (backoff{min: 10 * time.Millisecond, max: 50 * time.Millisecond}).pause(9, true, 0); got != 50*time.Millisecond {
		t.Errorf("%v is more than the option allows", got)
	}
}

func TestRefusalPause(t *testing.T) {
	refused := func(s pbv2.Status) error { return fmt.Errorf("wrapped: %w", &RefusedError{Status: s}) }
	for _, c := range []struct {
		err         error
		first, last time.Duration
	}{
		{refused(pbv2.Status_RESERVATION_REFUSED), 2 * time.Second, time.Minute},
		{refused(pbv2.Status_RESOURCE_LIMIT_EXCEEDED), 2 * time.Second, time.Minute},
		{refused(pbv2.Status_PERMISSION_DENIED), 5 * time.Second, 5 * time.Minute},
		{refused(12345), 5 * time.Second, 5 * time.Minute},
		{fmt.Errorf("wrapped: %w", ErrUnsupported), time.Second, time.Minute},
		{ErrMalformed, 5 * time.Second, 5 * time.Minute},
	} {
		if got := refusalPause(c.err, 0, 0); got != c.first {
			t.Errorf("%v at first: %v, want %v", c.err, got, c.first)
		}
		if got := refusalPause(c.err, 1<<30, 0); got != c.last {
			t.Errorf("%v at last: %v, want %v", c.err, got, c.last)
		}
	}
}

func TestErrorsAndOutcomes(t *testing.T) {
	full := &RefusedError{Status: pbv2.Status_RESERVATION_REFUSED}
	for _, c := range []struct {
		err     error
		refusal bool
		outcome string
	}{
		{nil, false, outcomeReserved},
		{full, true, outcomeRefused},
		{&RefusedError{Status: pbv2.Status_PERMISSION_DENIED}, true, outcomeDenied},
		{&RefusedError{Status: pbv2.Status_RESOURCE_LIMIT_EXCEEDED}, true, outcomeRefused},
		{&RefusedError{Status: pbv2.Status_MALFORMED_MESSAGE}, true, outcomeRefused},
		{fmt.Errorf("x: %w", ErrUnsupported), true, outcomeUnsupported},
		{fmt.Errorf("x: %w", ErrMalformed), true, outcomeMalformed},
		{errMute, false, outcomeTimeout},
		{errReset, false, outcomeFailed},
	} {
		if got := isRefusal(c.err); got != c.refusal {
			t.Errorf("%v is a refusal: %v", c.err, got)
		}
		if got := outcomeOf(c.err, false); got != c.outcome {
			t.Errorf("%v counts as %q, want %q", c.err, got, c.outcome)
		}
		if e, ok := errors.AsType[*RefusedError](c.err); ok && len(e.Error()) < 30 {
			t.Errorf("%q says little", e)
		}
	}
	if got := outcomeOf(nil, true); got != outcomeRenewed {
		t.Errorf("a renewal counts as %q", got)
	}
	for err, want := range map[error]string{
		ErrLost: lostConnection, ErrExpired: lostExpired, ErrUnsupported: lostWithdrawn, errReleased: lostReleased,
	} {
		if got := lostReason(err); got != want {
			t.Errorf("%v counts as %q, want %q", err, got, want)
		}
	}
	e := &RelayError{Relay: "r", State: Refused, Err: full}
	if !errors.Is(e, full) || (&RelayError{Relay: "r", State: Connecting}).Error() == "" {
		t.Errorf("%v", e)
	}
}

func TestOptions(t *testing.T) {
	if err := CheckOptions(); err != nil {
		t.Error(err)
	}
	most := []Option{WithTarget(8), WithDiscovered(), WithBackoff(10*time.Millisecond, 10*time.Minute), WithRegisterer(nil)}
	if err := CheckOptions(most...); err != nil {
		t.Error(err)
	}
	for name, o := range map[string]Option{
		"target too small":  WithTarget(0),
		"target too large":  WithTarget(9),
		"back-off too fast": WithBackoff(time.Millisecond, time.Minute),
		"back-off reversed": WithBackoff(time.Second, 500*time.Millisecond),
		"back-off too slow": WithBackoff(time.Second, time.Hour),
	} {
		if CheckOptions(o) == nil {
			t.Errorf("%s: no error", name)
		}
	}
	c, _ := newConfig(nil)
	if c.backoff != (backoff{DefaultMinBackoff, DefaultMaxBackoff}) || c.discovered || c.registerer != nil {
		t.Errorf("%+v", c)
	}
	for relays, want := range map[int]int{1: 1, 3: 3, 9: DefaultTarget} {
		c, _ := newConfig(nil)
		if err := c.settle(relays); err != nil || c.target != want {
			t.Errorf("%d relays: target %d, %v; want %d", relays, c.target, err, want)
		}
	}
	c, _ = newConfig([]Option{WithDiscovered()})
	if err := c.settle(0); err != nil || c.target != DefaultTarget {
		t.Errorf("discovered: target %d, %v", c.target, err)
	}
}
