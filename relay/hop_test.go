package relay_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tangop2p/tango/relay"
)

func hopMessage(t pbv2.HopMessage_Type, to peer.ID) *pbv2.HopMessage {
	m := &pbv2.HopMessage{Type: t.Enum()}
	if to != "" {
		m.Peer = &pbv2.Peer{Id: []byte(to)}
	}
	return m
}

// hop sends what write writes on a stream of circuit v2, and returns the answer.
func hop(t *testing.T, h, rh host.Host, write func(s network.Stream) error) *pbv2.HopMessage {
	t.Helper()
	s, err := h.NewStream(network.WithAllowLimitedConn(t.Context(), "test"), rh.ID(), proto.ProtoIDv2Hop)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Reset() }()
	if err := write(s); err != nil {
		t.Fatal(err)
	}
	var answer pbv2.HopMessage
	in := util.NewDelimitedReader(s, 4096)
	defer in.Close()
	if err := in.ReadMsg(&answer); err != nil {
		t.Fatal(err)
	}
	return &answer
}

func send(m *pbv2.HopMessage) func(network.Stream) error {
	return func(s network.Stream) error { return util.NewDelimitedWriter(s).WriteMsg(m) }
}

func reserve(t *testing.T, h, rh host.Host) *client.Reservation {
	t.Helper()
	r, err := reserveErr(t, h, rh)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func reserveErr(t *testing.T, h, rh host.Host) (*client.Reservation, error) {
	t.Helper()
	return client.Reserve(t.Context(), h, info(rh))
}

// through connects a to b through the relay.
func through(ctx context.Context, a, rh, b host.Host) error {
	circuit := rh.Addrs()[0].Encapsulate(ma.StringCast(fmt.Sprintf("/p2p/%s/p2p-circuit", rh.ID())))
	return a.Connect(ctx, peer.AddrInfo{ID: b.ID(), Addrs: []ma.Multiaddr{circuit}})
}

const echoID = "/echo"

// echoThrough opens a stream from a to b that goes through the relay.
func echoThrough(t *testing.T, a, rh, b host.Host) network.Stream {
	t.Helper()
	b.SetStreamHandler(echoID, func(s network.Stream) {
		_, _ = io.Copy(s, s)
		_ = s.Close()
	})
	if err := through(t.Context(), a, rh, b); err != nil {
		t.Fatal(err)
	}
	s, err := a.NewStream(network.WithAllowLimitedConn(t.Context(), "test"), b.ID(), echoID)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Reset() })
	if _, err := s.Write([]byte("hello")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(s, make([]byte, 5)); err != nil {
		t.Fatal(err)
	}
	return s
}

