package webrtc

import (
	"context"
	"strconv"
	"sync"

	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	ma "github.com/multiformats/go-multiaddr"
)

// Suite is a Transport as go-libp2p's own tests want it: it has as many listeners
// as they want, each with an address of its own, and the swarm's is not among
// them; and nothing is upgraded in the background.
type Suite struct {
	native
	*suitePairs
}

// suitePairs brings what a dial returns and what the other side accepts together,
// by the UDP port that they have in common.
type suitePairs struct {
	mu        sync.Mutex
	listeners map[string]*suiteListener // by the port in their made-up addresses
	accepted  map[string]chan transport.CapableConn
}

// NewSuite takes two Transports off their hosts' hands. The first listens.
func NewSuite(a, b *Transport) (Suite, Suite) {
	pairs := &suitePairs{listeners: make(map[string]*suiteListener), accepted: make(map[string]chan transport.CapableConn)}
	Idle(a)
	Idle(b)
	a.listener = &listener{t: a, conns: make(chan transport.CapableConn), closed: make(chan struct{})}
	a.wg.Go(func() {
		for {
			select {
			case c := <-a.listener.conns:
				pairs.of(c.RemoteMultiaddr()) <- c
			case <-a.ctx.Done():
				return
			}
		}
	})
	return Suite{native{a}, pairs}, Suite{native{b}, pairs}
}

func (p *suitePairs) of(a ma.Multiaddr) chan transport.CapableConn {
	port, _ := a.ValueForProtocol(ma.P_UDP)
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.accepted[port] == nil {
		p.accepted[port] = make(chan transport.CapableConn, 1)
	}
	return p.accepted[port]
}

// Listen makes a listener.
func (s Suite) Listen(ma.Multiaddr) (transport.Listener, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	port := strconv.Itoa(len(s.listeners) + 1)
	l := &suiteListener{
		listener: s.listener, addr: ma.StringCast("/udp/" + port + "/webrtc"),
		conns: make(chan transport.CapableConn, 1), closed: make(chan struct{}),
	}
	s.listeners[port] = l
	return l, nil
}

// CanDial accepts the address of a listener.
func (Suite) CanDial(a ma.Multiaddr) bool {
	_, last := ma.SplitLast(a)
	return last.Code() == ma.P_WEBRTC
}

// Dial connects to the listener.
func (s Suite) Dial(ctx context.Context, a ma.Multiaddr, p peer.ID) (transport.CapableConn, error) {
	c, err := s.native.Dial(ctx, pseudoAddr, p)
	if err != nil {
		return nil, err
	}
	port, _ := a.ValueForProtocol(ma.P_UDP)
	s.mu.Lock()
	l := s.listeners[port]
	s.mu.Unlock()
	l.conns <- <-s.of(c.LocalMultiaddr())
	return c, nil
}

type suiteListener struct {
	*listener
	addr   ma.Multiaddr
	conns  chan transport.CapableConn
	closed chan struct{}
	once   sync.Once
}

func (l *suiteListener) Accept() (transport.CapableConn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, transport.ErrListenerClosed
	}
}

func (l *suiteListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return nil
}

func (l *suiteListener) Multiaddr() ma.Multiaddr { return l.addr }

// Idle makes a Transport begin no upgrade from now on.
func Idle(t *Transport) { t.host.Network().StopNotify(t.upgrader) }

// Lose makes a Transport believe that its direct connections to a peer have
// fallen silent.
func Lose(t *Transport, p peer.ID) {
	t.mu.Lock()
	var lost []*peerConn
	for c, pc := range t.conns {
		if c.RemotePeer() == p {
			lost = append(lost, pc)
		}
	}
	t.mu.Unlock()
	for _, pc := range lost {
		pc.fell(ErrLost)
	}
}
