package relay

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	relayv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	ma "github.com/multiformats/go-multiaddr"
)

// smallMachine is the resource manager of a machine with 1 GiB of memory and
// 1024 file descriptors, of which go-libp2p takes an eighth and a half.
func smallMachine(t *testing.T, l Limits) network.ResourceManager {
	t.Helper()
	scaling := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&scaling)
	l.Scale(&scaling)
	rm, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(scaling.Scale(1<<30/8, 512)), l.ResourceManagerOptions()...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = rm.Close() })
	return rm
}

// openStream books what yamux and the services do.
func openStream(rm network.ResourceManager, p peer.ID, dir network.Direction, id protocol.ID, service string) error {
	err := rm.ViewPeer(p, func(s network.PeerScope) error {
		span, err := s.BeginSpan()
		if err != nil {
			return err
		}
		return span.ReserveMemory(yamuxWindow, network.ReservationPriorityAlways)
	})
	if err != nil {
		return fmt.Errorf("window: %w", err)
	}
	stream, err := rm.OpenStream(p, dir)
	if err != nil {
		return err
	}
	if err := stream.SetProtocol(id); err != nil || service == "" {
		return err
	}
	return errors.Join(stream.SetService(service), stream.ReserveMemory(maxMessage, network.ReservationPriorityAlways))
}

// arrive has a peer connect by webrtc-direct, which books most, and join GossipSub.
func arrive(rm network.ResourceManager, i int) (peer.ID, error) {
	addr := ma.StringCast(fmt.Sprintf("/ip4/192.0.%d.%d/udp/1/webrtc-direct", i/250, i%250+1))
	conn, err := rm.OpenConnection(network.DirInbound, true, addr)
	if err != nil {
		return "", err
	}
	p := peer.ID(addr.String())
	return p, errors.Join(
		conn.ReserveMemory(connBuffer, network.ReservationPriorityMedium),
		conn.SetPeer(p),
		openStream(rm, p, network.DirInbound, pubsub.GossipSubID_v12, ""),
		openStream(rm, p, network.DirOutbound, pubsub.GossipSubID_v12, ""))
}

// meet books a circuit.
func meet(rm network.ResourceManager, l Limits, src, dst peer.ID) error {
	return errors.Join(
		openStream(rm, src, network.DirInbound, proto.ProtoIDv2Hop, relayv2.ServiceName),
		openStream(rm, dst, network.DirOutbound, proto.ProtoIDv2Stop, relayv2.ServiceName),
		rm.ViewService(relayv2.ServiceName, func(s network.ServiceScope) error {
			return s.ReserveMemory(2*l.BufferSize, network.ReservationPriorityHigh)
		}))
}

func TestReservationsAndCircuitsFit(t *testing.T) {
	for name, l := range map[string]Limits{"SignalingOnly": SignalingOnly(), "Data": Data()} {
		t.Run(name, func(t *testing.T) {
			rm := smallMachine(t, l)
			peers := make([]peer.ID, l.Reservations)
			for i := range peers {
				var err error
				if peers[i], err = arrive(rm, i); err != nil {
					t.Fatalf("peer %d: %v", i+1, err)
				}
				if i < len(peers)/2 {
					continue
				}
				for range 2 * l.Circuits / len(peers) { // before the last have come
					if err := meet(rm, l, peers[i], peers[i/2]); err != nil {
						t.Fatalf("circuit with peer %d: %v", i+1, err)
					}
				}
			}
		})
	}
}

// What is booked stays within what a small machine may promise.
func TestScaleIsSane(t *testing.T) {
	booked := func(l Limits) int64 {
		var scaling rcmgr.ScalingLimitConfig
		l.Scale(&scaling)
		return scaling.SystemBaseLimit.Memory
	}
	if n := booked(SignalingOnly()); n > 2<<30 {
		t.Errorf("%d MiB booked", n>>20)
	}
}

// A full relay does not search all reservations for each newcomer.
func TestFullTableIsQuick(t *testing.T) {
	fill := func(n int) *table {
		l := SignalingOnly()
		l.Reservations = n
		tb := newTable(l)
		for i := range n {
			put(t, tb, strconv.Itoa(i), addrIn(i/4), i)
		}
		return tb
	}
	perPut := func(tb *table, n int) time.Duration {
		best := time.Hour
		next := n
		for range 5 {
			start := time.Now()
			for range 200 {
				if _, evicted, why := put(t, tb, strconv.Itoa(next), addrIn(next), 60); evicted == nil {
					t.Fatalf("no room: %v", why)
				}
				next++
			}
			best = min(best, time.Since(start))
		}
		return best
	}
	small, large := perPut(fill(4_000), 4_000), perPut(fill(128_000), 128_000)
	if large > 12*small {
		t.Errorf("200 newcomers take %v among 4,000 and %v among 128,000", small, large)
	}
}

// addrIn returns the address of the i-th network.
func addrIn(i int) string {
	return netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)}).String()
}

type busHost struct {
	host.Host
	bus event.Bus
}

func (h busHost) EventBus() event.Bus { return h.bus }

func TestDroppedEventsAreCounted(t *testing.T) {
	h := busHost{bus: eventbus.NewBus()}
	sub, err := h.bus.Subscribe(new(EvtReservation), eventbus.BufSize(1))
	if err != nil {
		t.Fatal(err)
	}
	var dropped atomic.Int64
	e, err := newEvents(h, func() { dropped.Add(1) })
	if err != nil {
		t.Fatal(err)
	}
	const all = 3 * eventQueue
	for range all {
		e.reservation(EvtReservation{})
	}
	go func() {
		for range all - dropped.Load() {
			<-sub.Out()
		}
		_ = sub.Close()
	}()
	if err := e.close(); err != nil {
		t.Fatal(err)
	}
	if n := dropped.Load(); n < all-eventQueue-2 || n > all-eventQueue {
		t.Errorf("%d dropped of %d, want all but %d", n, all, eventQueue)
	}
}

func TestLimitsAsText(t *testing.T) {
	const want = "1024 reservations of 1h0m0s (64 an IP address, 256 an IPv6 autonomous system); 1024 circuits (64 a peer) of 30m0s, " +
		"67108864 bytes each way, 2097152 bytes/s a peer, 16384 bytes of buffer"
	if got := Data().String(); got != want {
		t.Errorf("%s", got)
	}
}