// metric returns the value of a counter or gauge with one label, of a histogram how
// many values it has.
func metric(t *testing.T, r prometheus.Gatherer, name, label string) float64 {
	t.Helper()
	families, err := r.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && (label == "" || m.GetLabel()[0].GetValue() == label) {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return 0
}

// TestAnswers has the status and the reason for each thing that can be wrong.
func TestAnswers(t *testing.T) {
	refuseAll := func(why relay.Reason, ops ...relay.Op) relay.Option {
		refuse := relay.PolicyFunc(func(context.Context, *relay.Request) relay.Decision { return relay.Refuse(why) })
		return relay.WithPolicy(relay.On(refuse, ops...))
	}
	limit := func(change func(*relay.Limits)) relay.Option {
		l := relay.SignalingOnly()
		change(&l)
		return relay.WithLimits(l)
	}
	raw := func(b ...byte) func(network.Stream, peer.ID) error {
		return func(s network.Stream, _ peer.ID) error {
			_, err := s.Write(b)
			return errors.Join(err, s.CloseWrite())
		}
	}
	message := func(typ pbv2.HopMessage_Type, to bool) func(network.Stream, peer.ID) error {
		return func(s network.Stream, p peer.ID) error {
			if !to {
				p = ""
			}
			return send(hopMessage(typ, p))(s)
		}
	}
	reservation, connection := message(pbv2.HopMessage_RESERVE, false), message(pbv2.HopMessage_CONNECT, true)
	for name, c := range map[string]struct {
		option   relay.Option
		send     func(network.Stream, peer.ID) error
		reserved bool // the destination holds a reservation
		status   pbv2.Status
		reserves relay.Reason
		connects relay.Reason
	}{
		"no message": {send: raw(), status: pbv2.Status_MALFORMED_MESSAGE},
		"garbage":    {send: raw(3, 0xff, 0xff, 0xff), status: pbv2.Status_MALFORMED_MESSAGE},
		"too long":   {send: raw(0x81, 0x20), status: pbv2.Status_MALFORMED_MESSAGE},
		"an answer":  {send: message(pbv2.HopMessage_STATUS, false), status: pbv2.Status_UNEXPECTED_MESSAGE},
		"reserve":    {send: reservation, status: pbv2.Status_OK},
		"nobody to connect to": {
			send:   message(pbv2.HopMessage_CONNECT, false),
			status: pbv2.Status_MALFORMED_MESSAGE, connects: relay.ReasonMalformed,
		},
		"no reservation": {send: connection, status: pbv2.Status_NO_RESERVATION, connects: relay.ReasonNoReservation},
		"connect":        {send: connection, reserved: true, status: pbv2.Status_OK},
		"reserving is denied": {
			option: refuseAll(relay.ReasonDenied, relay.Reserve), send: reservation,
			status: pbv2.Status_PERMISSION_DENIED, reserves: relay.ReasonDenied,
		},
		"too often": {
			option: refuseAll(relay.ReasonRate, relay.Reserve), send: reservation,
			status: pbv2.Status_RESOURCE_LIMIT_EXCEEDED, reserves: relay.ReasonRate,
		},
		"too many of a subnet": {
			option: refuseAll(relay.ReasonPerSubnet, relay.Reserve), send: reservation,
			status: pbv2.Status_RESERVATION_REFUSED, reserves: relay.ReasonPerSubnet,
		},
		"a reason of somebody else's": {
			option: refuseAll("because", relay.Reserve), send: reservation, status: pbv2.Status_PERMISSION_DENIED, reserves: "other",
		},
		"full": {
			option: limit(func(l *relay.Limits) { l.Reservations = 1 }), send: reservation, reserved: true,
			status: pbv2.Status_RESERVATION_REFUSED, reserves: relay.ReasonCapacity,
		},
		"too many of an address": {
			option: limit(func(l *relay.Limits) { l.ReservationsPerIP = 1 }), send: reservation, reserved: true,
			status: pbv2.Status_RESERVATION_REFUSED, reserves: relay.ReasonPerIP,
		},
		"source is denied": {
			option: refuseAll(relay.ReasonNotListed, relay.ConnectFrom), send: connection, reserved: true,
			status: pbv2.Status_PERMISSION_DENIED, connects: relay.ReasonNotListed,
		},
		"destination is denied": {
			option: refuseAll(relay.ReasonDenied, relay.ConnectTo), send: connection, reserved: true,
			status: pbv2.Status_PERMISSION_DENIED, connects: relay.ReasonDenied,
		},
	} {
		t.Run(name, func(t *testing.T) {
			reg := prometheus.NewRegistry()
			opts := []relay.Option{relay.WithTopics(), relay.WithRegisterer(reg)}
			if c.option != nil {
				opts = append(opts, c.option)
			}
			_, rh := newRelay(t, opts...)
			a, b := newHost(t), newHost(t)
			connect(t, a, rh)
			if connect(t, b, rh); c.reserved {
				reserve(t, b, rh)
			}
			answer := hop(t, a, rh, func(s network.Stream) error { return c.send(s, b.ID()) })
			if answer.GetType() != pbv2.HopMessage_STATUS || answer.GetStatus() != c.status {
				t.Errorf("answer %v, want %v", answer, c.status)
			}
			for name, why := range map[string]relay.Reason{
				"libp2p_relaysvc_reservation_rejections_total": c.reserves, "libp2p_relaysvc_connection_rejections_total": c.connects,
			} {
				if n := metric(t, reg, name, string(why)); why != "" && n != 1 || why == "" && n != 0 {
					t.Errorf("%s{%q} is %v", name, why, n)
				}
			}
		})
	}
}

// Through another relay there is nothing to be had.
func TestNoChains(t *testing.T) {
	_, first := newRelay(t)
	second, sh := newRelay(t)
	reserve(t, sh, first)
	a := newHost(t)
	if err := through(t.Context(), a, first, sh); err != nil {
		t.Fatal(err)
	}
	answer := hop(t, a, sh, send(hopMessage(pbv2.HopMessage_RESERVE, "")))
	if answer.GetStatus() != pbv2.Status_PERMISSION_DENIED || len(second.Reservations()) > 0 {
		t.Errorf("answer %v", answer)
	}
}

// A destination that does not speak circuit v2 is not reached.
func TestUnreachableDestination(t *testing.T) {
	_, rh := newRelay(t)
	a, b := newHost(t), newHost(t, libp2p.DisableRelay())
	connect(t, a, rh)
	connect(t, b, rh)
	hop(t, b, rh, send(hopMessage(pbv2.HopMessage_RESERVE, "")))
	if answer := hop(t, a, rh, send(hopMessage(pbv2.HopMessage_CONNECT, b.ID()))); answer.GetStatus() != pbv2.Status_CONNECTION_FAILED {
		t.Errorf("answer %v", answer)
	}
}

func TestLists(t *testing.T) {
	r, rh := newRelay(t)
	a, b := newHost(t), newHost(t)
	before := time.Now()
	reserve(t, b, rh)
	s := echoThrough(t, a, rh, b)
	held := r.Reservations()
	if len(held) != 1 || held[0].Peer != b.ID() || held[0].Addr != netip.MustParseAddr("127.0.0.1") ||
		held[0].Since.Before(before) || held[0].Expires.Sub(held[0].Since) != relay.SignalingOnly().ReservationTTL {
		t.Errorf("reservations %+v", held)
	}
	open := r.Circuits()
	if len(open) != 1 || open[0].Source != a.ID() || open[0].Destination != b.ID() || open[0].Sent == 0 || open[0].Received == 0 {
		t.Errorf("circuits %+v", open)
	}
	_ = s.Reset()
	_ = a.Network().ClosePeer(b.ID())
	waitFor(t, func() bool { return len(r.Circuits()) == 0 })
	_ = b.Close()
	waitFor(t, func() bool { return len(r.Reservations()) == 0 })
}

func TestEvict(t *testing.T) {
	r, rh := newRelay(t)
	a, b := newHost(t), newHost(t)
	reserve(t, b, rh)
	s := echoThrough(t, a, rh, b)
	if r.Evict(a.ID()) != true {
		t.Error("a has a circuit, but Evict says it had nothing")
	}
	if _, err := s.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("the circuit goes on: %v", err)
	}
	if !r.Evict(b.ID()) || r.Evict(b.ID()) || len(r.Reservations()) > 0 {
		t.Errorf("reservations %v", r.Reservations())
	}
	if answer := hop(t, a, rh, send(hopMessage(pbv2.HopMessage_CONNECT, b.ID()))); answer.GetStatus() != pbv2.Status_NO_RESERVATION {
		t.Errorf("answer %v", answer)
	}
}

