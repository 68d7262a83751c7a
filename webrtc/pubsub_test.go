package webrtc_test

import (
	"context"
	"slices"
	"testing"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"

	"github.com/tangop2p/tango/webrtc"
)

// TestGossipSubMovesAlong: GossipSub runs on the direct connection, stops with
// it, and is back when the path is rebuilt, with nothing done by the application.
func TestGossipSubMovesAlong(t *testing.T) {
	r := newRelay(t)
	a, b := newPeer(t, r), newPeer(t, r)
	ta, tb := join(t, a), join(t, b)
	sub, err := tb.Subscribe()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ta.Subscribe(); err != nil {
		t.Fatal(err)
	}
	circuit(t, a, b)
	meets := func() bool {
		return slices.Contains(ta.ListPeers(), b.ID()) && slices.Contains(tb.ListPeers(), a.ID())
	}
	await(t, "the peers meet on the topic", meets)
	heard(t, ta, sub, "over the first path")
	first := direct(a, b.ID())[0]
	webrtc.Lose(a.Transport, b.ID())
	await(t, "there is another direct path", func() bool {
		now := direct(a, b.ID())
		return len(now) == 1 && now[0] != first
	})
	await(t, "the peers are back on the topic", meets)
	heard(t, ta, sub, "over the second path")
	for _, c := range a.Network().ConnsToPeer(b.ID()) { // the relayed one is not needed
		if c.Stat().Limited {
			_ = c.Close()
		}
	}
	heard(t, ta, sub, "without the relay")
}

func join(t *testing.T, n *peerNode) *pubsub.Topic {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(cancel)
	ps, err := pubsub.NewGossipSub(ctx, n)
	if err != nil {
		t.Fatal(err)
	}
	topic, err := ps.Join("test")
	if err != nil {
		t.Fatal(err)
	}
	return topic
}

// heard publishes until the subscriber has it: the router drops what it has for
// a peer whose stream is not open yet.
func heard(t *testing.T, from *pubsub.Topic, to *pubsub.Subscription, text string) {
	t.Helper()
	got := make(chan struct{})
	go func() {
		defer close(got)
		for {
			m, err := to.Next(t.Context())
			if err != nil || string(m.Data) == text {
				return
			}
		}
	}()
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for range 100 {
		if err := from.Publish(t.Context(), []byte(text)); err != nil {
			t.Fatal(err)
		}
		select {
		case <-got:
			return
		case <-tick.C:
		}
	}
	t.Fatalf("not heard in 5 s: %s", text)
}
