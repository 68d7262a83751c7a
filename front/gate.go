package front

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/connmgr"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/transport/tcpreuse"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// acceptPause is how long nothing is accepted after the system had no file
// descriptor left, say. Stock go-libp2p's shared listener ends then.
const acceptPause = 50 * time.Millisecond

// refusalDelay is how long a connection that was refused is kept, unread, before it is
// closed: who dials again as soon as it is refused dials that much less often. There
// are at most maxRefused of them at a port; others are closed at once.
const (
	refusalDelay = time.Second
	maxRefused   = 256
)

// peekSize is how many bytes tcpreuse tells protocols by.
const peekSize = 3

// door is the front of one host: an upgrader whose listeners know the address of
// who comes through a proxy. The raw TCP transport and the port sharing of
// go-libp2p (p2p/transport/tcpreuse) are built on it.
type door struct {
	transport.Upgrader
	front     *Front
	resources network.ResourceManager
	gater     connmgr.ConnectionGater // nil without
	shared    *tcpreuse.ConnMgr
}

// admits asks the connection gater.
func (d *door) admits(c network.ConnMultiaddrs) bool {
	return d.gater == nil || d.gater.InterceptAccept(c)
}

// open asks the resource manager for a connection of that address. One from a
// trusted proxy is nobody's before its headers are read. It counts as one from
// loopback: towards all limits but those of one address, which go-libp2p's
// defaults and tango's do not have there. Without any address it would share one
// bucket of the rate limiter with all others (x/rate, SubnetLimiter.Allow).
func (d *door) open(a ma.Multiaddr) (network.ConnManagementScope, error) {
	if d.front.proxies.trusts(addrOf(a)) {
		a = ma.StringCast("/ip4/127.0.0.1/tcp/0")
	}
	return d.resources.OpenConnection(network.DirInbound, true, a)
}

// reopen puts a connection on the account of the address that it has turned out
// to come from, be that a proxy's own.
func (d *door) reopen(scope network.ConnManagementScope, a ma.Multiaddr) (network.ConnManagementScope, error) {
	scope.Done()
	return d.resources.OpenConnection(network.DirInbound, true, a)
}

// refuse counts, and tells those who look for it.
func (f *Front) refuse(why reason, from ma.Multiaddr, err error) {
	f.metrics.refused.WithLabelValues(string(why)).Inc()
	log.Debugw("refused", "reason", why, "from", from, "error", err)
}

// GateMaListener implements [transport.Upgrader]; tcpreuse calls it for each TCP
// port.
func (d *door) GateMaListener(l manet.Listener) transport.GatedMaListener {
	g := &gate{
		Listener: l, door: d,
		ready: make(chan entrant), refused: make(chan struct{}, maxRefused), done: make(chan struct{}),
	}
	go g.run()
	return g
}

// UpgradeGatedMaListener implements [transport.Upgrader] for raw TCP. WebSocket
// listeners settle by themselves, for they have headers to read.
func (d *door) UpgradeGatedMaListener(t transport.Transport, l transport.GatedMaListener) transport.Listener {
	return d.Upgrader.UpgradeGatedMaListener(t, &settled{GatedMaListener: l, door: d})
}

// settled is a listener for raw TCP, on which a trusted address has no more to
// say: it is the client's.
type settled struct {
	transport.GatedMaListener
	door *door
}

func (s *settled) Accept() (manet.Conn, network.ConnManagementScope, error) {
	for {
		conn, scope, err := s.GatedMaListener.Accept()
		if err != nil || !s.door.front.proxies.trusts(addrOf(conn.RemoteMultiaddr())) {
			return conn, scope, err
		}
		if scope, err = s.door.reopen(scope, conn.RemoteMultiaddr()); err == nil {
			return conn, scope, nil
		}
		s.door.front.refuse(refusedResources, conn.RemoteMultiaddr(), err)
		_ = conn.Close()
	}
}

// gate accepts from one TCP port. Each connection is known to gater and resource
// manager before a byte of it is read, and handed on once it has sent the few
// bytes by which tcpreuse tells protocols: 64 that are silent would hold up
// tcpreuse for everybody.
type gate struct {
	manet.Listener
	door    *door
	ready   chan entrant
	refused chan struct{} // has one for each that is not closed yet
	done    chan struct{} // closed when nothing runs any more
}

type entrant struct {
	conn  manet.Conn
	scope network.ConnManagementScope
}

func (g *gate) Accept() (manet.Conn, network.ConnManagementScope, error) {
	select {
	case e := <-g.ready:
		return e.conn, e.scope, nil
	case <-g.done:
		return nil, nil, transport.ErrListenerClosed
	}
}

func (g *gate) Close() error {
	err := g.Listener.Close()
	<-g.done
	return err
}

func (g *gate) run() {
	ctx, cancel := context.WithCancel(context.Background())
	var all sync.WaitGroup
	defer close(g.done)
	defer all.Wait()
	defer cancel()
	for {
		conn, err := g.Listener.Accept()
		if te, ok := err.(interface{ Temporary() bool }); ok && te.Temporary() {
			<-time.After(acceptPause)
			continue
		}
		if err != nil {
			return
		}
		scope := g.admit(conn)
		if scope != nil {
			all.Go(func() { g.greet(ctx, entrant{conn, scope}) })
			continue
		}
		select {
		case g.refused <- struct{}{}:
			all.Go(func() { g.dismiss(ctx, conn) })
		default:
			_ = conn.Close()
		}
	}
}

