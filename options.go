package tango

import (
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/libp2p/go-libp2p"
	pubsub "github.com/libp2p/go-libp2p-pubsub"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tangop2p/tango/discovery"
	"github.com/tangop2p/tango/front"
	"github.com/tangop2p/tango/identity"
	"github.com/tangop2p/tango/relay"
	"github.com/tangop2p/tango/reservation"
	"github.com/tangop2p/tango/webrtc"
)

// Option configures a [Node].
type Option func(*config) error

type config struct {
	identity  *identity.Identity
	listen    []ma.Multiaddr
	announce  []ma.Multiaddr
	front     []front.Option
	resources network.ResourceManager
	conns     connmgr.ConnManager
	relay     *relaySettings
	discovery *[]discovery.Option
	relays    *relaysSettings
	webrtc    []webrtc.Option
	host      []libp2p.Option
	pubsub    []pubsub.Option

	registerer prometheus.Registerer
}

// CheckOptions says what [New] would find wrong with the options.
func CheckOptions(opts ...Option) error {
	if _, err := newConfig(opts); err != nil {
		return fmt.Errorf("tango: %w", err)
	}
	return nil
}

type relaysSettings struct {
	infos []peer.AddrInfo
	opts  []reservation.Option
}

type relaySettings struct {
	limits relay.Limits
	opts   []relay.Option
}

func newConfig(opts []Option) (*config, error) {
	c := &config{}
	errs := []error{WithListen(BrowserListeners(0)...)(c)}
	for _, opt := range opts {
		errs = append(errs, opt(c))
	}
	return c, errors.Join(append(errs, c.checkFront())...)
}

// checkFront checks that a certificate and listeners that show one come together.
func (c *config) checkFront() error {
	certificate, err := front.CheckOptions(c.front...)
	secure := slices.ContainsFunc(c.listen, isTLS)
	switch {
	case err != nil:
		return fmt.Errorf("WithFront: %w", err)
	case secure && certificate == nil:
		return errors.New("WithListen of /tls/ws: it needs a certificate, WithFront(front.WithCertificate(...))")
	case !secure && certificate != nil:
		return errors.New("WithFront(front.WithCertificate(...)): nothing shows it; listen on /ip4/0.0.0.0/tcp/443/tls/ws, say")
	}
	return nil
}

// WithIdentity sets the node's key pair. The default is an ephemeral one, a
// new peer ID each time.
func WithIdentity(id *identity.Identity) Option {
	return func(c *config) error {
		if id == nil {
			return errors.New("WithIdentity(nil): give what identity.Load returned")
		}
		c.identity = id
		return nil
	}
}

// BrowserListeners returns the listen addresses that make a node reachable by
// browsers and by other libp2p nodes on one port number, on all IPv4 and IPv6
// interfaces: TCP and WebSocket share the TCP port; QUIC and WebTransport the
// UDP port of that number, as does WebRTC-direct. Port 0 takes free ports.
func BrowserListeners(port uint16) []string {
	var addrs []string
	for _, ip := range []string{"/ip4/0.0.0.0", "/ip6/::"} {
		addrs = append(addrs, ListenersOn(ip, port)...)
	}
	return addrs
}

// ListenersOn returns the listen addresses of [BrowserListeners] on one
// interface, given as the start of a multiaddr, such as "/ip4/127.0.0.1".
func ListenersOn(ip string, port uint16) []string {
	return []string{
		fmt.Sprintf("%s/tcp/%d", ip, port),
		fmt.Sprintf("%s/tcp/%d/ws", ip, port),
		fmt.Sprintf("%s/udp/%d/quic-v1", ip, port),
		fmt.Sprintf("%s/udp/%d/quic-v1/webtransport", ip, port),
		fmt.Sprintf("%s/udp/%d/webrtc-direct", ip, port),
	}
}

// WithListen sets the multiaddrs to listen on; none makes a node that only
// dials. The default is BrowserListeners(0).
func WithListen(addrs ...string) Option {
	return func(c *config) (err error) {
		c.listen, err = parseAddrs("WithListen", addrs)
		return err
	}
}

// WithAnnounce sets the multiaddrs to tell others instead of those listened
// on, as a node behind a proxy or a port forwarding needs; without /p2p. The
// default is to tell the listen addresses.
func WithAnnounce(addrs ...string) Option {
	return func(c *config) (err error) {
		c.announce, err = parseAddrs("WithAnnounce", addrs)
		return err
	}
}

func parseAddrs(option string, addrs []string) ([]ma.Multiaddr, error) {
	var parsed []ma.Multiaddr
	var errs []error
	for _, s := range addrs {
		a, err := ma.NewMultiaddr(s)
		if err != nil {
			err = fmt.Errorf("%s(%q): %w; write it as in /ip4/127.0.0.1/tcp/4001/ws", option, s, err)
		} else if _, p2p := a.ValueForProtocol(ma.P_P2P); p2p == nil {
			err = fmt.Errorf("%s(%q): leave out /p2p and what follows", option, s)
		}
		errs = append(errs, err)
		parsed = append(parsed, a)
	}
	return parsed, errors.Join(errs...)
}

