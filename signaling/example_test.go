package signaling_test

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/tangop2p/tango/signaling"
)

// peerConnection stands for a WebRTC implementation, pion's for example.
type peerConnection struct{ name string }

func (c peerConnection) description() string { return "the description of " + c.name }

func (peerConnection) setRemoteDescription(sdp string) { fmt.Println("got", sdp) }

func (peerConnection) addCandidate(c signaling.Candidate) { fmt.Println("got", c.Candidate) }

// localCandidates are what an ICE agent finds once it has its local description.
func (peerConnection) localCandidates() []signaling.Candidate {
	mid := "0"
	return []signaling.Candidate{
		{Candidate: "candidate:1 1 udp 2122260223 192.168.0.196 46243 typ host", SDPMid: &mid},
	}
}

// Two peers exchange what their PeerConnections have to know of each other.
func Example() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	alice, bob, err := connectedHosts(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer alice.Close()
	defer bob.Close()

	answered := make(chan error, 1)
	server, err := signaling.New(bob)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer server.Close()
	go func() { answered <- answer(ctx, server, peerConnection{"bob"}) }()

	client, err := signaling.New(alice)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer client.Close()
	if err := offer(ctx, client, bob.ID(), peerConnection{"alice"}); err != nil {
		fmt.Println(err)
	}
	if err := <-answered; err != nil {
		fmt.Println(err)
	}
	// Unordered output:
	// got the description of alice
	// got the description of bob
	// got candidate:1 1 udp 2122260223 192.168.0.196 46243 typ host
}

func offer(ctx context.Context, s *signaling.Service, to peer.ID, pc peerConnection) error {
	session, err := s.Offer(ctx, to, pc.description())
	if err != nil {
		return err
	}
	// here the local description is set, and candidates come
	for _, c := range pc.localCandidates() {
		if err := session.SendCandidate(c); err != nil {
			session.Abort(err)
			return err
		}
	}
	answer, err := session.Answer(ctx)
	if err != nil {
		session.Abort(err)
		return err
	}
	pc.setRemoteDescription(answer)
	for c, err := range session.Candidates(ctx) {
		if err != nil {
			return err
		}
		pc.addCandidate(c)
	}
	return session.Done(ctx) // the connection stands
}

func answer(ctx context.Context, s *signaling.Service, pc peerConnection) error {
	session, err := s.Accept(ctx)
	if err != nil {
		return err
	}
	pc.setRemoteDescription(session.Offer())
	if err := session.Answer(ctx, pc.description()); err != nil {
		return err
	}
	for c, err := range session.Candidates(ctx) {
		if err != nil {
			return err
		}
		pc.addCandidate(c)
		break // one is enough for this connection
	}
	return session.Done(ctx)
}

func connectedHosts(ctx context.Context) (a, b host.Host, err error) {
	a, err = libp2p.New(libp2p.NoListenAddrs)
	if err != nil {
		return nil, nil, err
	}
	b, err = libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"))
	if err != nil {
		return nil, nil, errors.Join(err, a.Close())
	}
	if err := a.Connect(ctx, peer.AddrInfo{ID: b.ID(), Addrs: b.Addrs()}); err != nil {
		return nil, nil, errors.Join(err, a.Close(), b.Close())
	}
	return a, b, nil
}

// A server in a data centre keeps remote peers from having it probe its private network.
func ExampleWithCandidatePolicy() {
	h, err := libp2p.New(libp2p.NoListenAddrs)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer h.Close()

	limits := signaling.DefaultLimits()
	limits.Incoming = 64
	s, err := signaling.New(h,
		signaling.WithLimits(limits),
		signaling.WithCandidatePolicy(signaling.GuardedCandidatePolicy()),
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println(s.Close())
	// Output: <nil>
}
