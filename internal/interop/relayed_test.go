package interop

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"
)

// TestForward: peers without a connection to each other talk through the relay on
// a topic that it forwards, and on no other.
func TestForward(t *testing.T) {
	Need(t, Node)
	const other = "interop-not-forwarded"
	relay := StartRelay(t, "-forward", chatTopic)
	a, b := openPeer(t, Node, "first"), openPeer(t, Node, "second")
	dial := false
	for _, p := range []*Peer{a, b} {
		ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
		defer cancel()
		if err := p.Start(ctx, Config{Relays: relay.Addrs, Subscribe: []string{chatTopic, other}, Dial: &dial}); err != nil {
			t.Fatalf("%s does not get a reservation: %v", p.Name, err)
		}
		p.Await(t, 10*time.Second, "learns that the relay forwards the topic", func(s State) bool {
			return slices.Contains(s.Subscribers[chatTopic], relay.ID)
		})
	}
	if _, err := a.Publish(t.Context(), chatTopic, "hello", 0); err != nil {
		t.Fatal(err)
	}
	s := b.Await(t, 10*time.Second, "receives the message", func(s State) bool { return s.Reached(chatTopic, a.ID, "hello") })
	if m := s.Received(chatTopic, a.ID)[0]; m.Via != relay.ID {
		t.Errorf("the message came from %s, want the relay %s", m.Via, relay.ID)
	}
	if len(s.Subscribers[other]) > 0 {
		t.Errorf("%v take part in a topic that the relay was not told to forward", s.Subscribers[other])
	}
}

// newcomers is how many peers come late: what the relay can do for one depends on
// which of several messages is first, so one would prove little. Chromium needs
// longer than Node between those messages.
const newcomers = 8

// TestNewcomer: a peer that comes late is told who is there without waiting for
// the next announcement. The proof needs no exact clock: the peer receives an
// announcement that the relay had before the peer came. Which one that is the relay's
// trace says: the first peer may announce itself while the other still starts.
func TestNewcomer(t *testing.T) {
	for _, kind := range []Kind{Node, Chromium} {
		t.Run(string(kind), func(t *testing.T) { testNewcomers(t, kind) })
	}
}

func testNewcomers(t *testing.T, kind Kind) {
	Need(t, kind)
	relay := StartRelay(t)
	first := openPeer(t, Node, "first")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	dial := false
	if err := first.Start(ctx, Config{Relays: relay.Addrs, Dial: &dial}); err != nil {
		t.Fatal(err)
	}
	Await(t, discoveryLimit, "the first announces itself", func(context.Context) (bool, error) {
		announced, err := announcements(relay)
		return len(announced) > 0, err
	})
	late := StartAgent(t, kind)
	for i := range newcomers {
		p := late.Open(t)
		p.Name = fmt.Sprintf("newcomer %d", i+1)
		// Its own announcement, an interval later, must not be what wakes the relay.
		if err := p.Start(ctx, Config{Relays: relay.Addrs, Interval: 60_000, Dial: &dial}); err != nil {
			t.Fatal(err)
		}
		Await(t, 5*time.Second, p.Name+" receives an announcement from before its time", func(ctx context.Context) (bool, error) {
			s, err := p.State(ctx)
			if err != nil {
				return false, err
			}
			trace, err := relay.Trace()
			if err != nil {
				return false, err
			}
			before := trace.Before[p.ID]
			return slices.ContainsFunc(s.Received(discoveryTopic, first.ID), func(m Message) bool { return before[m.ID] }), nil
		})
		if err := p.Close(ctx); err != nil {
			t.Fatal(err)
		}
	}
}

// announcements returns the ids of those that the relay has forwarded so far.
func announcements(relay *Relay) (map[string]bool, error) {
	trace, err := relay.Trace()
	if err != nil {
		return nil, err
	}
	return trace.Delivered[discoveryTopic], nil
}