// go-libp2p's relay leaves circuits running.
func TestCloseEndsCircuits(t *testing.T) {
	r, rh := newRelay(t)
	a, b := newHost(t), newHost(t)
	reserve(t, b, rh)
	s := echoThrough(t, a, rh, b)
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Read(make([]byte, 1)); err == nil || errors.Is(err, io.EOF) {
		t.Errorf("the circuit goes on: %v", err)
	}
	if r.Evict(b.ID()) || !errors.Is(r.SetPolicy(t.Context(), nil), relay.ErrClosed) {
		t.Error("the relay acts after its end")
	}
}

func TestShutdownWaitsForCircuits(t *testing.T) {
	r, rh := newRelay(t)
	a, b, late := newHost(t), newHost(t), newHost(t)
	reserve(t, b, rh)
	echoThrough(t, a, rh, b)
	connect(t, late, rh)
	ended := make(chan error, 1)
	go func() { ended <- r.Shutdown(context.Background()) }()
	var answer *pbv2.HopMessage
	waitFor(t, func() bool {
		answer = hop(t, late, rh, send(hopMessage(pbv2.HopMessage_CONNECT, b.ID())))
		return answer.GetStatus() != pbv2.Status_OK
	})
	if answer.GetStatus() != pbv2.Status_RESOURCE_LIMIT_EXCEEDED {
		t.Errorf("a new circuit: %v", answer)
	}
	if answer := hop(t, late, rh, send(hopMessage(pbv2.HopMessage_RESERVE, ""))); answer.GetStatus() != pbv2.Status_RESERVATION_REFUSED {
		t.Errorf("a new reservation: %v", answer)
	}
	if answer := hop(t, b, rh, send(hopMessage(pbv2.HopMessage_RESERVE, ""))); answer.GetStatus() != pbv2.Status_OK {
		t.Errorf("a renewal: %v", answer)
	}
	select {
	case err := <-ended:
		t.Fatalf("it did not wait: %v", err)
	default:
	}
	_ = a.Network().ClosePeer(b.ID())
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

func TestShutdownWithDeadline(t *testing.T) {
	r, rh := newRelay(t)
	a, b := newHost(t), newHost(t)
	reserve(t, b, rh)
	s := echoThrough(t, a, rh, b)
	ctx, cancel := context.WithCancelCause(t.Context())
	why := errors.New("time is over")
	cancel(why)
	if err := r.Shutdown(ctx); !errors.Is(err, why) {
		t.Error(err)
	}
	if _, err := s.Read(make([]byte, 1)); err == nil {
		t.Error("the circuit goes on")
	}
}

func TestSetPolicy(t *testing.T) {
	r, rh := newRelay(t)
	a, b := newHost(t), newHost(t)
	reserve(t, a, rh)
	reserve(t, b, rh)
	var released int
	policy := relay.PolicyFunc(func(_ context.Context, q *relay.Request) relay.Decision {
		if q.Peer == a.ID() {
			return relay.Refuse(relay.ReasonDenied)
		}
		return relay.Allow(relay.Terms{}).Take(func() { released++ })
	})
	if err := r.SetPolicy(t.Context(), policy); err != nil {
		t.Fatal(err)
	}
	if held := r.Reservations(); len(held) != 1 || held[0].Peer != b.ID() {
		t.Errorf("reservations %v", held)
	}
	reserve(t, b, rh) // the renewal takes once more, and what it renews gives back
	if released != 1 {
		t.Errorf("%d given back", released)
	}
	if _, err := client.Reserve(t.Context(), a, info(rh)); err == nil {
		t.Error("a reserves again")
	}
	if err := r.SetPolicy(t.Context(), nil); err != nil || released != 2 {
		t.Errorf("%v, %d given back", err, released)
	}
	reserve(t, a, rh)
	if err := r.SetPolicy(t.Context(), relay.PerIP(0)); err == nil {
		t.Error("a cap of 0 is taken")
	}
}

// events collects what the relay emits.
func events(t *testing.T, rh host.Host, kind any) func() any {
	t.Helper()
	sub, err := rh.EventBus().Subscribe(kind)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = sub.Close() })
	return func() any {
		select {
		case e := <-sub.Out():
			return e
		case <-time.After(10 * time.Second):
			t.Fatal("no event")
			return nil
		}
	}
}

