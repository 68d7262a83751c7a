package webrtc_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/tangop2p/tango/signaling"
	"github.com/tangop2p/tango/webrtc"
)

// circuit connects two peers through the relay as an application does that
// knows nothing of /webrtc.
func circuit(t *testing.T, from, to *peerNode) {
	t.Helper()
	addr, _ := ma.SplitLast(to.addr)
	ctx := network.WithAllowLimitedConn(short(t), "test")
	if err := from.Host.Connect(ctx, peer.AddrInfo{ID: to.ID(), Addrs: []ma.Multiaddr{addr}}); err != nil {
		t.Fatal(err)
	}
}

func direct(n *peerNode, p peer.ID) []network.Conn {
	return slices.DeleteFunc(n.Network().ConnsToPeer(p), func(c network.Conn) bool {
		_, err := c.RemoteMultiaddr().ValueForProtocol(ma.P_WEBRTC)
		return err != nil
	})
}

func TestCircuitBecomesDirect(t *testing.T) {
	r := newRelay(t)
	a, b := newPeer(t, r), newPeer(t, r)
	serveEcho(b)
	events := watch[webrtc.EvtPathChanged](t, b)
	circuit(t, a, b)
	echo(t, a, b, []byte("waits for the direct connection by itself"))
	if n := len(a.Network().ConnsToPeer(b.ID())); n != 2 {
		t.Errorf("%d connections, want the relayed one beside the direct one", n)
	}
	var kinds []webrtc.PathKind
	for e := range events {
		if kinds = append(kinds, e.To.Kind); e.To.Kind == webrtc.PathDirect {
			break
		}
	}
	if want := []webrtc.PathKind{webrtc.PathRelayed, webrtc.PathDirect}; !slices.Equal(kinds, want) {
		t.Errorf("paths %v, want %v", kinds, want)
	}
}

// watch returns the events of a type from now on.
func watch[E any](t *testing.T, n *peerNode) func(func(E) bool) {
	t.Helper()
	sub, err := n.EventBus().Subscribe(new(E))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Close() })
	return func(yield func(E) bool) {
		for {
			select {
			case e := <-sub.Out():
				if !yield(e.(E)) {
					return
				}
			case <-time.After(10 * time.Second):
				t.Errorf("no %T within 10 s", *new(E))
				return
			}
		}
	}
}

// nothing lets no candidate through, as a network does that drops all UDP.
func nothing() webrtc.Option {
	p := signaling.DefaultCandidatePolicy()
	p.MinPort = 65535 // above all ephemeral ones
	return webrtc.WithCandidatePolicy(p)
}

func TestFailedUpgradeLeavesTheRelayedPath(t *testing.T) {
	r := newRelay(t)
	limit := within(4 * time.Second) // to exchange descriptions in
	a, b := newPeer(t, r, nothing(), limit), newPeer(t, r, nothing(), limit)
	serveEcho(b)
	fails := watch[webrtc.EvtUpgradeFailed](t, a)
	path, err := a.Transport.Connect(short(t), b.ID(), b.addr)
	failed, ok := errors.AsType[*webrtc.ConnectError](err)
	if !ok {
		t.Fatalf("error %v", err)
	}
	if !errors.Is(err, webrtc.ErrNoCandidatePair) || failed.Stage != webrtc.StageCandidates || failed.Hint == "" {
		t.Errorf("error %v at %s, hint %q", err, failed.Stage, failed.Hint)
	}
	if path.Kind != webrtc.PathRelayed || path.Relay != r.ID() || !path.Limited {
		t.Errorf("path %+v", path)
	}
	for e := range fails {
		attempts := a.Explain(b.ID()).Attempts
		last := attempts[len(attempts)-1]
		if e.Peer != b.ID() || e.Next.Sub(last.Start.Add(last.Took)) < 5*time.Second { // the shortest back-off
			t.Errorf("event %+v, the attempt was %v", e, last)
		}
		break
	}
	s, err := a.NewStream(network.WithAllowLimitedConn(short(t), "test"), b.ID(), echoID)
	if err != nil {
		t.Fatal(err)
	}
	_ = s.Reset()
	words := a.Explain(b.ID()).String()
	for _, want := range []string{"relayed by " + r.ID().String(), "direct failed at candidates", "candidate policy", "next try"} {
		if !strings.Contains(words, want) {
			t.Errorf("%q is missing in:\n%s", want, words)
		}
	}
}

