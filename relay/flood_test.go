package relay_test

import (
	"crypto/rand"
	"errors"
	"io"
	"testing"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
)

// TestFlooderIsHungUpOn: who asks all the time is refused with a status first, and
// then the relay closes the connection. Others do not notice.
func TestFlooderIsHungUpOn(t *testing.T) {
	_, rh := newRelay(t)
	flooder, other := newHost(t), newHost(t)
	connect(t, flooder, rh)
	reserve(t, other, rh)
	refused := 0
	for i := 0; i < 1000 && flooder.Network().Connectedness(rh.ID()) == network.Connected; i++ {
		_, err := client.Reserve(network.WithNoDial(t.Context(), "test"), flooder, peer.AddrInfo{ID: rh.ID()})
		if e, ok := errors.AsType[client.ReservationError](err); ok && e.Status == pbv2.Status_RESOURCE_LIMIT_EXCEEDED {
			refused++
		}
	}
	if refused == 0 {
		t.Error("nothing was refused with a status")
	}
	waitFor(t, func() bool { return flooder.Network().Connectedness(rh.ID()) != network.Connected })
	reserve(t, other, rh)
}

// TestHangsUpOnTheConnectionOfTheFlood: what was said over one connection does not
// cost the peer another, as that by which it is back.
func TestHangsUpOnTheConnectionOfTheFlood(t *testing.T) {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r, rh := newRelay(t)
	flooder, back := newHost(t, libp2p.Identity(key)), newHost(t, libp2p.Identity(key))
	connect(t, flooder, rh)
	connect(t, back, rh)
	for range 100 {
		s, err := flooder.NewStream(network.WithNoDial(t.Context(), "test"), rh.ID(), proto.ProtoIDv2Hop)
		if err != nil {
			break // hung up
		}
		_, _ = s.Write([]byte{0x81, 0x20}) // too long a message
		_, _ = io.ReadAll(s)
	}
	waitFor(t, func() bool { return flooder.Network().Connectedness(rh.ID()) != network.Connected })
	if err := r.Close(); err != nil { // waits until it has hung up
		t.Fatal(err)
	}
	if n := len(rh.Network().ConnsToPeer(back.ID())); n != 1 {
		t.Errorf("%d connections are left, want 1", n)
	}
}
