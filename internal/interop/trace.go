package interop

import (
	"bufio"
	"bytes"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"

	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Trace is what the relay's pubsub has recorded (flag -trace, one JSON object a
// line). Message ids are in base64 without padding, the form that js-libp2p uses.
type Trace struct {
	Delivered map[string]map[string]bool // ids by topic
	Known     map[string]bool            // ids of all messages that the relay has seen, also rejected ones
	Rejected  []Rejection
	Named     map[string][]Mention // ids in control messages that peers sent to the relay
	// Before has the ids that the relay knew, by peer, when it both had a stream to
	// the peer and had heard what it subscribes to: no earlier could it send it any.
	Before map[string]map[string]bool
	heard  map[string]bool // who has subscribed to something
}

// Rejection is a message that a validator refused.
type Rejection struct {
	From   string // the neighbour that brought it
	Topic  string
	Reason string
}

// Mention says who named a message id, and in which control message.
type Mention struct {
	From string
	In   string
}

// Trace reads what the relay has traced so far.
func (r *Relay) Trace() (*Trace, error) {
	f, err := os.Open(r.trace)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	return readTrace(f)
}

func readTrace(r io.Reader) (*Trace, error) {
	t := &Trace{
		Delivered: map[string]map[string]bool{}, Known: map[string]bool{}, Named: map[string][]Mention{},
		Before: map[string]map[string]bool{}, heard: map[string]bool{},
	}
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return t, nil // a last line without its end is still being written
		}
		if err != nil {
			return nil, err
		}
		var event pb.TraceEvent
		if err := json.Unmarshal(bytes.TrimSpace(line), &event); err != nil {
			return nil, fmt.Errorf("trace: %w in %q", err, line)
		}
		t.add(&event)
	}
}

func (t *Trace) add(event *pb.TraceEvent) {
	if m := event.PublishMessage; m != nil {
		t.Known[traceID(m.GetMessageID())] = true
	}
	if m := event.DuplicateMessage; m != nil {
		t.Known[traceID(m.GetMessageID())] = true
	}
	if m := event.RejectMessage; m != nil {
		t.Known[traceID(m.GetMessageID())] = true
		t.Rejected = append(t.Rejected, Rejection{From: tracePeer(m.GetReceivedFrom()), Topic: m.GetTopic(), Reason: m.GetReason()})
	}
	if m := event.DeliverMessage; m != nil {
		t.Known[traceID(m.GetMessageID())] = true
		if t.Delivered[m.GetTopic()] == nil {
			t.Delivered[m.GetTopic()] = map[string]bool{}
		}
		t.Delivered[m.GetTopic()][traceID(m.GetMessageID())] = true
	}
	if m := event.OnNewOutboundStream; m != nil {
		t.Before[tracePeer(m.GetPeerID())] = maps.Clone(t.Known)
	}
	if m := event.RecvRPC; m != nil {
		from := tracePeer(m.GetReceivedFrom())
		if len(m.GetMeta().GetSubscription()) > 0 && !t.heard[from] {
			t.heard[from] = true
			t.Before[from] = maps.Clone(t.Known)
		}
		t.addControl(from, m.GetMeta().GetControl())
	}
}

func (t *Trace) addControl(from string, control *pb.TraceEvent_ControlMeta) {
	name := func(in string, ids [][]byte) {
		for _, id := range ids {
			t.Named[traceID(id)] = append(t.Named[traceID(id)], Mention{From: from, In: in})
		}
	}
	for _, m := range control.GetIhave() {
		name("IHAVE", m.GetMessageIDs())
	}
	for _, m := range control.GetIwant() {
		name("IWANT", m.GetMessageIDs())
	}
	for _, m := range control.GetIdontwant() {
		name("IDONTWANT", m.GetMessageIDs())
	}
}

// Unknown returns the ids that peers named and the relay never saw a message of.
func (t *Trace) Unknown() map[string][]Mention {
	unknown := map[string][]Mention{}
	for id, mentions := range t.Named {
		if !t.Known[id] {
			unknown[id] = mentions
		}
	}
	return unknown
}

func traceID(id []byte) string { return base64.RawStdEncoding.EncodeToString(id) }

func tracePeer(id []byte) string { return peer.ID(id).String() }
