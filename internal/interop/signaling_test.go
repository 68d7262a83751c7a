package interop

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
	ma "github.com/multiformats/go-multiaddr"
	pion "github.com/pion/webrtc/v4"

	"github.com/tangop2p/tango/signaling"
)

// These tests prove package signaling against js-libp2p with nothing around it
// but a bare pion PeerConnection: js-libp2p takes the connection for one of its
// own, though nobody serves its streams.

// signalingLimit is js-libp2p's own limit for an address that it dials.
const signalingLimit = 6 * time.Second

// ways are which side's candidates get through: ICE manages with either, so
// that each has to do alone once.
var ways = []struct {
	name         string
	ours, theirs bool
}{
	{"all candidates", true, true},
	{"ours alone", true, false},
	{"theirs alone", false, true},
}

// TestSignalingOffer: Go offers, js-libp2p answers.
func TestSignalingOffer(t *testing.T) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) { testSignalingOffer(t, way.ours, way.theirs) })
	}
}

func testSignalingOffer(t *testing.T, ours, theirs bool) {
	g, js := newGoPeer(t), newJSPeer(t)
	ctx, cancel := context.WithTimeout(t.Context(), signalingLimit)
	defer cancel()
	id, err := peer.Decode(js.ID)
	if err != nil {
		t.Fatal(err)
	}
	circuit := ma.StringCast(js.relay.Addrs[0] + "/p2p-circuit")
	g.reserve(t, js.relay) // connects to the relay
	if err := g.Connect(network.WithAllowLimitedConn(ctx, "signaling"), peer.AddrInfo{ID: id, Addrs: []ma.Multiaddr{circuit}}); err != nil {
		t.Fatal(err)
	}
	pc := newPion(t, g.Network().ConnsToPeer(id)[0])
	open := make(chan struct{})
	init, err := pc.CreateDataChannel("init", nil)
	if err != nil {
		t.Fatal(err)
	}
	init.OnOpen(func() { close(open) })
	offer, err := pc.CreateOffer(nil)
	if err != nil {
		t.Fatal(err)
	}
	session, err := g.Offer(ctx, id, offer.SDP)
	if err != nil {
		t.Fatal(err)
	}
	if ours {
		sendCandidates(pc, session.Session)
	}
	if err := pc.SetLocalDescription(offer); err != nil {
		t.Fatal(err)
	}
	answer, err := session.Answer(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := pc.SetRemoteDescription(pion.SessionDescription{Type: pion.SDPTypeAnswer, SDP: answer}); err != nil {
		t.Fatal(err)
	}
	taken := takeCandidates(ctx, pc, session.Session, theirs)
	pc.await(ctx, t)
	select {
	case <-open:
	case <-ctx.Done():
		t.Fatal("init does not open")
	}
	closeInit(t, init)
	finish(ctx, t, session.Session, taken)
	js.awaitDirect(t, g)
}

// TestSignalingAnswer: js-libp2p dials, Go answers.
func TestSignalingAnswer(t *testing.T) {
	for _, way := range ways {
		t.Run(way.name, func(t *testing.T) { testSignalingAnswer(t, way.ours, way.theirs) })
	}
}

func testSignalingAnswer(t *testing.T, ours, theirs bool) {
	g, js := newGoPeer(t), newJSPeer(t)
	g.reserve(t, js.relay)
	ctx, cancel := context.WithTimeout(t.Context(), signalingLimit)
	defer cancel()
	dialled := make(chan error, 1)
	go func() {
		address := js.relay.Addrs[0] + "/p2p-circuit/webrtc/p2p/" + g.ID().String()
		dialled <- js.Dial(ctx, g.ID().String(), []string{address})
	}()
	session, err := g.Accept(ctx)
	if err != nil {
		t.Fatal(errors.Join(err, <-dialled))
	}
	pc := newPion(t, session.Conn())
	pc.OnDataChannel(func(c *pion.DataChannel) {
		if c.Label() == "init" {
			c.OnOpen(func() { closeInit(t, c) })
		}
	})
	offer := pion.SessionDescription{Type: pion.SDPTypeOffer, SDP: session.Offer()}
	if err := pc.SetRemoteDescription(offer); err != nil {
		t.Fatal(err)
	}
	if ours {
		sendCandidates(pc, session.Session)
	}
	answer, err := pc.CreateAnswer(nil)
	if err != nil {
		t.Fatal(err)
	}
	if err := session.Answer(ctx, answer.SDP); err != nil {
		t.Fatal(err)
	}
	if err := pc.SetLocalDescription(answer); err != nil {
		t.Fatal(err)
	}
	taken := takeCandidates(ctx, pc, session.Session, theirs)
	pc.await(ctx, t)
	finish(ctx, t, session.Session, taken)
	if err := <-dialled; err != nil {
		t.Fatal(err)
	}
	js.awaitDirect(t, g)
}

// goPeer is a host with the block alone.
type goPeer struct {
	host.Host
	*signaling.Service
}

// Close is the Service's: the host is closed after the test.
func (g *goPeer) Close() error { return g.Service.Close() }

func newGoPeer(t *testing.T) *goPeer {
	t.Helper()
	h, err := libp2p.New(libp2p.Transport(websocket.New), libp2p.NoListenAddrs, libp2p.EnableRelay())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	s, err := signaling.New(h)
	if err != nil {
		t.Fatal(err)
	}
	g := &goPeer{h, s}
	t.Cleanup(func() { _ = g.Close() })
	return g
}

func (g *goPeer) reserve(t *testing.T, relay *Relay) {
	t.Helper()
	info, err := peer.AddrInfoFromString(relay.Addrs[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := g.Connect(t.Context(), *info); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Reserve(t.Context(), g.Host, *info); err != nil {
		t.Fatal(err)
	}
}

type jsPeer struct {
	*Peer
	relay *Relay
}

func newJSPeer(t *testing.T) jsPeer {
	t.Helper()
	Need(t, Node)
	relay := StartRelay(t) // first: it ends last, and would wait 5 s for an open circuit
	js := jsPeer{openPeer(t, Node, "js"), relay}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	dial := false
	if err := js.Start(ctx, Config{Relays: js.relay.Addrs, Dial: &dial}); err != nil {
		t.Fatal(err)
	}
	return js
}

func (js jsPeer) awaitDirect(t *testing.T, g *goPeer) {
	t.Helper()
	s := js.Await(t, 5*time.Second, "has a direct /webrtc connection", func(s State) bool {
		_, ok := s.Direct(g.ID().String())
		return ok
	})
	c, _ := s.Direct(g.ID().String())
	t.Logf("js-libp2p: %s %s", c.Direction, c.Address)
}

type pionPeer struct {
	*pion.PeerConnection
	states chan pion.PeerConnectionState
}

func newPion(t *testing.T, conn network.Conn) *pionPeer {
	t.Helper()
	var engine pion.SettingEngine
	engine.DetachDataChannels()
	engine.SetPrflxAcceptanceMinWait(0)
	engine.SetIncludeLoopbackCandidate(true)
	engine.SetRemoteIPFilter(func(ip net.IP) bool {
		addr, ok := netip.AddrFromSlice(ip)
		return ok && signaling.DefaultCandidatePolicy().Allows(conn, addr)
	})
	pc, err := pion.NewAPI(pion.WithSettingEngine(engine)).NewPeerConnection(pion.Configuration{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = pc.GracefulClose() })
	p := &pionPeer{pc, make(chan pion.PeerConnectionState, 10)} // there are six states
	pc.OnConnectionStateChange(func(s pion.PeerConnectionState) { p.states <- s })
	return p
}

func (p *pionPeer) await(ctx context.Context, t *testing.T) {
	t.Helper()
	for {
		select {
		case s := <-p.states:
			if s == pion.PeerConnectionStateConnected {
				return
			}
		case <-ctx.Done():
			t.Fatalf("not connected but %v", p.ConnectionState())
		}
	}
}

func sendCandidates(pc *pionPeer, s *signaling.Session) {
	pc.OnICECandidate(func(c *pion.ICECandidate) {
		if c != nil {
			_ = s.SendCandidate(signaling.Candidate(c.ToJSON())) // late ones nobody needs
		}
	})
}

// candidates are how many came, and why no more do.
type candidates struct {
	n   int
	err error
}

// takeCandidates takes the remote's candidates, and uses them if told so, until no more come.
func takeCandidates(ctx context.Context, pc *pionPeer, s *signaling.Session, use bool) <-chan candidates {
	taken := make(chan candidates, 1)
	go func() {
		var got candidates
		for c, err := range s.Candidates(ctx) {
			if err == nil && use {
				err = pc.AddICECandidate(pion.ICECandidateInit(c))
			}
			if err != nil {
				got.err = err
				break
			}
			got.n++
		}
		taken <- got
	}()
	return taken
}

func finish(ctx context.Context, t *testing.T, s *signaling.Session, taken <-chan candidates) {
	t.Helper()
	start := time.Now()
	if err := s.Done(ctx); err != nil {
		t.Errorf("done: %v", err)
	}
	t.Logf("js-libp2p's end of the stream came within %v", time.Since(start))
	if got := <-taken; got.n == 0 || got.err != nil {
		t.Errorf("%d candidates of js-libp2p came, then %v", got.n, got.err)
	}
}

// closeInit closes the channel and reads it until the other side has closed it
// too; js-libp2p's dial waits for that.
func closeInit(t *testing.T, c *pion.DataChannel) {
	t.Helper()
	raw, err := c.Detach()
	if err != nil {
		t.Error(err)
		return
	}
	go func() { _, _ = io.Copy(io.Discard, raw) }() // ends with the channel
	if err := raw.Close(); err != nil {
		t.Error(err)
	}
}
