package tango

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/libp2p/go-libp2p"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	quic "github.com/libp2p/go-libp2p/p2p/transport/quic"
	webrtcdirect "github.com/libp2p/go-libp2p/p2p/transport/webrtc"
	webtransport "github.com/libp2p/go-libp2p/p2p/transport/webtransport"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/tangop2p/tango/discovery"
	"github.com/tangop2p/tango/front"
	"github.com/tangop2p/tango/identity"
	"github.com/tangop2p/tango/internal/undo"
	"github.com/tangop2p/tango/relay"
	"github.com/tangop2p/tango/reservation"
	"github.com/tangop2p/tango/webrtc"
)

// Node is a libp2p host with the blocks that its options asked for. It is safe
// for concurrent use.
type Node struct {
	front     *front.Front
	host      host.Host
	pubsub    *pubsub.PubSub
	relay     *relay.Relay
	discovery *discovery.Service
	webrtc    *webrtc.Transport
	keeper    atomic.Pointer[reservation.Keeper] // asked for addresses by the host, which is made before it

	undo      undo.Stack
	closeOnce sync.Once
	closeErr  error
}

// New makes a node from the options and starts it. Nothing is acquired before
// all options are found valid, and nothing is left when it fails.
func New(opts ...Option) (*Node, error) {
	cfg, err := newConfig(opts)
	if err != nil {
		return nil, fmt.Errorf("tango: %w", err)
	}
	n := &Node{}
	if err := n.start(cfg); err != nil {
		return nil, fmt.Errorf("tango: %w", errors.Join(err, n.Close()))
	}
	return n, nil
}

func (n *Node) start(cfg *config) (err error) {
	gater, err := n.startHost(cfg)
	if err != nil {
		return fmt.Errorf("start host: %w", err)
	}
	if err := listen(n.host, cfg.listen); err != nil {
		return err
	}
	if err := n.startWebRTC(cfg, gater); err != nil {
		return err
	}
	if err := n.startPubSub(cfg); err != nil {
		return err
	}
	if err := n.startDiscovery(cfg); err != nil {
		return err
	}
	return n.reserve(cfg)
}

// startWebRTC puts the user's options last, so that they win.
func (n *Node) startWebRTC(cfg *config, gater connmgr.ConnectionGater) (err error) {
	opts := []webrtc.Option{webrtc.WithConnectionGater(gater), webrtc.WithRegisterer(cfg.registerer)}
	if cfg.relays != nil {
		servers, err := newSTUNServers(n.host, cfg.relays.infos, n.reservations)
		if err != nil {
			return err
		}
		n.undo.Add(servers.close)
		opts = append(opts, webrtc.WithICEServersFunc(servers.list))
	}
	if n.webrtc, err = webrtc.New(n.host, append(opts, cfg.webrtc...)...); err != nil {
		return err
	}
	n.undo.Add(n.webrtc.Close)
	return nil
}

// reservations says how relays stand, none before the Keeper is there.
func (n *Node) reservations() []reservation.Reservation {
	if keeper := n.keeper.Load(); keeper != nil {
		return keeper.Reservations()
	}
	return nil
}

// reserve comes last: a node that can be reached has to be ready.
func (n *Node) reserve(cfg *config) error {
	if cfg.relays == nil {
		return nil
	}
	opts := append([]reservation.Option{reservation.WithRegisterer(cfg.registerer)}, cfg.relays.opts...)
	keeper, err := reservation.New(n.host, cfg.relays.infos, opts...)
	if err != nil {
		return err
	}
	n.undo.Add(keeper.Close)
	n.keeper.Store(keeper)
	return nil
}

func (n *Node) startDiscovery(cfg *config) (err error) {
	if cfg.discovery == nil {
		return nil
	}
	opts := append([]discovery.Option{discovery.WithRegisterer(cfg.registerer)}, *cfg.discovery...)
	if n.relay != nil {
		opts = append(opts, discovery.WithJoined(n.relay.Topics()...))
	}
	if n.discovery, err = discovery.New(n.host, n.pubsub, opts...); err != nil {
		return err
	}
	n.undo.Add(n.discovery.Close)
	return nil
}

