package signaling_test

import (
	"bytes"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tangop2p/tango/signaling"
)

// frame is a message as a peer writes it that need not use our encoder.
func frame(typ uint64, data string) string {
	var body []byte
	body = protowire.AppendVarint(protowire.AppendTag(body, 1, protowire.VarintType), typ)
	body = protowire.AppendString(protowire.AppendTag(body, 2, protowire.BytesType), data)
	return string(protowire.AppendBytes(nil, body))
}

const candidateJSON = `{"candidate":"candidate:1 1 udp 1 127.0.0.1 5000 typ host","sdpMid":"0"}`

var (
	offerFrame     = frame(0, "offer")
	answerFrame    = frame(1, "answer")
	candidateFrame = frame(2, candidateJSON)
	flood          = strings.Repeat(candidateFrame, 10_000)
	oversized      = string(protowire.AppendVarint(nil, 16<<10+1)) + strings.Repeat("x", 1<<20)
)

func write(t *testing.T, s network.Stream, data string) {
	t.Helper()
	// an error means that the other side has reset already: what it says is read
	_, _ = io.Copy(s, bytes.NewReader([]byte(data)))
}

// codeOf reads a stream to its end, which shall be a reset, and returns the code.
func codeOf(t *testing.T, s network.Stream) network.StreamErrorCode {
	t.Helper()
	if err := s.SetReadDeadline(time.Now().Add(10 * time.Second)); err != nil {
		t.Fatal(err)
	}
	_, err := io.Copy(io.Discard, s)
	reset, ok := errors.AsType[*network.StreamError](err)
	if !ok || !reset.Remote {
		t.Errorf("the stream ended with %v, want a reset of the other side", err)
		return 0
	}
	return reset.ErrorCode
}

// What a hostile peer does. After the bytes it resets, ends the stream, or waits.
type attack struct {
	name    string
	bytes   string
	end     string // "reset", "close" or ""
	code    network.StreamErrorCode
	outcome string
}

const (
	violation = network.StreamProtocolViolation
	exceeded  = network.StreamResourceLimitExceeded
	collected = network.StreamGarbageCollected
)

// atAnyTime is wrong whenever it comes.
var atAnyTime = []attack{
	{"oversized", oversized, "", exceeded, "limit"},
	{"endless prefix", strings.Repeat("\xff", 1<<16), "", exceeded, "limit"},
	{"no protobuf", "\x04\xff\xff\xff\xff", "", violation, "protocol"},
	{"no type", "\x03\x12\x01x", "", violation, "protocol"},
	{"unknown type", frame(3, "x"), "", violation, "protocol"},
	{"empty message", "\x00", "", violation, "protocol"},
	{"empty messages", strings.Repeat("\x00", 1<<16), "", violation, "protocol"},
	{"reset within a message", "\x10\x08", "reset", 0, "refused"},
	{"end within a message", "\x10\x08", "close", 0, "refused"},
	{"silence", "", "", collected, "timeout"},
	{"silence within a message", "\x10\x08", "", collected, "timeout"},
}

// shortLimits are for those who wait for a timeout. Others would meet it on a busy
// machine, in place of what they are after.
func shortLimits() signaling.Limits {
	l := signaling.DefaultLimits()
	// what a test does first, an offer and its answer, has to be done by then
	l.OfferTimeout, l.Timeout, l.DrainTimeout = time.Second, time.Second, 300*time.Millisecond
	return l
}

// against returns the node to attack: the patient one, unless the attack is to wait.
func (a attack) against(patient, hasty *node) *node {
	if a.outcome == "timeout" {
		return hasty
	}
	return patient
}

// launch does the attack on a stream whose state is prepared, and checks what becomes of it.
func (a attack) launch(t *testing.T, n *node, role string, s network.Stream, before string) {
	t.Helper()
	was := n.count(t, "sessions_total", a.outcome, role)
	write(t, s, before+a.bytes)
	switch a.end {
	case "reset":
		// a stream that is reset before its protocol is agreed on is none of ours
		await(t, "the stream is served", func() bool { return served(n) == 1 })
		_ = s.Reset()
	case "close":
		_ = s.CloseWrite()
	}
	if a.end != "reset" {
		if code := codeOf(t, s); code != a.code {
			t.Errorf("reset with %#x, want %#x", code, a.code)
		}
	}
	await(t, "the session is counted as "+a.outcome, func() bool {
		return n.count(t, "sessions_total", a.outcome, role) == was+1
	})
	n.wantNothingHeld(t)
}