// within ends attempts that nothing else ends. What they have to reach before may
// take more than a second on a busy machine.
func within(d time.Duration) webrtc.Option {
	l := webrtc.DefaultLimits()
	l.Timeout = d
	return webrtc.WithLimits(l)
}

func TestGlareEndsInOneConnection(t *testing.T) {
	for range 10 {
		r := newRelay(t)
		a, b := newPeer(t, r), newPeer(t, r)
		var both sync.WaitGroup
		both.Go(func() { connect(t, a, b) })
		both.Go(func() { connect(t, b, a) })
		both.Wait()
		if n, m := len(direct(a, b.ID())), len(direct(b, a.ID())); n != 1 || m != 1 {
			t.Errorf("%d and %d direct connections\n%v\n%v", n, m, a.Explain(b.ID()), b.Explain(a.ID()))
		}
		_, _ = a.Close(), b.Close()
	}
}

// A side whose swarm is about to get a connection does not make another one.
func TestNoSecondConnectionBeforeTheFirstShows(t *testing.T) {
	r, g := newRelay(t), &gater{late: make(chan struct{})}
	a, b := newPeer(t, r), newGated(t, r, g)
	connect(t, a, b)
	var back sync.WaitGroup
	back.Go(func() { connect(t, b, a) })
	await(t, "the other side has tried", func() bool {
		return slices.ContainsFunc(b.Explain(a.ID()).Attempts, func(a webrtc.Attempt) bool { return a.Rung == webrtc.RungDirect })
	})
	close(g.late)
	back.Wait()
	if n, m := len(direct(a, b.ID())), len(direct(b, a.ID())); n != 1 || m != 1 {
		t.Errorf("%d and %d direct connections\n%v\n%v", n, m, a.Explain(b.ID()), b.Explain(a.ID()))
	}
}

func TestDirectPathOutlivesTheRelay(t *testing.T) {
	r := newRelay(t)
	a, b := newPeer(t, r), newPeer(t, r)
	serveEcho(b)
	connect(t, a, b)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	await(t, "the relayed connection is gone", func() bool { return len(a.Network().ConnsToPeer(b.ID())) == 1 })
	echo(t, a, b, []byte("without a relay"))
}

func TestSilentPathIsRebuilt(t *testing.T) {
	for name, dropRelayed := range map[string]bool{"over the relayed connection": false, "through the relay anew": true} {
		t.Run(name, func(t *testing.T) {
			r := newRelay(t)
			a, b := newPeer(t, r), newPeer(t, r)
			serveEcho(b)
			connect(t, a, b)
			before := direct(a, b.ID())[0]
			if dropRelayed {
				for _, c := range a.Network().ConnsToPeer(b.ID()) {
					if c != before {
						_ = c.Close()
					}
				}
			}
			webrtc.Lose(a.Transport, b.ID())
			await(t, "there is another direct connection", func() bool {
				now := direct(a, b.ID())
				return len(now) == 1 && now[0] != before && !now[0].IsClosed()
			})
			echo(t, a, b, []byte("again"))
		})
	}
}

func TestClosedPathStaysClosed(t *testing.T) {
	r := newRelay(t)
	a, b := newPeer(t, r), newPeer(t, r)
	connect(t, a, b)
	if err := a.Network().ClosePeer(b.ID()); err != nil {
		t.Fatal(err)
	}
	await(t, "the other side has noticed", func() bool { return b.Network().Connectedness(a.ID()) == network.NotConnected })
	if e := a.Explain(b.ID()); !e.Next.IsZero() || e.Path.Kind != webrtc.PathNone {
		t.Errorf("explanation %v", e)
	}
}

