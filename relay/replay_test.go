package relay

import (
	"slices"
	"strconv"
	"testing"
	"testing/synctest"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/tangop2p/tango/discovery"
)

const (
	testTopic = "topic"
	newcomer  = peer.ID("newcomer")
)

func here() *discovery.Record {
	return &discovery.Record{Addrs: []ma.Multiaddr{ma.StringCast("/ip4/192.0.2.1/tcp/1/ws")}}
}

func subscribe() *pubsub.RPC {
	topic, yes := testTopic, true
	rpc := new(pubsub.RPC)
	rpc.Subscriptions = []*pb.RPC_SubOpts{{Topicid: &topic, Subscribe: &yes}}
	return rpc
}

func graft() *pubsub.RPC {
	topic := testTopic
	rpc := new(pubsub.RPC)
	rpc.Control = &pb.ControlMessage{Graft: []*pb.ControlGraft{{TopicID: &topic}}}
	return rpc
}

// had returns where the message IDs go of which r tells the newcomer.
func had(t *testing.T, r *replay) *[]string {
	t.Helper()
	all := new([]string)
	r.have = func(p peer.ID, topic string, ids []string) {
		if p != newcomer || topic != testTopic {
			t.Errorf("tells %v of %v", p, topic)
		}
		if !r.mu.TryLock() {
			t.Error("tells with its lock held")
			return
		}
		r.mu.Unlock()
		*all = append(*all, ids...)
		slices.Sort(*all)
	}
	return all
}

// asked returns the message IDs for which inspect let the newcomer ask.
func asked(t *testing.T, r *replay, rpc *pubsub.RPC) []string {
	t.Helper()
	if err := r.inspect(newcomer, rpc); err != nil {
		t.Fatal(err)
	}
	var ids []string
	for _, w := range rpc.GetControl().GetIwant() {
		ids = append(ids, w.GetMessageIDs()...)
	}
	slices.Sort(ids)
	return ids
}

func TestReplayOnSubscribeAndOnGraft(t *testing.T) {
	for name, rpc := range map[string]*pubsub.RPC{"subscribe": subscribe(), "graft": graft()} {
		t.Run(name, func(t *testing.T) {
			r := newReplay([]string{testTopic})
			r.remember(testTopic, "a", "a1", here())
			r.remember(testTopic, "a", "a2", here())
			r.remember(testTopic, "b", "b1", here())
			r.remember(testTopic, newcomer, "own", here())
			r.remember("another topic", "c", "c1", here())
			if got := asked(t, r, graft()); got != nil {
				t.Errorf("%v for a peer that nothing can be sent to", got)
			}
			r.OnNewOutboundStream(newcomer, "")
			if got := asked(t, r, new(pubsub.RPC)); got != nil {
				t.Errorf("%v for a peer that is not interested", got)
			}
			if got := asked(t, r, rpc); !slices.Equal(got, []string{"a2", "b1"}) {
				t.Errorf("asked for %v, want the last of each other peer", got)
			}
		})
	}
}

// Between its subscription and its place in our mesh, up to a heartbeat later,
// a peer misses what others announce.
func TestReplayCoversTheGapBeforeTheMesh(t *testing.T) {
	r := newReplay([]string{testTopic})
	told := had(t, r)
	r.last[announcer{testTopic, "a"}] = announcement{"a1", time.Now().Add(-2 * raceMargin)}
	r.OnNewOutboundStream(newcomer, "")
	asked(t, r, subscribe())
	r.remember(testTopic, "b", "b1", here())
	if got := asked(t, r, new(pubsub.RPC)); got != nil || *told != nil {
		t.Errorf("asked for %v and told of %v before it is in the mesh", got, *told)
	}
	r.Graft(newcomer, testTopic)
	if !slices.Equal(*told, []string{"b1"}) {
		t.Errorf("told of %v, want what was announced in between", *told)
	}
	r.remember(testTopic, "c", "c1", here())
	for _, rpc := range []*pubsub.RPC{subscribe(), graft(), new(pubsub.RPC)} {
		if got := asked(t, r, rpc); got != nil {
			t.Errorf("asked for %v a third time", got)
		}
	}
	r.Graft(newcomer, testTopic)
	if len(*told) != 1 {
		t.Errorf("told of %v once more", *told)
	}
	r.OnClosedOutboundStream(newcomer)
	r.OnNewOutboundStream(newcomer, "")
	if got := asked(t, r, graft()); len(got) != 3 {
		t.Errorf("after a reconnect asked for %v, want all three", got)
	}
	if r.Graft(newcomer, testTopic); len(*told) != 1 {
		t.Errorf("told of %v, for which it was asked already", *told)
	}
}

