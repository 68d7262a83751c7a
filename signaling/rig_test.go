package signaling_test

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tangop2p/tango/signaling"
)

func newHost(t *testing.T) host.Host {
	t.Helper()
	h, err := libp2p.New(libp2p.Transport(tcp.NewTCPTransport), libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = h.Close() })
	return h
}

// node is a host with a Service whose metrics can be read.
type node struct {
	host.Host
	*signaling.Service
	registry *prometheus.Registry
}

func newNode(t *testing.T, opts ...signaling.Option) *node {
	t.Helper()
	n := &node{Host: newHost(t), registry: prometheus.NewRegistry()}
	var err error
	if n.Service, err = signaling.New(n.Host, append(opts, signaling.WithRegisterer(n.registry))...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = n.Service.Close() })
	return n
}

// count returns a counter by the values of its labels, in the order of their names.
func (n *node) count(t *testing.T, name string, values ...string) int {
	t.Helper()
	families, err := n.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "libp2p_webrtcsignaling_"+name {
			continue
		}
		for _, m := range f.GetMetric() {
			var got []string
			for _, l := range m.GetLabel() {
				got = append(got, l.GetValue())
			}
			if slices.Equal(got, values) {
				return int(m.GetCounter().GetValue())
			}
		}
	}
	return 0
}

// await looks until done is true.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	ticker := time.NewTicker(5 * time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(10 * time.Second); !done(); <-ticker.C {
		if time.Now().After(deadline) {
			t.Fatalf("not within 10 s: %s", what)
		}
	}
}

// wantNothingHeld waits until the node holds no stream and no memory for signaling.
func (n *node) wantNothingHeld(t *testing.T) {
	t.Helper()
	var stat network.ScopeStat
	defer func() {
		if t.Failed() {
			t.Logf("held: %+v", stat)
		}
	}()
	await(t, "everything is given back", func() bool {
		err := n.Network().ResourceManager().ViewService(signaling.ServiceName, func(s network.ServiceScope) error {
			stat = s.Stat()
			return nil
		})
		if err != nil {
			t.Fatal(err)
		}
		return stat == network.ScopeStat{}
	})
	for _, c := range n.Network().Conns() {
		for _, s := range c.GetStreams() {
			if s.Protocol() == signaling.ProtocolID {
				t.Errorf("a stream is left: %v", s.Stat())
			}
		}
	}
}

// dialer is a host, or a node.
type dialer interface {
	ID() peer.ID
	Addrs() []ma.Multiaddr
	Connect(context.Context, peer.AddrInfo) error
}

func connect(t *testing.T, a, b dialer) {
	t.Helper()
	if err := a.Connect(t.Context(), peer.AddrInfo{ID: b.ID(), Addrs: b.Addrs()}); err != nil {
		t.Fatal(err)
	}
}