func TestEvents(t *testing.T) {
	r, rh := newRelay(t)
	a, b := newHost(t), newHost(t)
	reservations, circuits := events(t, rh, new(relay.EvtReservation)), events(t, rh, new(relay.EvtCircuit))
	expect := func(change relay.ReservationChange, why relay.Reason) {
		t.Helper()
		if e, _ := reservations().(relay.EvtReservation); e.Peer != b.ID() || e.Change != change || e.Reason != why {
			t.Errorf("%+v, want %v %v", e, change, why)
		}
	}
	reserve(t, b, rh)
	expect(relay.ReservationMade, "")
	reserve(t, b, rh)
	expect(relay.ReservationRenewed, "")
	echoThrough(t, a, rh, b)
	if e, _ := circuits().(relay.EvtCircuit); e.Source != a.ID() || e.Destination != b.ID() || e.Reason != "" || e.Cause != "" {
		t.Errorf("%+v, want an open circuit", e)
	}
	_ = a.Network().ClosePeer(b.ID())
	if e, _ := circuits().(relay.EvtCircuit); e.Source != a.ID() || e.Cause == "" || e.Sent == 0 {
		t.Errorf("%+v, want a circuit that has ended", e)
	}
	r.Evict(b.ID())
	expect(relay.ReservationEnded, relay.ReasonEvicted)
	hop(t, a, rh, send(hopMessage(pbv2.HopMessage_CONNECT, b.ID())))
	if e, _ := circuits().(relay.EvtCircuit); e.Reason != relay.ReasonNoReservation {
		t.Errorf("%+v, want a refusal", e)
	}
}

