package relay

import (
	"maps"
	"slices"
	"sync"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"

	"github.com/tangop2p/tango/discovery"
)

const (
	// maxReplay is how many announcements a newcomer is sent: it wants some
	// 8 neighbours, not everybody.
	maxReplay = 32
	// maxRemembered bounds the announcements remembered, all topics together.
	maxRemembered = 4096
	// replayFor is how long an announcement is worth repeating: as long as
	// the router's message cache has it.
	replayFor = historyLength * time.Second
	// promisedFor is how long what we tell of must stay in that cache: a peer
	// thinks ill of us if it asks and gets nothing within 3 s
	// (GossipSubIWantFollowupTime).
	promisedFor = 3 * time.Second
	// maxEarly is how many subscriptions are remembered of peers to which we
	// have no stream yet; of some we never will.
	maxEarly = 1024
)

// replay tells newcomers at once who is there, where they would wait for the
// others' next announcement, with js-libp2p up to 10 s. The RPC with which a
// peer subscribes to a discovery topic is completed by an IWANT for the last
// announcement of each of the others. The router answers it from its message
// cache, as if the newcomer had asked: the messages are the authors' own, with
// their signatures, and a peer that reconnects again and again is sent each at
// most GossipSubParams.GossipRetransmission times.
//
// Where no RPC of the newcomer's is at hand it is told what we have, and asks
// itself (IHAVE): when our stream to it comes up after its subscription, and
// when our heartbeat takes it into our mesh, up to a second later, of what the
// others have announced since. It need say nothing more.
//
// It is not taken into our mesh together with its subscription, by a GRAFT that
// it has not sent: one that still backs off would be pruned for a minute, and
// one that has peers enough would be in our mesh without knowing it, so that it
// would not leave.
//
// The router calls inspect and the tracer methods from its one goroutine, and
// remember from validators.
type replay struct {
	noTracer

	topics []string
	have   func(p peer.ID, topic string, messageIDs []string) // sends an IHAVE, on the router's goroutine

	mu       sync.Mutex
	last     map[announcer]announcement      // guarded by mu
	arrivals map[peer.ID]map[string]*arrival // guarded by mu: peers that we can send to
	early    map[announcer]struct{}          // guarded by mu: who has subscribed before that, most of them
}

type announcer struct {
	topic string
	peer  peer.ID
}

// announcement is a peer's last one, or with no message ID its departure.
type announcement struct {
	messageID string
	at        time.Time
}

// arrival is how far a newcomer has come on a topic.
type arrival struct {
	told time.Time // when it was told of those there, zero if not yet
	done bool      // and of those who came until it was in our mesh
}

// raceMargin is how far apart may come what belongs together: an announcement is
// remembered before the router has it in its cache, and two messages of a peer
// are validated side by side, its departure perhaps before its last announcement.
const raceMargin = time.Second

func newReplay(topics []string) *replay {
	return &replay{
		topics:   topics,
		last:     make(map[announcer]announcement),
		arrivals: make(map[peer.ID]map[string]*arrival),
		early:    make(map[announcer]struct{}),
	}
}

// remember notes a peer's last announcement, or that it has left.
func (r *replay) remember(topic string, from peer.ID, messageID string, rec *discovery.Record) {
	k := announcer{topic, from}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	last, known := r.last[k]
	switch {
	case rec.Leaving || len(rec.Addrs) == 0:
		messageID = ""
	case known && last.messageID == "" && now.Sub(last.at) < raceMargin:
		return
	}
	if !known {
		r.makeRoom(now)
	}
	r.last[k] = announcement{messageID, now}
}

func (r *replay) makeRoom(now time.Time) {
	if len(r.last) < maxRemembered {
		return
	}
	maps.DeleteFunc(r.last, func(_ announcer, a announcement) bool { return now.Sub(a.at) > replayFor })
	for k := range r.last { // any one, if all are fresh
		if len(r.last) < maxRemembered {
			return
		}
		delete(r.last, k)
	}
}

