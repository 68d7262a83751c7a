package webrtc_test

import (
	"reflect"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ttransport "github.com/libp2p/go-libp2p/p2p/transport/testsuite"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/tangop2p/tango/signaling"
	"github.com/tangop2p/tango/webrtc"
)

// TestTransportSuite runs all of go-libp2p's own tests for transports, each on a
// pair of peers of its own, which are connected through a relay.
func TestTransportSuite(t *testing.T) {
	for _, sub := range ttransport.Subtests {
		name := runtime.FuncForPC(reflect.ValueOf(sub).Pointer()).Name()
		t.Run(name[strings.LastIndex(name, ".")+1:], func(t *testing.T) {
			slow, limits := signaling.DefaultLimits(), webrtc.DefaultLimits()
			slow.IncomingPerPeer = slow.Incoming // the suite dials the same peer side by side
			// It does so fifty times, while those that are connected keep the machine
			// busy, and sets the dials no limit. The relay does, to its circuits.
			limits.Timeout = relay.DefaultLimit().Duration
			slow.Timeout, slow.DrainTimeout = limits.Timeout, time.Minute
			opts := []webrtc.Option{webrtc.WithSignalingLimits(slow), webrtc.WithLimits(limits)}
			r := newRelay(t)
			a, b := newPeer(t, r, opts...), newPeer(t, r, opts...)
			sa, sb := webrtc.NewSuite(a.Transport, b.Transport)
			ctx := network.WithAllowLimitedConn(short(t), "test")
			circuit, _ := ma.SplitLast(a.addr)
			if err := b.Host.Connect(ctx, peer.AddrInfo{ID: a.ID(), Addrs: []ma.Multiaddr{circuit}}); err != nil {
				t.Fatal(err)
			}
			sub(t, sa, sb, ma.StringCast("/webrtc"), a.ID())
		})
	}
}