// A subscription may come before we have a stream to its peer.
func TestReplayOnEarlySubscription(t *testing.T) {
	r := newReplay([]string{testTopic})
	told := had(t, r)
	r.remember(testTopic, "a", "a1", here())
	r.remember(testTopic, newcomer, "own", here())
	r.last[announcer{testTopic, "b"}] = announcement{"b1", time.Now().Add(time.Second - replayFor)} // may be gone if asked for
	asked(t, r, subscribe())
	r.OnNewOutboundStream("another", "")
	if r.OnNewOutboundStream(newcomer, ""); !slices.Equal(*told, []string{"a1"}) {
		t.Errorf("told of %v", *told)
	}
	if got := asked(t, r, subscribe()); got != nil {
		t.Errorf("asked for %v, of which it was told", got)
	}
	asked(t, r, graft())
	r.OnClosedOutboundStream(newcomer)
	if r.OnNewOutboundStream(newcomer, ""); len(*told) != 1 {
		t.Errorf("told of %v before it has subscribed again", *told)
	}
	r.OnClosedOutboundStream(newcomer)
	for i := range 2 * maxEarly { // who have no stream for us
		_ = r.inspect(peer.ID(strconv.Itoa(i)), subscribe())
	}
	if asked(t, r, subscribe()); len(r.early) > maxEarly {
		t.Errorf("%d early subscriptions kept", len(r.early))
	}
	if r.OnNewOutboundStream(newcomer, ""); len(*told) != 2 {
		t.Error("the last one is not among them")
	}
}

func TestReplayForgets(t *testing.T) {
	r := newReplay([]string{testTopic})
	r.remember(testTopic, "gone", "g", here())
	r.remember(testTopic, "left", "l1", here())
	r.remember(testTopic, "left", "l2", &discovery.Record{Leaving: true})
	r.remember(testTopic, "old", "o", here())
	r.OnClosedOutboundStream("gone")
	r.last[announcer{testTopic, "old"}] = announcement{"o", time.Now().Add(-replayFor - time.Second)}
	r.OnNewOutboundStream(newcomer, "")
	if got := asked(t, r, graft()); got != nil {
		t.Errorf("asked for %v, want none of these", got)
	}
	if len(r.arrivals) != 1 || len(r.last) != 2 { // who left, and the old one
		t.Errorf("%d peers and %d announcements kept", len(r.arrivals), len(r.last))
	}
}

func TestReplayIsBounded(t *testing.T) {
	r := newReplay([]string{testTopic})
	for i := range 3 * maxRemembered {
		r.remember(testTopic, peer.ID(strconv.Itoa(i)), strconv.Itoa(i), here())
	}
	if len(r.last) > maxRemembered {
		t.Errorf("remembers %d announcements", len(r.last))
	}
	r.OnNewOutboundStream(newcomer, "")
	if got := asked(t, r, graft()); len(got) != maxReplay {
		t.Errorf("asked for %d announcements, want %d", len(got), maxReplay)
	}
}

// Two messages of one peer are validated side by side, so that it may seem to
// announce itself once more after it has left.
func TestReplayKeepsToDepartures(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReplay([]string{testTopic})
		r.remember(testTopic, "left", "l2", &discovery.Record{Leaving: true})
		r.remember(testTopic, "left", "l1", here())
		r.OnNewOutboundStream(newcomer, "")
		if got := asked(t, r, graft()); got != nil {
			t.Errorf("asked for %v of who has left", got)
		}
		<-time.After(raceMargin)
		r.remember(testTopic, "left", "l3", here())
		r.OnNewOutboundStream("another", "")
		r.OnNewOutboundStream(newcomer, "")
		if got := asked(t, r, graft()); !slices.Equal(got, []string{"l3"}) {
			t.Errorf("asked for %v, want the announcement of who is back", got)
		}
	})
}