// dismiss closes a refused connection after a while.
func (g *gate) dismiss(ctx context.Context, conn manet.Conn) {
	select {
	case <-time.After(refusalDelay):
	case <-ctx.Done():
	}
	_ = conn.Close()
	<-g.refused
}

// admit asks gater and resource manager; nil says that one of them refuses.
func (g *gate) admit(conn manet.Conn) network.ConnManagementScope {
	from := conn.RemoteMultiaddr()
	if !g.door.admits(conn) {
		g.door.front.refuse(refusedGater, from, nil)
		return nil
	}
	scope, err := g.door.open(from)
	if err != nil {
		g.door.front.refuse(refusedResources, from, err)
		return nil
	}
	return scope
}

// greet reads the first bytes and hands the connection on.
func (g *gate) greet(ctx context.Context, e entrant) {
	conn := e.conn
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	e, ok := g.read(e)
	if !stop() || !ok {
		e.drop()
		return
	}
	patience := time.NewTimer(HandshakeTimeout)
	defer patience.Stop()
	select {
	case g.ready <- e:
	case <-patience.C: // too many others have just come in
		g.door.front.refuse(refusedTimeout, e.conn.RemoteMultiaddr(), nil)
		e.drop()
	case <-ctx.Done():
		e.drop()
	}
}

func (e entrant) drop() {
	e.scope.Done()
	_ = e.conn.Close()
}

// read reads a PROXY header, where there has to be one, and the bytes that name
// the protocol. The connection that it returns is that of the client, with those bytes.
func (g *gate) read(e entrant) (entrant, bool) {
	f, from := g.door.front, e.conn.RemoteMultiaddr()
	_ = e.conn.SetReadDeadline(time.Now().Add(HeaderTimeout))
	conn, ok := e.conn.(tcpConn)
	if !ok {
		log.Errorw("not a TCP connection", "from", from)
		return e, false
	}
	r := bufio.NewReaderSize(conn, maxProxyHeader)
	c := &greeted{tcpConn: conn, raddr: from}
	e.conn = c
	expected := f.proxyProtocol && f.proxies.trusts(addrOf(from))
	if expected {
		client, err := readProxyHeader(r)
		if err != nil {
			f.refuse(refusedHeader, from, err)
			return e, false
		}
		if client.IsValid() {
			if !g.become(&e, c, client) {
				return e, false
			}
		}
	}
	first, err := r.Peek(peekSize)
	if err != nil {
		if errors.Is(err, os.ErrDeadlineExceeded) {
			f.refuse(refusedTimeout, from, err)
		}
		return e, false
	}
	if f.proxyProtocol && !expected && startsProxyHeader(first) {
		f.refuse(refusedUntrusted, from, nil)
		return e, false
	}
	c.head, _ = r.Peek(r.Buffered())
	return e, e.conn.SetReadDeadline(time.Time{}) == nil
}

// become makes the connection the client's. It still is nobody's on the account
// if the client is a trusted proxy too, which will say more.
func (g *gate) become(e *entrant, c *greeted, client netip.AddrPort) bool {
	f := g.door.front
	c.addr = net.TCPAddrFromAddrPort(client)
	raddr, err := manet.FromNetAddr(c.addr)
	if err != nil {
		f.refuse(refusedHeader, c.raddr, err)
		return false
	}
	c.raddr = raddr
	if !g.door.admits(c) {
		f.refuse(refusedGater, raddr, nil)
		return false
	}
	e.scope.Done()
	scope, err := g.door.open(raddr)
	if err != nil {
		f.refuse(refusedResources, raddr, err)
		return false
	}
	e.scope = scope
	return true
}

// addrOf returns the IP address in a multiaddr, never an IPv4-mapped one.
func addrOf(a ma.Multiaddr) netip.Addr {
	ip, err := manet.ToIP(a)
	if err != nil {
		return netip.Addr{}
	}
	addr, _ := netip.AddrFromSlice(ip)
	return addr.Unmap()
}

// tcpConn is what tcpreuse wants of a connection.
type tcpConn interface {
	manet.Conn
	syscall.Conn
	io.ReaderFrom
	io.WriterTo
	CloseRead() error
	CloseWrite() error
	SetLinger(sec int) error
	SetKeepAlive(keepalive bool) error
	SetKeepAlivePeriod(d time.Duration) error
	SetNoDelay(noDelay bool) error
	MultipathTCP() (bool, error)
}

// greeted is a connection whose first bytes were read, with the client's address.
type greeted struct {
	tcpConn
	head  []byte   // those bytes, until they are read again
	addr  net.Addr // nil where it is the connection's own
	raddr ma.Multiaddr
}

func (c *greeted) Read(b []byte) (int, error) {
	if len(c.head) > 0 {
		n := copy(b, c.head)
		if c.head = c.head[n:]; len(c.head) == 0 {
			c.head = nil
		}
		return n, nil
	}
	return c.tcpConn.Read(b)
}

// WriteTo hides that of the connection, which does not know of head.
func (c *greeted) WriteTo(w io.Writer) (int64, error) { return io.Copy(w, struct{ io.Reader }{c}) }

func (c *greeted) RemoteAddr() net.Addr {
	if c.addr != nil {
		return c.addr
	}
	return c.tcpConn.RemoteAddr()
}

func (c *greeted) RemoteMultiaddr() ma.Multiaddr { return c.raddr }
