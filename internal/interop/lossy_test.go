package interop

import (
	"context"
	"testing"
	"time"
)

// poor is a connection of the worst sort that still should do.
var poor = Impairment{Loss: 0.05, Delay: 100 * time.Millisecond, Reorder: 0.05, Late: 30 * time.Millisecond}

// The amounts are small: a sender that halves its window at each loss, as SCTP
// does (RFC 9260 §7.2), sends some 30 kB/s on such a path (RFC 3649 §2).
const (
	lossyStreams  = 20
	lossySize     = 4000
	lossyTransfer = 128 << 10
)

// TestLossy: 5 % loss, 200 ms round trip and packets out of order. Everything
// arrives, if later.
func TestLossy(t *testing.T) {
	t.Parallel()
	pairs := [][2]Kind{{Go, Go}, {Go, Chromium}, {Chromium, Go}}
	if nightly() {
		pairs = append(pairs, [][2]Kind{{Go, Node}, {Node, Go}, {Go, Firefox}, {Firefox, Go}}...)
		pairs = append(pairs, [][2]Kind{{Node, Node}, {Chromium, Chromium}}...)
	}
	for _, pair := range pairsOr(pairs) {
		t.Run(string(pair[0])+"-"+string(pair[1]), func(t *testing.T) {
			t.Parallel()
			testLossy(t, pair)
		})
	}
}

func testLossy(t *testing.T, kinds [2]Kind) {
	lab := NewLossyLab(t, poor)
	relay := StartRelayIn(t, lab.Public, lossyRelayAddress, "-stun", lossySTUNAddress)
	var peers [2]*Peer
	for i, kind := range kinds {
		peers[i] = StartAgentIn(t, lab.Hosts[i], kind).Open(t)
		// STUN: browsers hide their own addresses behind mDNS names, which no router passes on.
		startQuiet(t, peers[i], Config{Relays: relay.Addrs, ICEServers: []string{"stun:" + lossySTUNAddress}})
	}
	a, b := peers[0], peers[1]
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	took, err := a.Connect(ctx, b.ID, webrtcAddrs(t, b))
	if err != nil {
		t.Fatal(err)
	}
	rtt, err := a.Ping(ctx, b.ID)
	if err != nil {
		t.Fatal(err)
	}
	if rtt < 2*poor.Delay {
		t.Errorf("a round trip takes %v: the packets do not come through the router", rtt)
	}
	t.Logf("direct after %v, ping %v", took, rtt)
	got, err := a.Streams(ctx, b.ID, lossyStreams, 4, lossySize)
	if err != nil || got.OK != lossyStreams {
		t.Errorf("streams: %+v, %v", got, err)
	}
	up, err := a.Upload(ctx, b.ID, lossyTransfer)
	if err != nil {
		t.Errorf("upload: %v", err)
	}
	down, err := a.Download(ctx, b.ID, lossyTransfer)
	if err != nil {
		t.Errorf("download: %v", err)
	}
	t.Logf("%d streams in %.1f s, up %.0f kB/s, down %.0f kB/s", lossyStreams, got.MS/1000, up.MBps()*1000, down.MBps()*1000)
	halfClose(t, a, b)
	halfClose(t, b, a)
}
