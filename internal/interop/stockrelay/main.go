// Command stockrelay is the relay that one writes by hand on go-libp2p without
// tango: circuit v2 and GossipSub with their defaults, or with -raised without
// limits that a benchmark meets, subscribed to the topics. Benchmarks compare
// with it. It takes the flags of examples/relay that tests use.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"log"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/libp2p/go-libp2p"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/relay"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
)

func main() {
	listen := flag.String("listen", "/ip4/127.0.0.1/tcp/4001/ws", "")
	topics := flag.String("topic", "_peer-discovery._p2p._pubsub", "")
	forward := flag.String("forward", "", "")
	trace := flag.String("trace", "", "")
	raised := flag.Bool("raised", false, "")
	flag.String("identity", "", "not used, the identity is ephemeral")
	flag.Parse()
	names := strings.FieldsFunc(*topics+","+*forward, func(r rune) bool { return r == ',' })
	host, circuits := []libp2p.Option(nil), []relay.Option(nil)
	if *raised {
		host, circuits = withoutLimits()
	}
	if err := run(*listen, names, *trace, host, circuits); err != nil {
		log.Fatal(err)
	}
}

// withoutLimits raises those of the resource and the connection manager and of the relay.
func withoutLimits() ([]libp2p.Option, []relay.Option) {
	const many = 1 << 20
	conns, err := connmgr.NewConnManager(many, 2*many)
	if err != nil {
		log.Fatal(err)
	}
	manager, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(rcmgr.InfiniteLimits))
	if err != nil {
		log.Fatal(err)
	}
	resources := relay.DefaultResources()
	resources.MaxReservations, resources.MaxReservationsPerIP, resources.MaxReservationsPerASN = many, many, many
	resources.MaxCircuits = many
	resources.Limit.Data = 1 << 40
	return []libp2p.Option{libp2p.ResourceManager(manager), libp2p.ConnectionManager(conns)},
		[]relay.Option{relay.WithResources(resources)}
}

func run(listen string, topics []string, trace string, hostOpts []libp2p.Option, relayOpts []relay.Option) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	var h host.Host
	started := make(chan struct{})
	hostOpts = append(hostOpts,
		libp2p.ListenAddrStrings(listen),
		libp2p.Transport(websocket.New, websocket.WithHTTPHandler(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			<-started
			if r.URL.Path == "/relay.json" {
				_ = json.NewEncoder(w).Encode(describe(h))
			}
		}))),
	)
	h, err := libp2p.New(hostOpts...)
	if err != nil {
		return err
	}
	close(started)
	circuits, err := relay.New(h, relayOpts...)
	if err != nil {
		return err
	}
	var tracing []pubsub.Option
	if trace != "" {
		tracer, err := pubsub.NewJSONTracer(trace)
		if err != nil {
			return err
		}
		defer tracer.Close()
		tracing = append(tracing, pubsub.WithEventTracer(tracer))
	}
	router, err := pubsub.NewGossipSub(ctx, h, tracing...)
	if err != nil {
		return err
	}
	for _, name := range topics {
		topic, err := router.Join(name)
		if err != nil {
			return err
		}
		if _, err := topic.Relay(); err != nil {
			return err
		}
	}
	<-ctx.Done()
	if err := circuits.Close(); err != nil {
		return err
	}
	return h.Close()
}

func describe(h host.Host) map[string]any {
	addrs, _ := peer.AddrInfoToP2pAddrs(&peer.AddrInfo{ID: h.ID(), Addrs: h.Addrs()})
	return map[string]any{"id": h.ID(), "addrs": addrs}
}
