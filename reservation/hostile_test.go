package reservation_test

import (
	"context"
	"errors"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"
	"github.com/libp2p/go-libp2p/x/rate"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tangop2p/tango/reservation"
)

func TestNewRefuses(t *testing.T) {
	r, h := newRelay(t), newHost(t)
	id := r.host.ID()
	deaf := newHost(t, libp2p.DisableRelay())
	taken := prometheus.NewRegistry()
	newKeeper(t, newHost(t), []peer.AddrInfo{r.info()}, reservation.WithRegisterer(taken))
	addr := func(s string) peer.AddrInfo { return peer.AddrInfo{ID: id, Addrs: []ma.Multiaddr{ma.StringCast(s)}} }
	for name, c := range map[string]struct {
		host   host.Host
		relays []peer.AddrInfo
		opts   []reservation.Option
		want   string
	}{
		"no relay":        {h, nil, nil, "no relay given"},
		"no ID":           {h, []peer.AddrInfo{{Addrs: r.addrs}}, nil, "relay 1"},
		"no address":      {h, []peer.AddrInfo{{ID: id}}, nil, "no address"},
		"itself":          {h, []peer.AddrInfo{{ID: h.ID(), Addrs: r.addrs}}, nil, "this host itself"},
		"another's":       {h, []peer.AddrInfo{addr("/ip4/127.0.0.1/tcp/1/p2p/" + h.ID().String())}, nil, "does not lead to this peer"},
		"through another": {h, []peer.AddrInfo{addr("/ip4/127.0.0.1/tcp/1/p2p/" + h.ID().String() + "/p2p-circuit")}, nil, "directly"},
		"target":          {h, []peer.AddrInfo{r.info()}, []reservation.Option{reservation.WithTarget(2)}, "only 1 relays"},
		"bad option":      {h, []peer.AddrInfo{r.info()}, []reservation.Option{reservation.WithTarget(0)}, "WithTarget(0)"},
		"too many":        {h, many(t, 65), nil, "at most 64"},
		"no circuits":     {deaf, []peer.AddrInfo{r.info()}, nil, "EnableRelay"},
		"metrics taken":   {h, []peer.AddrInfo{r.info()}, []reservation.Option{reservation.WithRegisterer(taken)}, "register metrics"},
	} {
		t.Run(name, func(t *testing.T) {
			k, err := reservation.New(c.host, c.relays, c.opts...)
			if err == nil {
				_ = k.Close()
			}
			if err == nil || !strings.Contains(err.Error(), c.want) || strings.Count(err.Error(), "reservation: ") != 1 {
				t.Errorf("%v, want %q", err, c.want)
			}
			if name == "no circuits" && !errors.Is(err, reservation.ErrNoCircuits) {
				t.Errorf("%v is not ErrNoCircuits", err)
			}
		})
	}
}

func many(t *testing.T, n int) []peer.AddrInfo {
	t.Helper()
	var infos []peer.AddrInfo
	for range n {
		infos = append(infos, silentPeer(t))
	}
	return infos
}

func TestRelayByPeerstoreAndTwice(t *testing.T) {
	r, h := newRelay(t), newHost(t)
	full, err := peer.AddrInfoToP2pAddrs(&peer.AddrInfo{ID: r.host.ID(), Addrs: r.addrs})
	if err != nil {
		t.Fatal(err)
	}
	k := newKeeper(t, h, []peer.AddrInfo{
		{ID: r.host.ID(), Addrs: full}, // with /p2p, as people paste them
		r.info(),
	})
	if n := len(k.Reservations()); n != 1 {
		t.Fatalf("%d relays, want the two merged", n)
	}
	wait(t, k)
	if n := len(k.Addrs()); n != 2 {
		t.Errorf("addresses %v", k.Addrs())
	}
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	wait(t, newKeeper(t, h, []peer.AddrInfo{{ID: r.host.ID()}})) // known by now
}

