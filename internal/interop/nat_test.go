package interop

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"
)

// passage is a pair of hosts in a Lab, and whether its peers get through.
type passage struct {
	nats   [2]NAT
	stun   bool
	direct bool
	hint   string // in what a Go dialler says if it is not direct
}

func (p passage) name() string {
	name := string(p.nats[0]) + "-" + string(p.nats[1])
	if !p.stun {
		name += "/no STUN"
	}
	return name
}

// passages are what ICE's theory says of each pair of NATs (RFC 8445, RFC 4787 §4).
var passages = []passage{
	{[2]NAT{Cone, Cone}, true, true, ""},
	{[2]NAT{Cone, Cone}, false, false, "no ICE server is configured"},
	{[2]NAT{NoNAT, Cone}, true, true, ""},
	{[2]NAT{FullCone, Symmetric}, true, true, ""},
	{[2]NAT{Symmetric, Symmetric}, true, false, "a TURN server"},
	{[2]NAT{BlockUDP, Cone}, true, false, "is UDP blocked?"},
}

// TestNAT: peers behind NATs become direct where theory lets them, with the help
// of the relay's STUN server, and where it does not the dial fails and says so. Go with Go goes
// through all passages, the others through the usual one unless it is night.
func TestNAT(t *testing.T) {
	t.Parallel()
	pairs := [][2]Kind{{Go, Go}, {Go, Chromium}, {Chromium, Go}, {Go, Firefox}}
	if nightly() {
		pairs = append(pairs, [][2]Kind{{Firefox, Go}, {Go, Node}, {Node, Go}, {Node, Node}, {Chromium, Chromium}}...)
	}
	for _, pair := range pairsOr(pairs) {
		ways := passages
		if pair != [2]Kind{Go, Go} && !nightly() && os.Getenv(pairsEnv) == "" {
			ways = ways[:1]
		}
		for _, way := range ways {
			t.Run(string(pair[0])+"-"+string(pair[1])+"/"+way.name(), func(t *testing.T) {
				t.Parallel()
				testNAT(t, pair, way)
			})
		}
	}
}

func testNAT(t *testing.T, kinds [2]Kind, way passage) {
	lab := NewLab(t, way.nats)
	var config Config
	var flags []string
	if way.stun {
		config.ICEServers, flags = []string{"stun:" + stunAddress}, []string{"-stun", stunAddress}
	}
	relay := StartRelayIn(t, lab.Public, relayAddress, flags...)
	config.Relays = relay.Addrs
	var peers [2]*Peer
	for i, kind := range kinds {
		peers[i] = StartAgentIn(t, lab.Hosts[i], kind).Open(t)
		peers[i].Name = string(kind) + " behind " + string(way.nats[i])
		startQuiet(t, peers[i], config)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	started := time.Now()
	took, err := peers[0].Connect(ctx, peers[1].ID, webrtcAddrs(t, peers[1]))
	if !way.direct {
		if err == nil {
			t.Fatal("connected, which theory rules out: is the NAT what it should be?")
		}
		s, stateErr := peers[0].State(ctx)
		left := s.To(peers[1].ID)
		t.Logf("no direct connection after %v: %v; left are %+v, %v", time.Since(started).Round(time.Millisecond), err, left, stateErr)
		if kinds[0] == Go && (!strings.Contains(err.Error(), way.hint) || len(left) != 1 || !left[0].Limited) {
			t.Errorf("want the relayed connection as it was, and %q in what is said", way.hint)
		}
		return
	}
	if err != nil {
		t.Fatal(err)
	}
	c := peers[0].AwaitDirect(t, time.Second, peers[1].ID)
	t.Logf("direct after %v: %s", took.Round(time.Millisecond), strings.SplitN(c.Address, "/p2p/", 2)[0])
	got, err := peers[0].Streams(ctx, peers[1].ID, 10, 5, 10_000)
	if err != nil || got.OK != 10 {
		t.Errorf("streams: %+v, %v", got, err)
	}
}
