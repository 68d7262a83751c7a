package webrtc

import (
	"context"
	"errors"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/pion/transport/v5"
	pion "github.com/pion/webrtc/v4"
)

// side is one end of a connection on loopback, as the rest of the package sets
// it up, but without signaling.
type side struct {
	*conn
	pc       *pion.PeerConnection
	channels *channels
	scope    *countingScope
	closed   atomic.Int32 // how often closePC was called, + 100 for onClosed
}

type pairConfig struct {
	limits streamLimits
	raw    bool          // the second side is a bare PeerConnection
	net    transport.Net // of the second side; nil is the system's
}

type pairOption func(*pairConfig)

func withLimits(f func(*streamLimits)) pairOption {
	return func(c *pairConfig) { f(&c.limits) }
}

func withRawRemote(c *pairConfig) { c.raw = true }

func withNet(n transport.Net) pairOption { return func(c *pairConfig) { c.net = n } }

// newPionPair connects two sides; the first has made the offer.
func newPionPair(t testing.TB, opts ...pairOption) (a, b *side) {
	t.Helper()
	cfg := pairConfig{limits: defaultStreamLimits()}
	for _, opt := range opts {
		opt(&cfg)
	}
	a, b = newSide(t, true, pairConfig{}), newSide(t, false, cfg)
	if err := a.channels.createInit(); err != nil {
		t.Fatal(err)
	}
	signal(t, a.pc, b.pc)
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := a.channels.awaitInit(ctx); err != nil {
		t.Fatal(err)
	}
	a.adopt(cfg)
	if !cfg.raw {
		await(t, "init", func() bool {
			b.channels.mu.Lock()
			defer b.channels.mu.Unlock()
			return b.channels.initSeen
		})
		b.adopt(cfg)
	}
	return a, b
}

func newSide(t testing.TB, offerer bool, cfg pairConfig) *side {
	t.Helper()
	var e pion.SettingEngine
	told := new(resets)
	e.LoggerFactory = pionLoggers{told}
	e.DetachDataChannels()
	e.SetIncludeLoopbackCandidate(true)
	e.SetIPFilter(net.IP.IsLoopback)
	e.SetNetworkTypes([]pion.NetworkType{pion.NetworkTypeUDP4})
	if cfg.net != nil {
		e.SetNet(cfg.net)
	}
	pc, err := pion.NewAPI(pion.WithSettingEngine(e)).NewPeerConnection(pion.Configuration{})
	if err != nil {
		t.Fatal(err)
	}
	s := &side{pc: pc, scope: &countingScope{}}
	if cfg.raw {
		t.Cleanup(func() { _ = pc.GracefulClose() })
		return s
	}
	s.channels = newChannels(pc, offerer, told)
	t.Cleanup(func() {
		if s.conn != nil {
			_ = s.Close()
			return
		}
		_ = pc.GracefulClose()
		s.channels.close()
	})
	return s
}

func (s *side) adopt(cfg pairConfig) {
	s.conn = newConn(s.pc, s.channels, connParams{
		remotePeer: peer.ID("remote"),
		scope:      s.scope,
		limits:     cfg.limits,
		closePC: func() error {
			s.closed.Add(1)
			return s.pc.GracefulClose()
		},
		onClosed: func() { s.closed.Add(100) },
	})
	s.pc.SCTP().OnClose(func(err error) { s.gone(errors.Join(errors.New("SCTP closed"), err)) })
	s.pc.OnConnectionStateChange(func(st pion.PeerConnectionState) {
		if st == pion.PeerConnectionStateFailed || st == pion.PeerConnectionStateClosed {
			s.gone(errors.New(st.String()))
		}
	})
}

// signal exchanges complete descriptions.
func signal(t testing.TB, a, b *pion.PeerConnection) {
	t.Helper()
	up := connected(a, b)
	offer, err := a.CreateOffer(nil)
	if err != nil {
		t.Fatal(err)
	}
	describe(t, a, offer)
	if err := b.SetRemoteDescription(*a.LocalDescription()); err != nil {
		t.Fatal(err)
	}
	answer, err := b.CreateAnswer(nil)
	if err != nil {
		t.Fatal(err)
	}
	describe(t, b, answer)
	if err := a.SetRemoteDescription(*b.LocalDescription()); err != nil {
		t.Fatal(err)
	}
	select {
	case <-up:
	case <-time.After(10 * time.Second):
		t.Fatal("not connected within 10 s")
	}
}

// describe sets a local description and waits for its candidates.
func describe(t testing.TB, pc *pion.PeerConnection, d pion.SessionDescription) {
	t.Helper()
	gathered := pion.GatheringCompletePromise(pc)
	if err := pc.SetLocalDescription(d); err != nil {
		t.Fatal(err)
	}
	<-gathered
}

func connected(pcs ...*pion.PeerConnection) <-chan struct{} {
	var wg sync.WaitGroup
	for _, pc := range pcs {
		wg.Add(1)
		var once sync.Once
		pc.OnConnectionStateChange(func(s pion.PeerConnectionState) {
			if s == pion.PeerConnectionStateConnected {
				once.Do(wg.Done)
			}
		})
	}
	up := make(chan struct{})
	go func() {
		wg.Wait()
		close(up)
	}()
	return up
}

// countingScope counts what is reserved.
type countingScope struct {
	network.NullScope
	bytes, spans, done atomic.Int64
	limit              atomic.Int64 // of bytes; 0 is none
}

func (s *countingScope) PeerScope() network.PeerScope { return &countingPeer{scope: s} }
func (s *countingScope) Done()                        { s.done.Add(1) }

type countingPeer struct {
	network.NullScope
	scope *countingScope
}

func (p *countingPeer) BeginSpan() (network.ResourceScopeSpan, error) {
	p.scope.spans.Add(1)
	return &countingSpan{scope: p.scope}, nil
}

type countingSpan struct {
	network.NullScope
	scope *countingScope
	held  atomic.Int64
	done  atomic.Bool
}

var errNoMemory = errors.New("no memory")

func (s *countingSpan) ReserveMemory(size int, _ uint8) error {
	if s.done.Load() {
		panic("reserved after Done")
	}
	if limit := s.scope.limit.Load(); limit > 0 && s.scope.bytes.Load()+int64(size) > limit {
		return errNoMemory
	}
	s.scope.bytes.Add(int64(size))
	s.held.Add(int64(size))
	return nil
}

func (s *countingSpan) Done() {
	if s.done.Swap(true) {
		panic("Done twice")
	}
	s.scope.spans.Add(-1)
	s.scope.bytes.Add(-s.held.Load())
}

func (s *countingScope) empty() bool { return s.spans.Load() == 0 && s.bytes.Load() == 0 }

// await looks until done is true.
func await(t testing.TB, what string, done func() bool) {
	t.Helper()
	ticker := time.NewTicker(2 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(20 * time.Second); !done(); <-ticker.C {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}

func open(t testing.TB, c *side) *stream {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	s, err := c.OpenStream(ctx)
	if err != nil {
		t.Fatal(err)
	}
	return s.(*stream)
}

func accept(t testing.TB, c *side) *stream {
	t.Helper()
	s, err := c.AcceptStream()
	if err != nil {
		t.Fatal(err)
	}
	return s.(*stream)
}

// look reads the state of a stream.
func (s *stream) look(f func() bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return f()
}
