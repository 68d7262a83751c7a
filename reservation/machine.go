package reservation

import (
	"errors"
	"slices"
	"time"
)

// State is how a relay stands.
type State int

const (
	// Waiting says that the relay is a spare: enough reservations are held without it.
	Waiting State = iota + 1
	// Connecting says that the relay is being dialled.
	Connecting
	// Reserving says that the relay is connected and has been asked.
	Reserving
	// Reserved says that a reservation is held.
	Reserved
	// Unreachable says that the relay could not be dialled, did not answer or was lost. It is tried again.
	Unreachable
	// Refused says that the relay's answer was no. It is asked again.
	Refused
)

func (s State) String() string {
	switch s {
	case Waiting:
		return "waiting"
	case Connecting:
		return "connecting"
	case Reserving:
		return "reserving"
	case Reserved:
		return "reserved"
	case Unreachable:
		return "unreachable"
	case Refused:
		return "refused"
	}
	return "unknown"
}

const (
	// attemptTimeout is how long a dial, or an answer, may take.
	attemptTimeout = 10 * time.Second
	// minDialTimeout is how long a dial may take at least, when a relay that was quick before is dialled again
	// after a loss: a packet lost to a relay that was still down shall not hold us up for long.
	minDialTimeout = 3 * time.Second
	// probeTimeout is how long a relay may take to renew once this host's network has changed.
	probeTimeout = 3 * time.Second
	// networkGap is how often changes of this host's network are acted on.
	networkGap = 5 * time.Second
	// askGap is how soon a relay that said no is asked again when something about it has changed.
	askGap = 250 * time.Millisecond
	// settledAfter is how long a reservation has to hold for its loss to be a first one. A relay that grants
	// and drops us in turn is retried ever more slowly.
	settledAfter = 30 * time.Second
	// grace is how long a relay may take to connect, or to come back, before a spare is tried beside it.
	grace = 5 * time.Second
	// minRenew and maxRenew bound when a reservation is renewed. The upper bound is for relays whose clock is
	// ahead of ours, so that their reservations look longer than they are.
	minRenew = time.Second
	maxRenew = 10 * time.Minute
)

// verb is what a machine wants done.
type verb int

const (
	doNothing verb = iota
	doDial         // connect to the relay
	doReserve      // ask for a reservation, or its renewal
	doHangUp       // close a connection that is dead
)

// command is one thing to do. A dial or a request takes the place of what is
// under way; drop ends that in any case.
type command struct {
	do      verb
	timeout time.Duration
	conn    string
	drop    bool
}

// eventKind is what can happen to a machine.
type eventKind int

const (
	evTick     eventKind = iota // time has passed, or connections have come or gone
	evStart                     // the relay is wanted
	evStop                      // it is not any longer
	evDialled                   // a dial ended, with err or without
	evAnswered                  // a request ended, with a grant or with err
	evNetwork                   // this host's network has changed
	evHopOn                     // the relay says that it is one
	evHopOff                    // it says that it is not any longer
)

type incident struct {
	kind  eventKind
	conns []string // the direct connections to the relay at this moment
	grant *grant
	err   error
}

// machine keeps one reservation. It is pure: the caller brings time, chance
// and what happened, and does what is asked for.
type machine struct {
	backoff backoff
	random  func() float64 // in [0,1)

	state State
	since time.Time // of state
	err   error     // the last failure, nil while all is well
	grant *grant    // what is held

	busy     verb      // under way: doNothing, doDial or doReserve
	due      time.Time // of the next attempt; zero: none
	tried    time.Time // the start of the last attempt
	conns    []string
	held     time.Time     // since when the reservation is held
	hope     time.Time     // until when no spare is needed for it
	fast     time.Time     // until when pauses are short
	took     time.Duration // of the last dial that succeeded
	fails    int           // attempts without an answer in a row
	refusals int           // refusals in a row
	asks     int           // requests since a reservation last settled
	silent   int           // timeouts in a row on a connection that stands
	reacted  time.Time     // to a change of this host's network
	probing  bool          // the next renewal shows whether the connection still works
	stale    bool          // what is under way is to be ended
	lost     error         // why the last reservation ended, until the caller has seen it
}

func newMachine(b backoff, random func() float64, now time.Time) *machine {
	return &machine{backoff: b, random: random, state: Waiting, since: now}
}

