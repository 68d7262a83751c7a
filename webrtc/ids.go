package webrtc

import (
	"context"
	"strings"
	"time"
)

// The ids that are used are below these limits.
const (
	// idLimit is for most remotes. Some have refused what is above 1023 or 2047.
	idLimit = 1022
	// oldFirefoxIDLimit is for a Firefox with usrsctp. With 140 all went well until
	// about the 126th stream, the last below 256, and nothing after it.
	oldFirefoxIDLimit = 256
)

// initID is the id of the channel "init".
const initID = 1

// Ids rest before they are used again: a request to reset that comes twice, because
// its answer was late or lost, makes pion reset what is open under the id by then.
const (
	// shortRest is for pion, when it has closed the channel behind this side.
	shortRest = 100 * time.Millisecond
	// longRest is for others, and for pion when it was first, because this side's own
	// reset may be lost. Lost resets are repeated after 0.4 s by browsers and after
	// 1 s by pion (RFC 9260 §16). A libdatachannel that was given 0.1 s has handed data
	// of the next channel to the last.
	longRest = 1500 * time.Millisecond
)

// ids are those that this side may open channels with: RFC 8832 §6 gives the
// even ones to the DTLS client, which is who answers the offer, and the odd ones
// to the server. pion would never use one twice, nor stop at any limit.
//
// They go around, so that an id rests as long as it can before it comes again:
// browsers and pion have mixed up a channel with its predecessor. The id of
// "init" is left out, for a browser may still be closing it.
type ids struct {
	free chan freeID
}

type freeID struct {
	id    uint16
	after time.Time
}

func newIDs(odd bool, limit int) ids {
	first := 0
	if odd {
		first = initID + 2
	}
	i := ids{free: make(chan freeID, limit/2)}
	for id := first; id < limit; id += 2 {
		i.free <- freeID{id: uint16(id)}
	}
	return i
}

// take waits for an id that is free and rested.
func (i ids) take(ctx context.Context, closed <-chan struct{}) (uint16, error) {
	var f freeID
	select {
	case f = <-i.free:
	default:
		select {
		case f = <-i.free:
		case <-closed:
			return 0, errConnClosed
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
	rest := time.Until(f.after)
	if f.after.IsZero() || rest <= 0 {
		return f.id, nil
	}
	timer := time.NewTimer(rest)
	defer timer.Stop()
	select {
	case <-timer.C:
		return f.id, nil
	case <-closed:
		return 0, errConnClosed
	case <-ctx.Done():
		i.put(f.id, f.after)
		return 0, context.Cause(ctx)
	}
}

// suit sets what other remotes than pion want, which only their descriptions and
// what was negotiated tell apart: Firefox's old SCTP, usrsctp, does not interleave
// messages; its new one, dcSCTP, does.
//
// libdatachannel does not wait for this side's end of a channel that it has opened
// before it uses the id again, and takes a late one for the end of the next. So
// there this side does not wait for a round, but answers at once, as pion does.
func (l *streamLimits) suit(sdp string, interleaves bool) {
	const origin = "v=0\r\no="
	if strings.HasPrefix(sdp, origin+"mozilla") && !interleaves {
		l.ids = oldFirefoxIDLimit
	}
	l.rest = longRest
	l.rounds = true
	l.eager = !strings.HasPrefix(sdp, origin+"rtc ")
}

// put gives an id back, to be used after a time.
func (i ids) put(id uint16, after time.Time) {
	i.free <- freeID{id, after} // has room for all there are
}
