package webrtc_test

import (
	"context"
	"errors"
	"fmt"
	"log"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/tangop2p/tango/webrtc"
)

// A service that makes its libp2p host itself adds /webrtc with one line.
func ExampleNew() {
	relayInfo, closeRelay := exampleRelay()
	defer closeRelay()

	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"))
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = h.Close() }()
	_, err = webrtc.New(h) // the line
	if err != nil {
		log.Fatal(err)
	}
	// AutoRelay does this, or package reservation.
	if _, err := client.Reserve(context.Background(), h, relayInfo); err != nil {
		log.Fatal(err)
	}
	fmt.Println(dialIt(relayInfo, h.ID()))
	// Output: direct
}

// dialIt is the other side, which knows the relay and the peer's ID.
func dialIt(relayInfo peer.AddrInfo, p peer.ID) webrtc.PathKind {
	h, err := libp2p.New(libp2p.NoListenAddrs, libp2p.EnableRelay())
	if err != nil {
		log.Fatal(err)
	}
	defer func() { _ = h.Close() }()
	w, err := webrtc.New(h)
	if err != nil {
		log.Fatal(err)
	}
	addr := ma.StringCast(fmt.Sprintf("%s/p2p/%s/p2p-circuit/webrtc", relayInfo.Addrs[0], relayInfo.ID))
	path, err := w.Connect(context.Background(), p, addr)
	if failed, ok := errors.AsType[*webrtc.ConnectError](err); ok {
		fmt.Println(failed.Stage, failed.Hint) // why it is not direct
	}
	return path.Kind
}

func exampleRelay() (peer.AddrInfo, func()) {
	h, err := libp2p.New(libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"))
	if err != nil {
		log.Fatal(err)
	}
	r, err := relay.New(h)
	if err != nil {
		log.Fatal(err)
	}
	return peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()}, func() { _, _ = r.Close(), h.Close() }
}
