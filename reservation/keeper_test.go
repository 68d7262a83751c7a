package reservation_test

import (
	"context"
	"errors"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/net/swarm"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/tangop2p/tango/reservation"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestReachableAtOnce(t *testing.T) {
	r, h := newRelay(t), newHost(t)
	started := time.Now()
	k := newKeeper(t, h, []peer.AddrInfo{r.info()})
	wait(t, k)
	reserved := time.Since(started)
	dialThrough(t, h, k.Addrs())
	dialled := time.Since(started)
	t.Logf("reserved after %v, dialled after %v", reserved, dialled)
	if dialled > time.Second {
		t.Errorf("reserved after %v, dialled after %v", reserved, dialled)
	}

	got := k.Reservations()
	if len(got) != 1 || got[0].Relay != r.host.ID() || got[0].State != reservation.Reserved || got[0].LastError != nil {
		t.Fatalf("%+v", got)
	}
	// go-libp2p's defaults
	if got[0].LimitDuration != 2*time.Minute || got[0].LimitData != 128<<10 || time.Until(got[0].Expires) < 59*time.Minute {
		t.Errorf("%+v", got[0])
	}
	if d := time.Until(got[0].NextTry); d < minute(7) || d > minute(10) {
		t.Errorf("renewed in %v", d)
	}
	if !h.ConnManager().IsProtected(r.host.ID(), "tango-reservation") {
		t.Error("the relay is not protected")
	}
}

func minute(n int) time.Duration { return time.Duration(n) * time.Minute }

// The relay is given by TCP and, being stock, names no address in its grant:
// identify's have to make it dialable for browsers.
func TestBrowsersComeFirst(t *testing.T) {
	r, h := newRelay(t), newHost(t)
	k := newKeeper(t, h, []peer.AddrInfo{r.info()})
	wait(t, k)
	addrs := k.Addrs()
	if len(addrs) != 2 {
		t.Fatalf("addresses %v, want one by WebSocket and one by TCP", addrs)
	}
	suffix := "/p2p/" + r.host.ID().String() + "/p2p-circuit"
	for i, a := range []ma.Multiaddr{r.addr(true), r.addr(false)} {
		if want := a.String() + suffix; addrs[i].String() != want {
			t.Errorf("address %d is %v, want %v", i, addrs[i], want)
		}
	}
}

func TestRelayRestarts(t *testing.T) {
	t.Parallel()
	for name, down := range map[string]time.Duration{"quickly": 0, "after several tries": 4 * time.Second} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, h := newRelay(t), newHost(t)
			next := events(t, h)
			k := newKeeper(t, h, []peer.AddrInfo{r.info()})
			next(r.host.ID(), reservation.Reserved)
			r.stop()
			lost := next(r.host.ID(), reservation.Unreachable)
			if !errors.Is(lost.Err, reservation.ErrLost) || len(lost.Addrs) != 0 || len(k.Addrs()) != 0 {
				t.Errorf("lost: %+v, addresses %v", lost, k.Addrs())
			}
			tries := 0
			for end := time.Now().Add(down); time.Now().Before(end); tries++ {
				next(r.host.ID(), reservation.Unreachable) // a dial that failed, each of which makes the swarm back off further
			}
			if tries > 0 { // a plain dial would have to wait
				err := h.Connect(t.Context(), r.info())
				if !errors.Is(err, swarm.ErrDialBackoff) {
					t.Errorf("control: %v, want the swarm's back-off", err)
				}
			}
			r.start()
			back := time.Now()
			e := next(r.host.ID(), reservation.Reserved)
			t.Logf("back after %v, down for %d tries", time.Since(back), tries)
			if d := time.Since(back); d > 5*time.Second {
				t.Errorf("back after %v", d)
			}
			if len(e.Addrs) != 2 || e.Err != nil {
				t.Errorf("%+v", e)
			}
			dialThrough(t, h, k.Addrs())
		})
	}
}

