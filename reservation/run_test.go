package reservation

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	idA      = peer.ID("\x00\x01a")
	idB      = peer.ID("\x00\x01b")
	idC      = peer.ID("\x00\x01c")
	ownID    = peer.ID("\x00\x03own")
	badID    = peer.ID("\x00\x03bad")
	goodID   = peer.ID("\x00\x04good")
	lateID   = peer.ID("\x00\x04late")
	nobodyID = peer.ID("\x00\x06nobody")
)

// fakeLinks is a network whose time is synctest's.
type fakeLinks struct {
	signals *signals

	mu        sync.Mutex
	relays    map[peer.ID]*fakeRelayState
	protected map[peer.ID]bool
}

type fakeRelayState struct {
	up       bool
	conns    []string
	made     int           // connections so far
	slow     time.Duration // of a dial to it while it is down, and of its answers
	mute     bool          // does not answer
	lifetime time.Duration
	ahead    time.Duration // of its clock
	refusal  error
	dials    []time.Time
	asked    []time.Time
	lapsed   time.Time // when its last grant runs out, by the true time
	lapses   int       // renewed too late
}

var _ links = (*fakeLinks)(nil)

func newFakeLinks(relays ...peer.ID) *fakeLinks {
	l := &fakeLinks{relays: make(map[peer.ID]*fakeRelayState), protected: make(map[peer.ID]bool)}
	for _, p := range relays {
		l.relays[p] = &fakeRelayState{up: true, lifetime: time.Hour}
	}
	return l
}

// with changes a relay's state.
func (l *fakeLinks) with(p peer.ID, change func(*fakeRelayState)) {
	l.mu.Lock()
	change(l.relays[p])
	l.mu.Unlock()
	l.signals.tell(p, signal{})
}

func (l *fakeLinks) crash(p peer.ID) {
	l.with(p, func(r *fakeRelayState) { r.up, r.conns, r.lapsed = false, nil, time.Time{} })
}

func (l *fakeLinks) boot(p peer.ID) { l.with(p, func(r *fakeRelayState) { r.up = true }) }

func (l *fakeLinks) conns(p peer.ID) []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.relays[p].conns)
}

func (l *fakeLinks) dial(ctx context.Context, p peer.ID, _ []ma.Multiaddr) error {
	l.mu.Lock()
	r := l.relays[p]
	r.dials = append(r.dials, time.Now())
	up, slow := r.up, r.slow
	l.mu.Unlock()
	if !up {
		return errors.Join(errDial, pass(ctx, slow))
	}
	if err := pass(ctx, 50*time.Millisecond); err != nil {
		return err
	}
	l.with(p, func(r *fakeRelayState) {
		r.made++
		r.conns = append(r.conns, strconv.Itoa(r.made))
	})
	return nil
}