func TestDefaults(t *testing.T) {
	infos := many(t, 5)
	h := newHost(t)
	next := events(t, h)
	for n, want := range []int{1: 1, 2: 2, 3: 3, 5: 3} {
		if want == 0 {
			continue
		}
		k := newKeeper(t, h, infos[:n])
		next(infos[0].ID, reservation.Connecting) // and with it all others that are tried
		tried := slices.DeleteFunc(k.Reservations(), func(r reservation.Reservation) bool { return r.State == reservation.Waiting })
		if len(tried) != want {
			t.Errorf("of %d relays %d are tried, want %d", n, len(tried), want)
		}
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}
	}
}

// fakeRelay is a peer that speaks hop in its own way.
func fakeRelay(t *testing.T, handle func(network.Stream)) peer.AddrInfo {
	t.Helper()
	h := newHost(t)
	h.SetStreamHandler(proto.ProtoIDv2Hop, handle)
	return peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()}
}

// A relay that takes the request and says nothing holds up neither Close nor,
// for longer than the timeout, anything else.
func TestCloseWithARequestUnanswered(t *testing.T) {
	asked := make(chan struct{}, 1)
	info := fakeRelay(t, func(network.Stream) { asked <- struct{}{} })
	k := newKeeper(t, newHost(t), []peer.AddrInfo{info})
	<-asked
	started := time.Now()
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	if d := time.Since(started); d > time.Second {
		t.Errorf("closed after %v", d)
	}
}

// answer reads a request and answers it.
func answer(s network.Stream, m *pbv2.HopMessage) {
	defer func() { _ = s.Close() }()
	r := util.NewDelimitedReader(s, 4096)
	defer r.Close()
	if err := r.ReadMsg(new(pbv2.HopMessage)); err == nil {
		_ = util.NewDelimitedWriter(s).WriteMsg(m)
	}
}

// This host's addresses change, and the connection to the relay stands, but
// nothing comes through any more.
func TestDeadConnectionAfterANetworkChange(t *testing.T) {
	t.Parallel()
	expire := uint64(time.Now().Add(time.Hour).Unix())
	yes := &pbv2.HopMessage{
		Type: pbv2.HopMessage_STATUS.Enum(), Status: pbv2.Status_OK.Enum(), Reservation: &pbv2.Reservation{Expire: &expire},
	}
	var mu sync.Mutex
	dead := make(map[string]bool) // connections
	info := fakeRelay(t, func(s network.Stream) {
		mu.Lock()
		mute := dead[s.Conn().ID()]
		dead[s.Conn().ID()] = true // after the first request
		mu.Unlock()
		if !mute {
			answer(s, yes)
		}
	})
	h := newHost(t)
	next := events(t, h)
	newKeeper(t, h, []peer.AddrInfo{info})
	next(info.ID, reservation.Reserved)
	first := h.Network().ConnsToPeer(info.ID)[0].ID()
	emitter, err := h.EventBus().Emitter(new(event.EvtLocalAddressesUpdated), eventbus.Stateful)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = emitter.Close() }()
	if err := emitter.Emit(event.EvtLocalAddressesUpdated{}); err != nil {
		t.Fatal(err)
	}
	changed := time.Now()
	next(info.ID, reservation.Unreachable)
	next(info.ID, reservation.Reserved)
	if d := time.Since(changed); d > 5*time.Second+3*time.Second+time.Second { // an earlier change counts as well
		t.Errorf("back after %v", d)
	}
	if second := h.Network().ConnsToPeer(info.ID)[0].ID(); second == first {
		t.Error("the dead connection is still there")
	}
}

