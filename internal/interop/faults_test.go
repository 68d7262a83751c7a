package interop

import (
	"slices"
	"testing"
	"time"

	"github.com/tangop2p/tango/internal/interop/exercise"
)

// The events of init-race and those of the connection that was given up are of real
// runs, shortened; the other ones of init-id-reused are made up.
func TestFindFault(t *testing.T) {
	const peer = "P"
	failed := Dial{Peer: peer, StartedAt: 1000, EndedAt: 7000, Error: "TimeoutError: signal timed out"}
	worked := Dial{Peer: peer, StartedAt: 1000, EndedAt: 1200}
	fresh := Stamp(time.Now().UnixMilli())
	dialled := func(openedAt Stamp, identified bool) []Connection {
		return []Connection{{
			ID: "c", Peer: peer, Address: "/…/webrtc/p2p/P", Direction: "outbound", Status: "open",
			OpenedAt: openedAt, Identified: identified,
		}}
	}
	missed := []Event{
		{1100, "rtc:channel", `pc4 out "init" id=? created`},
		{1142, "rtc:channel", `pc4 out "init" id=1 open`},
		{1143, "rtc:channel", `pc4 out "init" id=1 close`},
		{1143, "rtc:state", "pc4 connected"},
	}
	passed := append(missed[:2:2],
		Event{1140, "rtc:state", "pc4 connected"},
		Event{1150, "rtc:channel", `pc4 out "init" id=1 close called`},
		Event{1151, "rtc:channel", `pc4 out "init" id=1 close`},
		Event{1152, "rtc:channel", `pc4 out "" id=? created`},
		Event{1153, "rtc:channel", `pc4 out "" id=1 open`},
	)
	for _, c := range []struct {
		name  string
		state State
		dial  Dial
		want  string
	}{
		{"init missed", State{Events: missed}, failed, "init-race"},
		{"never connected", State{Events: missed[:1]}, failed, ""},
		{"failed after init", State{Events: passed}, failed, ""},
		{"refused by the relay", State{}, Dial{Peer: peer, StartedAt: 1000, EndedAt: 1100, Error: "InvalidMessageError"}, ""},
		{"still dialling", State{Events: missed}, Dial{Peer: peer, StartedAt: 1000}, ""},
		{"identify dead", State{Events: passed, Connections: dialled(2000, false)}, worked, "init-id-reused"},
		{"identify has time left", State{Events: passed, Connections: dialled(fresh, false)}, worked, ""},
		{"identified", State{Events: passed, Connections: dialled(2000, true)}, worked, ""},
		{"identify dead, connection given up", State{
			Events: append(slices.Clip(passed), Event{6300, "connection:close", "outbound /…/p2p-circuit/webrtc/p2p/P"}),
		}, worked, "init-id-reused"},
		{"identified, connection lost", State{
			Events: append(slices.Clip(passed),
				Event{1190, "peer:identify", "outbound /…/p2p-circuit/webrtc/p2p/P"},
				Event{6300, "connection:close", "outbound /…/p2p-circuit/webrtc/p2p/P"}),
		}, worked, ""},
		{"answered, identify failed", State{
			Events:      append(slices.Clip(passed), Event{1160, "rtc:channel", `pc4 out "" id=1 first message`}),
			Connections: dialled(2000, false),
		}, worked, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			if f, _ := findFault(c.state, c.dial); f.name != c.want {
				t.Errorf("found %q, want %q", f.name, c.want)
			}
		})
	}
}

func TestFindStreamFault(t *testing.T) {
	const (
		silent   = "stream 31: TimeoutError: signal timed out"
		reset    = "stream 779: stream reset (remote): code: 0x0 after 0 bytes"
		shuffled = "stream 24: sent 65536 bytes, other 65536 came back"
	)
	for _, c := range []struct {
		name              string
		dialler, listener Kind
		failed            int
		errors            []string
		want              string
	}{
		{"none failed", Chromium, Firefox, 0, nil, ""},
		{"silent", Chromium, Firefox, 1, []string{silent}, "stream-dead"},
		{"silent, with Go", Chromium, Go, 1, []string{silent}, ""},
		{"all silent", Chromium, Firefox, 5, []string{silent, silent, silent, silent, silent}, ""},
		{"silent, and another", Chromium, Firefox, 2, []string{silent, "stream 32: StreamResetError: the stream has been reset"}, ""},
		{"reset", Go, Node, 1, []string{reset}, ""},
		{"shuffled", Go, Node, 1, []string{shuffled}, ""},
		{"shuffled between others", Chromium, Firefox, 1, []string{shuffled}, ""},
	} {
		got := exercise.Outcome{OK: 100 - c.failed, Failed: c.failed, Errors: c.errors}
		if f, _ := findStreamFault(c.dialler, c.listener, got); f.name != c.want {
			t.Errorf("%s: found %q, want %q", c.name, f.name, c.want)
		}
	}
}
