package webrtc

import (
	"fmt"
	"net"
	"sync"
	"sync/atomic"

	"github.com/libp2p/go-libp2p/core/transport"
	ma "github.com/multiformats/go-multiaddr"
)

// maxUnaccepted is how many connections wait for the swarm, which takes them
// at once.
const maxUnaccepted = 16

// Listen makes the listener that takes what others offer. There is one.
func (n native) Listen(a ma.Multiaddr) (transport.Listener, error) {
	if !a.Equal(pseudoAddr) {
		return nil, fmt.Errorf("webrtc: cannot listen on %v, only on %v", a, pseudoAddr)
	}
	if n.listener != nil {
		return nil, fmt.Errorf("webrtc: listening on %v already", pseudoAddr)
	}
	n.listener = &listener{t: n.Transport, conns: make(chan transport.CapableConn, maxUnaccepted), closed: make(chan struct{})}
	return n.listener, nil
}

// listener hands connections to the swarm.
type listener struct {
	t         *Transport
	conns     chan transport.CapableConn
	hidden    atomic.Bool
	closed    chan struct{}
	closeOnce sync.Once
}

var _ transport.Listener = (*listener)(nil)

// Accept waits for a connection.
func (l *listener) Accept() (transport.CapableConn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, transport.ErrListenerClosed
	}
}

// deliver gives a connection to the swarm, or closes it.
func (l *listener) deliver(c transport.CapableConn) {
	select {
	case l.conns <- c:
	case <-l.closed:
		_ = c.Close() // nobody will use it
	}
}

// Close ends Accept and what others have begun.
func (l *listener) Close() error {
	l.closeOnce.Do(func() {
		close(l.closed)
		l.t.cancel(ErrClosed)
		for {
			select {
			case c := <-l.conns:
				_ = c.Close() // nobody will use it
			default:
				return
			}
		}
	})
	return nil
}

// Multiaddr is /p2p-circuit: the basic host leaves it out of its addresses, as
// it shall /webrtc alone, which nobody can dial.
func (l *listener) Multiaddr() ma.Multiaddr {
	if l.hidden.Load() {
		return pseudoAddr
	}
	return circuitAddr
}

// hide changes the address to /webrtc, by which the swarm then finds this
// listener to close it, and not that for circuits.
func (l *listener) hide() { l.hidden.Store(true) }

// Addr is not that of a socket: there is none.
func (l *listener) Addr() net.Addr { return listenAddr{} }

type listenAddr struct{}

func (listenAddr) Network() string { return "webrtc" }
func (listenAddr) String() string  { return pseudoAddr.String() }
