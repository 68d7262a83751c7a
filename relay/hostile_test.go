package relay_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tangop2p/tango/relay"
)

// within fails the test if f has not returned in time.
func within(t *testing.T, limit time.Duration, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(limit):
		t.Fatalf("%s takes more than %v", what, limit)
	}
}

// stall opens a HOP stream and sends half a message.
func stall(t *testing.T, h, rh host.Host) network.Stream {
	t.Helper()
	s, err := h.NewStream(t.Context(), rh.ID(), proto.ProtoIDv2Hop)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Reset() })
	if _, err := s.Write([]byte{10}); err != nil {
		t.Fatal(err)
	}
	return s
}

// streams counts those of a protocol that a host has with another.
func streams(h, with host.Host, id protocol.ID) (n int) {
	for _, c := range h.Network().ConnsToPeer(with.ID()) {
		for _, s := range c.GetStreams() {
			if s.Protocol() == id {
				n++
			}
		}
	}
	return n
}

func TestCloseDoesNotWaitForThePeers(t *testing.T) {
	t.Run("silent destination", func(t *testing.T) {
		r, rh := newRelay(t)
		a, b := newHost(t), newHost(t)
		asked := make(chan network.Stream, 1)
		b.SetStreamHandler(proto.ProtoIDv2Stop, func(s network.Stream) { asked <- s })
		reserve(t, b, rh)
		connect(t, a, rh)
		s, err := a.NewStream(t.Context(), rh.ID(), proto.ProtoIDv2Hop)
		if err != nil {
			t.Fatal(err)
		}
		if err := send(hopMessage(pbv2.HopMessage_CONNECT, b.ID()))(s); err != nil {
			t.Fatal(err)
		}
		stop := <-asked
		defer func() { _ = stop.Reset() }()
		within(t, 3*time.Second, "Close", func() { _ = r.Close() })
	})
	t.Run("slow request", func(t *testing.T) {
		r, rh := newRelay(t)
		a := newHost(t)
		connect(t, a, rh)
		stall(t, a, rh)
		waitFor(t, func() bool { return streams(rh, a, proto.ProtoIDv2Hop) == 1 })
		within(t, 3*time.Second, "Close", func() { _ = r.Close() })
	})
}

func TestUnreadRequestsAreBounded(t *testing.T) {
	reg := prometheus.NewRegistry()
	_, rh := newRelay(t, relay.WithRegisterer(reg))
	a, b := newHost(t), newHost(t)
	connect(t, a, rh)
	connect(t, b, rh)
	stalled := make([]network.Stream, 20)
	for i := range stalled {
		stalled[i] = stall(t, a, rh)
	}
	const unread = "libp2p_relaysvc_requests_unread_total"
	waitFor(t, func() bool { return metric(t, reg, unread, "") == 4 && streams(rh, a, proto.ProtoIDv2Hop) == 16 })
	if answer := hop(t, b, rh, send(hopMessage(pbv2.HopMessage_RESERVE, ""))); answer.GetStatus() != pbv2.Status_OK {
		t.Errorf("somebody else is answered %v", answer)
	}
	for _, s := range stalled {
		_ = s.Reset()
	}
	// so many broken off cost it its connection, see maxStrikes, but no place on the next
	waitFor(t, func() bool {
		return rh.Network().Connectedness(a.ID()) != network.Connected && a.Network().Connectedness(rh.ID()) != network.Connected
	})
	reserve(t, a, rh)
	if n := metric(t, reg, unread, ""); n != 4 {
		t.Errorf("%v requests not read, want 4", n)
	}
}

