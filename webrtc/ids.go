package webrtc

import (
	"context"
	"strings"
	"sync"
	"time"
)

// The ids that are used are below these limits.
const (
	// idLimit is for most remotes. Some have refused what is above 1023 or 2047.
	idLimit = 1022
	// pionIDLimit is for pion (RFC 8832 §5: 65535 is no id). It has no use for so many
	// at once, but may let each rest the longer.
	pionIDLimit = 65534
	// oldFirefoxIDLimit is for a Firefox with usrsctp. With 140 all went well until
	// about the 126th stream, the last below 256, and nothing after it.
	oldFirefoxIDLimit = 256
)

// initID is the id of the channel "init".
const initID = 1

// Ids rest before they are used again. A side that does not hear that its reset was
// performed asks for it again, and pion, whoever asks, resets what is open under
// the id by then.
const (
	// pionRest is for pion, which asks again after 1 s, and 2 s later for the
	// second time (RFC 9260 §6.3.3).
	pionRest = 4 * time.Second
	// rest is for others: browsers ask again after 0.4 s, and 0.8 s later. They
	// perform nothing twice. A libdatachannel that was given 0.1 s has handed data of
	// the next channel to the last.
	rest = 1500 * time.Millisecond
)

// ids are those that this side may open channels with: RFC 8832 §6 gives the
// even ones to the DTLS client, which is who answers the offer, and the odd ones
// to the server. pion would never use one twice, nor stop at any limit.
//
// They go around, so that an id rests as long as it can before it comes again:
// browsers and pion have mixed up a channel with its predecessor. The id of
// "init" is left out, for a browser may still be closing it.
type ids struct {
	places chan struct{} // has one for each channel that is open
	limit  int

	mu   sync.Mutex
	next int      // guarded by mu; it and those above were never used
	free []freeID // guarded by mu; used before, the one that rests longest first
}

type freeID struct {
	id    uint16
	after time.Time
}

func newIDs(odd bool, limit int) *ids {
	i := &ids{limit: limit}
	if odd {
		i.next = initID + 2
	}
	i.places = make(chan struct{}, (min(limit, idLimit)-i.next+1)/2)
	return i
}

// take waits for an id that is free and rested.
func (i *ids) take(ctx context.Context, closed <-chan struct{}) (uint16, error) {
	select {
	case i.places <- struct{}{}:
	default:
		select {
		case i.places <- struct{}{}:
		case <-closed:
			return 0, errConnClosed
		case <-ctx.Done():
			return 0, context.Cause(ctx)
		}
	}
	f := i.choose()
	wait := time.Until(f.after)
	if f.after.IsZero() || wait <= 0 {
		return f.id, nil
	}
	timer := time.NewTimer(wait)
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

// choose takes an id for who has a place. It goes beyond idLimit only while none
// of those below is rested, for each that was used takes memory.
func (i *ids) choose() freeID {
	i.mu.Lock()
	defer i.mu.Unlock()
	rested := len(i.free) > 0 && !time.Now().Before(i.free[0].after)
	if i.next < min(i.limit, idLimit) || i.next < i.limit && !rested {
		i.next += 2
		return freeID{id: uint16(i.next - 2)}
	}
	f := i.free[0] // there is one, for there are no more places than ids
	i.free = i.free[1:]
	return f
}

// put gives an id back, to be used after a time.
func (i *ids) put(id uint16, after time.Time) {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.free = append(i.free, freeID{id, after})
	<-i.places
}

// suit sets what other remotes than pion want, which only their descriptions and
// what was negotiated tell apart: Firefox's old SCTP, usrsctp, does not interleave
// messages; its new one, dcSCTP, does.
//
// libdatachannel does not wait for this side's end of a channel that it has opened
// before it uses the id again, and takes a late one for the end of the next. So
// there this side does not wait for a round, but answers at once, as pion does.
// With rounds of 512 it was seen to end the connection (protocol violation: a
// message's number is not the next of its stream); 64 go well.
func (l *streamLimits) suit(sdp string, interleaves bool) {
	const origin = "v=0\r\no="
	l.ids, l.rest = idLimit, rest
	if strings.HasPrefix(sdp, origin+"mozilla") && !interleaves {
		l.ids = oldFirefoxIDLimit
	}
	l.rounds, l.eager = true, true
	if strings.HasPrefix(sdp, origin+"rtc ") {
		l.eager, l.firstAlone, l.roundMost = false, true, closeBatch
	}
}
