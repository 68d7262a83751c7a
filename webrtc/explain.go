package webrtc

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

// Explanation is what was done to reach a peer directly.
type Explanation struct {
	Peer peer.ID
	// Path is the one there is now.
	Path Path
	// Attempts are the last ones, at most [MaxAttempts], the oldest first.
	Attempts []Attempt
	// Next is when the next attempt begins; zero if none is planned.
	Next time.Time
}

// String returns the explanation in words, a line for each attempt.
func (e Explanation) String() string {
	var b strings.Builder
	fmt.Fprintf(&b, "peer %v: %v", e.Peer, e.Path)
	if len(e.Attempts) == 0 {
		b.WriteString("\n  nothing was tried")
	}
	for _, a := range e.Attempts {
		fmt.Fprintf(&b, "\n  %s %v", a.Start.Format("15:04:05.000"), a)
	}
	if !e.Next.IsZero() {
		fmt.Fprintf(&b, "\n  next try at %s", e.Next.Format("15:04:05.000"))
	}
	return b.String()
}

// hint says what may cure a failed attempt.
func hint(a Attempt) string {
	switch {
	case errors.Is(a.Err, ErrClosed), errors.Is(a.Err, ErrGlare):
		return ""
	case errors.Is(a.Err, ErrNoCandidatePair), a.Reached() == StageICE: // the remote may give up first
		return hintICE(a)
	case errors.Is(a.Err, ErrNoAddress):
		return "give its multiaddr, or wait until discovery has found it"
	case a.Reached() == StageReservation:
		return "the peer is not at that relay (any more): it may have closed, or its reservation was refused"
	case a.Reached() == StageRelayDial:
		return "is the relay up, and its address right?"
	default:
		return ""
	}
}

func hintICE(a Attempt) string {
	turn := a.Local["relay"] > 0 || a.Remote["relay"] > 0
	switch {
	case sum(a.Local) == 0:
		return "this host has no network interface that ICE may use"
	case sum(a.Remote) == 0:
		return "the peer named no address that the candidate policy lets through"
	case turn:
		return "not even the TURN server's address works: is UDP blocked?"
	case a.Servers == 0:
		return "no ICE server is configured here: peers behind different NATs need a STUN server"
	case a.Local["srflx"] == 0:
		return "the STUN server did not answer this host: is UDP blocked?"
	case a.Remote["srflx"] == 0:
		return "the peer knows no public address of its own: it needs a STUN server too, or its UDP is blocked"
	default:
		return "both sides know their public addresses and still get no packet through: " +
			"where both are behind symmetric NATs it takes a TURN server, and none is configured"
	}
}

func sum(counts map[string]int) int {
	n := 0
	for _, c := range counts {
		n += c
	}
	return n
}