// With the addresses of several interfaces and their certificates' hashes an
// answer would be longer than a message may be.
func TestReservationFitsIntoItsMessage(t *testing.T) {
	const hashes = "/certhash/uEiAkH5a4DPGKUuOBjYw0CgwjvcJCJMD2K_1aluKR_tpevQ/certhash/uEiAfbgiymPP2_nX7Dgir8B4QkksjHp2lVuJZz0F79Be9JA"
	var addrs []ma.Multiaddr
	for i := range 31 {
		addrs = append(addrs, ma.StringCast(fmt.Sprintf("/ip4/127.0.0.%d/udp/4001/quic-v1/webtransport%s", i+1, hashes)))
	}
	addrs = append(addrs, ma.StringCast("/ip4/127.0.0.1/tcp/4001/ws"))
	rh := newHost(t, libp2p.AddrsFactory(func([]ma.Multiaddr) []ma.Multiaddr { return addrs }))
	r, err := relay.New(rh, relay.WithTopics())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Close() })
	a := newHost(t)
	a.Peerstore().AddAddrs(rh.ID(), rh.Network().ListenAddresses(), time.Hour)
	if err := a.Connect(t.Context(), info(rh)); err != nil {
		t.Fatal(err)
	}
	answer := hop(t, a, rh, send(hopMessage(pbv2.HopMessage_RESERVE, ""))).GetReservation()
	ws := func(a []byte) bool {
		m, err := ma.NewMultiaddrBytes(a)
		if err != nil {
			return false
		}
		_, err = m.ValueForProtocol(ma.P_WS)
		return err == nil
	}
	if n := len(answer.GetAddrs()); n < 20 || n > 31 || !slices.ContainsFunc(answer.GetAddrs(), ws) || len(answer.GetVoucher()) == 0 {
		t.Errorf("%d addresses, a voucher of %d bytes; want what fits, one of WebSocket among them", n, len(answer.GetVoucher()))
	}
}

// A circuit that waits for its bytes' turn does not outlive its time.
func TestDurationWhileWaitingForTheRate(t *testing.T) {
	l := relay.Data()
	_, rh := newRelay(t, relay.WithLimits(l), relay.WithPolicy(relay.Grant(relay.Terms{Rate: 1 << 10, Duration: time.Second})))
	a, b := newHost(t), newHost(t)
	closed := events(t, rh, new(relay.EvtCircuit))
	connect(t, a, rh)
	reserve(t, b, rh)
	src, dst := rawCircuit(t, a, rh, b) // its peers' handshake might take longer than it may last
	go func() { _, _ = src.Write(make([]byte, 1<<20)) }()
	go func() { _, _ = io.Copy(io.Discard, dst) }()
	closed() // opened
	if e, _ := closed().(relay.EvtCircuit); e.Cause != relay.CauseDuration || e.Duration < time.Second || e.Duration > 5*time.Second {
		t.Errorf("%+v, want the end after 1 s", e)
	}
}

// What the policy grants to who is called counts as well.
func TestRateOfTheDestination(t *testing.T) {
	const perSecond = 100 << 10
	slow := relay.On(relay.Grant(relay.Terms{Rate: perSecond}), relay.ConnectTo)
	_, rh := newRelay(t, relay.WithLimits(relay.Data()), relay.WithPolicy(slow))
	a, b := newHost(t), newHost(t)
	reserve(t, b, rh)
	s := echoThrough(t, a, rh, b)
	start := time.Now()
	go func() { _, _ = s.Write(make([]byte, 264<<10)) }()
	if _, err := io.ReadFull(s, make([]byte, 264<<10)); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(start); took < time.Second {
		t.Errorf("264 KiB each way took %v", took)
	}
}

// Policies may look at the relay when they are given back what they granted.
func TestReleasesMayAskTheRelay(t *testing.T) {
	r, rh := newRelay(t)
	a := newHost(t)
	policy := relay.PolicyFunc(func(context.Context, *relay.Request) relay.Decision {
		return relay.Allow(relay.Terms{}).Take(func() { r.Reservations() })
	})
	set := func() {
		if err := r.SetPolicy(t.Context(), policy); err != nil {
			t.Error(err)
		}
	}
	set()
	reserve(t, a, rh)
	within(t, 5*time.Second, "a renewal", func() {
		if _, err := reserveErr(t, a, rh); err != nil {
			t.Error(err)
		}
	})
	within(t, 5*time.Second, "another policy", set)
}

