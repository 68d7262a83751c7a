package main

import (
	"context"
	"errors"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/tangop2p/tango/internal/interop"
	"github.com/tangop2p/tango/internal/interop/exercise"
	"github.com/tangop2p/tango/reservation"
	"github.com/tangop2p/tango/webrtc"
)

// node is what the peer under test is made of. All that the tests know of
// tango's own interface is in newNode.
type node struct {
	host.Host
	// connect returns once there is a direct connection.
	connect func(context.Context, peer.ID, []ma.Multiaddr) error
	// explain says how it came to the connection that there is, or to none.
	explain func(peer.ID) string
	close   func() error
}

// newNode starts a node that listens at its relays only, so that nothing but
// /webrtc can make a connection direct, and returns once each has granted its
// reservation.
func newNode(ctx context.Context, config interop.Config) (*node, error) {
	relays, circuits, err := parseRelays(config.Relays)
	if err != nil {
		return nil, err
	}
	resources, err := newResources()
	if err != nil {
		return nil, err
	}
	h, err := libp2p.New(libp2p.Transport(websocket.New), libp2p.NoListenAddrs, libp2p.EnableRelay(), libp2p.ResourceManager(resources),
		libp2p.AddrsFactory(func([]ma.Multiaddr) []ma.Multiaddr { return webrtc.Advertise(circuits) }))
	if err != nil {
		return nil, err
	}
	transport, err := webrtc.New(h, webrtc.WithICEServers(iceServers(config.ICEServers)...))
	if err != nil {
		return nil, errors.Join(err, h.Close())
	}
	n := &node{
		Host:    h,
		explain: func(p peer.ID) string { return transport.Explain(p).String() },
		close:   func() error { return errors.Join(transport.Close(), h.Close()) },
		connect: func(ctx context.Context, p peer.ID, addrs []ma.Multiaddr) error {
			_, err := transport.Connect(ctx, p, addrs...)
			return err
		},
	}
	keeper, err := reservation.New(h, relays)
	if err != nil {
		return nil, errors.Join(err, n.close())
	}
	n.close = func() error { return errors.Join(keeper.Close(), transport.Close(), h.Close()) }
	if err := keeper.Wait(ctx); err != nil {
		return nil, errors.Join(err, n.close())
	}
	return n, nil
}

func parseRelays(addrs []string) (relays []peer.AddrInfo, circuits []ma.Multiaddr, err error) {
	for _, addr := range addrs {
		info, err := peer.AddrInfoFromString(addr)
		if err != nil {
			return nil, nil, err
		}
		circuit, err := ma.NewMultiaddr(addr + "/p2p-circuit")
		if err != nil {
			return nil, nil, err
		}
		relays, circuits = append(relays, *info), append(circuits, circuit)
	}
	return relays, circuits, nil
}

func iceServers(urls []string) []webrtc.ICEServer {
	var servers []webrtc.ICEServer
	for _, url := range urls {
		servers = append(servers, webrtc.ICEServer{URLs: []string{url}})
	}
	return servers
}

func newResources() (network.ResourceManager, error) {
	limits := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&limits)
	exercise.Limits(&limits)
	return rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(limits.AutoScale()), webrtc.ResourceManagerOptions(webrtc.DefaultPerRelay)...)
}
