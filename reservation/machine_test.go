package reservation

import (
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
)

var (
	errDial  = errors.New("connection refused by the network")
	errReset = errors.New("stream reset")
	errFull  = &RefusedError{Status: pbv2.Status_RESERVATION_REFUSED}
	errNo    = &RefusedError{Status: pbv2.Status_PERMISSION_DENIED}
	errMute  = fmt.Errorf("mute: %w", os.ErrDeadlineExceeded)
)

// machineRig drives a machine through time, without chance.
type machineRig struct {
	*testing.T
	*machine
	now   time.Time
	conns []string
	last  command
}

func newMachineRig(t *testing.T) *machineRig {
	now := time.Unix(1e9, 0)
	m := newMachine(backoff{min: DefaultMinBackoff, max: DefaultMaxBackoff}, func() float64 { return 0.5 }, now)
	return &machineRig{T: t, machine: m, now: now}
}

func (r *machineRig) is(e incident) *machineRig {
	e.conns = slices.Clone(r.conns)
	r.last = r.step(r.now, e)
	return r
}

func (r *machineRig) after(d time.Duration) {
	r.now = r.now.Add(d)
	r.is(incident{kind: evTick})
}

// atDue goes to when the machine wants to be called.
func (r *machineRig) atDue() *machineRig {
	r.Helper()
	next := r.next(r.now)
	if next.IsZero() {
		r.Fatal("nothing is due")
	}
	if r.after(max(0, next.Sub(r.now))); r.last.do == doNothing && next.Equal(r.hope) {
		return r.atDue() // it was woken to give up hope
	}
	return r
}

func (r *machineRig) connected(conns ...string) *machineRig {
	r.conns = conns
	return r.is(incident{kind: evTick})
}

// grants answers with a reservation of an hour.
func (r *machineRig) grants(conn string) *machineRig {
	return r.is(incident{kind: evAnswered, grant: &grant{conn: conn, expires: r.now.Add(time.Hour)}})
}

func (r *machineRig) answers(err error) *machineRig {
	return r.is(incident{kind: evAnswered, err: err})
}

func (r *machineRig) dials(err error) *machineRig { return r.is(incident{kind: evDialled, err: err}) }

func (r *machineRig) want(s State, do verb) *machineRig {
	r.Helper()
	if r.state != s || r.last.do != do {
		r.Fatalf("state %v, told to do %d; want %v and %d", r.state, r.last.do, s, do)
	}
	return r
}

func (r *machineRig) wantDue(from, to time.Duration) {
	r.Helper()
	if d := r.due.Sub(r.now); d < from || d > to {
		r.Fatalf("due in %v, want %v to %v", d, from, to)
	}
}

// reserved is a rig with a reservation of an hour on connection a.
func reserved(t *testing.T) *machineRig {
	t.Helper()
	r := newMachineRig(t)
	r.is(incident{kind: evStart}).want(Connecting, doDial)
	r.now = r.now.Add(100 * time.Millisecond)
	r.conns = []string{"a"}
	r.dials(nil).want(Reserving, doReserve)
	return r.grants("a").want(Reserved, doNothing)
}

func TestMachineReserves(t *testing.T) {
	r := reserved(t)
	r.wantDue(8*time.Minute, 10*time.Minute)
	r.atDue().want(Reserved, doReserve)
	r.grants("a").want(Reserved, doNothing)
	r.is(incident{kind: evStop}).want(Waiting, doNothing)
	if r.lost == nil || r.last.drop {
		t.Error("released without a word, or dropped what was not under way")
	}
	r.connected("a", "b").want(Waiting, doNothing) // a spare stands still
}

func TestMachineConnectionEndsWhileAsking(t *testing.T) {
	r := newMachineRig(t)
	r.conns = []string{"a"}
	r.is(incident{kind: evStart}).want(Reserving, doReserve)
	if r.connected().want(Unreachable, doNothing); !r.last.drop || !errors.Is(r.err, ErrLost) {
		t.Errorf("%+v, %v", r.last, r.err)
	}
	r.atDue().want(Connecting, doDial)
}

// The relay is connected before its dial returns, which waits for identify too.
func TestMachineTakesAnyConnection(t *testing.T) {
	r := newMachineRig(t)
	r.is(incident{kind: evStart}).want(Connecting, doDial)
	if r.connected("a").want(Reserving, doReserve); !r.last.drop {
		t.Error("the dial was not dropped")
	}
	r.grants("a").want(Reserved, doNothing)
	other := newMachineRig(t)
	other.conns = []string{"inbound"}
	other.is(incident{kind: evStart}).want(Reserving, doReserve)
}

