package relay_test

import (
	"errors"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
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
