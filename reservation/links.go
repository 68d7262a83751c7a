package reservation

import (
	"context"
	"slices"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// tag is under which relays are protected in the connection manager.
const tag = "tango-reservation"

// links is what a Keeper needs of the host, small so that timing is tested
// without one. All methods may be called at any time.
type links interface {
	// conns returns the IDs of the open direct connections to p.
	conns(p peer.ID) []string
	// dial connects to p directly, also by the addresses given.
	dial(ctx context.Context, p peer.ID, addrs []ma.Multiaddr) error
	// reserve asks p for a reservation over a direct connection that is there.
	reserve(ctx context.Context, p peer.ID) (*grant, error)
	// hangUp closes a connection of p.
	hangUp(p peer.ID, conn string)
	// dialled returns the remote ends of direct connections that we dialled, and whether p is on this machine.
	dialled(p peer.ID) (addrs []ma.Multiaddr, onLoopback bool)
	// known returns the addresses known of p: while it is connected those that it says in identify, for the
	// most part.
	known(p peer.ID) []ma.Multiaddr
	// protect keeps connections to p from being trimmed.
	protect(p peer.ID, on bool)
}

type hostLinks struct {
	host.Host

	invites map[peer.ID]string // to present to these relays before a request
}

var _ links = hostLinks{}

func (l hostLinks) directTo(p peer.ID) []network.Conn {
	return slices.DeleteFunc(l.Network().ConnsToPeer(p), func(c network.Conn) bool { return !direct(c) })
}

func (l hostLinks) conns(p peer.ID) []string {
	var ids []string
	for _, c := range l.directTo(p) {
		ids = append(ids, c.ID())
	}
	return ids
}

// dial has the swarm pass over its own back-off, which would hold us up for
// 5 s after a first failure and for up to 5 min after several, and over
// circuits.
func (l hostLinks) dial(ctx context.Context, p peer.ID, addrs []ma.Multiaddr) error {
	ctx = network.WithForceDirectDial(ctx, tag)
	return classifyDial(l.Connect(ctx, peer.AddrInfo{ID: p, Addrs: addrs}))
}

func (l hostLinks) reserve(ctx context.Context, p peer.ID) (*grant, error) {
	if token, ok := l.invites[p]; ok {
		return invited(ctx, l.Host, p, token)
	}
	return reserve(ctx, l.Host, p)
}

func (l hostLinks) hangUp(p peer.ID, conn string) {
	for _, c := range l.Network().ConnsToPeer(p) {
		if c.ID() == conn {
			_ = c.Close() // it is dead
		}
	}
}

func (l hostLinks) dialled(p peer.ID) (addrs []ma.Multiaddr, onLoopback bool) {
	for _, c := range l.directTo(p) {
		onLoopback = onLoopback || manet.IsIPLoopback(c.RemoteMultiaddr())
		if c.Stat().Direction == network.DirOutbound {
			addrs = append(addrs, c.RemoteMultiaddr())
		}
	}
	return addrs, onLoopback
}

func (l hostLinks) known(p peer.ID) []ma.Multiaddr { return l.Peerstore().Addrs(p) }

func (l hostLinks) protect(p peer.ID, on bool) {
	if on {
		l.ConnManager().Protect(p, tag)
	} else {
		l.ConnManager().Unprotect(p, tag)
	}
}

// relays lists the peers connected to that say to be relays.
func (l hostLinks) relays() []peer.ID {
	return slices.DeleteFunc(l.Network().Peers(), func(p peer.ID) bool {
		hop, err := l.Peerstore().SupportsProtocols(p, proto.ProtoIDv2Hop)
		return err != nil || len(hop) == 0
	})
}

// remember keeps a relay's addresses while the Keeper lives. It returns what
// lets them age again.
func (l hostLinks) remember(relay peer.AddrInfo) (forget func()) {
	known := l.Peerstore().Addrs(relay.ID)
	added := slices.DeleteFunc(slices.Clone(relay.Addrs), func(a ma.Multiaddr) bool { return ma.Contains(known, a) })
	l.Peerstore().AddAddrs(relay.ID, added, peerstore.PermanentAddrTTL)
	return func() {
		ttl := peerstore.RecentlyConnectedAddrTTL
		if l.Network().Connectedness(relay.ID) == network.Connected {
			ttl = peerstore.ConnectedAddrTTL
		}
		l.Peerstore().SetAddrs(relay.ID, added, ttl)
	}
}

// checkCircuits says whether the host takes connections through relays at
// all: libp2p.EnableRelay, which is on by default but not after
// libp2p.NoListenAddrs, adds the transport, listens on /p2p-circuit and handles
// the stop protocol. No AutoRelay is needed for it.
func checkCircuits(h host.Host) error {
	listens := ma.Contains(h.Network().ListenAddresses(), ma.StringCast("/p2p-circuit"))
	if !listens || !slices.Contains(h.Mux().Protocols(), proto.ProtoIDv2Stop) {
		return ErrNoCircuits
	}
	return nil
}
