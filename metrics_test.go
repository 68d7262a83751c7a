package tango_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tangop2p/tango"
	"github.com/tangop2p/tango/relay"
	"github.com/tangop2p/tango/reservation"
)

// described is a registry that knows what was registered, also before it has a value.
type described struct {
	*prometheus.Registry

	all []string
}

func newDescribed() *described { return &described{Registry: prometheus.NewRegistry()} }

func (d *described) Register(c prometheus.Collector) error {
	descs := make(chan *prometheus.Desc, 1024)
	c.Describe(descs)
	close(descs)
	for desc := range descs {
		d.all = append(d.all, desc.String())
	}
	return d.Registry.Register(c)
}

func (d *described) MustRegister(cs ...prometheus.Collector) {
	for _, c := range cs {
		if err := d.Register(c); err != nil {
			panic(err)
		}
	}
}

func (d *described) has(name string) bool {
	return slices.ContainsFunc(d.all, func(desc string) bool { return strings.Contains(desc, `fqName: "`+name) })
}

// total returns the sum of a counter or gauge over its labels, 0 if it has no value.
func (d *described) total(t *testing.T, name string) (sum float64) {
	t.Helper()
	families, err := d.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			sum += m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	return sum
}

// Those of the host are go-libp2p's, one for all hosts of a process.
const opened, conns = "libp2p_swarm_connections_opened_total", "libp2p_rcmgr_connections"

// TestRegisterer gets the metrics of the host and of each block, of each node its own.
func TestRegisterer(t *testing.T) {
	ofRelay, ofOther, ofLeaf := newDescribed(), newDescribed(), newDescribed()
	hub := newNode(t, tango.WithRelay(), tango.WithRegisterer(ofRelay))
	newNode(t, tango.WithRelay(), tango.WithRegisterer(ofOther))
	leaf := newNode(t, tango.WithRelays(hub.Addrs()[0].String()), tango.WithDiscovery(), tango.WithRegisterer(ofLeaf))
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	if err := leaf.Reservations().Wait(ctx); err != nil {
		t.Fatal(err)
	}
	both := []string{
		"libp2p_swarm_", "libp2p_identify_", "libp2p_rcmgr_", "libp2p_front_refused_total",
		"libp2p_webrtc_connections", "libp2p_webrtcsignaling_sessions_total",
	}
	for name, c := range map[string]struct {
		got  *described
		want []string
	}{
		"relay": {ofRelay, append([]string{"libp2p_relaysvc_reservations"}, both...)},
		"leaf":  {ofLeaf, append([]string{"libp2p_reservation_held", "libp2p_pubsubdiscovery_peers"}, both...)},
	} {
		for _, want := range c.want {
			if !c.got.has(want) {
				t.Errorf("%s: no %s", name, want)
			}
		}
	}
	for i, c := range []struct {
		of   *described
		name string
		want float64
	}{
		{ofRelay, "libp2p_relaysvc_reservations", 1},
		{ofOther, "libp2p_relaysvc_reservations", 0},
		{ofLeaf, "libp2p_reservation_held", 1},
	} {
		if got := c.of.total(t, c.name); got != c.want {
			t.Errorf("%d: %s is %v, want %v", i, c.name, got, c.want)
		}
	}
	for _, name := range []string{opened, conns} {
		if n := ofLeaf.total(t, name); n == 0 {
			t.Errorf("%s is 0", name)
		}
	}
	if err := tango.CheckOptions(tango.WithRegisterer(nil)); err == nil {
		t.Error("no error for nil")
	}
}

// A block's own registerer wins, for the block alone.
func TestRegistererOfABlock(t *testing.T) {
	ofHub, ofRelay, ofLeaf, ofKeeper := newDescribed(), newDescribed(), newDescribed(), newDescribed()
	hub := newNode(t, tango.WithRelay(relay.WithRegisterer(ofRelay)), tango.WithRegisterer(ofHub))
	newNode(t, tango.WithRelays(hub.Addrs()[0].String()), tango.WithReservations(reservation.WithRegisterer(ofKeeper)),
		tango.WithRegisterer(ofLeaf))
	for name, has := range map[string]bool{
		"the relay's are in its node's":  ofHub.has("libp2p_relaysvc_"),
		"the Keeper's are in its node's": ofLeaf.has("libp2p_reservation_"),
		"webrtc's are not in its node's": !ofHub.has("libp2p_webrtc_"),
		"the relay's are not in its own": !ofRelay.has("libp2p_relaysvc_"),
		"the Keeper's are not in theirs": !ofKeeper.has("libp2p_reservation_"),
		"the relay's has webrtc's":       ofRelay.has("libp2p_webrtc_"),
	} {
		if has {
			t.Error(name)
		}
	}
}

// Without one nothing is counted or registered anywhere; and a node takes what it has
// registered with it.
func TestNoRegisterer(t *testing.T) {
	byDefault, anywhere := prometheus.DefaultRegisterer, newDescribed()
	prometheus.DefaultRegisterer = anywhere
	t.Cleanup(func() { prometheus.DefaultRegisterer = byDefault })
	watch := newDescribed()
	newNode(t, tango.WithRelay(), tango.WithRegisterer(watch))
	openedBefore, connsBefore := watch.total(t, opened), watch.total(t, conns)
	hub := newNode(t, tango.WithRelay())
	leaf := newNode(t, tango.WithDiscovery())
	connect(t, leaf.Host(), hub)
	if n := watch.total(t, opened) - openedBefore; n > 0 {
		t.Errorf("%v connections are counted", n)
	}
	if n := watch.total(t, conns) - connsBefore; n > 0 {
		t.Errorf("the resource manager counts %v connections", n)
	}
	if len(anywhere.all) > 0 {
		t.Errorf("in the default registry: %q", anywhere.all)
	}
	registry := prometheus.NewRegistry()
	for range 2 {
		n, err := tango.New(tango.WithListen(), tango.WithRelay(), tango.WithDiscovery(), tango.WithRegisterer(registry))
		if err != nil {
			t.Fatal(err)
		}
		if err := n.Close(); err != nil {
			t.Error(err)
		}
	}
}
