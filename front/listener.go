package front

import (
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"sync"
	"time"

	ws "github.com/gorilla/websocket"
	logging "github.com/ipfs/go-log/v2"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/transport"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// listener makes libp2p connections of HTTP requests, and serves the other ones.
type listener struct {
	door     *door
	inner    transport.GatedMaListener
	server   *http.Server
	upgrader ws.Upgrader
	laddr    ma.Multiaddr
	addr     net.Addr
	suffix   ma.Multiaddr // what follows the TCP port: /ws or /tls/ws
	incoming chan *conn

	closeOnce sync.Once
	closeErr  error
	closing   chan struct{}
	serving   sync.WaitGroup // the server and each of its connections
}

func newListener(d *door, inner transport.GatedMaListener, laddr, suffix ma.Multiaddr, config *tls.Config) (*listener, error) {
	addr, err := netAddr(laddr)
	if err != nil {
		return nil, err
	}
	l := &listener{
		door: d, inner: inner, laddr: laddr, addr: addr, suffix: suffix,
		upgrader: ws.Upgrader{
			HandshakeTimeout: HandshakeTimeout,
			WriteBufferPool:  new(sync.Pool), // a buffer for each that writes, not for each that is connected
			// pages of any origin may dial: peers know each other by their keys
			CheckOrigin: func(*http.Request) bool { return true },
			Error: func(w http.ResponseWriter, _ *http.Request, status int, why error) {
				http.Error(w, why.Error(), status)
			},
		},
		incoming: make(chan *conn),
		closing:  make(chan struct{}),
	}
	l.server = &http.Server{
		Handler:           l,
		ConnContext:       rememberConn,
		ConnState:         l.count,
		ErrorLog:          slog.NewLogLogger(slogger(), slog.LevelDebug),
		MaxHeaderBytes:    MaxHeaderBytes,
		ReadHeaderTimeout: HandshakeTimeout,
		ReadTimeout:       requestTimeout,
		IdleTimeout:       idleTimeout,
		HTTP2:             &http.HTTP2Config{MaxConcurrentStreams: maxStreams},
		TLSConfig:         config,
	}
	l.serving.Go(func() {
		if config != nil {
			_ = l.server.ServeTLS(visitors{inner}, "", "") // ends with the listener
		} else {
			_ = l.server.Serve(visitors{inner})
		}
	})
	return l, nil
}

// slogger is the package's logger as slog has it.
func slogger() slog.Handler {
	return logging.SlogHandler().WithAttrs([]slog.Attr{slog.String("logger", loggerName)})
}

// count keeps Close waiting for connections that the server still has. It is
// called before Serve returns for each, so that nothing is added to nothing.
func (l *listener) count(_ net.Conn, state http.ConnState) {
	switch state {
	case http.StateNew:
		l.serving.Add(1)
	case http.StateClosed, http.StateHijacked:
		l.serving.Done()
	case http.StateActive, http.StateIdle:
	}
}

func (l *listener) Multiaddr() ma.Multiaddr { return l.laddr }
func (l *listener) Addr() net.Addr          { return l.addr }

func (l *listener) Accept() (manet.Conn, network.ConnManagementScope, error) {
	select {
	case c := <-l.incoming:
		return c, c.scope, nil
	case <-l.closing:
		return nil, nil, transport.ErrListenerClosed
	}
}

func (l *listener) Close() error {
	l.closeOnce.Do(func() {
		close(l.closing)
		l.closeErr = errors.Join(l.inner.Close(), l.server.Close())
		l.serving.Wait()
	})
	return l.closeErr
}

// ServeHTTP implements [http.Handler].
func (l *listener) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	v, ok := r.Context().Value(visitorKey{}).(*visitor)
	if !ok {
		http.Error(w, "no connection", http.StatusInternalServerError)
		return
	}
	from, client, err := l.clientOf(v, r)
	switch {
	case err != nil:
		l.door.front.refuse(refusedHeader, v.raddr, err)
		http.Error(w, "the proxy's header is malformed", http.StatusBadRequest)
	case from != nil && !l.door.admits(endpoints{v.laddr, from}):
		l.door.front.refuse(refusedGater, from, nil)
		http.Error(w, "not admitted", http.StatusForbidden)
	case ws.IsWebSocketUpgrade(r):
		l.serving.Add(1) // hijacked, it is no more the server's
		defer l.serving.Done()
		l.upgrade(w, r, v, from)
	case l.door.front.handler == nil:
		http.NotFound(w, r)
	default:
		if from != nil {
			r = r.WithContext(r.Context())
			r.RemoteAddr = client.String()
		}
		l.door.front.handler.ServeHTTP(w, r)
	}
}

