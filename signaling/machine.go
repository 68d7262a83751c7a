package signaling

import (
	"errors"
	"fmt"
	"io"
	"time"
)

// role is which description a side sends; also a value of the metrics' label.
type role string

const (
	offerer  role = "offerer"
	answerer role = "answerer"
)

type phase uint8

const (
	awaitOffer  phase = iota // the answerer has not got the offer
	awaitAnswer              // the offerer has not got the answer, the answerer has not given it
	exchanging               // both descriptions are out, candidates flow
	closing                  // this side is done
	over
)

// terms is what a machine was agreed to run under.
type terms struct {
	limits Limits
	policy CandidatePolicy
	via    class // of the address that the signaling connection leads to
}

// machine is one side of a session: it is told what comes from the remote, from
// the application and from the clock, and says what to write and when it is
// over. It does no I/O, starts nothing and knows no time but what it is told.
//
// What goes over the stream, in each direction and in this order: the offerer
// sends its offer, then candidates at once, as js-libp2p does; the answerer
// sends its answer, then candidates. A js offerer fails on a candidate before
// the answer, so the answerer holds its own back until then.
type machine struct {
	terms
	role     role
	phase    phase
	deadline time.Time // when the phase ends in ErrTimeout
	expires  time.Time // when the exchange does, be it in whatever phase
	err      error     // an *Error's Err, once over; nil for success
	failedAt Stage     // once over with err

	remote string // the remote's description, filtered
	ended  bool   // the remote has sent all it will send

	outbox  []message // to be written
	held    []message // candidates until the answer is out
	writing bool      // something was taken from next and is not yet written
	said    bool      // our description is written
	fin     bool      // the end of our stream was taken from next

	inbox    []Candidate // accepted, not yet taken
	sent     int         // local candidates
	received int         // remote candidates, good or not
	accepted int         // remote candidates handed on

	refused map[refusal]int // since collected
}

// newOfferer begins a session with our offer.
func newOfferer(t terms, now time.Time, sdp string) *machine {
	m := &machine{terms: t, role: offerer, phase: awaitAnswer, refused: make(map[refusal]int)}
	m.expires = now.Add(t.limits.Timeout)
	m.deadline = m.expires
	m.outbox = []message{{typeOffer, sdp}}
	return m
}

// newAnswerer begins a session for which the remote has opened a stream.
func newAnswerer(t terms, now time.Time) *machine {
	m := &machine{terms: t, role: answerer, phase: awaitOffer, refused: make(map[refusal]int)}
	m.expires = now.Add(t.limits.Timeout)
	m.deadline = now.Add(t.limits.OfferTimeout)
	return m
}

func (m *machine) stage() Stage {
	switch m.phase {
	case awaitOffer:
		return StageOffer
	case awaitAnswer:
		if m.role == offerer && !m.said {
			return StageOffer
		}
		return StageAnswer
	case exchanging:
		if !m.said {
			return StageAnswer
		}
		return StageCandidates
	default:
		return StageClose
	}
}

// fail ends the session unless it is over already.
func (m *machine) fail(err error) {
	if m.phase == over {
		return
	}
	m.failedAt = m.stage()
	m.err = err
	m.end()
}

func (m *machine) end() {
	m.phase = over
	m.outbox, m.held = nil, nil
}

// tick fails the session if its time is over.
func (m *machine) tick(now time.Time) {
	if !now.Before(m.deadline) {
		m.fail(ErrTimeout)
	}
}

// answer gives our answer.
func (m *machine) answer(sdp string) error {
	switch {
	case m.phase == over:
		return m.cause()
	case m.role != answerer || m.phase != awaitAnswer:
		return errors.New("there is no offer that waits for an answer")
	}
	m.phase = exchanging
	m.outbox = append(append(m.outbox, message{typeAnswer, sdp}), m.held...)
	m.held = nil
	return nil
}

// send gives a local candidate.
func (m *machine) send(c Candidate) error {
	switch {
	case m.phase == over && m.err != nil:
		return m.cause()
	case m.phase >= closing:
		return ErrClosed
	case c.isEnd():
		return nil // the protocol does without
	}
	data, err := c.data(m.limits.CandidateSize)
	if err != nil {
		return err
	}
	if m.sent == m.limits.Candidates {
		return fmt.Errorf("%w: %d candidates are sent", ErrLimit, m.sent)
	}
	m.sent++
	if m.role == answerer && m.phase < exchanging {
		m.held = append(m.held, message{typeCandidate, data})
	} else {
		m.outbox = append(m.outbox, message{typeCandidate, data})
	}
	return nil
}

