package signaling_test

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/tangop2p/tango/signaling"
)

func candidate(host string, port int) signaling.Candidate {
	mid := "0"
	return signaling.Candidate{Candidate: fmt.Sprintf("candidate:1 1 udp 1 %s %d typ host", host, port), SDPMid: &mid}
}

// collect takes a session's candidates to their end.
func collect(t *testing.T, s *signaling.Session) []string {
	t.Helper()
	var got []string
	for c, err := range s.Candidates(t.Context()) {
		if err != nil {
			t.Errorf("candidates end with %v", err)
			break
		}
		got = append(got, c.Candidate)
	}
	return got
}

func send(t *testing.T, s *signaling.Session, candidates ...signaling.Candidate) {
	t.Helper()
	for _, c := range candidates {
		if err := s.SendCandidate(c); err != nil {
			t.Error(err)
		}
	}
}

func TestSession(t *testing.T) {
	a, b := newNode(t), newNode(t)
	connect(t, a, b)
	ctx := t.Context()
	loopback, lan, stray := candidate("127.0.0.1", 5001), candidate("192.168.7.7", 5002), candidate("224.0.0.1", 5003)

	out, err := a.Offer(ctx, b.ID(), "offer\r\na="+loopback.Candidate+"\r\na="+stray.Candidate+"\r\n")
	if err != nil {
		t.Fatal(err)
	}
	send(t, out.Session, loopback, signaling.Candidate{}, stray, lan)
	in, err := b.Accept(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if want := "offer\r\na=" + loopback.Candidate + "\r\n"; in.Offer() != want {
		t.Errorf("offer %q, want %q", in.Offer(), want)
	}
	if in.Peer() != a.ID() || in.Conn().RemotePublicKey() == nil || out.Peer() != b.ID() {
		t.Error("the sessions do not know who they are with")
	}
	send(t, in.Session, lan) // waits
	if err := in.Answer(ctx, "answer\r\na="+stray.Candidate+"\r\n"); err != nil {
		t.Fatal(err)
	}
	if err := in.Answer(ctx, "answer"); err == nil {
		t.Error("a second answer is sent")
	}
	send(t, in.Session, loopback)
	for range 2 {
		if answer, err := out.Answer(ctx); err != nil || answer != "answer\r\n" {
			t.Errorf("answer %q, %v", answer, err)
		}
	}
	// the answerer is done first, as js-libp2p is
	var early []string
	for c, err := range in.Candidates(ctx) {
		if early = append(early, c.Candidate); err != nil || len(early) == 2 {
			break
		}
	}
	done := make(chan error, 1)
	go func() { done <- in.Done(ctx) }()
	late := collect(t, out.Session)
	if want := []string{loopback.Candidate, lan.Candidate}; !slices.Equal(early, want) {
		t.Errorf("the answerer got %v, want %v", early, want)
	}
	if want := []string{lan.Candidate, loopback.Candidate}; !slices.Equal(late, want) {
		t.Errorf("the offerer got %v, want %v", late, want)
	}
	if err := errors.Join(out.Done(ctx), <-done, out.Done(ctx)); err != nil {
		t.Error(err)
	}
	if err := out.SendCandidate(lan); !errors.Is(err, signaling.ErrClosed) {
		t.Errorf("a candidate after all: %v", err)
	}
	out.Abort(nil) // does nothing any more
	for _, check := range []struct {
		got, want int
	}{
		{a.count(t, "sessions_total", "done", "offerer"), 1},
		{b.count(t, "sessions_total", "done", "answerer"), 1},
		{a.count(t, "refused_candidates_total", "address"), 1},
		{b.count(t, "refused_candidates_total", "address"), 2},
	} {
		if check.got != check.want {
			t.Errorf("counted %d, want %d", check.got, check.want)
		}
	}
	a.wantNothingHeld(t)
	b.wantNothingHeld(t)
}

// TestOverRelay has two peers meet at a relay whose circuits are limited.
func TestOverRelay(t *testing.T) {
	a, b, r := newNode(t), newNode(t), newHost(t)
	relay, err := relayv2.New(r)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = relay.Close() })
	connect(t, b, r)
	connect(t, a, r)
	if _, err := client.Reserve(t.Context(), b.Host, peer.AddrInfo{ID: r.ID(), Addrs: r.Addrs()}); err != nil {
		t.Fatal(err)
	}
	circuit := ma.StringCast(fmt.Sprintf("/p2p/%s/p2p-circuit", r.ID()))
	if err := a.Connect(t.Context(), peer.AddrInfo{ID: b.ID(), Addrs: []ma.Multiaddr{circuit}}); err != nil {
		t.Fatal(err)
	}
	out, err := a.Offer(t.Context(), b.ID(), "offer")
	if err != nil {
		t.Fatal(err)
	}
	in, err := b.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, s := range []*signaling.Session{out.Session, in.Session} {
		if !s.Conn().Stat().Limited {
			t.Errorf("%v is not limited", s.Conn())
		}
		if !signaling.DefaultCandidatePolicy().Allows(s.Conn(), netip.MustParseAddr("127.0.0.1")) {
			t.Error("with the relay on loopback, loopback is near")
		}
	}
	out.Abort(nil)
	in.Abort(nil)
}