// startPubSub starts the relay with its router, or a router alone.
func (n *Node) startPubSub(cfg *config) (err error) {
	if cfg.relay != nil {
		opts := append([]relay.Option{relay.WithRegisterer(cfg.registerer)}, cfg.relay.opts...)
		opts = append(opts, relay.WithPubSubOptions(cfg.pubsub...))
		if n.relay, err = relay.New(relayHost{n.host}, opts...); err != nil {
			return err
		}
		n.undo.Add(n.relay.Close)
		n.undo.AddFunc(n.closeIdentify)
		n.pubsub = n.relay.PubSub()
	}
	if n.pubsub != nil {
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	n.undo.AddFunc(cancel)
	if n.pubsub, err = pubsub.NewGossipSub(ctx, n.host, append(discovery.LeafOptions(), cfg.pubsub...)...); err != nil {
		return fmt.Errorf("start GossipSub: %w", err)
	}
	return nil
}

// relayHost does not tell peers what the relay no longer serves when it ends, be it
// before its host by Shutdown. A browser that hears that this is no relay any more,
// moments before its connection ends, does not dial it again. On a node that goes on
// without its relay they are told with the next change of what it serves.
type relayHost struct{ host.Host }

func (h relayHost) RemoveStreamHandler(id protocol.ID) { h.Mux().RemoveHandler(id) }

// closeIdentify comes before the end of all that would have the host tell the same.
func (n *Node) closeIdentify() {
	if h, ok := n.host.(interface{ IDService() identify.IDService }); ok {
		_ = h.IDService().Close() // returns no error; the host closes it once more
	}
}

// startHost returns the host's connection gater, which the host keeps to itself.
func (n *Node) startHost(cfg *config) (gater connmgr.ConnectionGater, err error) {
	if cfg.identity == nil {
		if cfg.identity, err = identity.Ephemeral(); err != nil {
			return nil, err
		}
	}
	if n.front, err = front.New(append([]front.Option{front.WithRegisterer(cfg.registerer)}, cfg.front...)...); err != nil {
		return nil, err
	}
	n.undo.Add(n.front.Close)
	opts := []libp2p.Option{
		libp2p.Identity(cfg.identity.PrivKey()),
		libp2p.UserAgent("tango"),
		cfg.metrics(),
		libp2p.Transport(n.front.TCP),
		libp2p.Transport(n.front.WebSocket),
		libp2p.Transport(quic.NewTransport),
		libp2p.Transport(webtransport.New),
		libp2p.Transport(webrtcdirect.New),
		libp2p.EnableRelay(), // which NoListenAddrs would turn off
		libp2p.NoListenAddrs, // see listen
		libp2p.AddrsFactory(n.addrs(cfg.announce)),
	}
	resources, conns := cfg.resources, cfg.conns // as given
	if err := cfg.size(); err != nil {
		return nil, err
	}
	opts = append(opts, libp2p.ResourceManager(cfg.resources))
	if cfg.conns != nil {
		opts = append(opts, libp2p.ConnectionManager(cfg.conns))
	}
	opts = append(opts, cfg.host...)
	opts = append(opts, func(c *libp2p.Config) error {
		if c.PSK != nil {
			return errors.New("a private network (libp2p.PrivateNetwork) has no WebRTC: its key does not protect it")
		}
		gater = c.ConnectionGater
		return nil
	})
	if n.host, err = libp2p.New(opts...); err != nil {
		if resources == nil {
			err = errors.Join(err, cfg.resources.Close())
		}
		if conns == nil && cfg.conns != nil {
			err = errors.Join(err, cfg.conns.Close())
		}
		return nil, err
	}
	n.undo.Add(n.host.Close)
	return gater, nil
}

// addrs tells others what is announced, or listened on (by the certificate's
// names where there is one), and the addresses at the relays, each for /webrtc too.
func (n *Node) addrs(announce []ma.Multiaddr) func([]ma.Multiaddr) []ma.Multiaddr {
	announce = slices.Clone(announce)
	return func(addrs []ma.Multiaddr) []ma.Multiaddr {
		if len(announce) > 0 {
			addrs = announce
		} else {
			addrs = n.front.Advertise(addrs)
		}
		if keeper := n.keeper.Load(); keeper != nil {
			addrs = keeper.AppendAddrs(addrs)
		}
		return webrtc.Advertise(addrs)
	}
}

// Host returns the libp2p host, which is like any other. Close the node, not the host.
func (n *Node) Host() host.Host { return n.host }

// PubSub returns the node's GossipSub router, tuned for a relay or for a leaf
// that reaches others through relays.
func (n *Node) PubSub() *pubsub.PubSub { return n.pubsub }

// Relay returns the relay, nil without [WithRelay].
func (n *Node) Relay() *relay.Relay { return n.relay }

// Certificate returns the one that /tls/ws listeners show, nil without
// [front.WithCertificate].
func (n *Node) Certificate() *front.Certificate { return n.front.Certificate() }

// Discovery returns the discovery service, nil without [WithDiscovery].
func (n *Node) Discovery() *discovery.Service { return n.discovery }

// WebRTC returns the /webrtc transport.
func (n *Node) WebRTC() *webrtc.Transport { return n.webrtc }

// Reservations returns the keeper of reservations, nil without [WithRelays].
func (n *Node) Reservations() *reservation.Keeper { return n.keeper.Load() }

// Connect returns when there is a direct connection to a peer, or with the path
// that there is instead and the reason, see [webrtc.Transport.Connect].
func (n *Node) Connect(ctx context.Context, p peer.ID, addrs ...ma.Multiaddr) (webrtc.Path, error) {
	return n.webrtc.Connect(ctx, p, addrs...)
}

// Explain returns what was done to reach a peer directly.
func (n *Node) Explain(p peer.ID) webrtc.Explanation { return n.webrtc.Explain(p) }

// Addrs returns the node's addresses as others dial them, each ending in
// /p2p/ and the node's peer ID.
func (n *Node) Addrs() []ma.Multiaddr {
	// fails for a host without a peer ID only, which cannot be
	addrs, _ := peer.AddrInfoToP2pAddrs(&peer.AddrInfo{ID: n.host.ID(), Addrs: n.host.Addrs()})
	return addrs
}

// BrowserAddrs returns those of [Node.Addrs] that a page in a browser can dial.
func (n *Node) BrowserAddrs() []ma.Multiaddr {
	return slices.DeleteFunc(n.Addrs(), func(a ma.Multiaddr) bool { return !relay.BrowserDialable(a) })
}

// Close stops the node and all its blocks, the last started first. It is idempotent.
func (n *Node) Close() error {
	n.closeOnce.Do(func() { n.closeErr = n.undo.Run() })
	return n.closeErr
}