// inspect sees each RPC before the router does. It never refuses one.
func (r *replay) inspect(from peer.ID, rpc *pubsub.RPC) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.arrivals[from] == nil { // we have no stream to it: an answer would be lost
		r.noteEarly(from, rpc)
		return nil
	}
	var ids []string
	for topic, a := range r.arrivals[from] {
		switch {
		case a.done:
		case grafts(rpc, topic):
			a.done = true
			ids = append(ids, r.lastOfOthers(topic, from, a.told.Add(-raceMargin))...)
		case a.told.IsZero() && subscribes(rpc, topic):
			a.told = time.Now()
			ids = append(ids, r.lastOfOthers(topic, from, time.Time{})...)
		}
	}
	if len(ids) == 0 {
		return nil
	}
	if rpc.Control == nil {
		rpc.Control = new(pb.ControlMessage)
	}
	rpc.Control.Iwant = append(rpc.Control.Iwant, &pb.ControlIWant{MessageIDs: ids})
	return nil
}

func (r *replay) noteEarly(from peer.ID, rpc *pubsub.RPC) {
	for _, topic := range r.topics {
		if !subscribes(rpc, topic) {
			continue
		}
		for k := range r.early { // any one
			if len(r.early) < maxEarly {
				break
			}
			delete(r.early, k)
		}
		r.early[announcer{topic, from}] = struct{}{}
	}
}

func grafts(rpc *pubsub.RPC, topic string) bool {
	return slices.ContainsFunc(rpc.GetControl().GetGraft(), func(g *pb.ControlGraft) bool { return g.GetTopicID() == topic })
}

func subscribes(rpc *pubsub.RPC, topic string) bool {
	return slices.ContainsFunc(rpc.GetSubscriptions(), func(s *pb.RPC_SubOpts) bool {
		return s.GetSubscribe() && s.GetTopicid() == topic
	})
}

// lastOfOthers picks at most maxReplay announcements not older than since, in
// map order, so that newcomers spread over those who are there.
func (r *replay) lastOfOthers(topic string, newcomer peer.ID, since time.Time) []string {
	if oldest := time.Now().Add(-replayFor); since.Before(oldest) {
		since = oldest
	}
	var ids []string
	for k, a := range r.last {
		if k.topic != topic || k.peer == newcomer || a.messageID == "" || a.at.Before(since) {
			continue
		}
		if ids = append(ids, a.messageID); len(ids) == maxReplay {
			break
		}
	}
	return ids
}

// OnNewOutboundStream implements pubsub.RawTracer: from now on we can send to p.
func (r *replay) OnNewOutboundStream(p peer.ID, _ protocol.ID) {
	r.mu.Lock()
	topics := make(map[string]*arrival, len(r.topics))
	ids := make(map[string][]string)
	for _, t := range r.topics {
		topics[t] = new(arrival)
		k := announcer{t, p}
		if _, ok := r.early[k]; ok {
			delete(r.early, k)
			topics[t].told = time.Now()
			ids[t] = r.promised(t, p, time.Time{})
		}
	}
	r.arrivals[p] = topics
	r.mu.Unlock()
	for t, ids := range ids {
		r.tell(p, t, ids)
	}
}

// OnClosedOutboundStream implements pubsub.RawTracer: p has gone, nobody shall look for it.
func (r *replay) OnClosedOutboundStream(p peer.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.arrivals, p)
	for _, t := range r.topics {
		delete(r.last, announcer{t, p})
		delete(r.early, announcer{t, p})
	}
}

// Graft implements pubsub.RawTracer: p is in our mesh, by its wish, of which
// inspect has heard, or by ours.
func (r *replay) Graft(p peer.ID, topic string) {
	r.mu.Lock()
	var ids []string
	if a := r.arrivals[p][topic]; a != nil && !a.done {
		a.done = true
		ids = r.promised(topic, p, a.told.Add(-raceMargin))
	}
	r.mu.Unlock()
	r.tell(p, topic, ids)
}

// promised is lastOfOthers of those that stay in the router's cache for long enough.
func (r *replay) promised(topic string, newcomer peer.ID, since time.Time) []string {
	if oldest := time.Now().Add(promisedFor - replayFor); since.Before(oldest) {
		since = oldest
	}
	return r.lastOfOthers(topic, newcomer, since)
}

// tell is not to be called with mu held: what it sends is traced.
func (r *replay) tell(p peer.ID, topic string, ids []string) {
	if len(ids) > 0 {
		r.have(p, topic, ids)
	}
}
