package interop

import (
	"slices"
	"strings"
	"time"
)

// State is what a peer knows; the fields are those of State in js/peer.ts.
type State struct {
	Peer        string              `json:"peer"`
	Addresses   []string            `json:"addresses"`
	Connections []Connection        `json:"connections"`
	Discovered  []Discovery         `json:"discovered"`
	Dials       []Dial              `json:"dials"`
	Messages    []Message           `json:"messages"`
	Subscribers map[string][]string `json:"subscribers"`
	Marks       Marks               `json:"marks"`
	Events      []Event             `json:"events"`
}

// Stamp is a time as the peers tell it, in milliseconds since the Unix epoch.
type Stamp float64

// Time converts the stamp.
func (s Stamp) Time() time.Time { return time.UnixMicro(int64(s * 1000)) }

// Sub returns the time from o to s.
func (s Stamp) Sub(o Stamp) time.Duration {
	return time.Duration(float64(s-o) * float64(time.Millisecond))
}

// Connection is one open connection.
type Connection struct {
	ID         string   `json:"id"`
	Peer       string   `json:"peer"`
	Address    string   `json:"address"`
	Direction  string   `json:"direction"`
	Status     string   `json:"status"`
	Limited    bool     `json:"limited"`
	Identified bool     `json:"identified"`
	OpenedAt   Stamp    `json:"openedAt"`
	Streams    []string `json:"streams"`
}

// Direct says whether the connection is a WebRTC one with no relay in its path.
func (c Connection) Direct() bool {
	return c.Status == "open" && !c.Limited && strings.Contains(c.Address, "/webrtc/")
}

// Discovery is one peer:discovery event.
type Discovery struct {
	Peer      string   `json:"peer"`
	Addresses []string `json:"addresses"`
	At        Stamp    `json:"at"`
}

// Dial is one attempt to connect; EndedAt is 0 while it runs.
type Dial struct {
	Peer      string `json:"peer"`
	StartedAt Stamp  `json:"startedAt"`
	EndedAt   Stamp  `json:"endedAt"`
	Error     string `json:"error"`
}

// Message is a pubsub message that the peer received.
type Message struct {
	ID    string `json:"id"` // as js-libp2p computed it, base64 without padding
	Topic string `json:"topic"`
	From  string `json:"from"`
	Via   string `json:"via"` // the neighbour that was first to bring it
	Size  int    `json:"size"`
	Text  string `json:"text"`
	At    Stamp  `json:"at"`
}

// Marks are milliseconds since the page began to load; 0 means not yet.
type Marks struct {
	Script     float64 `json:"script"`
	Relay      float64 `json:"relay"`
	Reserved   float64 `json:"reserved"`
	Discovered float64 `json:"discovered"`
	Dialled    float64 `json:"dialled"`
	Direct     float64 `json:"direct"`
}

// Event is an entry of the peer's log.
type Event struct {
	At     Stamp  `json:"at"`
	Kind   string `json:"kind"`
	Detail string `json:"detail"`
}

// Has says whether there is an open connection to the peer with that id.
func (s State) Has(id string) bool {
	return slices.ContainsFunc(s.Connections, func(c Connection) bool {
		return c.Peer == id && c.Status == "open"
	})
}

// WebRTC returns the peer's own addresses at which it is dialled through a relay.
func (s State) WebRTC() []string {
	return slices.DeleteFunc(slices.Clone(s.Addresses), func(a string) bool { return !strings.Contains(a, "/p2p-circuit/webrtc") })
}

// To returns the connections to a peer.
func (s State) To(id string) []Connection {
	return slices.DeleteFunc(slices.Clone(s.Connections), func(c Connection) bool { return c.Peer != id })
}

// Direct returns the direct connection to a peer. Both sides may dial at the same
// time, and then there are two: the identified one counts, if any.
func (s State) Direct(id string) (Connection, bool) {
	var found Connection
	for _, c := range s.Connections {
		if c.Peer == id && c.Direct() && (found.ID == "" || c.Identified) {
			found = c
		}
	}
	return found, found.ID != ""
}

// Gossips says whether GossipSub runs on a direct connection to a peer.
func (s State) Gossips(id string) bool {
	return slices.ContainsFunc(s.Connections, func(c Connection) bool {
		return c.Peer == id && c.Direct() && slices.ContainsFunc(c.Streams, func(protocol string) bool {
			return strings.HasPrefix(protocol, "/meshsub/")
		})
	})
}

// Discovery returns the first announcement of a peer.
func (s State) Discovery(id string) (Discovery, bool) {
	i := slices.IndexFunc(s.Discovered, func(d Discovery) bool { return d.Peer == id })
	if i < 0 {
		return Discovery{}, false
	}
	return s.Discovered[i], true
}

// LastDial returns the last attempt to connect to a peer.
func (s State) LastDial(id string) (Dial, bool) {
	for _, d := range slices.Backward(s.Dials) {
		if d.Peer == id {
			return d, true
		}
	}
	return Dial{}, false
}

// Received returns the messages of a topic that came from a peer.
func (s State) Received(topic, from string) []Message {
	var messages []Message
	for _, m := range s.Messages {
		if m.Topic == topic && m.From == from {
			messages = append(messages, m)
		}
	}
	return messages
}

// Reached says whether a text from a peer has arrived.
func (s State) Reached(topic, from, text string) bool {
	return slices.ContainsFunc(s.Messages, func(m Message) bool {
		return m.Topic == topic && m.From == from && m.Text == text
	})
}
