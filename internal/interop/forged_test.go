package interop

import (
	"bytes"
	"context"
	"crypto/rand"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"google.golang.org/protobuf/encoding/protowire"
)

// TestForgedRecords: what a js-libp2p peer would believe, a record that names
// somebody else or twenty thousand addresses, never reaches it through the relay;
// an honest record sent after those does.
func TestForgedRecords(t *testing.T) {
	Need(t, Node)
	relay := StartRelay(t)
	dial := false
	witness := openPeer(t, Node, "witness")
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := witness.Start(ctx, Config{Relays: relay.Addrs, Dial: &dial}); err != nil {
		t.Fatal(err)
	}
	witness.Await(t, 10*time.Second, "learns that the relay forwards announcements", func(s State) bool {
		return slices.Contains(s.Subscribers[discoveryTopic], relay.ID)
	})
	attacker := newAttacker(t, relay)
	victim := newKey(t)
	victimID := idOf(t, victim)
	forged := [][]byte{
		record(t, victim, attacker.circuit(t, relay, victimID)),
		record(t, attacker.key, manyAddrs(t, 20_000)...),
		bytes.Repeat([]byte{0xff}, 64),
	}
	for _, data := range forged {
		attacker.publish(t, data)
	}
	attacker.publish(t, record(t, attacker.key, attacker.circuit(t, relay, attacker.id)))

	honest := attacker.id.String()
	s := witness.Await(t, 10*time.Second, "receives the honest record", func(s State) bool {
		return len(s.Received(discoveryTopic, honest)) > 0
	})
	checkOnlyHonest(t, s, relay.ID, honest)
	// The relay judges what one peer sends in order, and the witness receives in
	// order: once all have been judged no forgery is under way.
	Await(t, 10*time.Second, "the relay refuses the forged records", func(context.Context) (bool, error) {
		return refused(relay, honest, len(forged))
	})
	s, err := witness.State(ctx)
	if err != nil {
		t.Fatal(err)
	}
	checkOnlyHonest(t, s, relay.ID, honest)
}

func refused(relay *Relay, from string, want int) (bool, error) {
	trace, err := relay.Trace()
	if err != nil {
		return false, err
	}
	n := 0
	for _, r := range trace.Rejected {
		if r.From == from {
			n++
		}
	}
	return n >= want, fmt.Errorf("%d of %d refused: %+v", n, want, trace.Rejected)
}

// checkOnlyHonest fails unless the peer has received one record of the attacker and
// has discovered it and nobody else, besides the relay that it dialled.
func checkOnlyHonest(t *testing.T, s State, relayID, honest string) {
	t.Helper()
	if got := s.Received(discoveryTopic, honest); len(got) != 1 {
		t.Errorf("received %d messages of the attacker, want the honest one only: %+v", len(got), got)
	}
	var found []string
	for _, d := range s.Discovered {
		if d.Peer != relayID {
			found = append(found, d.Peer)
		}
		if len(d.Addresses) > 10 {
			t.Errorf("%s was discovered with %d addresses", d.Peer, len(d.Addresses))
		}
	}
	if !slices.Equal(found, []string{honest}) {
		t.Errorf("discovered %v, want only %s", found, honest)
	}
}

// attacker is a plain go-libp2p host, with none of tango's code, that says on the
// discovery topic what it likes.
type attacker struct {
	key   crypto.PrivKey
	id    peer.ID
	topic *pubsub.Topic
}

func newAttacker(t *testing.T, relay *Relay) *attacker {
	t.Helper()
	a := &attacker{key: newKey(t)}
	a.id = idOf(t, a.key)
	h, err := libp2p.New(libp2p.Identity(a.key), libp2p.NoListenAddrs)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	t.Cleanup(func() {
		cancel()
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	router, err := pubsub.NewGossipSub(ctx, h, pubsub.WithMessageIdFn(jsMessageID(t)))
	if err != nil {
		t.Fatal(err)
	}
	if a.topic, err = router.Join(discoveryTopic); err != nil {
		t.Fatal(err)
	}
	connect(t, h, relay)
	Await(t, 10*time.Second, "the attacker learns that the relay forwards announcements", func(context.Context) (bool, error) {
		return slices.Contains(a.topic.ListPeers(), mustID(t, relay.ID)), nil
	})
	return a
}

func connect(t *testing.T, h host.Host, relay *Relay) {
	t.Helper()
	info, err := peer.AddrInfoFromString(relay.Addrs[0])
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Connect(t.Context(), *info); err != nil {
		t.Fatal(err)
	}
}

func (a *attacker) publish(t *testing.T, data []byte) {
	t.Helper()
	if err := a.topic.Publish(t.Context(), data); err != nil {
		t.Fatal(err)
	}
}

// circuit is the address at which a browser with that id would be dialled.
func (a *attacker) circuit(t *testing.T, relay *Relay, id peer.ID) ma.Multiaddr {
	t.Helper()
	addr, err := ma.NewMultiaddr(relay.Addrs[0] + "/p2p-circuit/webrtc/p2p/" + id.String())
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// jsMessageID is js-libp2p's: the author's public key as a protobuf, and the
// sequence number. It is written down here once more, not taken from tango.
func jsMessageID(t *testing.T) pubsub.MsgIdFunction {
	return func(m *pb.Message) string {
		key, err := peer.ID(m.GetFrom()).ExtractPublicKey()
		if err != nil {
			t.Errorf("message from %q: %v", m.GetFrom(), err)
			return ""
		}
		encoded, err := crypto.MarshalPublicKey(key)
		if err != nil {
			t.Error(err)
		}
		return string(encoded) + string(m.GetSeqno())
	}
}

// record encodes what pubsubPeerDiscovery sends: field 1 is the public key, field
// 2, repeated, the addresses.
func record(t *testing.T, key crypto.PrivKey, addrs ...ma.Multiaddr) []byte {
	t.Helper()
	encoded, err := crypto.MarshalPublicKey(key.GetPublic())
	if err != nil {
		t.Fatal(err)
	}
	out := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), encoded)
	for _, addr := range addrs {
		out = protowire.AppendBytes(protowire.AppendTag(out, 2, protowire.BytesType), addr.Bytes())
	}
	return out
}

func manyAddrs(t *testing.T, n int) []ma.Multiaddr {
	t.Helper()
	addrs := make([]ma.Multiaddr, n)
	for i := range addrs {
		addr, err := ma.NewMultiaddr(fmt.Sprintf("/ip4/203.0.113.%d/tcp/%d", i%250+1, i+1))
		if err != nil {
			t.Fatal(err)
		}
		addrs[i] = addr
	}
	return addrs
}

func newKey(t *testing.T) crypto.PrivKey {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func idOf(t *testing.T, key crypto.PrivKey) peer.ID {
	t.Helper()
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func mustID(t *testing.T, id string) peer.ID {
	t.Helper()
	decoded, err := peer.Decode(id)
	if err != nil {
		t.Fatal(err)
	}
	return decoded
}
