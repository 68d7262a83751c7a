package relay

import (
	"maps"
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
// others' next announcement, with js-libp2p up to 10 s. The first RPC that a
// peer sends after it has joined our mesh of a discovery topic is completed by
// an IWANT for the last announcement of each of the others. The router answers
// it from its message cache, as if the newcomer had asked: the messages are
// the authors' own, with their signatures, and a peer that reconnects again
// and again is sent each at most GossipSubParams.GossipRetransmission times.
//
// The router calls inspect and the tracer methods from its one goroutine, and
// remember from validators.
type replay struct {
	noTracer

	topics []string

	mu     sync.Mutex
	last   map[announcer]announcement       // guarded by mu
	meshed map[peer.ID]map[string]meshState // guarded by mu: peers that we can send to
}

type announcer struct {
	topic string
	peer  peer.ID
}

type announcement struct {
	messageID string
	at        time.Time
}

type meshState int

const (
	joined meshState = iota + 1
	served
)

func newReplay(topics []string) *replay {
	return &replay{
		topics: topics,
		last:   make(map[announcer]announcement),
		meshed: make(map[peer.ID]map[string]meshState),
	}
}

// remember notes a peer's last announcement; a peer that leaves is forgotten.
func (r *replay) remember(topic string, from peer.ID, messageID string, rec *discovery.Record) {
	k := announcer{topic, from}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	if rec.Leaving || len(rec.Addrs) == 0 {
		delete(r.last, k)
		return
	}
	if _, known := r.last[k]; !known {
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
	topics := r.meshed[from]
	if topics == nil {
		return nil // no stream to it yet: an answer would be lost
	}
	var ids []string
	for _, t := range r.topics {
		if topics[t] == joined || topics[t] == 0 && grafts(rpc, t) {
			topics[t] = served
			ids = append(ids, r.lastOfOthers(t, from)...)
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
	for _, g := range rpc.GetControl().GetGraft() {
		if g.GetTopicID() == topic {
			return true
		}
	}
	return false
}

// lastOfOthers picks at most maxReplay announcements, in map order, so that
// newcomers spread over those who are there.
func (r *replay) lastOfOthers(topic string, newcomer peer.ID) []string {
	now := time.Now()
	var ids []string
	for k, a := range r.last {
		if k.topic != topic || k.peer == newcomer || now.Sub(a.at) > replayFor {
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
	r.meshed[p] = make(map[string]meshState)
}

// OnClosedOutboundStream implements pubsub.RawTracer: p has gone, nobody shall look for it.
func (r *replay) OnClosedOutboundStream(p peer.ID) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.meshed, p)
	for _, t := range r.topics {
		delete(r.last, announcer{t, p})
	}
}

// Graft implements pubsub.RawTracer: p is in our mesh, by its wish or ours.
func (r *replay) Graft(p peer.ID, topic string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if topics := r.meshed[p]; topics != nil && topics[topic] == 0 {
		topics[topic] = joined
	}
}
