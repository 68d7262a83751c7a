package webrtc_test

import (
	"reflect"
	"runtime"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
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
			limits := signaling.DefaultLimits()
			limits.IncomingPerPeer = limits.Incoming // the suite dials the same peer side by side
			r := newRelay(t)
			a, b := newPeer(t, r, webrtc.WithSignalingLimits(limits)), newPeer(t, r, webrtc.WithSignalingLimits(limits))
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
