package tango_test

import (
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tangop2p/tango"
)

// TestRegisterer gets the metrics of the host and of each block.
func TestRegisterer(t *testing.T) {
	registry := prometheus.NewRegistry()
	relay := newNode(t, tango.WithRelay(), tango.WithRegisterer(registry))
	newNode(t, tango.WithRelays(relay.Addrs()[0].String()), tango.WithDiscovery(), tango.WithRegisterer(prometheus.NewRegistry()))
	families, err := registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, f := range families {
		names = append(names, f.GetName())
	}
	for _, prefix := range []string{"libp2p_relaysvc_", "libp2p_front_", "libp2p_swarm_", "libp2p_rcmgr_", "libp2p_webrtc"} {
		if !strings.Contains(strings.Join(names, "\n"), prefix) {
			t.Errorf("no %s* in %q", prefix, names)
		}
	}
	if err := tango.CheckOptions(tango.WithRegisterer(nil)); err == nil {
		t.Error("no error for nil")
	}
}