// pass lets time pass.
func pass(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (l *fakeLinks) reserve(ctx context.Context, p peer.ID) (*grant, error) {
	l.mu.Lock()
	r := l.relays[p]
	r.asked = append(r.asked, time.Now())
	mute, slow := r.mute, r.slow
	l.mu.Unlock()
	if mute {
		<-ctx.Done()
		return nil, timeoutOf(ctx, errReset)
	}
	if err := pass(ctx, slow); err != nil {
		return nil, timeoutOf(ctx, err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case len(r.conns) == 0:
		return nil, errReset
	case r.refusal != nil:
		return nil, r.refusal
	}
	now := time.Now()
	if !r.lapsed.IsZero() && now.After(r.lapsed) {
		r.lapses++
	}
	r.lapsed = now.Add(r.lifetime)
	return &grant{
		conn:    r.conns[0],
		expires: expiry(uint64(max(0, now.Add(r.lifetime+r.ahead).Unix())), now),
		addrs:   addrs("/ip4/8.8.8.8/tcp/4001", "/ip4/8.8.8.8/tcp/443/wss"),
	}, nil
}

func (l *fakeLinks) hangUp(p peer.ID, conn string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	r := l.relays[p]
	r.conns = slices.DeleteFunc(r.conns, func(c string) bool { return c == conn })
}

func (l *fakeLinks) dialled(peer.ID) ([]ma.Multiaddr, bool) { return nil, false }
func (l *fakeLinks) known(peer.ID) []ma.Multiaddr           { return nil }

func (l *fakeLinks) protect(p peer.ID, on bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.protected[p] = on
}

// counts returns how often a relay was dialled and asked since then.
func (l *fakeLinks) counts(p peer.ID, since time.Time) (dials, asked int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	count := func(ts []time.Time) (n int) {
		for _, t := range ts {
			if t.After(since) {
				n++
			}
		}
		return n
	}
	return count(l.relays[p].dials), count(l.relays[p].asked)
}

// loop runs a Keeper on fake links within a bubble.
func loop(t *testing.T, l *fakeLinks, own []peer.ID, opts ...Option) *Keeper {
	t.Helper()
	return loopOn(t, l, l, own, opts...)
}

// loopOn has the Keeper see the fake links through others.
func loopOn(t *testing.T, l *fakeLinks, seen links, own []peer.ID, opts ...Option) *Keeper {
	t.Helper()
	cfg, err := newConfig(opts)
	if err != nil {
		t.Fatal(err)
	}
	if err := cfg.settle(len(own)); err != nil {
		t.Fatal(err)
	}
	var infos []peer.AddrInfo
	for _, p := range own {
		infos = append(infos, peer.AddrInfo{ID: p})
	}
	k := newKeeper(cfg, seen, infos)
	l.signals = k.signals
	k.launch(func(any) error { return nil }, func(any) error { return nil })
	t.Cleanup(func() {
		if err := k.Close(); err != nil {
			t.Error(err)
		}
		for p, on := range l.protected {
			if on {
				t.Errorf("%v stays protected", p)
			}
		}
	})
	return k
}

func states(k *Keeper) (all []State) {
	for _, r := range k.Reservations() {
		all = append(all, r.State)
	}
	return all
}

func wantStates(t *testing.T, k *Keeper, want ...State) {
	t.Helper()
	synctest.Wait()
	if got := states(k); !slices.Equal(got, want) {
		t.Fatalf("%v, want %v", got, want)
	}
}

// waitReserved returns how long it takes until one is.
func waitReserved(t *testing.T, k *Keeper) time.Duration {
	t.Helper()
	started := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
	defer cancel()
	if err := k.Wait(ctx); err != nil {
		t.Fatal(err)
	}
	return time.Since(started)
}

func TestLoopRenewsForDays(t *testing.T) {
	for name, c := range map[string]struct{ lifetime, ahead time.Duration }{
		"an hour":               {time.Hour, 0},
		"two minutes":           {2 * time.Minute, 0},
		"ten seconds":           {10 * time.Second, 0},
		"a clock behind":        {time.Hour, -50 * time.Minute},
		"a clock far behind":    {time.Hour, -24 * time.Hour},
		"a clock ahead":         {time.Hour, 3 * time.Hour},
		"a clock in the future": {time.Hour, 365 * 24 * time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				l := newFakeLinks(idA)
				l.relays[idA].lifetime, l.relays[idA].ahead = c.lifetime, c.ahead
				k := loop(t, l, []peer.ID{idA})
				waitReserved(t, k)
				since := k.Reservations()[0].Since
				begin := time.Now()
				const long = 12 * time.Hour
				<-time.After(long)
				wantStates(t, k, Reserved)
				dials, asked := l.counts(idA, begin)
				if l.relays[idA].lapses > 0 || dials > 0 || !k.Reservations()[0].Since.Equal(since) {
					t.Errorf("%d lapses, %d dials", l.relays[idA].lapses, dials)
				}
				seen := min(max(c.lifetime+c.ahead, minLifetime), maxLifetime) // what it looks like to us
				if c.lifetime+c.ahead < 0 {
					seen = skewedLifetime
				}
				if most := int(long/min(max(seen/3, minRenew), maxRenew*3/4)) + 1; asked > most {
					t.Errorf("asked %d times, want %d at most", asked, most)
				}
			})
		})
	}
}

func TestLoopRelayComesBack(t *testing.T) {
	for _, down := range []time.Duration{0, time.Second, 10 * time.Second, time.Minute, 10 * time.Minute, 5 * time.Hour} {
		for _, slow := range []time.Duration{0, time.Hour} { // refused at once, or no sign of it
			t.Run(fmt.Sprint(down, "/", slow), func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					l := newFakeLinks(idA)
					k := loop(t, l, []peer.ID{idA})
					if d := waitReserved(t, k); d > 100*time.Millisecond {
						t.Errorf("reserved after %v", d)
					}
					<-time.After(time.Minute)
					begin := time.Now()
					l.with(idA, func(r *fakeRelayState) { r.slow = slow })
					l.crash(idA)
					synctest.Wait()
					if len(k.Addrs()) > 0 {
						t.Error("still published")
					}
					<-time.After(down)
					dials, _ := l.counts(idA, begin)
					l.with(idA, func(r *fakeRelayState) { r.slow = 0 })
					l.boot(idA)
					limit := time.Minute + attemptTimeout + time.Second
					if down < fastFor {
						limit = 5*time.Second + 50*time.Millisecond // and the dial of the fake
					}
					if d := waitReserved(t, k); d > limit {
						t.Errorf("back after %v", d)
					}
					if most := 60 + int(down/(45*time.Second)); dials > most {
						t.Errorf("dialled %d times in %v", dials, down)
					}
				})
			})
		}
	}
}

