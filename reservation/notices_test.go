package reservation

import (
	"fmt"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/tangop2p/tango/internal/notice"
)

// onLoopback is a network of one machine.
type onLoopback struct{ *fakeLinks }

func (onLoopback) dialled(peer.ID) ([]ma.Multiaddr, bool) { return nil, true }

// farewell is a relay's notice, with an address of each alternative.
func farewell(leaves time.Duration, alternatives ...peer.ID) *departure {
	d := &departure{Notice: notice.Notice{Leaves: leaves}, done: make(chan struct{})}
	for _, p := range alternatives {
		d.Alternatives = append(d.Alternatives, peer.AddrInfo{ID: p, Addrs: []ma.Multiaddr{ma.StringCast("/ip4/8.8.8.8/tcp/1/ws")}})
	}
	return d
}

func isDone(d *departure) bool {
	synctest.Wait()
	select {
	case <-d.done:
		return true
	default:
		return false
	}
}

func TestAlternativeBeforeTheRelayLeaves(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLinks(idA, idB)
		k := loop(t, l, []peer.ID{idA})
		waitReserved(t, k)
		d := farewell(time.Minute, idB)
		k.signals.tell(idA, signal{leaves: d})
		wantStates(t, k, Reserved, Connecting)
		if isDone(d) {
			t.Error("the relay is let go before there is another")
		}
		<-time.After(time.Second)
		wantStates(t, k, Waiting, Reserved)
		if !isDone(d) {
			t.Error("the relay waits though there is another")
		}
		l.crash(idA)
		<-time.After(20 * time.Second)
		if got := states(k); len(got) != 2 || got[1] != Reserved {
			t.Errorf("%v while the relay is down", got)
		}
		l.boot(idA)
		<-time.After(5 * time.Minute)
		wantStates(t, k, Reserved) // the other was a stand-in
	})
}

// publishing says what is public each time that the loop works out what should be.
type publishing struct {
	*fakeLinks

	look func()
}

func (p publishing) dialled(peer.ID) ([]ma.Multiaddr, bool) {
	p.look()
	return nil, false
}

// A relay goes as soon as it may, and then nobody comes through it any more.
func TestRelayIsLetGoOnceItsAddressesAreGone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLinks(idA, idB)
		d := farewell(time.Minute, idB)
		var k *Keeper
		k = loopOn(t, l, publishing{l, func() {
			select {
			case <-d.done:
				if addrs := fmt.Sprint(k.Addrs()); !strings.Contains(addrs, idB.String()) || strings.Contains(addrs, idA.String()) {
					t.Errorf("the relay is let go while the addresses are %v", addrs)
				}
			default:
			}
		}}, []peer.ID{idA})
		waitReserved(t, k)
		k.signals.tell(idA, signal{leaves: d})
		<-time.After(time.Second)
		wantStates(t, k, Waiting, Reserved)
		if !isDone(d) {
			t.Error("the relay waits though there is another")
		}
	})
}

func TestRelayThatLeavesAlone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLinks(idA, badID)
		l.relays[badID].up = false
		k := loop(t, l, []peer.ID{idA})
		waitReserved(t, k)
		d := farewell(time.Second)
		k.signals.tell(idA, signal{leaves: d})
		wantStates(t, k, Reserved)
		if !isDone(d) {
			t.Error("the relay waits though there is nobody else")
		}
		<-time.After(time.Hour) // it is still there
		d = farewell(time.Second, badID)
		k.signals.tell(idA, signal{leaves: d})
		<-time.After(10 * time.Second)
		wantStates(t, k, Reserved)
		if !isDone(d) {
			t.Error("the relay waits though the other is down")
		}
		l.crash(idA)
		l.boot(idA)
		if took := waitReserved(t, k); took > time.Second {
			t.Errorf("back after %v", took)
		}
	})
}

// TestOnlyRelayIsBackAtOnce also if it took its protocol back before it left, as
// one does that drains.
func TestOnlyRelayIsBackAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLinks(idA)
		k := loop(t, l, []peer.ID{idA})
		waitReserved(t, k)
		k.signals.tell(idA, signal{leaves: farewell(time.Minute)})
		wantStates(t, k, Reserved)
		k.signals.tell(idA, signal{hopOff: true})
		wantStates(t, k, Waiting)
		l.crash(idA)
		l.boot(idA)
		if took := waitReserved(t, k); took > time.Second {
			t.Errorf("back after %v", took)
		}
	})
}

func TestOwnSpareBeforeAlternatives(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLinks(idA, idB, idC)
		k := loop(t, l, []peer.ID{idA, idB}, WithTarget(1))
		waitReserved(t, k)
		k.signals.tell(idA, signal{leaves: farewell(time.Minute, idC)})
		<-time.After(time.Second)
		wantStates(t, k, Waiting, Reserved)
		if dials, _ := l.counts(idC, time.Time{}); dials > 0 {
			t.Error("an alternative is dialled though an own relay holds")
		}
	})
}

// What a relay suggests is bounded, and never nearer to us than it is itself.
func TestSuggestionsAreBounded(t *testing.T) {
	at := func(id, addr string) peer.AddrInfo {
		return peer.AddrInfo{ID: peer.ID(id), Addrs: []ma.Multiaddr{ma.StringCast(addr)}}
	}
	alternatives := []peer.AddrInfo{
		at("loopback", "/ip4/127.0.0.1/tcp/1/ws"), at("local", "/dns4/localhost/tcp/1/ws"), at("lan", "/ip4/192.168.1.1/tcp/1/ws"),
		at("unknown", "/ip4/8.8.8.8/udp/1"), at("self", "/ip4/8.8.8.8/tcp/1"),
		at("wide", "/ip4/8.8.8.8/tcp/1/ws"), at("named", "/dns4/relay.example/tcp/443/wss"), at(string(idA), "/ip4/8.8.8.8/tcp/2"),
		at("more", "/ip4/8.8.4.4/tcp/1"),
	}
	for name, c := range map[string]struct {
		links func(*fakeLinks) links
		want  []peer.ID
	}{
		"from afar":   {func(l *fakeLinks) links { return l }, []peer.ID{"wide", "named"}},
		"from nearby": {func(l *fakeLinks) links { return onLoopback{l} }, []peer.ID{"loopback", "local", "lan", "wide", "named"}},
	} {
		cfg, err := newConfig(nil)
		if err != nil {
			t.Fatal(err)
		}
		k := newKeeper(cfg, c.links(newFakeLinks(idA)), []peer.AddrInfo{{ID: idA}})
		k.self = "self"
		k.suggest(k.relays[0], alternatives)
		var got []peer.ID
		for _, r := range k.relays[1:] {
			got = append(got, r.id)
		}
		if len(got) != len(c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
		k.cancel()
	}
}

// Only relays that were given to the Keeper are heeded.
func TestDiscoveredRelaysAreNotHeeded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newFakeLinks(goodID, idB)
		l.relays[goodID].conns = []string{"1"}
		k := loop(t, l, nil, WithDiscovered(), WithTarget(1))
		k.signals.tell(goodID, signal{hopOn: true})
		waitReserved(t, k)
		d := farewell(time.Minute, idB)
		k.signals.tell(goodID, signal{leaves: d})
		<-time.After(time.Minute)
		wantStates(t, k, Reserved)
		if dials, _ := l.counts(idB, time.Time{}); dials > 0 || !isDone(d) {
			t.Errorf("%d dials to what it names", dials)
		}
	})
}
