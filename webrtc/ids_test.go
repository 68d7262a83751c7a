package webrtc

import (
	"testing"
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
		limits := defaultStreamLimits()
		if limits.suit(c.sdp, c.interleaves); limits.ids != c.ids || limits.eager != c.eager || !limits.rounds {
			t.Errorf("%s: ids below %d, eager %v, rounds %v; want %d, %v, true",
				c.name, limits.ids, limits.eager, limits.rounds, c.ids, c.eager)
		}
	}
}

// TestIDsRest long enough for a remote to repeat its reset, which would hit the
// channel that has the id by then.
func TestIDsRest(t *testing.T) {
	const browser = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\n"
	for _, c := range []struct {
		name, sdp   string // an sdp unless the remote is pion
		remoteFirst bool
		want        time.Duration
	}{
		{"pion, in order", "", false, shortRest},
		{"pion was first", "", true, longRest},
		{"a browser", browser, false, longRest},
		{"a browser was first", browser, true, longRest},
	} {
		t.Run(c.name, func(t *testing.T) {
			limits := defaultStreamLimits()
			if c.sdp != "" {
				limits.suit(c.sdp, false)
			}
			conn := &conn{connParams: connParams{limits: limits}, ids: ids{free: make(chan freeID, 1)}}
			now := time.Now()
			conn.channelEnded(&stream{id: 3, machine: machine{opener: true}}, c.remoteFirst)
			if f := <-conn.ids.free; f.id != 3 || f.after.Before(now.Add(c.want)) || f.after.After(time.Now().Add(c.want)) {
				t.Errorf("id %d rests %v, want %v", f.id, f.after.Sub(now), c.want)
			}
		})
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
