// Command ping pings a peer, or waits to be pinged.
//
//	ping [-relay MULTIADDR]... [-no-listen] [MULTIADDR]
//
// It prints the addresses that it listens on; give one of them to another ping.
// With a relay it is reached through it too, by browsers over /webrtc, and with
// -no-listen only there, as a browser is.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"

	"github.com/tangop2p/tango"
	"github.com/tangop2p/tango/webrtc"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	err := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "ping:", err)
		os.Exit(1)
	}
}

type settings struct {
	relays  []string
	servers []webrtc.ICEServer
	hidden  bool
	remote  *peer.AddrInfo // nil: wait to be pinged
	arg     string
}

func parse(args []string, help io.Writer) (*settings, error) {
	s := &settings{}
	flags := flag.NewFlagSet("ping", flag.ContinueOnError)
	flags.SetOutput(help)
	flags.Usage = func() {
		fmt.Fprintln(help, "usage: ping [flags] [multiaddr of the peer to ping]")
		flags.PrintDefaults()
	}
	flags.Func("relay", "`multiaddr` of a relay to be reached through, with its /p2p part; may be repeated", func(a string) error {
		s.relays = append(s.relays, a)
		return nil
	})
	flags.Func("stun", "`URL` of a STUN server instead of the relays' own, stun:host:port; may be repeated", func(u string) error {
		s.servers = append(s.servers, webrtc.ICEServer{URLs: []string{u}})
		return nil
	})
	flags.BoolVar(&s.hidden, "no-listen", false, "listen on no address, as a browser")
	if err := flags.Parse(args); err != nil {
		return nil, err
	}
	if flags.NArg() > 1 {
		return nil, fmt.Errorf("one peer at a time, not %q", flags.Args())
	}
	if s.arg = flags.Arg(0); s.arg != "" {
		info, err := peer.AddrInfoFromString(s.arg)
		if err != nil {
			return nil, fmt.Errorf("%q is no address of a peer (%w): it ends in /p2p/ and the peer's ID", s.arg, err)
		}
		s.remote = info
	}
	return s, nil
}

// run starts a node, and pings or waits until ctx ends.
func run(ctx context.Context, args []string, out, help io.Writer) error {
	s, err := parse(args, help)
	if err != nil {
		return err
	}
	var opts []tango.Option
	if len(s.servers) > 0 { // else the relays' own
		opts = append(opts, tango.WithWebRTC(webrtc.WithICEServers(s.servers...)))
	}
	if s.hidden {
		opts = append(opts, tango.WithListen())
	}
	if len(s.relays) > 0 {
		opts = append(opts, tango.WithRelays(s.relays...))
	}
	node, err := tango.New(opts...) //nolint:contextcheck // the node has a life of its own, which Close ends
	if err != nil {
		return err
	}
	return errors.Join(meet(ctx, node, s, out), node.Close())
}

func meet(ctx context.Context, node *tango.Node, s *settings, out io.Writer) error {
	ping.NewPingService(node.Host()) // answers those of others
	fmt.Fprintln(out, "libp2p has started")
	if keeper := node.Reservations(); keeper != nil {
		waitCtx, cancel := context.WithTimeout(ctx, 15*time.Second)
		defer cancel()
		if err := keeper.Wait(waitCtx); err != nil {
			return err
		}
	}
	fmt.Fprintln(out, "listening on addresses:")
	for _, a := range node.Addrs() {
		fmt.Fprintln(out, a)
	}
	if s.remote == nil {
		fmt.Fprintln(out, "no remote peer address given, waiting to be pinged; Ctrl+C ends it")
		<-ctx.Done()
		return nil
	}
	return pingPeer(ctx, node, s, out)
}

func pingPeer(ctx context.Context, node *tango.Node, s *settings, out io.Writer) error {
	fmt.Fprintln(out, "pinging remote peer at", s.arg)
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	path, err := node.Connect(ctx, s.remote.ID, s.remote.Addrs...)
	if failed, ok := errors.AsType[*webrtc.ConnectError](err); ok && failed.Path.Kind == webrtc.PathRelayed {
		fmt.Fprintln(out, err) // a ping gets through a relay too
		ctx = network.WithAllowLimitedConn(ctx, "ping")
	} else if err != nil {
		return err
	}
	fmt.Fprintln(out, "path:", path)
	result, ok := <-ping.Ping(ctx, node.Host(), s.remote.ID)
	switch {
	case !ok:
		return context.Cause(ctx)
	case result.Error != nil:
		return result.Error
	}
	fmt.Fprintf(out, "pinged %s in %.1f ms\n", s.arg, float64(result.RTT)/float64(time.Millisecond))
	return nil
}
