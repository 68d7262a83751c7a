package signaling

import (
	"encoding/json"
	"errors"
	"strings"
	"testing"
)

const udpCandidate = "candidate:1 1 udp 2122260223 192.168.0.196 46243 typ host"

// nodeCandidate is as @libp2p/webrtc 6.0.33 sends it in Node 22, with node-datachannel 0.33.
const nodeCandidate = `{"candidate":"a=candidate:1 1 UDP 2114977791 10.99.0.1 38731 typ host","sdpMLineIndex":null,"sdpMid":"0",` +
	`"usernameFragment":null}`

func TestCandidateData(t *testing.T) {
	tests := []struct {
		name string
		c    Candidate
		want string
		err  error
	}{
		{
			"pion's",
			Candidate{udpCandidate, new("0"), new(uint16(0)), nil},
			`{"candidate":"` + udpCandidate + `","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":null}`, nil,
		},
		{
			"all there, and as JSON.stringify leaves it",
			Candidate{udpCandidate, new("<&>"), new(uint16(1)), new("x/+")},
			`{"candidate":"` + udpCandidate + `","sdpMid":"<&>","sdpMLineIndex":1,"usernameFragment":"x/+"}`, nil,
		},
		{"no media", Candidate{Candidate: udpCandidate}, "", ErrCandidate},
		{"too long", Candidate{udpCandidate + strings.Repeat(" a b", 300), new("0"), nil, nil}, "", ErrCandidate},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := tt.c.data(1 << 10)
			if got != tt.want || !errors.Is(err, tt.err) {
				t.Errorf("%s, %v, want %s, %v", got, err, tt.want, tt.err)
			}
		})
	}
}

func TestParseCandidate(t *testing.T) {
	tests := []struct {
		name, data string
		want       string
		ok         bool
	}{
		{"Chromium's", chromiumCandidate, udpCandidate + " generation 0 ufrag x network-cost 999", true},
		{"Node's", nodeCandidate, "candidate:1 1 UDP 2114977791 10.99.0.1 38731 typ host", true},
		{"only what must be", `{"candidate":"` + udpCandidate + `"}`, udpCandidate, true},
		{"unknown members", `{"candidate":"a","x":{"y":[1]}}`, "a", true},
		{"empty data", "", "", true},
		{"null", "null", "", true},
		{"empty string", `""`, "", true},
		{"empty candidate", `{"candidate":""}`, "", true},
		{"Firefox's last", `{"candidate":"","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":"x"}`, "", true},
		{"null candidate", `{"candidate":null}`, "", true},
		{"no members", `{}`, "", true},
		{"not JSON", `candidate:1`, "", false},
		{"array", `[]`, "", false},
		{"number", `1`, "", false},
		{"index is negative", `{"candidate":"a","sdpMLineIndex":-1}`, "", false},
		{"index is large", `{"candidate":"a","sdpMLineIndex":65536}`, "", false},
		{"cut off", `{"candidate":"a`, "", false},
		{"two values", `{}{}`, "", false},
		{"too long", `{"candidate":"` + strings.Repeat("a", 1<<10) + `"}`, "", false},
		{"deep", strings.Repeat("[", 1000), "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := parseCandidate(tt.data, 1<<10)
			if c.Candidate != tt.want || (err == nil) != tt.ok {
				t.Errorf("%q, %v, want %q, ok %v", c.Candidate, err, tt.want, tt.ok)
			}
			if err != nil && len(tt.data) > 8 && strings.Contains(err.Error(), tt.data[:8]) {
				t.Errorf("the error repeats what the remote sent: %v", err)
			}
		})
	}
}

func FuzzParseCandidate(f *testing.F) {
	own, err := Candidate{udpCandidate, new("0"), new(uint16(0)), new("x")}.data(1 << 10)
	if err != nil {
		f.Fatal(err)
	}
	for _, seed := range []string{own, chromiumCandidate, nodeCandidate, "", "null", `""`, `{"candidate":""}`, `{"candidate":null}`} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data string) {
		c, err := parseCandidate(data, 1<<10)
		if err != nil || c.SDPMid == nil && c.SDPMLineIndex == nil {
			return
		}
		out, err := c.data(1 << 20)
		if err != nil || !json.Valid([]byte(out)) {
			t.Fatalf("%v became %q, %v", c, out, err)
		}
		again, err := parseCandidate(out, 1<<20)
		if err != nil || again.Candidate != c.Candidate {
			t.Fatalf("%v became %v, %v", c, again, err)
		}
	})
}