func TestLoopMuteRelay(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLinks(idA)
		l.relays[idA].mute = true
		k := loop(t, l, []peer.ID{idA})
		<-time.After(9 * time.Second)
		wantStates(t, k, Reserving)
		<-time.After(2 * time.Second)
		if got := k.Reservations()[0]; !isTimeout(got.LastError) {
			t.Errorf("%+v", got)
		}
		<-time.After(20 * time.Second)
		if l.relays[idA].made < 2 {
			t.Error("the connection without answers was not given up")
		}
		l.with(idA, func(r *fakeRelayState) { r.mute = false })
		if d := waitReserved(t, k); d > attemptTimeout+3*time.Second {
			t.Errorf("reserved after %v", d)
		}
		// the network changes and the connection is dead without a sign
		<-time.After(time.Minute)
		l.with(idA, func(r *fakeRelayState) { r.mute = true })
		k.signals.hear(event.EvtLocalAddressesUpdated{})
		<-time.After(2 * time.Second)
		wantStates(t, k, Reserved)
		l.with(idA, func(r *fakeRelayState) { r.mute = false })
		<-time.After(2 * time.Second)
		wantStates(t, k, Reserved)
		if dials, _ := l.counts(idA, time.Now().Add(-3*time.Second)); dials != 1 {
			t.Errorf("dialled %d times, want a new connection 3 s after the change", dials)
		}
	})
}

func TestLoopSpareAndReturn(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLinks(idA, idB, idC)
		k := loop(t, l, []peer.ID{idA, idB, idC}, WithTarget(2))
		<-time.After(time.Second)
		wantStates(t, k, Reserved, Reserved, Waiting)
		l.crash(idA)
		<-time.After(4 * time.Second)
		wantStates(t, k, Unreachable, Reserved, Waiting) // it has its grace
		<-time.After(3 * time.Second)
		wantStates(t, k, Waiting, Reserved, Reserved)
		l.boot(idA)
		<-time.After(time.Hour)
		wantStates(t, k, Waiting, Reserved, Reserved) // no need to go back
		l.crash(idB)
		l.crash(idC)
		<-time.After(500 * time.Millisecond)
		if got := states(k); got[0] != Reserved {
			t.Errorf("%v, want the first back at once when none is left", got)
		}
		if !l.protected[idA] {
			t.Error("not protected")
		}
	})
}

func TestLoopFirstRelayIsDown(t *testing.T) {
	for _, slow := range []time.Duration{0, time.Hour} {
		synctest.Test(t, func(t *testing.T) {
			l := newFakeLinks(idA, idB)
			l.relays[idA].up, l.relays[idA].slow = false, slow
			k := loop(t, l, []peer.ID{idA, idB}, WithTarget(1))
			if d := waitReserved(t, k); d > grace+time.Second {
				t.Errorf("reserved after %v", d)
			}
			wantStates(t, k, Waiting, Reserved)
		})
	}
}

func TestLoopDiscovered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLinks(ownID, badID, goodID, lateID)
		l.relays[badID].refusal = errFull
		for _, p := range []peer.ID{badID, goodID, lateID} {
			l.relays[p].conns = []string{"inbound"}
		}
		k := loop(t, l, []peer.ID{ownID}, WithDiscovered(), WithTarget(1))
		<-time.After(time.Second)
		for _, p := range []peer.ID{badID, goodID, lateID} {
			k.signals.tell(p, signal{hopOn: true, addrs: addrs("/ip4/9.9.9.9/tcp/1")})
			synctest.Wait()
		}
		wantStates(t, k, Reserved)
		l.crash(ownID)
		<-time.After(time.Second)
		if got := k.Reservations(); len(got) != 2 || got[1].Relay != goodID || got[1].State != Reserved {
			t.Fatalf("%+v", got)
		}
		if _, asked := l.counts(badID, time.Time{}); asked != 1 {
			t.Errorf("the one that refused was asked %d times", asked)
		}
		l.with(goodID, func(r *fakeRelayState) { r.up, r.conns = false, nil })
		<-time.After(10 * time.Second)
		if got := k.Reservations(); len(got) != 2 || got[1].Relay != lateID || got[1].State != Reserved {
			t.Fatalf("%+v", got)
		}
		l.boot(ownID)
		<-time.After(5 * time.Second)
		wantStates(t, k, Reserved) // the own one, and it alone
		if l.protected[lateID] || l.protected[goodID] {
			t.Error("still protected")
		}
	})
}

func TestLoopOffersAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLinks(ownID)
		k := loop(t, l, []peer.ID{ownID}, WithDiscovered(), WithTarget(1))
		synctest.Wait()
		for i := range 10 * maxOffers {
			p := peer.ID(strconv.Itoa(i))
			l.mu.Lock()
			l.relays[p] = &fakeRelayState{up: true, lifetime: time.Hour}
			if i%2 == 0 {
				l.relays[p].conns = []string{"x"}
			}
			l.mu.Unlock()
			k.signals.tell(p, signal{hopOn: true})
			if i%100 == 0 {
				synctest.Wait()
			}
		}
		k.signals.tell(nobodyID, signal{}) // not of interest
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}
		if n := len(k.relays); n > maxOffers+1 {
			t.Errorf("%d relays kept in mind", n)
		}
	})
}

func TestLoopHop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLinks(idA)
		k := loop(t, l, []peer.ID{idA})
		waitReserved(t, k)
		l.with(idA, func(r *fakeRelayState) { r.refusal = ErrUnsupported })
		k.signals.tell(idA, signal{hopOff: true})
		wantStates(t, k, Refused)
		<-time.After(10 * time.Minute)
		wantStates(t, k, Refused)
		l.with(idA, func(r *fakeRelayState) { r.refusal = nil })
		k.signals.tell(idA, signal{hopOn: true})
		if d := waitReserved(t, k); d > 10*time.Second {
			t.Errorf("reserved after %v", d)
		}
	})
}

// A subscriber that reads nothing sees the last event of each relay later on;
// meanwhile nothing else waits for it.
func TestLoopSlowSubscriber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLinks(idA, idB)
		k := loop(t, l, []peer.ID{idA, idB})
		_ = k.Close()
		cfg, _ := newConfig(nil)
		cfg.target = 2
		k = newKeeper(cfg, l, []peer.AddrInfo{{ID: idA}, {ID: idB}})
		l.signals = k.signals
		block := make(chan struct{})
		var got []EvtReservationChanged
		var published []int
		k.launch(func(e any) error {
			published = append(published, len(e.(event.EvtAutoRelayAddrsUpdated).RelayAddrs))
			return nil
		}, func(e any) error {
			<-block
			got = append(got, e.(EvtReservationChanged))
			return nil
		})
		<-time.After(time.Second)
		l.crash(idA)
		<-time.After(time.Hour)
		l.boot(idA)
		<-time.After(2 * time.Minute)
		wantStates(t, k, Reserved, Reserved)
		close(block)
		synctest.Wait()
		if len(got) > 3 || got[len(got)-1].State != Reserved || len(got[len(got)-1].Addrs) != 2 {
			t.Errorf("%+v", got)
		}
		if err := k.Close(); err != nil {
			t.Fatal(err)
		}
		if n := len(published); n < 3 || published[n-1] != 0 {
			t.Errorf("published %v addresses", published)
		}
	})
}

func TestSlept(t *testing.T) {
	for _, c := range []struct {
		wall, monotonic time.Duration
		want            bool
	}{
		{heartbeat, heartbeat, false},
		{heartbeat + time.Second, heartbeat, false},
		{2 * time.Hour, time.Second, true},
		{-time.Hour, time.Second, false}, // somebody set the clock back
	} {
		if got := slept(c.wall, c.monotonic); got != c.want {
			t.Errorf("%v against %v: %v", c.wall, c.monotonic, got)
		}
	}
}

func TestNetworkChange(t *testing.T) {
	circuit := ma.StringCast("/ip4/8.8.8.8/tcp/1/p2p/" + relayA + "/p2p-circuit")
	lan := ma.StringCast("/ip4/10.0.0.1/tcp/1")
	is := func(a ma.Multiaddr, action event.AddrAction) event.UpdatedAddress {
		return event.UpdatedAddress{Address: a, Action: action}
	}
	with := func(current event.UpdatedAddress, removed ...event.UpdatedAddress) event.EvtLocalAddressesUpdated {
		return event.EvtLocalAddressesUpdated{Diffs: true, Current: []event.UpdatedAddress{current}, Removed: removed}
	}
	for _, c := range []struct {
		name string
		e    event.EvtLocalAddressesUpdated
		want bool
	}{
		{"no diffs", event.EvtLocalAddressesUpdated{}, true},
		{"nothing", with(is(lan, event.Maintained)), false},
		{"added", with(is(lan, event.Added)), true},
		{"our own", with(is(circuit, event.Added)), false},
		{"our own goes", with(is(lan, event.Maintained), is(circuit, event.Removed)), false},
		{"removed", with(is(circuit, event.Maintained), is(lan, event.Removed)), true},
	} {
		if got := networkChange(c.e); got != c.want {
			t.Errorf("%s: %v", c.name, got)
		}
	}
}
