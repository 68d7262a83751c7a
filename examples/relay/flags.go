package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/peterbourgon/ff/v3"

	"github.com/tangop2p/tango"
	"github.com/tangop2p/tango/discovery"
	"github.com/tangop2p/tango/front"
	"github.com/tangop2p/tango/relay"
)

const envPrefix = "TANGO"

const usage = `relay is a public bootstrapper for browsers: a circuit v2 relay through which
they reach each other, and a GossipSub router through which they find each
other. Once they have met they talk directly.

Usage:

  relay [flags]
  relay invite -audience PEER [flags]

Each flag can be given as an environment variable instead, for example
-listen as %s_LISTEN; the flag wins. Lists are separated by commas. Log levels
are set with GOLOG_LOG_LEVEL (error, warn, info, debug).

SIGHUP reads the files of -allow, -deny, -invite-issuers, -invite-revoked,
-asn-table, -cert and -key again, and asks about all who hold a reservation; those
of the certificate are also read when they change. SIGTERM and SIGINT drain the
relay, and a second one ends it at once.

On the port of its WebSocket listeners the relay also answers plain HTTP:

  /            the page of -web, or this relay's addresses
  /relay.json  this relay's addresses, topics and limits for programs
  /livez       200 as long as the relay runs

and at -admin, to those who run it:

  /livez        as above
  /readyz       200 while a browser can get a reservation, else 503 and why
  /metrics      for Prometheus
  /status.json  reservations and circuits, with the peers' addresses
  /debug/pprof/ where it spends time and memory, for go tool pprof

Examples:

  relay -listen 127.0.0.1:4001 -web examples/browser/dist
  relay -announce /dns4/relay.example/tcp/443/tls/ws -trusted-proxies 127.0.0.1
  relay -listen :443 -cert fullchain.pem -key privkey.pem -preset data
  relay -invite-issuers issuers.txt

Flags:

`

type settings struct {
	listen   []string
	announce []string
	identity string
	topics   []string
	forward  []string
	limits   relay.Limits
	front    []front.Option
	cert     *front.Certificate // nil without -cert
	rules    *rules
	drain    time.Duration
	stun     string
	admin    string
	web      string
	trace    string

	savedTable   string
	alternatives []string
}

// parseSettings reads flags and environment, and refuses what cannot work
// before anything starts.
func parseSettings(args []string, help io.Writer) (*settings, error) {
	fs := flag.NewFlagSet("relay", flag.ContinueOnError)
	fs.SetOutput(io.Discard) // errors are printed once, by main
	listen := fs.String("listen", ":4001", "`addresses` to listen on: host:port takes TCP, WebSocket, QUIC,\n"+
		"WebTransport and WebRTC-direct there, and with -cert WebSocket over TLS;\na multiaddr takes just what it names")
	announce := fs.String("announce", "", "`multiaddrs` to tell others instead of those listened on, for a relay\n"+
		"behind a proxy or a port forwarding")
	identity := fs.String("identity", "tango-relay.key", "`file` with the relay's private key, made on first use")
	topic := fs.String("topic", discovery.DefaultTopic, "discovery `topics` to forward; records are verified")
	forward := fs.String("forward", "", "other GossipSub `topics` to forward unseen")
	limits := addLimitFlags(fs)
	who := addRuleFlags(fs)
	drain := fs.Duration("drain", 5*time.Second, "how `long` open circuits may go on after SIGTERM, while new ones are refused")
	savedTable := fs.String("saved-table", "", "`file` in which reservations are kept, so that peers have them back after a\n"+
		"restart (default none)")
	alternatives := fs.String("alternatives", "", "`multiaddrs` of other relays, each with /p2p/ and its ID, which peers are told\n"+
		"when this one is drained")
	stun := fs.String("stun", "", "`address` at which to answer STUN, such as :3478, so that peers behind NAT\n"+
		"learn their public address from this relay; the page uses it (default none)")
	admin := fs.String("admin", "", "`address` for those who run the relay, such as 127.0.0.1:4002; whoever\n"+
		"reaches it sees who is there (default none)")
	proxy := addFrontFlags(fs)
	web := fs.String("web", "", "`directory` with a page to serve at /")
	trace := fs.String("trace", "", "`file` to which GossipSub's trace events are written as JSON, for debugging")
	fs.Usage = func() {
		fmt.Fprintf(help, usage, envPrefix)
		fs.SetOutput(help)
		fs.PrintDefaults()
	}
	if err := ff.Parse(fs, args, ff.WithEnvVarPrefix(envPrefix)); err != nil {
		return nil, err
	}
	if fs.NArg() > 0 {
		return nil, fmt.Errorf("argument %q: flags start with a dash, see -help", fs.Arg(0))
	}
	s := &settings{
		announce: list(*announce), identity: *identity, topics: list(*topic), forward: list(*forward), web: *web, trace: *trace,
		drain: *drain, stun: *stun, admin: *admin, savedTable: *savedTable, alternatives: list(*alternatives),
	}
	var errs [5]error
	s.front, s.cert, errs[4] = proxy.options()
	s.listen, errs[0] = listeners(list(*listen), s.cert != nil)
	s.limits, errs[1] = limits.limits()
	errs[2] = checkWeb(*web)
	s.rules, errs[3] = who.rules(s.limits)
	return s, errors.Join(errs[:]...)
}

func list(s string) []string {
	return strings.FieldsFunc(s, func(r rune) bool { return r == ',' || r == ' ' })
}

// listeners turns host:port into multiaddrs, with WebSocket over TLS where there
// is a certificate.
func listeners(values []string, secure bool) ([]string, error) {
	var addrs []string
	for _, v := range values {
		if strings.HasPrefix(v, "/") {
			addrs = append(addrs, v)
			continue
		}
		on, err := hostPort(v)
		if err != nil {
			return nil, err
		}
		for _, a := range on {
			addrs = append(addrs, a)
			if before, ok := strings.CutSuffix(a, "/ws"); ok && secure {
				addrs = append(addrs, before+"/tls/ws")
			}
		}
	}
	if len(addrs) == 0 {
		return nil, errors.New("-listen is empty: give at least one address, such as :4001")
	}
	return addrs, nil
}

func hostPort(v string) ([]string, error) {
	bad := fmt.Errorf("-listen %q: use :PORT, IP:PORT or a multiaddr such as /ip4/127.0.0.1/tcp/4001/ws", v)
	host, portText, err := net.SplitHostPort(v)
	if err != nil {
		return nil, bad
	}
	port, err := strconv.ParseUint(portText, 10, 16)
	if err != nil {
		return nil, bad
	}
	if host == "" {
		return tango.BrowserListeners(uint16(port)), nil
	}
	ip, err := netip.ParseAddr(host)
	if err != nil || ip.Zone() != "" {
		return nil, bad
	}
	if ip.Is4() {
		return tango.ListenersOn("/ip4/"+host, uint16(port)), nil
	}
	return tango.ListenersOn("/ip6/"+host, uint16(port)), nil
}

func checkWeb(dir string) error {
	if dir == "" {
		return nil
	}
	if _, err := os.Stat(dir + "/index.html"); err != nil {
		return fmt.Errorf("-web %q: no index.html there; build the page first (make page)", dir)
	}
	return nil
}
