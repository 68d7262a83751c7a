package webrtc

import (
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/pion/transport/v5"
	"github.com/pion/transport/v5/stdnet"
	pion "github.com/pion/webrtc/v4"
)

// late is a network that loses everything until it is up.
type late struct {
	*stdnet.Net
	up atomic.Bool
}

func (n *late) ListenUDP(network string, addr *net.UDPAddr) (transport.UDPConn, error) {
	c, err := n.Net.ListenUDP(network, addr)
	return &lateConn{c, n}, err
}

type lateConn struct {
	transport.UDPConn
	net *late
}

func (c *lateConn) WriteTo(p []byte, to net.Addr) (int, error) {
	if !c.net.up.Load() {
		return len(p), nil
	}
	return c.UDPConn.WriteTo(p, to)
}

// here is a connection to this machine.
type here struct{ network.Conn }

func (here) RemoteMultiaddr() ma.Multiaddr { return ma.StringCast("/ip4/127.0.0.1/tcp/1") }

// TestLateNetwork: a path is found that begins to work some seconds after the
// candidates are known, as on a machine that is busy, or when a router takes its time.
func TestLateNetwork(t *testing.T) {
	t.Parallel()
	cfg, err := newConfig(nil)
	if err != nil {
		t.Fatal(err)
	}
	std, err := stdnet.NewNet()
	if err != nil {
		t.Fatal(err)
	}
	n := &late{Net: std}
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
	time.AfterFunc(4*time.Second, func() { n.up.Store(true) })
	signal(t, pcs[0], pcs[1]) // waits until both are connected, for 10 s
}
