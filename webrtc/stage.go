package webrtc

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Stage is a step on the way to a direct connection. Where an attempt ended
// tells most of why.
type Stage string

// The stages, in their order. Those of an attempt that this side answers begin
// with [StageAnswer].
const (
	StageDiscover    Stage = "discover"     // looking up the peer's addresses
	StageRelayDial   Stage = "relay dial"   // connecting to the relay, and through it to the peer
	StageReservation Stage = "reservation"  // the relay has no reservation of the peer
	StageHolePunch   Stage = "hole punch"   // leaving it to DCUtR, which both sides speak
	StageSignaling   Stage = "signaling"    // opening a stream for the offer
	StageOffer       Stage = "offer"        // making and sending the offer
	StageAnswer      Stage = "answer"       // the answer, either way
	StageCandidates  Stage = "candidates"   // the descriptions are there, no candidate of the remote is
	StageICE         Stage = "ICE"          // looking for a pair of candidates that works
	StageDTLS        Stage = "DTLS"         // encrypting the pair that was found
	StageSCTP        Stage = "SCTP"         // the association, and the first data channel
	StageConfirm     Stage = "confirmation" // the remote has to say that it is connected too
	StageAdmit       Stage = "admission"    // resource manager and connection gater
	StageDone        Stage = "done"         // the connection is direct
)

// Rung is one way to a direct connection.
type Rung string

// The rungs of the ladder.
const (
	RungRelay  Rung = "relay"  // a connection through a relay, which the others need
	RungDCUtR  Rung = "dcutr"  // /libp2p/dcutr, a hole for TCP or QUIC
	RungDirect Rung = "direct" // dialling: the peer's own addresses, and /webrtc as the offerer
	RungAnswer Rung = "answer" // /webrtc as the answerer
)

// Step is how long an attempt was in a stage.
type Step struct {
	Stage Stage
	Took  time.Duration
}

// Attempt is one try of one rung.
type Attempt struct {
	Rung  Rung
	Start time.Time
	Took  time.Duration
	// Steps are the stages that were reached, the last one included. They are
	// known of this side's part only.
	Steps []Step
	// Err is nil if the attempt led to a direct connection.
	Err error
	// Hint is what may cure Err; empty if nothing is known to.
	Hint string
	// Local and Remote count the candidates by type: "host", "srflx", "prflx",
	// "relay", and "mdns" for host candidates that hide behind a name.
	Local, Remote map[string]int
	// Servers is how many ICE servers were asked.
	Servers int
}

// Reached returns the last stage.
func (a Attempt) Reached() Stage {
	if len(a.Steps) == 0 {
		return ""
	}
	return a.Steps[len(a.Steps)-1].Stage
}

// String returns a line such as "answer failed at ICE after 6.1s (...): cause; hint".
func (a Attempt) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%s ", a.Rung)
	if a.Err == nil {
		fmt.Fprintf(&b, "succeeded in %v", round(a.Took))
	} else {
		fmt.Fprintf(&b, "failed at %s after %v", a.Reached(), round(a.Took))
	}
	for i, s := range a.Steps {
		sep := ", "
		if i == 0 {
			sep = " ("
		}
		fmt.Fprintf(&b, "%s%s %v", sep, s.Stage, round(s.Took))
	}
	if len(a.Steps) > 0 {
		b.WriteString(")")
	}
	if a.Err != nil {
		fmt.Fprintf(&b, ": %v", a.Err)
	}
	if a.Hint != "" {
		fmt.Fprintf(&b, "; %s", a.Hint)
	}
	return b.String()
}

func round(d time.Duration) time.Duration {
	if d < 10*time.Millisecond {
		return d.Round(10 * time.Microsecond)
	}
	return d.Round(time.Millisecond)
}

// trace records an attempt while it runs.
type trace struct {
	mu      sync.Mutex
	attempt Attempt   // guarded by mu
	last    time.Time // guarded by mu; when the current stage began
	over    bool      // guarded by mu
}

