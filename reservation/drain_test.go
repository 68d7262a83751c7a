package reservation_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"

	"github.com/tangop2p/tango/internal/notice"
	"github.com/tangop2p/tango/relay"
	"github.com/tangop2p/tango/reservation"
)

func newTangoRelay(t *testing.T, opts ...relay.Option) (*relay.Relay, host.Host) {
	t.Helper()
	h := newHost(t)
	r, err := relay.New(h, append([]relay.Option{relay.WithTopics()}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	return r, h
}

func info(h host.Host) peer.AddrInfo { return peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()} }

// A relay that is shut down is gone only after its peers are elsewhere.
func TestDrainMovesPeersFirst(t *testing.T) {
	second, sh := newTangoRelay(t)
	first, fh := newTangoRelay(t, relay.WithAlternatives(fmt.Sprintf("%s/p2p/%s", sh.Addrs()[0], sh.ID())))
	h := newHost(t)
	k := newKeeper(t, h, []peer.AddrInfo{info(fh)})
	wait(t, k)
	awaitProtocol(t, fh, h.ID(), notice.ID)
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	start := time.Now()
	if err := first.Shutdown(ctx); err != nil {
		t.Fatal(err)
	}
	if held := second.Reservations(); len(held) != 1 || held[0].Peer != h.ID() {
		t.Errorf("the other relay has %v", held)
	}
	if took := time.Since(start); took > 10*time.Second {
		t.Errorf("%v, though the peer was gone", took)
	}
	dialThrough(t, h, k.Addrs())
}

// awaitProtocol waits until a host knows that a peer speaks a protocol.
func awaitProtocol(t *testing.T, h host.Host, p peer.ID, id protocol.ID) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); time.Now().Before(deadline); <-time.After(time.Millisecond) {
		if ids, err := h.Peerstore().SupportsProtocols(p, id); err == nil && len(ids) > 0 {
			return
		}
	}
	t.Fatalf("%v is not known to speak %v", p, id)
}

// Who holds a notice back delays the end until its deadline, no longer; and Close
// ends the wait.
func TestDrainDoesNotTrustPeers(t *testing.T) {
	for _, byClose := range []bool{false, true} {
		t.Run(map[bool]string{false: "deadline", true: "Close"}[byClose], func(t *testing.T) {
			r, rh := newTangoRelay(t)
			h := newHost(t)
			asked := make(chan network.Stream, 1)
			h.SetStreamHandler(notice.ID, func(s network.Stream) { asked <- s })
			if err := h.Connect(t.Context(), info(rh)); err != nil {
				t.Fatal(err)
			}
			awaitProtocol(t, rh, h.ID(), notice.ID)
			if _, err := client.Reserve(t.Context(), h, info(rh)); err != nil {
				t.Fatal(err)
			}
			limit := time.Second
			if byClose {
				limit = time.Hour
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			done := make(chan error, 1)
			go func() { done <- r.Shutdown(ctx) }()
			<-asked
			if byClose {
				go func() { _ = r.Close() }()
			}
			select {
			case err := <-done:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(5 * time.Second):
				t.Fatal("Shutdown waits for the peer")
			}
		})
	}
}

// A peer whose identify the relay has not heard yet is told as well.
func TestDrainTellsWhoIsNew(t *testing.T) {
	r, rh := newTangoRelay(t)
	h := newHost(t)
	h.RemoveStreamHandler(identify.ID)
	told := make(chan error, 1)
	h.SetStreamHandler(notice.ID, func(s network.Stream) {
		_, err := notice.Read(s)
		told <- err
		_ = s.Close()
	})
	if err := h.Connect(t.Context(), info(rh)); err != nil {
		t.Fatal(err)
	}
	if _, err := client.Reserve(t.Context(), h, info(rh)); err != nil {
		t.Fatal(err)
	}
	if err := r.Shutdown(t.Context()); err != nil {
		t.Fatal(err)
	}
	select {
	case err := <-told:
		if err != nil {
			t.Error(err)
		}
	default:
		t.Error("it was not told")
	}
}

// A Keeper closes in the middle of a notice.
func TestCloseWhileHeeding(t *testing.T) {
	_, rh := newTangoRelay(t)
	h := newHost(t)
	k, err := reservation.New(h, []peer.AddrInfo{info(rh)})
	if err != nil {
		t.Fatal(err)
	}
	wait(t, k)
	s, err := rh.NewStream(t.Context(), h.ID(), notice.ID)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Reset() }()
	if _, err := s.Write([]byte("{")); err != nil { // and no more
		t.Fatal(err)
	}
	start := time.Now()
	if err := k.Close(); err != nil || time.Since(start) > 3*time.Second {
		t.Errorf("%v after %v", err, time.Since(start))
	}
}