// Who also has a connection through another relay is judged by its direct one.
func TestPolicyAsksAboutTheDirectConnection(t *testing.T) {
	_, first := newRelay(t)
	r, rh := newRelay(t)
	reserve(t, rh, first)
	a := newHost(t)
	if err := through(t.Context(), a, first, rh); err != nil {
		t.Fatal(err)
	}
	direct := network.WithForceDirectDial(t.Context(), "test")
	if err := a.Connect(direct, info(rh)); err != nil {
		t.Fatal(err)
	}
	reserve(t, a, rh)
	if conns := rh.Network().ConnsToPeer(a.ID()); len(conns) != 2 || !conns[0].Stat().Limited {
		t.Fatalf("connections %v, want the relayed one first", conns)
	}
	if err := r.SetPolicy(t.Context(), nil); err != nil {
		t.Fatal(err)
	}
	if held := r.Reservations(); len(held) != 1 {
		t.Errorf("reservations %v", held)
	}
}

// 0 s would say: without a limit.
func TestShortDurationIsRoundedUp(t *testing.T) {
	_, rh := newRelay(t, relay.WithPolicy(relay.Grant(relay.Terms{Duration: 300 * time.Millisecond})))
	a := newHost(t)
	if rsvp := reserve(t, a, rh); rsvp.LimitDuration != time.Second {
		t.Errorf("told %v", rsvp.LimitDuration)
	}
}

func TestBytesCountWhileTheyPass(t *testing.T) {
	reg := prometheus.NewRegistry()
	r, rh := newRelay(t, relay.WithRegisterer(reg))
	a, b := newHost(t), newHost(t)
	reserve(t, b, rh)
	echoThrough(t, a, rh, b)
	const name = "libp2p_relaysvc_data_transferred_bytes_total"
	open := r.Circuits()[0]
	before := metric(t, reg, name, "")
	if before < float64(open.Sent+open.Received) {
		t.Errorf("%v bytes while %d have passed", before, open.Sent+open.Received)
	}
	_ = a.Network().ClosePeer(b.ID())
	waitFor(t, func() bool { return len(r.Circuits()) == 0 })
	if after := metric(t, reg, name, ""); after < before {
		t.Errorf("%v bytes, %v before", after, before)
	}
}

// Signaling always wins.
func TestBulkMakesRoom(t *testing.T) {
	l := relay.Data()
	l.Circuits = 1
	r, rh := newRelay(t, relay.WithLimits(l))
	a, b, c := newHost(t), newHost(t), newHost(t)
	closed := events(t, rh, new(relay.EvtCircuit))
	reserve(t, b, rh)
	s := echoThrough(t, a, rh, b)
	closed() // opened
	connect(t, c, rh)
	ask := func() pbv2.Status {
		return hop(t, c, rh, send(hopMessage(pbv2.HopMessage_CONNECT, b.ID()))).GetStatus()
	}
	if status := ask(); status != pbv2.Status_RESOURCE_LIMIT_EXCEEDED {
		t.Errorf("answer %v while the relay is full of signaling", status)
	}
	closed() // refused
	go func() { _, _ = s.Write(make([]byte, 200<<10)) }()
	if _, err := io.ReadFull(s, make([]byte, 200<<10)); err != nil {
		t.Fatal(err)
	}
	if status := ask(); status != pbv2.Status_OK {
		t.Errorf("answer %v though a bulk circuit could make room", status)
	}
	for e := range 4 { // that one was opened and ended too
		if e, _ := closed().(relay.EvtCircuit); e.Source == a.ID() && e.Cause == relay.CauseCapacity && e.Sent > 200<<10 {
			break
		}
		if e == 3 {
			t.Error("the bulk circuit did not make room")
		}
	}
	waitFor(t, func() bool { return len(r.Circuits()) == 0 })
}

