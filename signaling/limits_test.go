package signaling_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"

	"github.com/tangop2p/tango/signaling"
)

func TestLimits(t *testing.T) {
	limits := signaling.DefaultLimits()
	limits.IncomingPerPeer, limits.Incoming, limits.Backlog, limits.Outgoing = 2, 4, 3, 3
	a := newNode(t, signaling.WithLimits(limits))
	// a hostile peer keeps to no limits: streams of its own
	remote := func() (open func() network.Stream) {
		h := newHost(t)
		connect(t, h, a)
		return func() network.Stream {
			s, err := h.NewStream(t.Context(), a.ID(), signaling.ProtocolID)
			if err != nil {
				t.Fatal(err)
			}
			return s
		}
	}
	wantCode := func(s network.Stream, want network.StreamErrorCode) {
		t.Helper()
		if code := codeOf(t, s); code != want {
			t.Errorf("reset with %#x, want %#x", code, want)
		}
	}
	first, second, third := remote(), remote(), remote()
	var held []network.Stream
	for i, open := range []func() network.Stream{first, first, second} {
		s := open()
		write(t, s, offerFrame)
		held = append(held, s)
		await(t, "the offer waits", func() bool { return a.Waiting() == i+1 })
	}
	over := first() // two of it are there
	write(t, over, offerFrame)
	wantCode(over, network.StreamResourceLimitExceeded)

	fourth := second()
	write(t, fourth, offerFrame) // there is a place, but three offers wait
	wantCode(fourth, network.StreamResourceLimitExceeded)

	busy := func() int { return a.count(t, "sessions_total", "busy", "answerer") }
	await(t, "both have left", func() bool { return busy() == 2 })

	in, err := a.Accept(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	again := second()
	write(t, again, offerFrame)
	await(t, "there are four sessions", func() bool { return a.Waiting() == 3 })
	full := third() // no place for a fifth, whoever it is
	write(t, full, offerFrame)
	wantCode(full, network.StreamResourceLimitExceeded)
	if got := busy(); got != 3 {
		t.Errorf("%d were refused, want 3", got)
	}

	b := newNode(t)
	connect(t, a, b)
	var outs []*signaling.Outgoing
	for range 3 {
		out, err := a.Offer(t.Context(), b.ID(), "offer")
		if err != nil {
			t.Fatal(err)
		}
		outs = append(outs, out)
	}
	if _, err := a.Offer(t.Context(), b.ID(), "offer"); !errors.Is(err, signaling.ErrBusy) {
		t.Errorf("a fourth offer: %v", err)
	}
	for _, out := range outs {
		out.Abort(nil)
	}
	in.Abort(nil)
	for _, s := range append(held, again) {
		_ = s.Reset()
	}
	a.wantNothingHeld(t)
	await(t, "a place is free", func() bool {
		out, err := a.Offer(t.Context(), b.ID(), "offer")
		if err == nil {
			out.Abort(nil)
		}
		return err == nil
	})
}

// served returns how many signaling streams are open at n.
func served(n *node) int {
	count := 0
	_ = n.Network().ResourceManager().ViewService(signaling.ServiceName, func(s network.ServiceScope) error {
		count = s.Stat().NumStreamsInbound + s.Stat().NumStreamsOutbound
		return nil
	})
	return count
}

func TestBusyIsSeenAsRefused(t *testing.T) {
	limits := signaling.DefaultLimits()
	limits.IncomingPerPeer = 1
	a, b := newNode(t), newNode(t, signaling.WithLimits(limits))
	connect(t, a, b)
	first, err := a.Offer(t.Context(), b.ID(), "offer")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := b.Accept(t.Context()); err != nil {
		t.Fatal(err)
	}
	second, err := a.Offer(t.Context(), b.ID(), "offer")
	if err == nil {
		_, err = second.Answer(t.Context())
	}
	reset, ok := errors.AsType[*network.StreamError](err)
	if !errors.Is(err, signaling.ErrRefused) || !ok || reset.ErrorCode != network.StreamResourceLimitExceeded {
		t.Errorf("the offer that is too many: %v", err)
	}
	first.Abort(nil)
}

func TestOptions(t *testing.T) {
	if err := signaling.CheckOptions(
		signaling.WithLimits(signaling.DefaultLimits()),
		signaling.WithCandidatePolicy(signaling.DefaultCandidatePolicy()),
		signaling.WithCandidatePolicy(signaling.GuardedCandidatePolicy()),
	); err != nil {
		t.Errorf("defaults: %v", err)
	}
	err := signaling.CheckOptions(
		signaling.WithLimits(signaling.Limits{}),
		signaling.WithCandidatePolicy(signaling.CandidatePolicy{Private: 9}),
	)
	if err == nil {
		t.Fatal("zero values are accepted")
	}
	for _, name := range []string{
		"MessageSize", "CandidateSize", "Candidates", "Incoming", "IncomingPerPeer", "Outgoing", "Backlog",
		"Timeout", "DrainTimeout", "Max", "MinPort", "Private",
	} {
		if !strings.Contains(err.Error(), "."+name+" ") {
			t.Errorf("%v does not name %s", err, name)
		}
	}
	if _, err := signaling.New(newHost(t), signaling.WithLimits(signaling.Limits{})); err == nil {
		t.Error("New takes zero limits")
	}
}
