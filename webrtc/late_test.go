package webrtc

import (
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
	pion "github.com/pion/webrtc/v4"
)

// here is a connection to this machine.
type here struct{ network.Conn }

func (here) RemoteMultiaddr() ma.Multiaddr { return ma.StringCast("/ip4/127.0.0.1/tcp/1") }

// TestLateNetwork: a path is found that begins to work some seconds after the
// candidates are known.
func TestLateNetwork(t *testing.T) {
	t.Parallel()
	cfg, err := newConfig(nil)
	if err != nil {
		t.Fatal(err)
	}
	var up atomic.Bool
	n := newFiltered(t, func([]byte) bool { return !up.Load() })
	var pcs [2]*pion.PeerConnection
	for i := range pcs {
		e := (&Transport{cfg: cfg}).settings(here{})
		e.SetIncludeLoopbackCandidate(true)
		e.SetIPFilter(net.IP.IsLoopback)
		e.SetNetworkTypes([]pion.NetworkType{pion.NetworkTypeUDP4})
		e.SetNet(n)
		if pcs[i], err = pion.NewAPI(pion.WithSettingEngine(e)).NewPeerConnection(pion.Configuration{}); err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = pcs[i].GracefulClose() })
	}
	if _, err := pcs[0].CreateDataChannel("init", nil); err != nil {
		t.Fatal(err)
	}
	time.AfterFunc(4*time.Second, func() { up.Store(true) })
	signal(t, pcs[0], pcs[1]) // waits until both are connected, for 10 s
}
