package reservation_test

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/peer"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"

	"github.com/tangop2p/tango/reservation"
)

// A node without a reachable address of its own holds a reservation, and others
// reach it through the relay.
func ExampleNew() {
	server, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0/ws"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = server.Close() }()
	service, err := relayv2.New(server)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = service.Close() }()

	node, err := libp2p.New(libp2p.NoListenAddrs, libp2p.EnableRelay())
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = node.Close() }()
	keeper, err := reservation.New(node, []peer.AddrInfo{{ID: server.ID(), Addrs: server.Addrs()}})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer func() { _ = keeper.Close() }()

	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := keeper.Wait(ctx); err != nil {
		fmt.Println(err)
		return
	}
	for _, r := range keeper.Reservations() {
		fmt.Println(r.State, "with circuits of up to", r.LimitDuration)
	}
	fmt.Println(strings.ReplaceAll(keeper.Addrs()[0].String(), server.ID().String(), "<relay>")[len("/ip4/127.0.0.1/tcp/12345"):])
	// Output:
	// reserved with circuits of up to 2m0s
	// /ws/p2p/<relay>/p2p-circuit
}