// rawCircuit opens a circuit, and returns its streams at both ends.
func rawCircuit(t *testing.T, a, rh, b host.Host) (src, dst network.Stream) {
	t.Helper()
	taken := make(chan network.Stream, 1)
	b.SetStreamHandler(proto.ProtoIDv2Stop, func(s network.Stream) {
		in := util.NewDelimitedReader(s, 4096)
		defer in.Close()
		var m pbv2.StopMessage
		if in.ReadMsg(&m) != nil {
			return
		}
		_ = util.NewDelimitedWriter(s).WriteMsg(&pbv2.StopMessage{Type: pbv2.StopMessage_STATUS.Enum(), Status: pbv2.Status_OK.Enum()})
		taken <- s
	})
	src, err := a.NewStream(t.Context(), rh.ID(), proto.ProtoIDv2Hop)
	if err == nil {
		err = send(hopMessage(pbv2.HopMessage_CONNECT, b.ID()))(src)
	}
	if err != nil {
		t.Fatal(err)
	}
	in := util.NewDelimitedReader(src, 4096)
	defer in.Close()
	var answer pbv2.HopMessage
	if err := in.ReadMsg(&answer); err != nil || answer.GetStatus() != pbv2.Status_OK {
		t.Fatalf("answer %v, %v", &answer, err)
	}
	return src, <-taken
}

// Whoever ends a circuit is named.
func TestCauses(t *testing.T) {
	read := func(s network.Stream) { _, _ = s.Read(make([]byte, 1)) }
	for name, c := range map[string]struct {
		end  func(r *relay.Relay, a peer.ID, src, dst network.Stream)
		want relay.Cause
	}{
		"source resets":      {func(_ *relay.Relay, _ peer.ID, src, _ network.Stream) { _ = src.Reset() }, relay.CauseSource},
		"destination resets": {func(_ *relay.Relay, _ peer.ID, _, dst network.Stream) { _ = dst.Reset() }, relay.CauseDestination},
		"source leaves":      {func(_ *relay.Relay, _ peer.ID, src, _ network.Stream) { _ = src.Conn().Close() }, relay.CauseSource},
		"source closes, destination resets": {func(_ *relay.Relay, _ peer.ID, src, dst network.Stream) {
			_ = src.CloseWrite()
			read(dst)
			_ = dst.Reset()
		}, relay.CauseSource},
		"both close": {func(_ *relay.Relay, _ peer.ID, src, dst network.Stream) {
			_ = src.CloseWrite()
			read(dst)
			_ = dst.CloseWrite()
		}, relay.CauseClosed},
		"evicted": {func(r *relay.Relay, a peer.ID, _, _ network.Stream) { r.Evict(a) }, relay.CauseEvicted},
		"closed":  {func(r *relay.Relay, _ peer.ID, _, _ network.Stream) { _ = r.Close() }, relay.CauseShutdown},
	} {
		t.Run(name, func(t *testing.T) {
			r, rh := newRelay(t)
			a, b := newHost(t), newHost(t)
			closed := events(t, rh, new(relay.EvtCircuit))
			connect(t, a, rh)
			reserve(t, b, rh)
			src, dst := rawCircuit(t, a, rh, b)
			closed() // opened
			if _, err := src.Write([]byte("hello")); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(dst, make([]byte, 5)); err != nil {
				t.Fatal(err)
			}
			c.end(r, a.ID(), src, dst)
			if e, _ := closed().(relay.EvtCircuit); e.Cause != c.want || e.Duration <= 0 || e.Sent != 5 || e.Received != 0 {
				t.Errorf("%+v, want the cause %s and 5 bytes sent", e, c.want)
			}
			_, _ = src.Reset(), dst.Reset()
		})
	}
}