// step takes what happened and returns what to do.
func (m *machine) step(now time.Time, e incident) command {
	fresh := slices.ContainsFunc(e.conns, func(c string) bool { return !slices.Contains(m.conns, c) })
	m.conns = e.conns
	if !m.wanted() && e.kind != evStart {
		return command{}
	}
	c := m.handle(now, e)
	if c.do == doNothing && m.wanted() {
		c = m.look(now, fresh)
	}
	c.drop, m.stale = m.stale, false
	return c
}

func (m *machine) handle(now time.Time, e incident) command {
	switch e.kind {
	case evStart:
		m.start(now)
	case evStop:
		m.stop(now)
	case evDialled:
		m.dialled(now, e.err)
	case evAnswered:
		return m.answered(now, e)
	case evNetwork:
		m.networkChanged(now)
	case evHopOn:
		m.askSoon(now)
	case evHopOff:
		m.withdrawn(now)
	case evTick:
	}
	return command{}
}

// abandon ends what is under way.
func (m *machine) abandon() {
	m.stale = m.stale || m.busy != doNothing
	m.busy = doNothing
}

// look compares what is with what should be.
func (m *machine) look(now time.Time, fresh bool) command {
	switch {
	case m.grant != nil && !slices.Contains(m.conns, m.grant.conn):
		m.lose(now, Unreachable, ErrLost)
	case m.grant != nil && !now.Before(m.grant.expires):
		m.lose(now, Unreachable, ErrExpired)
	}
	if m.busy == doReserve && len(m.conns) == 0 {
		m.abandon() // the stream may wait for a direct connection as long as there is a relayed one
		m.fail(now, Unreachable, ErrLost)
	}
	if m.busy == doDial && len(m.conns) > 0 {
		m.abandon() // it came by another way, or is there though its dial still waits for identify
		m.took, m.due = now.Sub(m.tried), now
	} else if fresh && m.grant == nil {
		m.askSoon(now)
	}
	if m.busy == doNothing && !m.due.IsZero() && !now.Before(m.due) {
		return m.try(now)
	}
	return command{}
}

// wanted says whether a reservation is to be had here.
func (m *machine) wanted() bool { return m.state != Waiting }

// hopeful says whether a reservation may yet come without a spare's help.
func (m *machine) hopeful(now time.Time) bool {
	return m.wanted() && m.grant == nil && now.Before(m.hope)
}

// next is when step has to be called at the latest; zero: when something happens.
func (m *machine) next(now time.Time) time.Time {
	var next time.Time
	earlier := func(t time.Time) {
		if next.IsZero() || t.Before(next) {
			next = t
		}
	}
	if m.busy == doNothing && !m.due.IsZero() {
		earlier(m.due)
	}
	if m.grant != nil {
		earlier(m.grant.expires)
	}
	if m.hopeful(now) {
		earlier(m.hope)
	}
	return next
}

func (m *machine) enter(now time.Time, s State) {
	if m.state != s {
		m.state, m.since = s, now
	}
}

func (m *machine) start(now time.Time) {
	m.enter(now, Connecting)
	m.fails, m.refusals, m.asks, m.silent, m.held = 0, 0, 0, 0, time.Time{}
	m.fast, m.hope, m.due = now.Add(fastFor), now.Add(grace), now
}

func (m *machine) stop(now time.Time) {
	if m.grant != nil {
		m.lost = errReleased
	}
	m.enter(now, Waiting)
	m.abandon()
	m.grant, m.due, m.probing = nil, time.Time{}, false
}

// try starts an attempt: a dial if there is no connection, else a request.
func (m *machine) try(now time.Time) command {
	m.tried, m.due = now, time.Time{}
	if len(m.conns) == 0 {
		m.busy = doDial
		m.enter(now, Connecting)
		return command{do: doDial, timeout: m.dialTimeout(now)}
	}
	m.busy = doReserve
	if m.grant == nil {
		m.enter(now, Reserving)
		m.asks++
	}
	if m.probing {
		return command{do: doReserve, timeout: probeTimeout}
	}
	return command{do: doReserve, timeout: attemptTimeout}
}

func (m *machine) dialTimeout(now time.Time) time.Duration {
	if m.took == 0 || !now.Before(m.fast) {
		return attemptTimeout
	}
	return min(max(minDialTimeout, 4*m.took), attemptTimeout)
}

func (m *machine) dialled(now time.Time, err error) {
	m.busy = doNothing
	if err == nil && len(m.conns) == 0 {
		err = errGone
	}
	if err == nil {
		m.took, m.due = now.Sub(m.tried), now
		return
	}
	m.fail(now, Unreachable, err)
	if errors.Is(err, ErrRateLimited) {
		m.due = now.Add(refillPause(m.fails, m.random()))
	}
}

