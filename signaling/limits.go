package signaling

import (
	"errors"
	"fmt"
	"time"
)

// Limits bounds what remote peers may take of this node. Start from
// [DefaultLimits] and change what you must.
type Limits struct {
	// MessageSize is the most bytes that a message may have, either way,
	// checked against its length prefix before any of it is read.
	MessageSize int
	// CandidateSize is the most bytes that the data of a candidate may have,
	// either way. A larger one is skipped like a malformed one.
	CandidateSize int
	// Candidates is how many candidates a session carries in each direction,
	// good, bad or empty. One more from the remote ends the session; how many
	// are handed to the application says [CandidatePolicy.Max].
	Candidates int
	// Incoming is how many sessions others may have open here at once.
	Incoming int
	// IncomingPerPeer is how many of them one peer may have.
	IncomingPerPeer int
	// Outgoing is how many sessions [Service.Offer] may have open at once.
	Outgoing int
	// Backlog is how many offers wait for [Service.Accept]; one more is refused.
	Backlog int
	// OfferTimeout is how long an incoming stream may take to bring its offer.
	OfferTimeout time.Duration
	// Timeout is how long a session may take from its stream to Done.
	Timeout time.Duration
	// DrainTimeout is how long Done waits for the remote to finish too.
	DrainTimeout time.Duration
}

// DefaultLimits is for a node that meets some hundred peers, browsers mostly.
//
// An offer for data channels has 0.5 to 0.8 kB and one for audio and video,
// for those who bring such a PeerConnection, up to about 8 kB: 16 KiB. A
// candidate has 0.1 to 0.25 kB, and a browser on a machine with many
// interfaces and STUN servers finds some dozens, TCP ones included.
//
// js-libp2p needs an answer and a connection within 6 s when it dials and 10 s
// when it is dialled; 15 s is what go-libp2p gives a dial, so that slow paths
// between Go peers may use it up. Offers follow their stream at once: 5 s
// covers a bad relay and keeps a silent stream from holding its place.
func DefaultLimits() Limits {
	return Limits{
		MessageSize:     16 << 10,
		CandidateSize:   1 << 10,
		Candidates:      128,
		Incoming:        256,
		IncomingPerPeer: 4,
		Outgoing:        256,
		Backlog:         32,
		OfferTimeout:    5 * time.Second,
		Timeout:         15 * time.Second,
		DrainTimeout:    3 * time.Second,
	}
}

// Validate says what is wrong with l, naming each field.
func (l Limits) Validate() error {
	check := func(name string, v, low, high int64, unit string) error {
		if v < low || v > high {
			return fmt.Errorf("%s %d: use %d to %d %s", name, v, low, high, unit)
		}
		return nil
	}
	const many = 1 << 20
	ms := func(d time.Duration) int64 { return d.Milliseconds() }
	return errors.Join(
		check("Limits.MessageSize", int64(l.MessageSize), 1<<10, 64<<10, "bytes"),
		check("Limits.CandidateSize", int64(l.CandidateSize), 256, int64(l.MessageSize), "bytes, no more than MessageSize"),
		check("Limits.Candidates", int64(l.Candidates), 1, 1<<12, "candidates"),
		check("Limits.Incoming", int64(l.Incoming), 1, many, "sessions"),
		check("Limits.IncomingPerPeer", int64(l.IncomingPerPeer), 1, many, "sessions"),
		check("Limits.Outgoing", int64(l.Outgoing), 1, many, "sessions"),
		check("Limits.Backlog", int64(l.Backlog), 1, many, "sessions"),
		check("Limits.OfferTimeout", ms(l.OfferTimeout), 100, ms(l.Timeout), "milliseconds, no more than Timeout"),
		check("Limits.Timeout", ms(l.Timeout), 100, 10*60*1000, "milliseconds"),
		check("Limits.DrainTimeout", ms(l.DrainTimeout), 1, 60*1000, "milliseconds"),
	)
}

// memory is what a session may hold at most: the two descriptions, a message
// that is being read and its decoded form, one that is being written, and the
// candidates that wait to be sent or to be taken.
func (l Limits) memory(accepted int) int {
	return 5*l.MessageSize + (l.Candidates+accepted)*l.CandidateSize
}