func TestHostileOfferer(t *testing.T) {
	patient, hasty := newNode(t), newNode(t, signaling.WithLimits(shortLimits()))
	hostile := newHost(t)
	connect(t, hostile, patient)
	connect(t, hostile, hasty)
	states := []struct {
		name    string
		before  string
		answers bool // the application accepts and answers
		attacks []attack
	}{
		{"before the offer", "", false, []attack{
			{"candidate", candidateFrame, "", violation, "protocol"},
			{"answer", answerFrame, "", violation, "protocol"},
			{"empty offer", frame(0, ""), "", violation, "protocol"},
			{"end", "", "close", 0, "refused"},
		}},
		{"before our answer", offerFrame, false, []attack{
			{"second offer", offerFrame, "", violation, "protocol"},
			{"answer", answerFrame, "", violation, "protocol"},
			{"10,000 candidates", flood, "", exceeded, "limit"},
			{"reset", "", "reset", 0, "refused"},
			{"10,000 empty candidates", strings.Repeat(frame(2, ""), 10_000), "", exceeded, "limit"},
			{"end", "", "close", 0, "refused"},
		}},
		{"after our answer", offerFrame, true, []attack{
			{"second offer", offerFrame, "", violation, "protocol"},
			{"answer", answerFrame, "", violation, "protocol"},
			{"10,000 candidates", flood, "", exceeded, "limit"},
			{"reset", "", "reset", 0, "refused"},
			{"end, then silence", "", "close", collected, "timeout"},
		}},
	}
	for _, state := range states {
		for _, a := range append(state.attacks, atAnyTime...) {
			t.Run(state.name+"/"+a.name, func(t *testing.T) {
				n := a.against(patient, hasty)
				s, err := hostile.NewStream(t.Context(), n.ID(), signaling.ProtocolID)
				if err != nil {
					t.Fatal(err)
				}
				before := state.before
				if state.answers {
					write(t, s, before)
					before = ""
					in, err := n.Accept(t.Context())
					if err != nil {
						t.Fatal(err)
					}
					if err := in.Answer(t.Context(), "answer"); err != nil {
						t.Fatal(err)
					}
				}
				a.launch(t, n, "answerer", s, before)
			})
		}
	}
}

func TestHostileAnswerer(t *testing.T) {
	patient, hasty := newNode(t), newNode(t, signaling.WithLimits(shortLimits()))
	hostile := newHost(t)
	streams := make(chan network.Stream, 1)
	hostile.SetStreamHandler(signaling.ProtocolID, func(s network.Stream) { streams <- s })
	connect(t, patient, hostile)
	connect(t, hasty, hostile)
	states := []struct {
		name    string
		before  string
		attacks []attack
	}{
		{"before the answer", "", []attack{
			{"candidate", candidateFrame, "", violation, "protocol"},
			{"offer", offerFrame, "", violation, "protocol"},
			{"empty answer", frame(1, ""), "", violation, "protocol"},
			{"10,000 candidates", flood, "", violation, "protocol"},
			{"reset", "", "reset", 0, "refused"},
			{"end", "", "close", 0, "refused"},
		}},
		{"after the answer", answerFrame, []attack{
			{"second answer", answerFrame, "", violation, "protocol"},
			{"offer", offerFrame, "", violation, "protocol"},
			{"10,000 candidates", flood, "", exceeded, "limit"},
			{"end, then silence", "", "close", collected, "timeout"},
		}},
	}
	for _, state := range states {
		for _, a := range append(state.attacks, atAnyTime...) {
			t.Run(state.name+"/"+a.name, func(t *testing.T) {
				n := a.against(patient, hasty)
				out, err := n.Offer(t.Context(), hostile.ID(), "offer")
				if err != nil {
					t.Fatal(err)
				}
				a.launch(t, n, "offerer", <-streams, state.before)
				if err := out.Done(t.Context()); err == nil {
					t.Error("the session is done well")
				}
			})
		}
	}
}

// TestHostileReader does not read what it is sent, nor what it asks for.
func TestHostileReader(t *testing.T) {
	limits := shortLimits()
	limits.Outgoing, limits.Timeout = 1000, 2*time.Second // for each to be written
	n := newNode(t, signaling.WithLimits(limits))
	hostile := newHost(t)
	hostile.SetStreamHandler(signaling.ProtocolID, func(network.Stream) {})
	connect(t, n, hostile)
	for range 40 { // each may fill a good part of the stream's window
		if _, err := n.Offer(t.Context(), hostile.ID(), strings.Repeat("x", 16000)); err != nil {
			t.Fatal(err)
		}
	}
	start := time.Now()
	n.wantNothingHeld(t)
	if d := time.Since(start); d > 5*time.Second {
		t.Errorf("held for %v", d)
	}
}

// TestConnectionBreaks takes the connection away from under sessions in each state.
func TestConnectionBreaks(t *testing.T) {
	a, b := newNode(t), newNode(t)
	connect(t, a, b)
	waiting, err := a.Offer(t.Context(), b.ID(), "offer")
	if err != nil {
		t.Fatal(err)
	}
	in, err := b.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	closeConns(t, b.Host, a.Host)
	if _, err := waiting.Answer(t.Context()); err == nil {
		t.Error("an answer came over a connection that is gone")
	}
	for _, err := range in.Candidates(t.Context()) {
		if err == nil {
			t.Error("a candidate came over a connection that is gone")
		}
	}
	a.wantNothingHeld(t)
	b.wantNothingHeld(t)
}

func closeConns(t *testing.T, from, to host.Host) {
	t.Helper()
	if err := from.Network().ClosePeer(to.ID()); err != nil {
		t.Fatal(err)
	}
}