func newTrace(r Rung, first Stage) *trace {
	now := time.Now()
	return &trace{attempt: Attempt{
		Rung: r, Start: now, Steps: []Step{{Stage: first}},
		Local: make(map[string]int), Remote: make(map[string]int),
	}, last: now}
}

// reach enters a stage. Stages that come late, from a callback that was
// overtaken, are passed over.
func (t *trace) reach(s Stage) {
	t.mu.Lock()
	defer t.mu.Unlock()
	last := &t.attempt.Steps[len(t.attempt.Steps)-1]
	if t.over || order(s) <= order(last.Stage) {
		return
	}
	now := time.Now()
	last.Took = now.Sub(t.last)
	t.last = now
	t.attempt.Steps = append(t.attempt.Steps, Step{Stage: s})
}

func (t *trace) servers(n int) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.attempt.Servers = n
}

func (t *trace) stage() Stage {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.attempt.Reached()
}

func (t *trace) count(local bool, kind string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if local {
		t.attempt.Local[kind]++
	} else {
		t.attempt.Remote[kind]++
	}
}

// end returns the attempt, which is over.
func (t *trace) end(err error, hint func(Attempt) string) Attempt {
	if err == nil {
		t.reach(StageDone)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	t.attempt.Steps[len(t.attempt.Steps)-1].Took = now.Sub(t.last)
	t.attempt.Took = now.Sub(t.attempt.Start)
	t.attempt.Err = err
	if err != nil {
		t.attempt.Hint = hint(t.attempt)
	}
	t.over = true
	a := t.attempt // callbacks may still count
	a.Local, a.Remote = maps.Clone(a.Local), maps.Clone(a.Remote)
	return a
}

func order(s Stage) int {
	for i, o := range [...]Stage{
		StageDiscover, StageRelayDial, StageReservation, StageHolePunch, StageSignaling, StageOffer, StageAnswer,
		StageCandidates, StageICE, StageDTLS, StageSCTP, StageConfirm, StageAdmit, StageDone,
	} {
		if o == s {
			return i
		}
	}
	return -1
}

// ConnectError is why there is no direct connection.
type ConnectError struct {
	Peer  peer.ID
	Stage Stage  // where the last attempt ended
	Path  Path   // what there is instead; often a relayed path that works
	Hint  string // what may cure it, empty if nothing is known to
	Err   error  // the cause
}

func (e *ConnectError) Error() string {
	s := fmt.Sprintf("no direct connection to %v, %v: %s: %v", e.Peer, e.Path, e.Stage, e.Err)
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

// Unwrap returns the cause.
func (e *ConnectError) Unwrap() error { return e.Err }

// What a [ConnectError] may wrap, besides what package signaling returns.
var (
	// ErrClosed says that the Transport was closed. It wraps net.ErrClosed.
	ErrClosed = fmt.Errorf("webrtc: %w", net.ErrClosed)
	// ErrNoAddress says that no address of the peer is known.
	ErrNoAddress = errors.New("webrtc: no address of the peer is known")
	// ErrNoCandidatePair says that ICE found no pair of addresses between which packets get through.
	ErrNoCandidatePair = errors.New("webrtc: no pair of candidates works")
	// ErrRemoteClosed says that the remote closed the connection.
	ErrRemoteClosed = errors.New("webrtc: closed by the remote")
	// ErrLost says that nothing was heard from the remote for longer than ICE waits.
	ErrLost = errors.New("webrtc: nothing is heard from the remote any more")
	// ErrBusy says that this node makes as many connections as its Limits allow.
	ErrBusy = errors.New("webrtc: too many handshakes")
	// ErrGlare says that the remote's attempt goes on instead of ours.
	ErrGlare = errors.New("webrtc: the remote's attempt was first")
	// ErrGated says that the connection gater does not want the peer or its address.
	ErrGated = errors.New("webrtc: refused by the connection gater")
)

// timedOut names the stage's own reason where a context ended.
func timedOut(s Stage, err error) error {
	if !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	switch s {
	case StageCandidates, StageICE:
		return fmt.Errorf("%w: %w", ErrNoCandidatePair, err)
	default:
		return err
	}
}
