package webrtc_test

import (
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"

	"github.com/tangop2p/tango/webrtc"
)

// The side that was dialled begins if the other does not, as js-libp2p does not
// that has dialled a plain circuit address.
func TestInboundSideBegins(t *testing.T) {
	r := newRelay(t)
	a, b := newPeer(t, r), newPeer(t, r)
	webrtc.Idle(a.Transport)
	start := time.Now()
	circuit(t, a, b)
	await(t, "the dialled side makes it direct", func() bool { return b.Path(a.ID()).Kind == webrtc.PathDirect })
	if waited := time.Since(start); waited < 2*time.Second {
		t.Errorf("the dialled side began after %v: the dialler gets no time", waited)
	}
	if c := direct(b, a.ID())[0]; c.Stat().Direction != network.DirOutbound {
		t.Errorf("direction %v", c.Stat().Direction)
	}
}

// A hole for TCP or QUIC is better: it is waited for where both sides speak DCUtR.
func TestHolePunchGoesFirst(t *testing.T) {
	r := newRelay(t)
	a, b := newPeer(t, r), newPeer(t, r)
	for _, n := range []*peerNode{a, b} { // a host speaks it once it knows a public address of its own
		n.SetStreamHandler(holepunch.Protocol, func(s network.Stream) { _ = s.Reset() })
	}
	// The dialler learns what the peer speaks from identify.
	circuit(t, a, b)
	await(t, "they go direct by /webrtc in the end", func() bool { return a.Path(b.ID()).Kind == webrtc.PathDirect })
	var rungs []webrtc.Rung
	for _, attempt := range a.Explain(b.ID()).Attempts {
		rungs = append(rungs, attempt.Rung)
	}
	if want := []webrtc.Rung{webrtc.RungDCUtR, webrtc.RungDirect}; !slices.Equal(rungs, want) {
		t.Errorf("rungs %v, want %v\n%v", rungs, want, a.Explain(b.ID()))
	}
}

// Identify of an older connection may be done just when the peer is dialled
// anew. It expires what the peer does not announce, as in idService.consumeMessage
// of go-libp2p, but not the addresses that the user gave for this very dial.
func TestIdentifyDuringConnect(t *testing.T) {
	r, g := newRelay(t), &gater{}
	a, b := newGated(t, r, g), newPeer(t, r)
	g.onDial = func(p peer.ID) {
		for _, ttl := range []time.Duration{peerstore.RecentlyConnectedAddrTTL, peerstore.ConnectedAddrTTL} {
			a.Peerstore().UpdateAddrs(p, ttl, peerstore.TempAddrTTL)
		}
		a.Peerstore().UpdateAddrs(p, peerstore.TempAddrTTL, 0)
	}
	for range 2 {
		connect(t, a, b)
		_ = a.Network().ClosePeer(b.ID())
		await(t, "both sides have closed", func() bool {
			return len(a.Network().ConnsToPeer(b.ID()))+len(b.Network().ConnsToPeer(a.ID())) == 0
		})
	}
	// They are kept no longer than others that were used.
	g.onDial(b.ID())
	if left := a.Peerstore().Addrs(b.ID()); len(left) > 0 {
		t.Errorf("kept for good: %v", left)
	}
}

// Somebody who waits does not wait for a back-off, nor does a host whose network
// has changed.
func TestConnectTriesAtOnce(t *testing.T) {
	r, g := newRelay(t), &gater{refuse: "accept"}
	a, b := newPeer(t, r), newGated(t, r, g)
	if _, err := a.Transport.Connect(short(t), b.ID(), b.addr); err == nil {
		await(t, "the connection that was refused is gone", func() bool { return a.Path(b.ID()).Kind != webrtc.PathDirect })
	}
	g.allow()
	start := time.Now()
	connect(t, a, b)
	if took := time.Since(start); took >= 5*time.Second { // the shortest back-off
		t.Errorf("direct after %v", took)
	}
}