// A relay with an absurd expiry, addresses of others and more of them than anyone needs.
func TestGreedyRelay(t *testing.T) {
	never := uint64(1<<64 - 1)
	greedy := &pbv2.HopMessage{
		Type: pbv2.HopMessage_STATUS.Enum(), Status: pbv2.Status_OK.Enum(),
		Reservation: &pbv2.Reservation{Expire: &never}, Limit: &pbv2.Limit{Data: &never},
	}
	other := ma.StringCast("/ip4/8.8.8.8/tcp/1/p2p/12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X")
	greedy.Reservation.Addrs = append(greedy.Reservation.Addrs, other.Bytes(), []byte("no"))
	for i := range 500 {
		a := ma.StringCast("/ip4/8.8.8.8/tcp/" + strconv.Itoa(4000+i) + "/ws")
		greedy.Reservation.Addrs = append(greedy.Reservation.Addrs, a.Bytes())
	}
	info := fakeRelay(t, func(s network.Stream) { answer(s, greedy) })
	k := newKeeper(t, newHost(t), []peer.AddrInfo{info})
	wait(t, k)
	got := k.Reservations()[0]
	if d := time.Until(got.Expires); d > 25*time.Hour {
		t.Errorf("expires in %v", d)
	}
	if d := time.Until(got.NextTry); d > 10*time.Minute {
		t.Errorf("renewed in %v", d)
	}
	if len(k.Addrs()) > 10 {
		t.Errorf("%d addresses", len(k.Addrs()))
	}
	for _, a := range k.Addrs() {
		if !strings.HasSuffix(a.String(), "/p2p/"+info.ID.String()+"/p2p-circuit") {
			t.Errorf("address %v", a)
		}
	}
}

// This host's own resource manager holds dials back: the Keeper says so and goes slower.
func TestRateLimitedDials(t *testing.T) {
	limits := rcmgr.NewFixedLimiter(rcmgr.InfiniteLimits)
	manager, err := rcmgr.NewResourceManager(limits, rcmgr.WithConnRateLimiters(&rate.Limiter{
		NetworkPrefixLimits: []rate.PrefixLimit{{Prefix: netip.MustParsePrefix("127.0.0.0/8"), Limit: rate.Limit{RPS: 0.2, Burst: 2}}},
	}))
	if err != nil {
		t.Fatal(err)
	}
	// without addresses, for one that comes up now is a change of the network, and a new start
	h := newHost(t, libp2p.ResourceManager(manager), libp2p.NoListenAddrs, libp2p.EnableRelay())
	info := silentPeer(t)
	info.Addrs = []ma.Multiaddr{ma.StringCast("/ip4/127.0.0.1/tcp/1")} // refused
	next := events(t, h)
	k := newKeeper(t, h, []peer.AddrInfo{info})
	for e := next(info.ID, reservation.Unreachable); !errors.Is(e.Err, reservation.ErrRateLimited); {
		e = next(info.ID, reservation.Unreachable)
	}
	if d := time.Until(k.Reservations()[0].NextTry); d < 9*time.Second {
		t.Errorf("tried again in %v, want 10 s", d)
	}
}

// Over a circuit no relay would reserve. The Keeper does not even ask, but dials.
func TestNeverOverACircuit(t *testing.T) {
	first, h := newRelay(t), newHost(t)
	// the second relay has a reservation at the first, through which h is connected to it
	second := newHost(t)
	asked := make(chan network.Conn, 1)
	second.SetStreamHandler(proto.ProtoIDv2Hop, func(s network.Stream) {
		select {
		case asked <- s.Conn():
		default: // it asks again
		}
		_ = s.Reset()
	})
	k := newKeeper(t, second, []peer.AddrInfo{first.info()})
	wait(t, k)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := h.Connect(ctx, peer.AddrInfo{ID: second.ID(), Addrs: k.Addrs()}); err != nil {
		t.Fatal(err)
	}
	newKeeper(t, h, []peer.AddrInfo{{ID: second.ID(), Addrs: second.Addrs()}})
	conn := <-asked
	if _, err := conn.RemoteMultiaddr().ValueForProtocol(ma.P_CIRCUIT); err == nil {
		t.Errorf("asked over %v", conn.RemoteMultiaddr())
	}
}