// The relay's host is up before its relay service: identify's push tells.
func TestRelayStartsLate(t *testing.T) {
	t.Parallel()
	r, h := newRelay(t), newHost(t)
	next := events(t, h)
	k := newKeeper(t, h, []peer.AddrInfo{r.info()})
	next(r.host.ID(), reservation.Reserved)
	r.stop()
	r.listen()
	if e := next(r.host.ID(), reservation.Refused); !errors.Is(e.Err, reservation.ErrUnsupported) {
		t.Errorf("%v, want ErrUnsupported", e.Err)
	}
	r.serve()
	back := time.Now()
	next(r.host.ID(), reservation.Reserved)
	if d := time.Since(back); d > 2*time.Second {
		t.Errorf("reserved after %v", d)
	}
	// and the other way round
	_ = r.service.Close()
	if e := next(r.host.ID(), reservation.Refused); !errors.Is(e.Err, reservation.ErrUnsupported) || len(k.Addrs()) != 0 {
		t.Errorf("%v, addresses %v", e.Err, k.Addrs())
	}
}

// gate is a relay's ACL that can be opened.
type gate struct{ open atomic.Bool }

func (g *gate) AllowReserve(peer.ID, ma.Multiaddr) bool          { return g.open.Load() }
func (g *gate) AllowConnect(peer.ID, ma.Multiaddr, peer.ID) bool { return true }

