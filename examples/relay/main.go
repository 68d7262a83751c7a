// Command relay is a public bootstrapper for browsers; see relay -help.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"

	"github.com/tangop2p/tango"
	"github.com/tangop2p/tango/front"
	"github.com/tangop2p/tango/identity"
	"github.com/tangop2p/tango/relay"
)

func main() {
	err := run(os.Args[1:], os.Stdout, os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
	case err != nil:
		fmt.Fprintln(os.Stderr, "relay:", err)
		os.Exit(1)
	}
}

// run starts the relay and returns once SIGINT or SIGTERM has ended it.
func run(args []string, out, help io.Writer) error {
	if len(args) > 0 && args[0] == "invite" {
		return makeInvite(args[1:], out, help)
	}
	s, err := parseSettings(args, help)
	if err != nil {
		return err
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP) // first of all: one that nobody waits for ends the process
	defer signal.Stop(hangups)
	site, admin := newSite(s), newAdmin()
	node, closeTrace, err := start(s, site, admin)
	if err != nil {
		return errors.Join(err, admin.close())
	}
	site.serve(node)
	admin.node.Store(node)
	greet(out, s, node, admin)
	serve(ctx, s, node, hangups, out)
	stop() // a second signal ends the process at once
	admin.draining.Store(true)
	fmt.Fprintln(out, "relay drains")
	return errors.Join(drain(node, s.drain), node.Close(), closeTrace(), admin.close())
}

// serve returns when ctx ends. Until then SIGHUP has it read the rules again,
// which counts for those too who hold a reservation.
func serve(ctx context.Context, s *settings, node *tango.Node, hangups <-chan os.Signal, out io.Writer) {
	for {
		select {
		case <-hangups:
			if err := errors.Join(s.rules.reload(), node.Relay().SetPolicy(ctx, s.rules.policy())); err != nil {
				fmt.Fprintln(out, "rules:", err)
			} else {
				fmt.Fprintln(out, "rules read again")
			}
			reloadCertificate(out, s.cert)
		case <-ctx.Done():
			return
		}
	}
}

// reloadCertificate leaves the old one where the files are wrong.
func reloadCertificate(out io.Writer, cert *front.Certificate) {
	if cert == nil {
		return
	}
	if err := cert.Reload(); err != nil {
		fmt.Fprintln(out, "certificate:", err)
		return
	}
	fmt.Fprintln(out, "certificate:", certificateLine(cert))
}

func certificateLine(cert *front.Certificate) string {
	st := cert.Status()
	return fmt.Sprintf("for %s, until %s", strings.Join(st.Names, ", "), st.Expires.Format(time.DateOnly))
}

// drain lets open circuits go on for a while.
func drain(node *tango.Node, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	if err := node.Relay().Shutdown(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return nil
}

func start(s *settings, site *site, admin *admin) (node *tango.Node, closeTrace func() error, err error) {
	opts := []tango.Option{
		tango.WithListen(s.listen...),
		tango.WithHTTPHandler(site),
		tango.WithFront(s.front...),
		tango.WithRelay(relayOptions(s)...),
	}
	if s.admin != "" {
		opts = append(opts, tango.WithRegisterer(admin.registry))
	}
	if len(s.announce) > 0 {
		opts = append(opts, tango.WithAnnounce(s.announce...))
	}
	if err := tango.CheckOptions(opts...); err != nil {
		return nil, nil, err // before a key file is made
	}
	if err := admin.listen(s.admin); err != nil {
		return nil, nil, err
	}
	id, err := identity.Load(s.identity)
	if err != nil {
		return nil, nil, err
	}
	opts = append(opts, tango.WithIdentity(id))
	closeTrace = func() error { return nil }
	if s.trace != "" {
		tracer, err := pubsub.NewJSONTracer(s.trace)
		if err != nil {
			return nil, nil, fmt.Errorf("-trace: %w", err)
		}
		closeTrace = func() error { tracer.Close(); return nil }
		opts = append(opts, tango.WithPubSubOptions(pubsub.WithEventTracer(tracer)))
	}
	if node, err = tango.New(opts...); err != nil {
		return nil, nil, errors.Join(err, closeTrace())
	}
	return node, closeTrace, nil
}

func relayOptions(s *settings) []relay.Option {
	opts := []relay.Option{
		relay.WithLimits(s.limits), relay.WithPolicy(s.rules.policy()),
		relay.WithTopics(s.topics...), relay.WithForwarding(s.forward...),
	}
	if s.stun != "" {
		opts = append(opts, relay.WithSTUN(s.stun))
	}
	if s.savedTable != "" {
		opts = append(opts, relay.WithSavedTable(s.savedTable))
	}
	if len(s.alternatives) > 0 {
		opts = append(opts, relay.WithAlternatives(s.alternatives...))
	}
	return opts
}

// greet says where the relay is and what it gives away.
func greet(out io.Writer, s *settings, node *tango.Node, admin *admin) {
	fmt.Fprintf(out, "relay %s, key in %s\n", node.Host().ID(), s.identity)
	fmt.Fprintln(out, "limits:", s.limits)
	fmt.Fprintf(out, "discovery topics %q, forwarded %q\n", s.topics, s.forward)
	for _, u := range node.Relay().ICEServers() {
		fmt.Fprintln(out, "STUN:", u)
	}
	if a := admin.server.Addr; a != "" {
		fmt.Fprintf(out, "admin: http://%s/\n", a)
	}
	if s.cert != nil {
		fmt.Fprintln(out, "certificate:", certificateLine(s.cert))
	}
	fmt.Fprintln(out, "browsers dial:")
	for _, a := range node.BrowserAddrs() {
		fmt.Fprintln(out, " ", a)
	}
	for _, u := range pageURLs(node.Host().Addrs(), s.cert != nil) {
		fmt.Fprintln(out, "page:", u)
	}
}