// Who closes a direct path as soon as it shows is given time to close the relayed
// one too.
func TestPathClosedAtOnceIsLeftAWhile(t *testing.T) {
	r := newRelay(t)
	a, b := newPeer(t, r), newPeer(t, r)
	var once sync.Once
	a.Network().Notify(&network.NotifyBundle{ConnectedF: func(_ network.Network, c network.Conn) {
		if _, err := c.RemoteMultiaddr().ValueForProtocol(ma.P_WEBRTC); err == nil {
			once.Do(func() { _ = c.Close() })
		}
	}})
	circuit(t, a, b)
	await(t, "there is a path in the end", func() bool { return a.Path(b.ID()).Kind == webrtc.PathDirect })
	var made []webrtc.Attempt
	await(t, "it is told", func() bool {
		made = slices.DeleteFunc(a.Explain(b.ID()).Attempts, func(a webrtc.Attempt) bool { return a.Rung != webrtc.RungDirect })
		return len(made) > 1
	})
	if pause := made[1].Start.Sub(made[0].Start.Add(made[0].Took)); pause < time.Second {
		t.Errorf("the next attempt began after %v", pause)
	}
}

func TestConnectSaysWhatIsMissing(t *testing.T) {
	r := newRelay(t)
	a, b := newPeer(t, r), newPeer(t, r)
	stranger, other := newHost(t, libp2p.NoListenAddrs), newHost(t, libp2p.NoListenAddrs)
	whole := b.addr.Encapsulate(ma.StringCast("/p2p/" + b.ID().String()))
	tests := map[string]struct {
		to    peer.ID
		addr  ma.Multiaddr
		stage webrtc.Stage
		err   error
	}{
		"itself":          {to: a.ID(), stage: webrtc.StageDiscover},
		"no address":      {to: b.ID(), stage: webrtc.StageDiscover, err: webrtc.ErrNoAddress},
		"another's":       {to: stranger.ID(), addr: whole, stage: webrtc.StageDiscover},
		"no reservation":  {to: stranger.ID(), addr: b.addr, stage: webrtc.StageReservation},
		"nobody listens":  {to: other.ID(), addr: ma.StringCast("/ip4/127.0.0.1/tcp/1"), stage: webrtc.StageRelayDial},
		"not even a peer": {to: "", stage: webrtc.StageDiscover},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			var addrs []ma.Multiaddr
			if test.addr != nil {
				addrs = append(addrs, test.addr)
			}
			_, err := a.Transport.Connect(short(t), test.to, addrs...)
			failed, ok := errors.AsType[*webrtc.ConnectError](err)
			if !ok || failed.Stage != test.stage || test.err != nil && !errors.Is(err, test.err) {
				t.Errorf("error %v", err)
			}
		})
	}
}

func TestConnectEndsWithItsContext(t *testing.T) {
	r := newRelay(t)
	a, b := newPeer(t, r, nothing()), newPeer(t, r, nothing())
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	relayed := watch[webrtc.EvtPathChanged](t, a)
	var telling sync.WaitGroup
	defer telling.Wait()
	telling.Go(func() {
		for range relayed {
			cancel(why)
			return
		}
	})
	path, err := a.Transport.Connect(ctx, b.ID(), b.addr)
	if !errors.Is(err, why) || path.Kind != webrtc.PathRelayed {
		t.Errorf("path %v, error %v", path, err)
	}
}

// It does so too while it dials through the relay.
func TestConnectSaysWhyItEnds(t *testing.T) {
	r := newRelay(t)
	a, b := newPeer(t, r), newPeer(t, r)
	why := errors.New("enough")
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(why)
	if path, err := a.Transport.Connect(ctx, b.ID(), b.addr); !errors.Is(err, why) || path.Kind != webrtc.PathNone {
		t.Errorf("path %v, error %v", path, err)
	}
}

func TestPeerWithoutWebRTCStaysRelayed(t *testing.T) {
	r := newRelay(t)
	a, b := newPeer(t, r), newPeer(t, r)
	if err := b.Transport.Close(); err != nil {
		t.Fatal(err)
	}
	path, err := a.Transport.Connect(short(t), b.ID(), b.addr)
	if !errors.Is(err, signaling.ErrUnsupported) || path.Kind != webrtc.PathRelayed {
		t.Errorf("path %v, error %v", path, err)
	}
}
