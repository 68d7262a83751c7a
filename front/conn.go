package front

import (
	"errors"
	"io"
	"net"
	"slices"
	"sync"
	"time"

	ws "github.com/gorilla/websocket"
	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
)

// goodbye is how long Close may take to tell the other side.
const goodbye = 100 * time.Millisecond

// conn is a WebSocket as a stream of bytes, the contents of its messages one
// behind the other (libp2p specs, websockets/README.md).
type conn struct {
	raw          *ws.Conn
	scope        network.ConnManagementScope
	laddr, raddr ma.Multiaddr
	local        net.Addr
	remote       net.Addr
	close        func() error

	readMu  sync.Mutex
	message io.Reader // what is left of the last message; nil at its end
	writeMu sync.Mutex
}

var _ manet.Conn = (*conn)(nil)

func newConn(raw *ws.Conn, laddr, raddr, suffix ma.Multiaddr, scope network.ConnManagementScope) (*conn, error) {
	c := &conn{raw: raw, scope: scope, laddr: slices.Concat(laddr, suffix), raddr: slices.Concat(raddr, suffix)}
	var errs [2]error
	c.local, errs[0] = netAddr(c.laddr)
	c.remote, errs[1] = netAddr(c.raddr)
	c.close = sync.OnceValue(c.hangUp)
	return c, errors.Join(errs[:]...)
}

func (c *conn) Read(b []byte) (int, error) {
	c.readMu.Lock()
	defer c.readMu.Unlock()
	for {
		if c.message == nil {
			var err error
			if _, c.message, err = c.raw.NextReader(); err != nil {
				c.message = nil
				return 0, ending(err)
			}
		}
		n, err := c.message.Read(b)
		if errors.Is(err, io.EOF) {
			c.message, err = nil, nil
		}
		if n > 0 || err != nil || len(b) == 0 {
			return n, err
		}
	}
}

// ending turns a good-bye into io.EOF.
func ending(err error) error {
	if ws.IsCloseError(err, ws.CloseNormalClosure, ws.CloseNoStatusReceived) {
		return io.EOF
	}
	return err
}

func (c *conn) Write(b []byte) (int, error) {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	if err := c.raw.WriteMessage(ws.BinaryMessage, b); err != nil {
		return 0, err
	}
	return len(b), nil
}

// Close is idempotent; each call returns what the first did.
func (c *conn) Close() error { return c.close() }

func (c *conn) hangUp() error {
	// both fail where the other side has hung up first, which is none of the caller's business
	_ = c.raw.SetReadDeadline(time.Now())
	_ = c.raw.WriteControl(ws.CloseMessage, ws.FormatCloseMessage(ws.CloseNormalClosure, ""), time.Now().Add(goodbye))
	return c.raw.Close()
}

func (c *conn) LocalAddr() net.Addr           { return c.local }
func (c *conn) RemoteAddr() net.Addr          { return c.remote }
func (c *conn) LocalMultiaddr() ma.Multiaddr  { return c.laddr }
func (c *conn) RemoteMultiaddr() ma.Multiaddr { return c.raddr }

func (c *conn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}

// SetReadDeadline takes no lock, so that it interrupts a Read.
func (c *conn) SetReadDeadline(t time.Time) error { return c.raw.SetReadDeadline(t) }

func (c *conn) SetWriteDeadline(t time.Time) error {
	c.writeMu.Lock()
	defer c.writeMu.Unlock()
	return c.raw.SetWriteDeadline(t)
}
