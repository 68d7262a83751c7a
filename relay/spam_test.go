package relay_test

import (
	"crypto/rand"
	"encoding/binary"
	"io"
	"slices"
	"testing"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/proto"

	"github.com/tangop2p/tango/discovery"
	"github.com/tangop2p/tango/relay"
)

// announcement is the n-th of an author.
func announcement(t *testing.T, author crypto.PrivKey, n int) *pb.Message {
	t.Helper()
	at := ma.StringCast("/ip4/192.0.2.1/tcp/4001/ws")
	data, err := (&discovery.Record{Key: author.GetPublic(), Addrs: []ma.Multiaddr{at}}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return signed(t, author, n, data)
}

// signed is the n-th message of an author.
func signed(t *testing.T, author crypto.PrivKey, n int, data []byte) *pb.Message {
	t.Helper()
	id, err := peer.IDFromPrivateKey(author)
	if err != nil {
		t.Fatal(err)
	}
	on := topic
	m := &pb.Message{From: []byte(id), Data: data, Seqno: binary.BigEndian.AppendUint64(nil, uint64(n)), Topic: &on}
	b, err := proto.Marshal(m)
	if err != nil {
		t.Fatal(err)
	}
	if m.Signature, err = author.Sign(append([]byte(pubsub.SignPrefix), b...)); err != nil {
		t.Fatal(err)
	}
	return m
}

// gossip opens GossipSub's stream as a peer that has no router.
func gossip(t *testing.T, h, rh host.Host) network.Stream {
	t.Helper()
	h.SetStreamHandler(pubsub.GossipSubID_v11, func(s network.Stream) { _, _ = io.Copy(io.Discard, s) })
	connect(t, h, rh)
	s, err := h.NewStream(t.Context(), rh.ID(), pubsub.GossipSubID_v11)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// TestSpammers: the relay hangs up on who announces itself all the time, and on who
// passes on what nobody has signed, but not on who passes on what many say.
func TestSpammers(t *testing.T) {
	own := func(t *testing.T, h host.Host) func(n int) *pb.Message {
		t.Helper()
		key := h.Peerstore().PrivKey(h.ID())
		return func(n int) *pb.Message { return announcement(t, key, n) }
	}
	tests := map[string]struct {
		say    func(t *testing.T, h host.Host) func(n int) *pb.Message
		n      int
		hungUp bool
		reason string // that is counted
	}{
		"announces itself all the time": {own, 500, true, "rate"},
		"announces itself sometimes":    {own, 16, false, ""},
		"passes on what others say": {func(t *testing.T, _ host.Host) func(int) *pb.Message {
			t.Helper()
			return func(n int) *pb.Message {
				key, _, err := crypto.GenerateEd25519Key(rand.Reader)
				if err != nil {
					t.Fatal(err)
				}
				return announcement(t, key, n)
			}
		}, 500, false, "rate"},
		"forges signatures": {func(t *testing.T, h host.Host) func(int) *pb.Message {
			t.Helper()
			say := own(t, h)
			return func(n int) *pb.Message {
				m := say(n)
				m.Signature[0] ^= 1
				return m
			}
		}, 20, true, "signature"},
		"does not sign": {func(t *testing.T, h host.Host) func(int) *pb.Message {
			t.Helper()
			say := own(t, h)
			return func(n int) *pb.Message {
				m := say(n)
				m.Signature = nil
				return m
			}
		}, 20, false, "signature"},
		"is not understood": {func(t *testing.T, h host.Host) func(int) *pb.Message {
			t.Helper()
			key := h.Peerstore().PrivKey(h.ID())
			return func(n int) *pb.Message { return signed(t, key, n, []byte{0xff}) }
		}, 20, false, "record"},
	}
	for name, c := range tests {
		t.Run(name, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			r, rh := newRelay(t, relay.WithRegisterer(reg))
			h, other := newHost(t), newHost(t)
			say, said := c.say(t, h), make([]*pb.Message, c.n)
			for n := range said { // beforehand: to sign them may take longer than their pace allows
				said[n] = say(n)
			}
			s := gossip(t, h, rh)
			for _, m := range said {
				if _, err := protodelim.MarshalTo(s, &pb.RPC{Publish: []*pb.Message{m}}); err != nil {
					break // hung up
				}
			}
			const dropped = "libp2p_relaysvc_announcements_dropped_total"
			if c.reason != "" {
				waitFor(t, func() bool { return metric(t, reg, dropped, c.reason) > 0 })
			}
			if c.hungUp {
				waitFor(t, func() bool { return h.Network().Connectedness(rh.ID()) != network.Connected })
				reserve(t, other, rh)
				return
			}
			on, yes := topic, true // what was said before is read once this is known
			if _, err := protodelim.MarshalTo(s, &pb.RPC{Subscriptions: []*pb.RPC_SubOpts{{Topicid: &on, Subscribe: &yes}}}); err != nil {
				t.Fatal(err)
			}
			waitFor(t, func() bool { return slices.Contains(r.PubSub().ListPeers(topic), h.ID()) })
			if _, err := client.Reserve(network.WithNoDial(t.Context(), "test"), h, info(rh)); err != nil {
				t.Error(err)
			}
		})
	}
}
