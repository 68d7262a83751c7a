package interop

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
)

// TestStockClients: whoever holds a reservation as others do, kubo with the relay as
// its static one among them, is reached through the relay by go-libp2p and by kubo.
func TestStockClients(t *testing.T) {
	Need(t, Node)
	relay, addrs := startRelayAt(t, 2)
	asker := startKubo(t, addrs[1])
	for _, holder := range []struct {
		name  string
		agent string // how its user agent begins
		start func(t *testing.T, relay string) string
	}{
		{"kubo with a static relay", "kubo/", staticKubo},
		{"go-libp2p client.Reserve", "", reservedHost},
		{"go-libp2p AutoRelay", "", autoRelayHost},
		{"js-libp2p", "js-libp2p/", reservedJS},
	} {
		t.Run(holder.name, func(t *testing.T) {
			id := holder.start(t, addrs[0])
			circuit := fmt.Sprintf("%s/p2p-circuit/p2p/%s", addrs[0], id)
			reachFromHost(t, circuit, holder.agent)
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			asked := strings.Replace(circuit, addrs[0], addrs[1], 1) // where kubo has the relay
			if _, err := asker.run(ctx, "swarm", "connect", asked); err != nil {
				t.Fatal(err)
			}
			if out, err := asker.run(ctx, "ping", "-n", "2", asked); err != nil || !strings.Contains(out, "Average latency") {
				t.Errorf("kubo pings: %v, %s", err, out)
			}
			peers, err := asker.run(ctx, "swarm", "peers")
			if err != nil || !strings.Contains(peers, relay.ID+"/p2p-circuit/p2p/"+id) {
				t.Errorf("kubo is not connected through the relay: %v, %s", err, peers)
			}
		})
	}
}

// reachFromHost connects a host that knows nobody over a circuit, identifies and pings.
func reachFromHost(t *testing.T, circuit, agent string) {
	t.Helper()
	h := stockHost(t)
	info, err := peer.AddrInfoFromString(circuit)
	if err != nil {
		t.Fatal(err)
	}
	Await(t, 30*time.Second, "a circuit to it", func(ctx context.Context) (bool, error) {
		err := h.Connect(network.WithAllowLimitedConn(ctx, "test"), *info)
		return err == nil, err
	})
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	r := <-ping.Ping(ctx, h, info.ID)
	if r.Error != nil {
		t.Errorf("ping: %v", r.Error)
	}
	if got, err := h.Peerstore().Get(info.ID, "AgentVersion"); err != nil || !strings.HasPrefix(fmt.Sprint(got), agent) {
		t.Errorf("identify: agent %v, %v; want %s", got, err, agent)
	}
	t.Logf("ping through the relay: %v", r.RTT)
}

func stockHost(t *testing.T, opts ...libp2p.Option) host.Host {
	t.Helper()
	h, err := libp2p.New(append([]libp2p.Option{libp2p.NoListenAddrs, libp2p.EnableRelay()}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := h.Close(); err != nil {
			t.Error(err)
		}
	})
	ping.NewPingService(h)
	return h
}

func staticKubo(t *testing.T, relay string) string {
	k := startKubo(t, relay)
	var id string
	Await(t, 30*time.Second, "kubo tells its address at the relay", func(ctx context.Context) (bool, error) {
		var addrs []string
		var err error
		id, addrs, err = k.about(ctx)
		return slices.Contains(addrs, fmt.Sprintf("%s/p2p-circuit/p2p/%s", relay, id)), errors.Join(err, fmt.Errorf("%v", addrs))
	})
	return id
}

func reservedHost(t *testing.T, relay string) string {
	h := stockHost(t)
	info, err := peer.AddrInfoFromString(relay)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := client.Reserve(t.Context(), h, *info); err != nil {
		t.Fatal(err)
	}
	return h.ID().String()
}

func autoRelayHost(t *testing.T, relay string) string {
	info, err := peer.AddrInfoFromString(relay)
	if err != nil {
		t.Fatal(err)
	}
	h := stockHost(t, libp2p.ForceReachabilityPrivate(), libp2p.EnableAutoRelayWithStaticRelays([]peer.AddrInfo{*info}))
	return h.ID().String()
}

func reservedJS(t *testing.T, relay string) string {
	p := openPeer(t, Node, "js")
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	dial := false
	if err := p.Start(ctx, Config{Relays: []string{relay}, Dial: &dial}); err != nil {
		t.Fatal(err)
	}
	return p.ID
}