// finish says that the application is done. What it has given is still sent.
func (m *machine) finish(now time.Time) error {
	switch {
	case m.phase == over && m.err != nil:
		return m.cause()
	case m.phase >= closing:
		return nil
	case m.phase < exchanging:
		return errors.New("done before the answer")
	}
	m.phase = closing
	m.inbox = nil
	m.deadline = now.Add(m.limits.DrainTimeout)
	return nil
}

// cause is why the session is over.
func (m *machine) cause() error {
	if m.err != nil {
		return m.err
	}
	return ErrClosed
}

// receive takes a message of the remote.
func (m *machine) receive(msg message) {
	switch {
	case m.phase == over:
	case msg.typ == typeOffer && m.phase == awaitOffer:
		m.remote = filterSDP(msg.data, m.admit)
		m.phase = awaitAnswer
		m.deadline = m.expires
	case msg.typ == typeAnswer && m.phase == awaitAnswer && m.role == offerer:
		m.remote = filterSDP(msg.data, m.admit)
		m.phase = exchanging
	case msg.typ == typeCandidate && m.phase != awaitOffer && (m.role == answerer || m.phase != awaitAnswer):
		m.receiveCandidate(msg.data)
	default:
		m.fail(fmt.Errorf("%w: %s", ErrProtocol, m.unexpected(msg.typ)))
	}
}

func (m *machine) unexpected(typ messageType) string {
	switch {
	case typ == typeCandidate && m.role == answerer:
		return "a candidate before the offer"
	case typ == typeCandidate:
		return "a candidate before the answer"
	case typ == typeOffer && m.role == answerer:
		return "a second offer"
	case typ == typeOffer:
		return "an offer from the side that answers"
	case m.role == answerer:
		return "an answer from the side that offers"
	default:
		return "a second answer"
	}
}

func (m *machine) receiveCandidate(data string) {
	if m.received == m.limits.Candidates {
		m.fail(fmt.Errorf("%w: more than %d candidates", ErrLimit, m.received))
		return
	}
	m.received++
	if m.phase == closing {
		return
	}
	c, err := parseCandidate(data, m.limits.CandidateSize)
	switch {
	case err != nil:
		m.refused[refusedMalformed]++
	case !c.isEnd() && m.admit(c.Candidate):
		m.inbox = append(m.inbox, c)
	}
}

// admit judges a remote candidate and counts it.
func (m *machine) admit(candidate string) bool {
	why := m.policy.judge(m.via, candidate)
	if why == refusedNot && m.accepted == m.policy.Max {
		why = refusedCount
	}
	if why != refusedNot {
		m.refused[why]++
		return false
	}
	m.accepted++
	return true
}

// receiveEnd takes the end of the remote's stream: it is done. A js peer is as
// soon as it is connected, which this side may learn a moment later.
func (m *machine) receiveEnd() {
	m.ended = true
	switch m.phase {
	case awaitOffer, awaitAnswer:
		m.fail(fmt.Errorf("%w: %w", ErrRefused, io.ErrUnexpectedEOF))
	case closing:
		m.settle()
	case exchanging, over:
	}
}

// settle ends the session well once both ends of the stream are closed.
func (m *machine) settle() {
	if m.phase == closing && m.fin && m.ended {
		m.end()
	}
}

// step is what to do next: one of the first three, or wait.
type step struct {
	over     bool
	write    []byte // a frame; report it with wrote
	closing  bool   // close our end of the stream; report it with wrote
	deadline time.Time
}

// next says what to do. Until wrote is called it says nothing new.
func (m *machine) next(now time.Time) step {
	m.tick(now)
	s := step{over: m.phase == over, deadline: m.deadline}
	switch {
	case s.over || m.writing:
	case len(m.outbox) > 0:
		s.write = m.outbox[0].frame()
		m.outbox = m.outbox[1:]
		m.writing = true
	case m.phase == closing && !m.fin:
		m.fin, m.writing = true, true
		s.closing = true
	}
	return s
}

// wrote says that what next gave out is written, or could not be.
func (m *machine) wrote(err error) {
	if err != nil {
		m.fail(err)
	}
	m.writing = false
	m.said = true
	m.settle()
}

// flushed says whether all that was given is written.
func (m *machine) flushed() bool { return len(m.outbox) == 0 && !m.writing }

// takeRefused returns how many candidates were refused since it was asked last.
func (m *machine) takeRefused() map[refusal]int {
	if len(m.refused) == 0 {
		return nil
	}
	refused := m.refused
	m.refused = make(map[refusal]int)
	return refused
}
