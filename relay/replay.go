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
)

// replay tells newcomers at once who is there, where they would wait for the
// others' next announcement, with js-libp2p up to 10 s. The RPC with which a
// peer subscribes to a discovery topic is completed by an IWANT for the last
// announcement of each of the others. The router answers it from its message
// cache, as if the newcomer had asked: the messages are the authors' own, with
// their signatures, and a peer that reconnects again and again is sent each at
// most GossipSubParams.GossipRetransmission times.
//
// What the others announce before the newcomer is in our mesh, up to a
// heartbeat later, follows with its first RPC from there. One that says nothing
// more hears of it with their next announcement.
//
// The router calls inspect and the tracer methods from its one goroutine, and
// remember from validators.
type replay struct {
	noTracer

	topics []string

	mu       sync.Mutex
	last     map[announcer]announcement      // guarded by mu
	arrivals map[peer.ID]map[string]*arrival // guarded by mu: peers that we can send to
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
	told   time.Time // when it was told of those there, zero if not yet
	meshed bool      // it is in our mesh
	done   bool
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
	var ids []string
	for topic, a := range r.arrivals[from] { // none if we have no stream to it: an answer would be lost
		switch {
		case a.done:
		case a.meshed || grafts(rpc, topic):
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
	defer r.mu.Unlock()
	topics := make(map[string]*arrival, len(r.topics))
	for _, t := range r.topics {
		topics[t] = new(arrival)
	}
	r.arrivals[p] = topics
}

// OnClosedOutboundStream implements pubsub.RawTracer: p has gone, nobody shall look for it.
func (r *replay) OnClosedOutboundStream(p peer.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.arrivals, p)
	for _, t := range r.topics {
		delete(r.last, announcer{t, p})
	}
}

// Graft implements pubsub.RawTracer: p is in our mesh, by its wish or ours.
func (r *replay) Graft(p peer.ID, topic string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if a := r.arrivals[p][topic]; a != nil {
		a.meshed = true
	}
}
