package reservation_test

import (
	"context"
	"crypto/rand"
	"net"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/control"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/tangop2p/tango/reservation"
)

// newHost makes a host on loopback, by TCP and WebSocket.
func newHost(t *testing.T, opts ...libp2p.Option) host.Host {
	t.Helper()
	opts = append([]libp2p.Option{
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Transport(websocket.New),
		libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"),
	}, opts...)
	h, err := libp2p.New(opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// testRelay is a relay that can be stopped and started again with the same key
// on the same ports.
type testRelay struct {
	t     *testing.T
	key   crypto.PrivKey
	addrs []ma.Multiaddr
	opts  []relayv2.Option
	host  host.Host

	service *relayv2.Relay
}

func newRelay(t *testing.T, opts ...relayv2.Option) *testRelay {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	r := &testRelay{t: t, key: key, opts: opts}
	r.addrs = []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/0"), ma.StringCast("/ip4/127.0.0.1/tcp/0/ws")}
	r.start()
	r.addrs = r.host.Network().ListenAddresses()
	t.Cleanup(r.stop)
	return r
}

func (r *testRelay) start() {
	r.t.Helper()
	r.listen()
	r.serve()
}

func (r *testRelay) serve() {
	r.t.Helper()
	service, err := relayv2.New(r.host, r.opts...)
	if err != nil {
		r.t.Fatal(err)
	}
	r.service = service
}

// addr returns the relay's address by WebSocket, or the one by TCP.
func (r *testRelay) addr(ws bool) ma.Multiaddr {
	return r.addrs[slices.IndexFunc(r.addrs, func(a ma.Multiaddr) bool {
		_, err := a.ValueForProtocol(ma.P_WS)
		return (err == nil) == ws
	})]
}

// listen starts the host without the relay.
func (r *testRelay) listen() {
	r.t.Helper()
	h, err := libp2p.New(
		libp2p.Identity(r.key),
		libp2p.Transport(tcp.NewTCPTransport),
		libp2p.Transport(websocket.New),
		libp2p.ListenAddrs(r.addrs...),
		libp2p.DisableRelay(),
	)
	if err != nil {
		r.t.Fatal(err)
	}
	r.host = h
}

// stop is like a crash: connections end before the relay says anything.
func (r *testRelay) stop() {
	_ = r.host.Close()
	_ = r.service.Close()
}

// info names the relay by its TCP address only.
func (r *testRelay) info() peer.AddrInfo {
	return peer.AddrInfo{ID: r.host.ID(), Addrs: []ma.Multiaddr{r.addr(false)}}
}

func newKeeper(t *testing.T, h host.Host, relays []peer.AddrInfo, opts ...reservation.Option) *reservation.Keeper {
	t.Helper()
	k, err := reservation.New(h, relays, opts...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close() })
	return k
}

func wait(t *testing.T, k *reservation.Keeper) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := k.Wait(ctx); err != nil {
		t.Fatal(err)
	}
}

// events subscribes to a host's changes, and returns a function that reads on
// until one is of this relay and this state.
func events(t *testing.T, h host.Host) func(peer.ID, reservation.State) reservation.EvtReservationChanged {
	t.Helper()
	sub, err := h.EventBus().Subscribe(new(reservation.EvtReservationChanged), eventbus.BufSize(64))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Close() })
	timeout := time.After(30 * time.Second)
	return func(p peer.ID, s reservation.State) reservation.EvtReservationChanged {
		t.Helper()
		for {
			select {
			case e := <-sub.Out():
				if e := e.(reservation.EvtReservationChanged); e.Relay == p && e.State == s {
					return e
				}
			case <-timeout:
				t.Fatalf("no event that %v is %v", p, s)
			}
		}
	}
}

// dialThrough has a third host ping target by its circuit addresses.
func dialThrough(t *testing.T, target host.Host, addrs []ma.Multiaddr) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	third := newHost(t, libp2p.NoListenAddrs, libp2p.EnableRelay())
	if err := third.Connect(ctx, peer.AddrInfo{ID: target.ID(), Addrs: addrs}); err != nil {
		t.Fatalf("through %v: %v", addrs, err)
	}
	if !strings.Contains(third.Network().ConnsToPeer(target.ID())[0].RemoteMultiaddr().String(), "p2p-circuit") {
		t.Error("the connection is not through the relay")
	}
	pinging := network.WithAllowLimitedConn(ctx, "test")
	if res := <-ping.Ping(pinging, third, target.ID()); res.Error != nil {
		t.Errorf("ping: %v", res.Error)
	}
}

// slowDial holds a host's dials back, at a point where the host has found that it
// is not connected yet.
type slowDial struct{ begun, release chan struct{} }

func (slowDial) InterceptPeerDial(peer.ID) bool              { return true }
func (slowDial) InterceptAccept(network.ConnMultiaddrs) bool { return true }
func (slowDial) InterceptSecured(network.Direction, peer.ID, network.ConnMultiaddrs) bool {
	return true
}
func (slowDial) InterceptUpgraded(network.Conn) (bool, control.DisconnectReason) { return true, 0 }

func (g slowDial) InterceptAddrDial(peer.ID, ma.Multiaddr) bool {
	select {
	case g.begun <- struct{}{}:
	default:
	}
	<-g.release
	return true
}

// silentPeer names a peer whose port accepts and says nothing.
func silentPeer(t *testing.T) peer.AddrInfo {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	port := l.Addr().(*net.TCPAddr).AddrPort()
	_, pub, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return peer.AddrInfo{ID: id, Addrs: []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/" + strings.Split(port.String(), ":")[1])}}
}
