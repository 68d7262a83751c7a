package exercise

import (
	"encoding/hex"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestRandom: the first states from seed 1 are 270369, 67634689 and 2647435461.
// js/exercise.ts has to make the same, which every download shows.
func TestRandom(t *testing.T) {
	if got, want := hex.EncodeToString(Random(1, 10)), "21200400"+"01060804"+"c5a8"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
	if n := len(Random(7, 5)); n != 5 {
		t.Errorf("%d bytes, want 5", n)
	}
}

// TestExercise: client and server over TCP, each protocol once.
func TestExercise(t *testing.T) {
	ctx := t.Context()
	remote := newHost(t)
	server := Serve(remote)
	local := newHost(t)
	if err := local.Connect(ctx, peer.AddrInfo{ID: remote.ID(), Addrs: remote.Addrs()}); err != nil {
		t.Fatal(err)
	}
	c := Client{local, remote.ID()}
	if got := c.Streams(ctx, 300, 100, 20_000); got.OK != 300 || got.Failed != 0 {
		t.Errorf("streams: %+v", got)
	}
	if got, err := c.Upload(ctx, 1<<20, 2); err != nil || got.Bytes != 1<<20 {
		t.Errorf("upload: %+v, %v", got, err)
	}
	if got, err := c.Download(ctx, 1<<20, 3); err != nil || got.Bytes != 1<<20 {
		t.Errorf("download: %+v, %v", got, err)
	}
	sent, err := c.HalfClose(ctx, 1000, 4)
	if err != nil || sent.Greeting != Greeting || sent.End != EOF {
		t.Errorf("half-close: %+v, %v", sent, err)
	}
	if end, err := c.ResetSeen(ctx); err != nil || end != ByReset {
		t.Errorf("reset: %q, %v", end, err)
	}
	got := awaitReceived(t, server)
	if got.Bytes != sent.Bytes || got.SHA256 != sent.SHA256 || got.End != EOF || got.Peer != local.ID().String() {
		t.Errorf("sent %+v, the server has %+v", sent, got)
	}
}

func awaitReceived(t *testing.T, s *Server) Received {
	t.Helper()
	ticker := time.NewTicker(10 * time.Millisecond)
	defer ticker.Stop()
	for {
		if got := s.Received(HalfClose); len(got) == 1 {
			return got[0]
		}
		select {
		case <-ticker.C:
		case <-t.Context().Done():
			t.Fatal("nothing received")
		}
	}
}

func newHost(t *testing.T) host.Host {
	t.Helper()
	limits := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&limits)
	Limits(&limits)
	manager, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(limits.AutoScale()))
	if err != nil {
		t.Fatal(err)
	}
	h, err := libp2p.New(libp2p.Transport(tcp.NewTCPTransport), libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"),
		libp2p.ResourceManager(manager), libp2p.DisableRelay())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}
