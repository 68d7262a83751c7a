package interop

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"
)

// connects is how often each pair connects.
const connects = 20

// connecting lists the pairs of BenchmarkConnect; the first is stock js-libp2p
// on its own, which the others are compared with.
var connecting = [][2]Kind{
	{Chromium, Chromium},
	{Go, Go},
	{Go, Chromium},
	{Chromium, Go},
	{Go, Firefox},
	{Firefox, Go},
	{Firefox, Firefox},
}

// BenchmarkConnect measures the time from dialling to the direct connection,
// through a circuit that is new each time, between two peers that have a
// connection to the relay. What is measured is what an application waits for:
// js-libp2p's dial, or Connect.
func BenchmarkConnect(b *testing.B) {
	for _, kinds := range pairsOr(connecting) {
		b.Run(string(kinds[0])+"-"+string(kinds[1]), func(b *testing.B) {
			Need(b, kinds[:]...)
			relay := StartRelay(b)
			from, to := openBenchPeer(b, kinds[0], relay), openBenchPeer(b, kinds[1], relay)
			addrs := webrtcAddrs(b, to)
			var all []float64
			for len(all) <= connects {
				ctx, cancel := context.WithTimeout(b.Context(), 30*time.Second)
				took, err := from.Connect(ctx, to.ID, addrs)
				cancel()
				if err != nil {
					b.Log(err) // js-libp2p's init race; what it costs is told by the pair tests
				} else {
					all = append(all, float64(took)/float64(time.Millisecond))
				}
				part(b, from, to)
			}
			all = all[1:] // the first runs through cold code
			fmt.Printf("%s dials %s, ms: %.0f\n", kinds[0], kinds[1], all)
			slices.Sort(all)
			b.ReportMetric((all[(len(all)-1)/2]+all[len(all)/2])/2, "ms-median")
			b.ReportMetric(all[0], "ms-min")
			b.ReportMetric(all[len(all)-1], "ms-max")
			b.ReportMetric(0, "ns/op") // hides a number that means nothing here
		})
	}
}

func openBenchPeer(b *testing.B, kind Kind, relay *Relay) *Peer {
	b.Helper()
	p := StartAgent(b, kind).Open(b)
	ctx, cancel := context.WithTimeout(b.Context(), 30*time.Second)
	defer cancel()
	dial := false
	if err := p.Start(ctx, Config{Relays: relay.Addrs, Dial: &dial}); err != nil {
		b.Fatal(err)
	}
	return p
}

// part ends all connections between two peers, the direct ones first, and waits
// until neither has any.
func part(b *testing.B, from, to *Peer) {
	b.Helper()
	Await(b, 60*time.Second, "the peers have no connection", func(ctx context.Context) (bool, error) {
		left := 0
		for _, side := range [][2]*Peer{{from, to}, {to, from}} {
			s, err := side[0].State(ctx)
			if err != nil {
				return false, err
			}
			for _, c := range s.To(side[1].ID) {
				left++
				if err := side[0].Abort(ctx, c.ID); err != nil {
					return false, err
				}
			}
		}
		return left == 0, nil
	})
}

// transfers is how often BenchmarkTransfer sends transferSize over one stream.
const transfers = 5

// BenchmarkTransfer measures 64 MiB over one stream from the dialler, beside
// two Chromiums with stock js-libp2p.
func BenchmarkTransfer(b *testing.B) {
	for _, kinds := range pairsOr([][2]Kind{{Chromium, Chromium}, {Go, Chromium}, {Go, Go}}) {
		b.Run(string(kinds[0])+"-"+string(kinds[1]), func(b *testing.B) {
			Need(b, kinds[:]...)
			relay := StartRelay(b)
			from, to := openBenchPeer(b, kinds[0], relay), openBenchPeer(b, kinds[1], relay)
			ctx, cancel := context.WithTimeout(b.Context(), 5*time.Minute)
			defer cancel()
			if _, err := from.Connect(ctx, to.ID, webrtcAddrs(b, to)); err != nil {
				b.Fatal(err)
			}
			var all []float64
			for range transfers {
				t, err := from.Upload(ctx, to.ID, transferSize)
				if err != nil {
					b.Fatal(err)
				}
				all = append(all, t.MBps())
			}
			fmt.Printf("%s to %s, MB/s: %.1f\n", kinds[0], kinds[1], all)
			slices.Sort(all)
			b.ReportMetric(all[len(all)/2], "MB/s-median")
			b.ReportMetric(0, "ns/op") // hides a number that means nothing here
		})
	}
}