// Who hears that a circuit has ended finds all given back that it took.
func TestEndOfACircuitIsToldLast(t *testing.T) {
	reg := prometheus.NewRegistry()
	told := make(chan float64, 1) // when the policy is given back what it granted
	policy := relay.PolicyFunc(func(context.Context, *relay.Request) relay.Decision {
		return relay.Allow(relay.Terms{}).Take(func() { told <- metric(t, reg, "libp2p_relaysvc_connections_total", "closed") })
	})
	r, rh := newRelay(t, relay.WithRegisterer(reg), relay.WithPolicy(relay.On(policy, relay.ConnectFrom)))
	a, b := newHost(t), newHost(t)
	ended := events(t, rh, new(relay.EvtCircuit))
	connect(t, a, rh)
	reserve(t, b, rh)
	src, _ := rawCircuit(t, a, rh, b)
	ended() // opened
	_ = src.Reset()
	if e, _ := ended().(relay.EvtCircuit); e.Cause != relay.CauseSource || len(r.Circuits()) > 0 {
		t.Errorf("%+v, while %v are open", e, r.Circuits())
	}
	if n := <-told; n != 0 {
		t.Errorf("%v ends are told before all is given back", n)
	}
}

// What the policy grants, the peers are told and get, no more.
func TestTerms(t *testing.T) {
	terms := relay.Terms{TTL: 2 * time.Hour, Data: 20_000, Duration: time.Minute}
	r, rh := newRelay(t, relay.WithPolicy(relay.Grant(terms)))
	a, b := newHost(t), newHost(t)
	closed := events(t, rh, new(relay.EvtCircuit))
	rsvp := reserve(t, b, rh)
	if rsvp.LimitData != 20_000 || rsvp.LimitDuration != time.Minute ||
		time.Until(rsvp.Expiration) < 110*time.Minute || rsvp.Voucher == nil {
		t.Errorf("told %+v", rsvp)
	}
	if held := r.Reservations(); held[0].Terms.Data != 20_000 {
		t.Errorf("%+v", held)
	}
	s := echoThrough(t, a, rh, b)
	_, err := s.Write(make([]byte, 30_000))
	for err == nil {
		_, err = s.Read(make([]byte, 4096))
	}
	closed() // opened
	if e, _ := closed().(relay.EvtCircuit); e.Cause != relay.CauseData || e.Sent < 20_000 {
		t.Errorf("%+v, want the end at the limit", e)
	}
}

func TestDuration(t *testing.T) {
	_, rh := newRelay(t, relay.WithPolicy(relay.Grant(relay.Terms{Duration: time.Second})))
	a, b := newHost(t), newHost(t)
	closed := events(t, rh, new(relay.EvtCircuit))
	connect(t, a, rh)
	reserve(t, b, rh)
	src, _ := rawCircuit(t, a, rh, b) // its peers' handshake might take longer than it may last
	if _, err := src.Read(make([]byte, 1)); err == nil {
		t.Error("the circuit goes on")
	}
	closed() // opened
	if e, _ := closed().(relay.EvtCircuit); e.Cause != relay.CauseDuration {
		t.Errorf("%+v", e)
	}
}

// Beyond the first 128 KiB each way a circuit is as slow as its peers' rates.
func TestRate(t *testing.T) {
	const perSecond = 100 << 10
	l := relay.Data()
	_, rh := newRelay(t, relay.WithLimits(l), relay.WithPolicy(relay.Grant(relay.Terms{Rate: perSecond})))
	a, b := newHost(t), newHost(t)
	reserve(t, b, rh)
	s := echoThrough(t, a, rh, b)
	transfer := func(n int) time.Duration {
		start := time.Now()
		go func() { _, _ = s.Write(make([]byte, n)) }()
		if _, err := io.ReadFull(s, make([]byte, n)); err != nil {
			t.Fatal(err)
		}
		return time.Since(start)
	}
	free := transfer(64 << 10)
	// of what goes both ways 2 x 64 KiB are free, and a second's worth is in the bucket
	if slow := transfer(200 << 10); slow < time.Second || free > slow {
		t.Errorf("%v for the first 64 KiB, %v for 200 more", free, slow)
	}
}