func TestRefusedThenAllowed(t *testing.T) {
	t.Parallel()
	acl := new(gate)
	r, h := newRelay(t, relayv2.WithACL(acl)), newHost(t)
	next := events(t, h)
	reg := prometheus.NewRegistry()
	k := newKeeper(t, h, []peer.AddrInfo{r.info()}, reservation.WithRegisterer(reg))
	e := next(r.host.ID(), reservation.Refused)
	refused, ok := errors.AsType[*reservation.RefusedError](e.Err)
	if !ok || refused.Status != pbv2.Status_PERMISSION_DENIED {
		t.Fatalf("%v, want PERMISSION_DENIED", e.Err)
	}
	got := k.Reservations()[0]
	if d := time.Until(got.NextTry); d > 5*time.Second || got.LastError == nil {
		t.Errorf("%+v, asked again in %v", got, d)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := k.Wait(ctx)
	why, ok := errors.AsType[*reservation.RelayError](err)
	if !errors.Is(err, context.DeadlineExceeded) || !ok || why.Relay != r.host.ID() || why.State != reservation.Refused {
		t.Errorf("Wait: %v", err)
	}
	acl.open.Store(true)
	next(r.host.ID(), reservation.Reserved)
	if v := metric(t, reg, "libp2p_reservation_attempts_total", "denied"); v != 1 {
		t.Errorf("%v denied, want 1", v)
	}
	if v := metric(t, reg, "libp2p_reservation_held", ""); v != 1 {
		t.Errorf("%v held, want 1", v)
	}
}

func metric(t *testing.T, reg *prometheus.Registry, name, label string) float64 {
	t.Helper()
	families, err := reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (label == "" || m.GetLabel()[0].GetValue() == label) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	return 0
}

func TestShortReservationsAreRenewed(t *testing.T) {
	t.Parallel()
	rc := relayv2.DefaultResources()
	rc.ReservationTTL = 3 * time.Second
	r, h := newRelay(t, relayv2.WithResources(rc)), newHost(t)
	next := events(t, h)
	k := newKeeper(t, h, []peer.AddrInfo{r.info()})
	next(r.host.ID(), reservation.Reserved)
	first := k.Reservations()[0]
	for until := time.Now().Add(5 * time.Second); time.Now().Before(until); {
		now := k.Reservations()[0]
		if now.State != reservation.Reserved || !now.Since.Equal(first.Since) {
			t.Fatalf("%+v", now)
		}
		<-time.After(50 * time.Millisecond)
	}
	if last := k.Reservations()[0]; last.Expires.Sub(first.Expires) < 3*time.Second {
		t.Errorf("expires %v after the first", last.Expires.Sub(first.Expires))
	}
	dialThrough(t, h, k.Addrs())
}

func TestTwoRelaysOneLost(t *testing.T) {
	a, b, h := newRelay(t), newRelay(t), newHost(t)
	next := events(t, h)
	k := newKeeper(t, h, []peer.AddrInfo{a.info(), b.info()})
	next(a.host.ID(), reservation.Reserved)
	if len(k.Reservations()) != 2 {
		t.Fatalf("%+v", k.Reservations())
	}
	next = events(t, h)
	a.stop()
	next(a.host.ID(), reservation.Unreachable)
	wait(t, k)
	if got := k.Reservations()[1]; got.State != reservation.Reserved || got.Relay != b.host.ID() {
		t.Errorf("%+v", got)
	}
	for _, addr := range k.Addrs() {
		if !strings.Contains(addr.String(), b.host.ID().String()) {
			t.Errorf("%v is still published", addr)
		}
	}
	dialThrough(t, h, k.Addrs())
}

func TestSpareTakesOver(t *testing.T) {
	t.Parallel()
	a, b, h := newRelay(t), newRelay(t), newHost(t)
	next := events(t, h)
	k := newKeeper(t, h, []peer.AddrInfo{a.info(), b.info()}, reservation.WithTarget(1))
	next(a.host.ID(), reservation.Reserved)
	if s := k.Reservations()[1].State; s != reservation.Waiting {
		t.Errorf("the spare is %v", s)
	}
	a.stop()
	next(b.host.ID(), reservation.Reserved)
	next(a.host.ID(), reservation.Waiting)
}

func TestDiscoveredRelayIsUsed(t *testing.T) {
	r, h := newRelay(t), newHost(t)
	next := events(t, h)
	k := newKeeper(t, h, nil, reservation.WithDiscovered())
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if err := k.Wait(ctx); err == nil || !strings.Contains(err.Error(), "no relay was discovered") {
		t.Errorf("Wait: %v", err)
	}
	if err := h.Connect(t.Context(), r.info()); err != nil {
		t.Fatal(err)
	}
	next(r.host.ID(), reservation.Reserved)
	dialThrough(t, h, k.Addrs())
}

func TestDiscoveredRelayStandsIn(t *testing.T) {
	t.Parallel()
	own, other, h := newRelay(t), newRelay(t), newHost(t)
	if err := h.Connect(t.Context(), other.info()); err != nil {
		t.Fatal(err) // before the Keeper starts
	}
	next := events(t, h)
	k := newKeeper(t, h, []peer.AddrInfo{own.info()}, reservation.WithDiscovered(), reservation.WithTarget(1))
	next(own.host.ID(), reservation.Reserved)
	if got := k.Reservations(); len(got) != 1 {
		t.Errorf("%+v", got)
	}
	own.stop()
	next(other.host.ID(), reservation.Reserved)
	own.start()
	next(own.host.ID(), reservation.Reserved)
	next(other.host.ID(), reservation.Waiting)
	if got := k.Reservations(); len(got) != 1 || got[0].Relay != own.host.ID() {
		t.Errorf("%+v", got)
	}
}

// Of two connections to the relay the one ends that the reservation was made on:
// the Keeper reserves on the other at once.
func TestSecondConnection(t *testing.T) {
	gate := slowDial{make(chan struct{}, 1), make(chan struct{})}
	r, h := newRelay(t), newHost(t, libp2p.ConnectionGater(gate))
	second := make(chan error, 1)
	go func() {
		// by another transport, so that TCP cannot make one connection of the two
		second <- h.Connect(t.Context(), peer.AddrInfo{ID: r.host.ID(), Addrs: []ma.Multiaddr{r.addr(true)}})
	}()
	<-gate.begun
	if err := r.host.Connect(t.Context(), peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()}); err != nil {
		t.Fatal(err)
	}
	next := events(t, h)
	k := newKeeper(t, h, []peer.AddrInfo{r.info()})
	next(r.host.ID(), reservation.Reserved)
	first := h.Network().ConnsToPeer(r.host.ID())[0]
	close(gate.release)
	if err := <-second; err != nil {
		t.Fatal(err)
	}
	if n := len(h.Network().ConnsToPeer(r.host.ID())); n != 2 {
		t.Fatalf("%d connections to the relay, want 2", n)
	}
	started := time.Now()
	_ = first.Close()
	next(r.host.ID(), reservation.Reserved)
	dialThrough(t, h, k.Addrs())
	if d := time.Since(started); d > time.Second {
		t.Errorf("reachable after %v", d)
	}
}