func TestMachineAfterALoss(t *testing.T) {
	r := reserved(t)
	r.after(time.Minute)
	if r.connected().want(Unreachable, doNothing); !errors.Is(r.lost, ErrLost) || !errors.Is(r.err, ErrLost) {
		t.Errorf("lost: %v, %v", r.lost, r.err)
	}
	r.wantDue(0, 250*time.Millisecond)
	lost := r.now
	for r.now.Sub(lost) < fastFor { // never longer than 2 s for the first time
		r.atDue().want(Connecting, doDial)
		if r.now.Sub(lost) < fastFor && r.last.timeout != minDialTimeout {
			t.Fatalf("timeout %v, for a relay that took 100 ms before", r.last.timeout)
		}
		r.dials(errDial).want(Unreachable, doNothing)
		if r.now.Sub(lost) < fastFor {
			r.wantDue(0, fastMax)
		}
	}
	var pause time.Duration
	for range 20 {
		r.atDue().want(Connecting, doDial)
		if r.last.timeout != attemptTimeout {
			t.Fatalf("timeout %v", r.last.timeout)
		}
		r.dials(errDial)
		pause = r.due.Sub(r.now)
	}
	if pause < 45*time.Second || pause > time.Minute {
		t.Errorf("pause %v, want about a minute at last", pause)
	}
	r.now = r.now.Add(askGap)
	r.connected("b").want(Reserving, doReserve) // it came to us
	r.grants("b").want(Reserved, doNothing)
}

func TestMachineOtherConnection(t *testing.T) {
	r := reserved(t)
	r.connected("a", "b").want(Reserved, doNothing)
	r.connected("b").want(Reserving, doReserve)
	r.grants("b").want(Reserved, doNothing)
	// the connection ends before the answer is taken up
	r.atDue().want(Reserved, doReserve)
	r.conns = []string{"c"}
	r.grants("b")
	if r.state == Reserved {
		t.Error("reserved on a connection that has ended")
	}
}

// A relay that grants and hangs up in turn is asked ever more slowly.
func TestMachineFlapping(t *testing.T) {
	r := reserved(t)
	begin := r.now
	asked := 0
	for i := 0; r.now.Sub(begin) < 10*time.Minute; i++ {
		r.connected()
		for r.last.do != doDial {
			r.atDue()
		}
		conn := strconv.Itoa(i)
		r.conns = []string{conn}
		r.dials(nil).want(Reserving, doReserve)
		r.grants(conn).want(Reserved, doNothing)
		asked++
	}
	if asked > 75 {
		t.Errorf("asked %d times in 10 min", asked)
	}
}

// One that comes to us, refuses, and comes again.
func TestMachineKnocking(t *testing.T) {
	r := newMachineRig(t)
	r.is(incident{kind: evStart})
	asked := 0
	for i := range 6000 {
		r.conns = []string{strconv.Itoa(i)}
		r.now = r.now.Add(100 * time.Millisecond)
		if r.is(incident{kind: evTick}); r.last.do == doReserve {
			asked++
			r.answers(errNo)
		}
	}
	if asked > 70 {
		t.Errorf("asked %d times in 10 min", asked)
	}
}

func TestMachineRefused(t *testing.T) {
	for _, c := range []struct {
		err         error
		first, last time.Duration
	}{
		{errFull, 2 * time.Second, time.Minute},
		{errNo, 5 * time.Second, 5 * time.Minute},
		{ErrUnsupported, time.Second, time.Minute},
		{ErrMalformed, 5 * time.Second, 5 * time.Minute},
	} {
		t.Run(c.err.Error(), func(t *testing.T) {
			r := newMachineRig(t)
			r.conns = []string{"a"}
			r.is(incident{kind: evStart}).answers(c.err).want(Refused, doNothing)
			if r.hopeful(r.now) {
				t.Error("a spare has to wait for it")
			}
			r.wantDue(c.first*3/4, c.first)
			for range 20 {
				r.atDue().want(Reserving, doReserve).answers(c.err)
			}
			r.wantDue(c.last*3/4, c.last)
			r.atDue().grants("a").want(Reserved, doNothing)
		})
	}
}

// A reservation is held until it expires, also when its renewal fails.
func TestMachineRenewalFails(t *testing.T) {
	for _, err := range []error{errFull, errReset} {
		r := reserved(t)
		r.atDue().want(Reserved, doReserve).answers(err).want(Reserved, doNothing)
		if !errors.Is(r.err, err) {
			t.Errorf("%v, want %v", r.err, err)
		}
		until := r.grant.expires
		for r.grant != nil {
			if r.atDue(); r.last.do == doReserve {
				r.answers(err)
			}
		}
		if !r.now.Equal(until) || !errors.Is(r.lost, ErrExpired) {
			t.Errorf("lost at %v: %v, want at %v", r.now, r.lost, until)
		}
	}
}

