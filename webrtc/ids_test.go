package webrtc

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"
)

func TestSuit(t *testing.T) {
	for _, c := range []struct {
		name, sdp   string
		interleaves bool
		ids         int
		eager       bool
	}{
		{"Firefox 140", "v=0\r\no=mozilla...THIS_IS_SDPARTA-99.0 1 0 IN IP4 0.0.0.0\r\n", false, oldFirefoxIDLimit, true},
		{"Firefox 153", "v=0\r\no=mozilla...THIS_IS_SDPARTA-99.0 1 0 IN IP4 0.0.0.0\r\n", true, idLimit, true},
		{"Chromium 156", "v=0\r\no=- 5033361480396116417 2 IN IP4 127.0.0.1\r\n", false, idLimit, true},
		{"libdatachannel", "v=0\r\no=rtc 3278396448 0 IN IP4 127.0.0.1\r\n", false, idLimit, false},
		{"unknown", "", false, idLimit, true},
	} {
		want := defaultStreamLimits()
		want.ids, want.rest, want.rounds, want.eager = c.ids, rest, true, c.eager
		if !c.eager {
			want.roundMost, want.firstAlone = closeBatch, true
		}
		limits := defaultStreamLimits()
		if limits.suit(c.sdp, c.interleaves); limits != want {
			t.Errorf("%s: %+v, want %+v", c.name, limits, want)
		}
	}
}

// TestIDs go around, rest, and grow in number only when none is rested.
func TestIDs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ids := newIDs(true, pionIDLimit)
		take := func(want uint16, after time.Duration) {
			t.Helper()
			start := time.Now()
			if id, err := ids.take(t.Context(), nil); id != want || err != nil || time.Since(start) != after {
				t.Fatalf("id %d after %v, %v; want %d after %v", id, time.Since(start), err, want, after)
			}
		}
		put := func(id uint16) { ids.put(id, time.Now().Add(pionRest)) }
		for id := uint16(initID + 2); id < idLimit; id += 2 {
			take(id, 0)
			put(id)
		}
		take(idLimit+1, 0)
		pass(pionRest)
		take(initID+2, 0)
		for id := uint16(idLimit + 3); id < pionIDLimit; id += 2 {
			put(id - 2)
			ids.free = ids.free[len(ids.free)-1:] // the first may be rested
			take(id, 0)
		}
		pass(time.Second)
		take(pionIDLimit-3, pionRest-time.Second)
	})
}

// TestIDsEnd waits for no id of a connection that is over.
func TestIDsEnd(t *testing.T) {
	ids := newIDs(false, 2) // 0
	if _, err := ids.take(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	closed := make(chan struct{})
	close(closed)
	over, cancel := context.WithCancel(t.Context())
	cancel()
	for _, rests := range []bool{false, true} {
		if rests {
			ids.put(0, time.Now().Add(time.Hour))
		}
		if _, err := ids.take(t.Context(), closed); !errors.Is(err, errConnClosed) {
			t.Error(err)
		}
		if rests { // nobody gives an id back to a connection that is over
			ids.put(0, time.Now().Add(time.Hour))
		}
		if _, err := ids.take(over, nil); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	}
	if len(ids.places) != 0 || len(ids.free) != 1 {
		t.Errorf("%d places taken, %d ids free", len(ids.places), len(ids.free))
	}
}

// TestIDsRestBehindAChannel of this side, and only of this side.
func TestIDsRestBehindAChannel(t *testing.T) {
	limits := defaultStreamLimits()
	c := &conn{connParams: connParams{limits: limits}, ids: newIDs(true, limits.ids)}
	id, err := c.ids.take(t.Context(), nil)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	c.channelEnded(&stream{id: 4})
	c.channelEnded(&stream{id: id, machine: machine{opener: true}})
	if f := c.ids.free; len(f) != 1 || f[0].id != id || f[0].after.Before(now.Add(pionRest)) {
		t.Errorf("free: %v, want %d in %v", f, id, pionRest)
	}
}

// TestMarkerIsNotEchoed by a libdatachannel, which answers with the attributes
// that it does not know.
func TestMarkerIsNotEchoed(t *testing.T) {
	const sdp = "v=0\r\no=rtc 1 0 IN IP4 127.0.0.1\r\n"
	if marked(sdp+offerMarker, answerMarker) {
		t.Error("who repeats an offer's marker in its answer is taken for a tango peer")
	}
	if !marked(sdp+offerMarker, offerMarker) || !marked(sdp+answerMarker, answerMarker) {
		t.Error("a tango peer is not known")
	}
}