func TestEventMakesThePrivateHostPublish(t *testing.T) {
	r, h := newRelay(t), newHost(t, libp2p.ForceReachabilityPrivate())
	sub, err := h.EventBus().Subscribe(new(event.EvtLocalAddressesUpdated), eventbus.BufSize(16))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = sub.Close() }()
	k := newKeeper(t, h, []peer.AddrInfo{r.info()})
	wait(t, k)
	until(t, sub, func() bool { return containsAll(h.Addrs(), k.Addrs()) })
	was := k.Addrs()
	if err := k.Close(); err != nil {
		t.Fatal(err)
	}
	until(t, sub, func() bool {
		return !slices.ContainsFunc(was, func(a ma.Multiaddr) bool { return ma.Contains(h.Addrs(), a) })
	})
	if h.ConnManager().IsProtected(r.host.ID(), "") || len(h.Network().ConnsToPeer(r.host.ID())) == 0 {
		t.Error("Close leaves connections to relays open and unprotected")
	}
}

// until waits for a condition that events bring about.
func until(t *testing.T, sub event.Subscription, ok func() bool) {
	t.Helper()
	timeout := time.After(10 * time.Second)
	for !ok() {
		select {
		case <-sub.Out():
		case <-timeout:
			t.Fatal("the host's addresses did not change as they should")
		}
	}
}

func containsAll(all, some []ma.Multiaddr) bool {
	return len(some) > 0 && !slices.ContainsFunc(some, func(a ma.Multiaddr) bool { return !ma.Contains(all, a) })
}

func TestAppendAddrsInAddrsFactory(t *testing.T) {
	for name, reachability := range map[string]libp2p.Option{
		"private": libp2p.ForceReachabilityPrivate(), "public": libp2p.ForceReachabilityPublic(), "unknown": libp2p.FallbackDefaults,
	} {
		t.Run(name, func(t *testing.T) {
			var keeper atomic.Pointer[reservation.Keeper]
			r := newRelay(t)
			h := newHost(t, reachability, libp2p.AddrsFactory(func(addrs []ma.Multiaddr) []ma.Multiaddr {
				return keeper.Load().AppendAddrs(addrs)
			}))
			sub, err := h.EventBus().Subscribe(new(event.EvtLocalAddressesUpdated), eventbus.BufSize(16))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = sub.Close() }()
			k := newKeeper(t, h, []peer.AddrInfo{r.info()})
			keeper.Store(k)
			wait(t, k)
			if addrs := h.Addrs(); !containsAll(addrs, k.Addrs()) || len(ma.Unique(slices.Clone(addrs))) != len(addrs) {
				t.Errorf("addresses %v lack some of %v, or have some twice", addrs, k.Addrs())
			}
			// others are told: the host's own peerstore entry is what identify sends
			until(t, sub, func() bool { return containsAll(h.Peerstore().Addrs(h.ID()), k.Addrs()) })
		})
	}
}

func TestCloseIsIdempotentAndUnblocks(t *testing.T) {
	h := newHost(t)
	silent := silentPeer(t)
	k := newKeeper(t, h, []peer.AddrInfo{silent})
	waited := make(chan error, 1)
	go func() { waited <- k.Wait(context.Background()) }()
	for range 2 {
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if err := <-waited; !errors.Is(err, reservation.ErrClosed) || !errors.Is(err, net.ErrClosed) {
		t.Errorf("Wait: %v, want ErrClosed", err)
	}
	if err := k.Wait(t.Context()); !errors.Is(err, reservation.ErrClosed) {
		t.Errorf("Wait after Close: %v", err)
	}
	if k.Addrs() != nil {
		t.Error("addresses after Close")
	}
}