func TestOfferErrors(t *testing.T) {
	a, b := newNode(t), newHost(t)
	_, err := a.Offer(t.Context(), b.ID(), "offer")
	if e, ok := errors.AsType[*signaling.Error](err); !ok || e.Stage != signaling.StageStream || !errors.Is(err, network.ErrNoConn) {
		t.Errorf("to a peer without a connection: %v", err)
	}
	connect(t, a, b)
	if _, err := a.Offer(t.Context(), b.ID(), "offer"); !errors.Is(err, signaling.ErrUnsupported) {
		t.Errorf("to a peer that does not speak it: %v", err)
	}
	if _, err := signaling.New(a.Host); err == nil {
		t.Error("two services on one host")
	}
	if _, err := signaling.New(b, signaling.WithRegisterer(a.registry)); err == nil {
		t.Error("two services count in one place")
	}
	if err := a.Service.Close(); err != nil {
		t.Fatal(err)
	}
	s, err := signaling.New(a.Host, signaling.WithRegisterer(a.registry))
	if err != nil {
		t.Fatalf("after Close: %v", err)
	}
	_ = s.Close()
}

func TestOfferOver(t *testing.T) {
	a, b := newNode(t), newNode(t)
	connect(t, a, b)
	open := func() network.Stream {
		s, err := a.NewStream(t.Context(), b.ID(), signaling.ProtocolID)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	if _, err := a.OfferOver(t.Context(), open(), ""); err == nil {
		t.Error("an empty offer is sent")
	}
	s := open()
	out, err := a.OfferOver(t.Context(), s, "offer")
	if err != nil {
		t.Fatal(err)
	}
	in, err := b.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if out.Conn() != s.Conn() || in.Offer() != "offer" {
		t.Errorf("over %v: %q", out.Conn(), in.Offer())
	}
	boom := errors.New("ICE failed")
	in.Abort(boom)
	if _, err := out.Answer(t.Context()); !errors.Is(err, signaling.ErrRefused) {
		t.Errorf("the remote has aborted: %v", err)
	}
	if err := in.Answer(t.Context(), "answer"); !errors.Is(err, boom) || !errors.Is(err, signaling.ErrAborted) {
		t.Errorf("answer after an abort: %v", err)
	}
	a.wantNothingHeld(t)
	b.wantNothingHeld(t)
}

func TestManySessions(t *testing.T) {
	a, b := newNode(t), newNode(t)
	connect(t, a, b)
	const many = 200
	answered := make(chan struct{})
	go func() {
		defer close(answered)
		for range many {
			in, err := b.Accept(t.Context())
			if err == nil {
				err = errors.Join(in.Answer(t.Context(), "answer"), in.Done(t.Context()))
			}
			if err != nil {
				t.Error(err)
			}
		}
	}()
	for range many {
		out, err := a.Offer(t.Context(), b.ID(), "offer")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := out.Answer(t.Context()); err != nil {
			t.Fatal(err)
		}
		if err := out.Done(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	<-answered
	a.wantNothingHeld(t)
	b.wantNothingHeld(t)
	if got := b.count(t, "sessions_total", "done", "answerer"); got != many {
		t.Errorf("%d sessions were done, want %d", got, many)
	}
}
