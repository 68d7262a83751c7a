package front

import (
	"fmt"
	"net/http"
	"sync"

	logging "github.com/ipfs/go-log/v2"
	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/transport/tcp"
	"github.com/libp2p/go-libp2p/p2p/transport/tcpreuse"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
)

const loggerName = "tango/front"

var log = logging.Logger(loggerName)

// Front is what TCP connections of one host come in through. Its [Front.TCP] and
// [Front.WebSocket] are given to libp2p.New. It is safe for concurrent use.
type Front struct {
	proxies       proxies
	proxyProtocol bool
	certificate   *Certificate // nil without
	handler       http.Handler
	metrics       *metrics
	bare          sync.Once // a proxy that sends no header was logged

	mu    sync.Mutex
	doors map[transport.Upgrader]*door
}

// New checks the options. It starts nothing: the host's listeners do.
func New(opts ...Option) (*Front, error) {
	c, err := newConfig(opts)
	if err != nil {
		return nil, fmt.Errorf("front: %w", err)
	}
	m, err := newMetrics(c.registerer, c.certificate)
	if err != nil {
		return nil, fmt.Errorf("front: %w", err)
	}
	return &Front{
		proxies:       c.proxies,
		proxyProtocol: c.proxyProtocol,
		certificate:   c.certificate,
		handler:       c.handler,
		metrics:       m,
		doors:         map[transport.Upgrader]*door{},
	}, nil
}

// Certificate returns what [WithCertificate] was given, nil without.
func (f *Front) Certificate() *Certificate { return f.certificate }

// Close unregisters the metrics. Connections and listeners are the host's, which
// is closed before.
func (f *Front) Close() error {
	f.metrics.unregister()
	return nil
}

// TCP makes go-libp2p's TCP transport, which shares its ports with WebSocket.
// Give it to libp2p.Transport in place of tcp.NewTCPTransport, and leave out
// libp2p.ShareTCPListener.
func (f *Front) TCP(u transport.Upgrader, rm network.ResourceManager, gater connmgr.ConnectionGater) (*tcp.TcpTransport, error) {
	d := f.door(u, rm, gater)
	return tcp.NewTCPTransport(d, d.resources, d.shared)
}

// WebSocket makes a transport for /ws and /tls/ws. Give it to libp2p.Transport in
// place of websocket.New, by which it dials.
func (f *Front) WebSocket(u transport.Upgrader, rm network.ResourceManager, gater connmgr.ConnectionGater) (*Transport, error) {
	d := f.door(u, rm, gater)
	dialer, err := websocket.New(u, d.resources, d.shared)
	if err != nil {
		return nil, err
	}
	return &Transport{WebsocketTransport: dialer, door: d}, nil
}

// door returns the one of a host, which asks for it once for each transport. A
// host may have another upgrader, for dialling back in AutoNAT.
func (f *Front) door(u transport.Upgrader, rm network.ResourceManager, gater connmgr.ConnectionGater) *door {
	f.mu.Lock()
	defer f.mu.Unlock()
	if d := f.doors[u]; d != nil {
		return d
	}
	if rm == nil {
		rm = &network.NullResourceManager{}
	}
	d := &door{Upgrader: u, front: f, resources: rm, gater: gater}
	d.shared = tcpreuse.NewConnMgr(tcpreuse.EnvReuseportVal, d)
	f.doors[u] = d
	return d
}