// WithHTTPHandler serves plain HTTP requests that arrive at a WebSocket
// listener, on the same port. The default answers 404.
func WithHTTPHandler(h http.Handler) Option { return WithFront(front.WithHTTPHandler(h)) }

// WithFront adds options for how TCP connections come in: reverse proxies whose
// word on a client's address counts, the PROXY protocol, a certificate for /tls/ws
// listeners. See package front. The default is none of them.
func WithFront(opts ...front.Option) Option {
	return func(c *config) error {
		c.front = append(c.front, opts...)
		return nil
	}
}

// WithRelay makes the node a relay, see [relay.New]. The default is not to be one.
func WithRelay(opts ...relay.Option) Option {
	return func(c *config) error {
		limits, err := relay.CheckOptions(opts...)
		c.relay = &relaySettings{limits, slices.Clone(opts)}
		return err
	}
}

// WithDiscovery makes the node announce itself and find others, see
// [discovery.New]. The default is not to.
func WithDiscovery(opts ...discovery.Option) Option {
	return func(c *config) error {
		opts = slices.Clone(opts)
		c.discovery = &opts
		return discovery.CheckOptions(opts...)
	}
}

// WithRelays holds reservations at these relays, each a multiaddr that ends in
// /p2p/ and the relay's ID, so that others reach the node through them: browsers
// over /webrtc, which makes the connection direct. The STUN servers that these
// relays say to have (see [relay.FetchInfo]) are used for it, and no others, unless
// [WithWebRTC] says which. See [reservation.New]; use [WithReservations] for its
// options. The default is none, a node that others
// reach at its own addresses only.
func WithRelays(addrs ...string) Option {
	return func(c *config) error {
		var errs []error
		var infos []peer.AddrInfo
		for _, a := range addrs {
			info, err := peer.AddrInfoFromString(a)
			if err != nil {
				err = fmt.Errorf("WithRelays(%q): %w; write it as in /dns4/relay.example.org/tcp/443/tls/ws/p2p/ and the ID", a, err)
				errs = append(errs, err)
				continue
			}
			infos = append(infos, *info)
		}
		c.reserve().infos = infos
		return errors.Join(errs...)
	}
}

// WithReservations sets how reservations are held, at the relays of [WithRelays]
// and others. The default is that of package reservation.
func WithReservations(opts ...reservation.Option) Option {
	return func(c *config) error {
		c.reserve().opts = slices.Clone(opts)
		return reservation.CheckOptions(opts...)
	}
}

func (c *config) reserve() *relaysSettings {
	if c.relays == nil {
		c.relays = &relaysSettings{}
	}
	return c.relays
}

// WithWebRTC sets options of the /webrtc transport, which every node has, see
// [webrtc.New]: ICE servers foremost, which take the place of the relays' own
// STUN servers; webrtc.WithICEServers() asks none. The connection gater of the
// host is given to it already. The default is that of package webrtc.
func WithWebRTC(opts ...webrtc.Option) Option {
	return func(c *config) error {
		c.webrtc = slices.Clone(opts)
		return webrtc.CheckOptions(opts...)
	}
}

// WithResourceManager sets the host's resource manager. The default is that of
// [ResourceManager] for the limits of [WithRelay], or with [WithRelays] go-libp2p's
// with [webrtc.ResourceManagerOptions] of [webrtc.DefaultPerRelay], else go-libp2p's.
func WithResourceManager(rm network.ResourceManager) Option {
	return func(c *config) error {
		c.resources = rm
		return nil
	}
}

// WithConnManager sets the host's connection manager. The default with
// [WithRelay] is one that begins to close connections, those without a
// reservation first, when there are more than the reservations allowed and
// [SpareConns]; else it is go-libp2p's, which begins at 192.
func WithConnManager(cm connmgr.ConnManager) Option {
	return func(c *config) error {
		c.conns = cm
		return nil
	}
}

// WithRegisterer registers the metrics of the host, under go-libp2p's names, and of
// all blocks. A block's own WithRegisterer wins for the block. The default is none, and
// then none are kept: counting for nobody takes a seventh of a relay's time.
func WithRegisterer(r prometheus.Registerer) Option {
	return func(c *config) error {
		if r == nil {
			return errors.New("WithRegisterer(nil): give a registry, such as prometheus.DefaultRegisterer")
		}
		c.registerer = r
		return nil
	}
}

func (c *config) metrics() libp2p.Option {
	if c.registerer == nil {
		// the event bus registers its metrics all the same
		return libp2p.ChainOptions(libp2p.PrometheusRegisterer(prometheus.NewRegistry()), libp2p.DisableMetrics())
	}
	return libp2p.PrometheusRegisterer(c.registerer)
}

// WithHostOptions adds options for libp2p.New after the node's own. Those that
// the node sets itself (identity, addresses, transports, resource and connection
// managers, metrics) cannot be given twice. The default is none.
func WithHostOptions(opts ...libp2p.Option) Option {
	return func(c *config) error {
		c.host = append(c.host, opts...)
		return nil
	}
}

// WithPubSubOptions adds options for the node's GossipSub router after the
// node's own. The default is none.
func WithPubSubOptions(opts ...pubsub.Option) Option {
	return func(c *config) error {
		c.pubsub = append(c.pubsub, opts...)
		return nil
	}
}