func later(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// fail notes an attempt without an answer and plans the next.
func (m *machine) fail(now time.Time, s State, err error) {
	m.err = err
	m.due = now.Add(m.backoff.pause(m.fails, now.Before(m.fast), m.random()))
	m.fails++
	m.dropHope(now, s)
}

// dropHope lets a spare be tried, unless this relay had us before: then it has
// the rest of its grace.
func (m *machine) dropHope(now time.Time, s State) {
	if m.grant != nil {
		return // still held, only not renewed yet
	}
	m.enter(now, s)
	if m.held.IsZero() || s == Refused {
		m.hope = time.Time{}
	}
}

func (m *machine) answered(now time.Time, e incident) command {
	m.busy = doNothing
	probing := m.probing
	m.probing = false
	switch {
	case e.err == nil:
		m.granted(now, e.grant)
	case isRefusal(e.err):
		m.silent = 0
		m.refused(now, e.err)
	default:
		m.fail(now, Unreachable, e.err)
		return m.hangUpSilent(probing, e.err)
	}
	return command{}
}

func (m *machine) granted(now time.Time, g *grant) {
	if m.grant == nil {
		m.held = now
	} else if now.Sub(m.held) >= settledAfter {
		m.fails, m.asks = 0, 0
	}
	m.grant, m.err, m.refusals, m.silent = g, nil, 0, 0
	m.enter(now, Reserved)
	m.due = now.Add(renewIn(g.expires.Sub(now), m.random()))
}

func (m *machine) refused(now time.Time, err error) {
	m.err = err
	m.due = now.Add(refusalPause(err, m.refusals, m.random()))
	m.refusals++
	m.dropHope(now, Refused)
}

// hangUpSilent gives up a connection on which the relay does not answer: at
// once if this host's network has changed, so that the connection is likely
// the old network's, else after two timeouts. TCP and QUIC would take half a
// minute to notice.
func (m *machine) hangUpSilent(probing bool, err error) command {
	if !isTimeout(err) || len(m.conns) == 0 {
		return command{}
	}
	m.silent++
	if !probing && m.silent < 2 {
		return command{}
	}
	conn := m.conns[0]
	if m.grant != nil {
		conn = m.grant.conn
	}
	m.silent = 0
	return command{do: doHangUp, conn: conn}
}

// renewIn returns when to renew what holds for d more: at about half of it, so
// that one attempt can fail.
func renewIn(d time.Duration, random float64) time.Duration {
	return min(max(spread(d/2, random), minRenew), maxRenew)
}

// lose ends a reservation and plans the next attempt: at once if there is
// another connection to the relay.
func (m *machine) lose(now time.Time, s State, err error) {
	if now.Sub(m.held) >= settledAfter {
		m.fails, m.asks = 0, 0
		m.fast = now.Add(fastFor)
	}
	m.abandon()
	m.grant, m.lost, m.probing = nil, err, false
	m.refusals, m.silent = 0, 0
	m.hope = now.Add(grace)
	first := m.fails == 0
	m.fail(now, s, err)
	if first && len(m.conns) > 0 {
		m.due = now
	}
}

// networkChanged renews what is held, to see whether the connection still
// works, and tries again what failed; every networkGap at most.
func (m *machine) networkChanged(now time.Time) {
	at := later(now, m.reacted.Add(networkGap))
	m.reacted = at
	if m.grant != nil {
		m.probing = true
	} else {
		m.fails, m.fast = 0, now.Add(fastFor)
		at = at.Add(m.backoff.pause(0, true, m.random()))
	}
	m.bring(at)
	if m.busy == doDial && now.Sub(m.tried) > networkGap/5 {
		m.abandon() // likely on the old network
	}
}

// askSoon brings the next attempt forward: less and less for a relay where
// asking has not led to much.
func (m *machine) askSoon(now time.Time) {
	if m.grant != nil {
		return
	}
	m.bring(later(now, m.tried.Add(double(askGap, m.asks, attemptTimeout))))
}

func (m *machine) bring(at time.Time) {
	if m.due.IsZero() || at.Before(m.due) {
		m.due = at
	}
}

// withdrawn takes a relay at its word that it is none any longer.
func (m *machine) withdrawn(now time.Time) {
	if m.grant == nil {
		return
	}
	m.lose(now, Refused, ErrUnsupported)
	m.due = now.Add(refusalPause(ErrUnsupported, 0, m.random()))
	m.refusals = 1
	m.hope = time.Time{}
}