func TestMachineShortAndSkewedLifetimes(t *testing.T) {
	for lifetime, want := range map[time.Duration][2]time.Duration{
		time.Second:             {minRenew, minRenew},
		3 * time.Second:         {time.Second, 1500 * time.Millisecond},
		time.Minute:             {20 * time.Second, 30 * time.Second},
		24 * time.Hour:          {maxRenew, maxRenew},
		-time.Hour:              {minRenew, minRenew},
		1<<63 - 1:               {maxRenew, maxRenew},
		-time.Duration(1 << 62): {minRenew, minRenew},
	} {
		for _, random := range []float64{0, 0.5, 0.999} {
			if d := renewIn(lifetime, random); d < want[0] || d > want[1] {
				t.Errorf("%v: renewed in %v, want %v", lifetime, d, want)
			}
		}
	}
}

func TestMachineSilence(t *testing.T) {
	r := reserved(t)
	r.atDue().answers(errMute).want(Reserved, doNothing)
	r.atDue().want(Reserved, doReserve).answers(errMute).want(Reserved, doHangUp)
	if r.last.conn != "a" {
		t.Errorf("hung up %q", r.last.conn)
	}
	r.connected().want(Unreachable, doNothing).atDue().want(Connecting, doDial)

	never := newMachineRig(t) // never reserved
	never.conns = []string{"x", "y"}
	never.is(incident{kind: evStart}).answers(errMute).want(Unreachable, doNothing)
	never.atDue().want(Reserving, doReserve).answers(errMute).want(Unreachable, doHangUp)
	if never.last.conn != "x" {
		t.Errorf("hung up %q", never.last.conn)
	}
}

func TestMachineNetworkChanged(t *testing.T) {
	r := reserved(t)
	r.after(time.Minute)
	r.is(incident{kind: evNetwork}).want(Reserved, doReserve)
	if r.last.timeout != probeTimeout {
		t.Errorf("timeout %v", r.last.timeout)
	}
	r.grants("a").want(Reserved, doNothing)
	r.is(incident{kind: evNetwork}).want(Reserved, doNothing).wantDue(networkGap, networkGap) // not twice at once
	r.atDue().want(Reserved, doReserve).answers(errMute).want(Reserved, doHangUp)
	r.connected().want(Unreachable, doNothing)
	for range 12 {
		r.atDue().dials(errDial)
	}
	r.now = r.now.Add(fastFor)
	r.atDue().dials(errDial)
	r.is(incident{kind: evNetwork}).wantDue(0, 250*time.Millisecond)
	r.atDue().want(Connecting, doDial)
	r.now = r.now.Add(networkGap)
	if r.is(incident{kind: evNetwork}); !r.last.drop {
		t.Error("a dial on the old network goes on")
	}
	r.atDue().want(Connecting, doDial)
}

func TestMachineHop(t *testing.T) {
	r := reserved(t)
	if r.is(incident{kind: evHopOff}).want(Refused, doNothing); !errors.Is(r.lost, ErrUnsupported) {
		t.Errorf("lost: %v", r.lost)
	}
	r.wantDue(750*time.Millisecond, time.Second)
	r.now = r.now.Add(500 * time.Millisecond)
	r.is(incident{kind: evHopOn}).want(Reserving, doReserve)
	r.grants("a").is(incident{kind: evHopOn}).want(Reserved, doNothing).wantDue(8*time.Minute, 10*time.Minute)
	r.is(incident{kind: evHopOff}).is(incident{kind: evHopOff}).want(Refused, doNothing)
}

func TestMachineRateLimited(t *testing.T) {
	r := newMachineRig(t)
	r.is(incident{kind: evStart}).dials(fmt.Errorf("%w: dial", ErrRateLimited)).want(Unreachable, doNothing)
	r.wantDue(2*refill, 2*refill*5/4)
	// and one that was over before it was looked at
	r.atDue().dials(nil).want(Unreachable, doNothing)
	if !errors.Is(r.err, errGone) {
		t.Error(r.err)
	}
}

func TestMachineHope(t *testing.T) {
	r := newMachineRig(t)
	if r.is(incident{kind: evStart}); !r.hopeful(r.now) || r.hopeful(r.now.Add(grace)) || !r.next(r.now).Equal(r.now.Add(grace)) {
		t.Error("a relay has its grace to connect")
	}
	if r.dials(errDial); r.hopeful(r.now) {
		t.Error("after the first failure there is no more hope")
	}
	r = reserved(t)
	if r.connected().atDue().dials(errDial); !r.hopeful(r.now) {
		t.Error("one that was lost has its grace to come back")
	}
}

func TestStateNames(t *testing.T) {
	for s := range State(8) {
		if name := s.String(); (name == "unknown") != (s < Waiting || s > Refused) {
			t.Errorf("%d is %q", s, name)
		}
	}
}