// clientOf returns the address that the headers of a trusted proxy tell, as a
// multiaddr too; nil if the connection's own counts.
func (l *listener) clientOf(v *visitor, r *http.Request) (ma.Multiaddr, netip.AddrPort, error) {
	f := l.door.front
	if !f.proxies.trusts(addrOf(v.raddr)) {
		return nil, netip.AddrPort{}, nil
	}
	client, err := f.proxies.client(r.Header)
	if err != nil {
		return nil, client, err
	}
	if !client.IsValid() {
		if ws.IsWebSocketUpgrade(r) {
			f.bare.Do(func() {
				log.Warnw("a trusted proxy says nothing of its clients, which count as one address: "+
					"have it set X-Forwarded-For or Forwarded, or do not trust it", "proxy", v.raddr)
			})
		}
		return nil, client, nil
	}
	from, err := manet.FromNetAddr(net.TCPAddrFromAddrPort(client))
	return from, client, err
}

// upgrade makes a libp2p connection. from is nil for the connection's own address.
func (l *listener) upgrade(w http.ResponseWriter, r *http.Request, v *visitor, from ma.Multiaddr) {
	f := l.door.front
	if f.proxies.trusts(addrOf(v.raddr)) {
		if from == nil {
			from = v.raddr
		}
		if err := v.reopen(l.door, from); err != nil {
			f.refuse(refusedResources, from, err)
			w.Header().Set("Connection", "close")
			http.Error(w, "too many connections", http.StatusTooManyRequests)
			return
		}
	}
	if from == nil {
		from = v.raddr
	}
	raw, err := l.upgrader.Upgrade(w, r, nil)
	if err != nil {
		f.refuse(refusedHandshake, from, err)
		return
	}
	c, err := v.become(raw, from, l.suffix)
	if err != nil {
		f.refuse(refusedTimeout, from, err)
		_ = raw.Close()
		return
	}
	patience := time.NewTimer(HandshakeTimeout)
	defer patience.Stop()
	select {
	case l.incoming <- c:
		return
	case <-patience.C: // too many others have just come in
		f.refuse(refusedTimeout, from, nil)
	case <-l.closing:
	}
	c.scope.Done()
	_ = c.Close()
}

// endpoints are what a connection gater looks at.
type endpoints struct{ local, remote ma.Multiaddr }

func (e endpoints) LocalMultiaddr() ma.Multiaddr  { return e.local }
func (e endpoints) RemoteMultiaddr() ma.Multiaddr { return e.remote }

// visitors is a listener as http.Server wants it.
type visitors struct{ transport.GatedMaListener }

func (vs visitors) Accept() (net.Conn, error) {
	c, scope, err := vs.GatedMaListener.Accept()
	if err != nil {
		return nil, err
	}
	return &visitor{Conn: c, laddr: c.LocalMultiaddr(), raddr: c.RemoteMultiaddr(), scope: scope}, nil
}

// visitor is a connection as long as it may become anything. It holds what the
// resource manager granted, and gives it back when it is closed, or hands it on.
type visitor struct {
	net.Conn
	laddr, raddr ma.Multiaddr

	mu    sync.Mutex
	scope network.ConnManagementScope // nil once given back or handed on
}

type visitorKey struct{}

func rememberConn(ctx context.Context, c net.Conn) context.Context {
	if t, ok := c.(*tls.Conn); ok {
		c = t.NetConn()
	}
	return context.WithValue(ctx, visitorKey{}, c)
}

// take hands the scope on; nil if the connection is closed already.
func (v *visitor) take() network.ConnManagementScope {
	v.mu.Lock()
	defer v.mu.Unlock()
	s := v.scope
	v.scope = nil
	return s
}

// reopen puts it on another address' account. If that is refused it is on none,
// and has to be closed.
func (v *visitor) reopen(d *door, a ma.Multiaddr) (err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	if v.scope == nil {
		return net.ErrClosed
	}
	if v.scope, err = d.reopen(v.scope, a); err != nil {
		v.scope = nil // an interface of what returned the error may be no nil
	}
	return err
}

// become hands everything on to a WebSocket connection.
func (v *visitor) become(raw *ws.Conn, from, suffix ma.Multiaddr) (*conn, error) {
	scope := v.take()
	if scope == nil {
		return nil, net.ErrClosed
	}
	c, err := newConn(raw, v.laddr, from, suffix, scope)
	if err != nil {
		scope.Done()
	}
	return c, err
}

func (v *visitor) Close() error {
	if s := v.take(); s != nil {
		s.Done()
	}
	return v.Conn.Close()
}
