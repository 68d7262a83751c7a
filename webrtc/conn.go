package webrtc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"time"

	ic "github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/transport"
	ma "github.com/multiformats/go-multiaddr"
	pion "github.com/pion/webrtc/v4"
)

// errConnClosed is inside a network.ConnError when this side has closed the
// connection.
var errConnClosed = fmt.Errorf("webrtc: the connection is closed: %w", net.ErrClosed)

// connParams are what a connection is told by who made it.
type connParams struct {
	transport             transport.Transport
	localPeer, remotePeer peer.ID
	remoteKey             ic.PubKey
	local, remote         ma.Multiaddr
	scope                 network.ConnManagementScope // the connection's now
	limits                streamLimits
	// closePC closes the PeerConnection and waits for it. It is called once.
	closePC func() error
	// onClosed may be nil. It is called once, when nothing of the connection runs.
	onClosed func()
}

// conn is a libp2p connection whose streams are data channels of a
// PeerConnection.
type conn struct {
	connParams
	pc       *pion.PeerConnection
	channels *channels
	shared   *shared
	ids      *ids
	opening  chan struct{} // has one for each channel that the remote has not heard of
	accepted chan *stream

	ended  chan struct{} // closed when the connection is over
	closed chan struct{} // closed when nothing of it runs any more

	pumps sync.WaitGroup

	mu       sync.Mutex
	err      error                // guarded by mu; why ended is closed
	streams  map[*stream]struct{} // guarded by mu; those that hold something
	closeErr error                // guarded by mu until closed is closed
}

var _ transport.CapableConn = (*conn)(nil)

// newConn makes a connection of a PeerConnection and the channels it has.
func newConn(pc *pion.PeerConnection, ch *channels, p connParams) *conn {
	c := &conn{
		connParams: p,
		pc:         pc,
		channels:   ch,
		ids:        newIDs(ch.offerer, p.limits.ids),
		opening:    make(chan struct{}, p.limits.opening),
		accepted:   make(chan *stream, p.limits.accept),
		ended:      make(chan struct{}),
		closed:     make(chan struct{}),
		streams:    make(map[*stream]struct{}),
	}
	c.shared = &shared{limits: p.limits, owner: c, closer: &ch.closer, queue: newSendQueue(pc, p.limits.connBuffer)}
	if p.limits.rounds {
		ch.closer.watch(&wire{
			queued: c.shared.queue.queued, rtt: c.rtt, hold: c.shared.queue.hold, asks: ch.resets.asks, most: p.limits.roundMost,
		})
	}
	ch.adopt(c)
	return c
}

// rtt is the association's round trip time.
func (c *conn) rtt() time.Duration {
	return time.Duration(c.pc.SCTP().Stats().SmoothedRoundTripTime * float64(time.Second))
}

// OpenStream opens a stream, and waits for an id while all are in use. It does
// not wait for the remote.
func (c *conn) OpenStream(ctx context.Context) (network.MuxedStream, error) {
	mem, err := c.reserve()
	if err != nil {
		return nil, err
	}
	s, err := c.open(ctx, mem)
	if err != nil {
		mem.Done()
		return nil, c.reason(err)
	}
	return s, nil
}

func (c *conn) open(ctx context.Context, mem memory) (*stream, error) {
	heard, err := c.enter(ctx)
	if err != nil {
		return nil, err
	}
	s, err := c.openNext(ctx, mem, heard)
	if err != nil {
		heard()
	}
	return s, err
}

// enter waits until the remote has heard of all but a few channels, and returns
// what to call when it has heard of one more.
func (c *conn) enter(ctx context.Context) (heard func(), err error) {
	select {
	case c.opening <- struct{}{}:
		return sync.OnceFunc(func() { <-c.opening }), nil
	case <-c.ended:
		return nil, errConnClosed
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

func (c *conn) openNext(ctx context.Context, mem memory, heard func()) (*stream, error) {
	for {
		id, err := c.ids.take(ctx, c.ended)
		if err != nil {
			return nil, err
		}
		ch, err := c.channels.open(id)
		if errors.Is(err, errForeign) {
			continue
		}
		if err != nil { // so the association has ended, which pion is about to tell
			return nil, &network.ConnError{Remote: true, TransportError: fmt.Errorf("open a data channel: %w", err)}
		}
		ch.OnOpen(heard)
		s := newStream(ch, id, true, mem, c.shared)
		s.heard = heard
		if err := c.serve(s); err != nil { // the remote may have done with it already
			s.gone(err)
		}
		return s, nil
	}
}

// reserve has the resource manager grant what a stream takes at least.
func (c *conn) reserve() (memory, error) {
	span, err := c.scope.PeerScope().BeginSpan()
	if err != nil {
		return nil, err
	}
	if err := span.ReserveMemory(streamCost+firstWindow, network.ReservationPriorityAlways); err != nil {
		span.Done()
		return nil, err
	}
	return span, nil
}

// serve starts the pump of a stream.
func (c *conn) serve(s *stream) error {
	c.shared.closer.opened()
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	c.streams[s] = struct{}{}
	c.pumps.Go(s.pump)
	return nil
}

// incoming makes a stream of a channel that the remote has opened, and says
// whether there is a place for it.
func (c *conn) incoming(ch channel, id uint16) bool {
	if len(c.accepted) == cap(c.accepted) {
		return false
	}
	if c.limits.rounds && !c.channels.resets.rested(id, c.ended) {
		log.Debugw("stream refused whose id came too early", "peer", c.remotePeer, "id", id)
		return false
	}
	mem, err := c.reserve()
	if err != nil {
		log.Debugw("stream refused", "peer", c.remotePeer, "error", err)
		return false
	}
	s := newStream(ch, id, false, mem, c.shared)
	if c.serve(s) != nil { // the connection is over
		mem.Done()
		return true
	}
	select {
	case c.accepted <- s:
	default:
		_ = s.ResetWithError(network.StreamResourceLimitExceeded) // nil
	}
	return true
}

// channelEnded frees the id of a channel that was opened here.
func (c *conn) channelEnded(s *stream) {
	if s.machine.opener { // set once
		c.ids.put(s.id, time.Now().Add(c.limits.rest))
	}
}

// AcceptStream waits for a stream of the remote.
func (c *conn) AcceptStream() (network.MuxedStream, error) {
	select {
	case <-c.ended:
		return nil, c.reason(errConnClosed)
	case s := <-c.accepted:
		return s, nil
	}
}

// reason returns why the connection is over, or err if it is not.
func (c *conn) reason(err error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return c.err
	}
	return err
}

func (c *conn) retired(s *stream) {
	c.mu.Lock()
	defer c.mu.Unlock()
	delete(c.streams, s)
}

// Close ends the connection and all streams, and returns when nothing of it runs.
func (c *conn) Close() error { return c.CloseWithError(network.ConnNoError) }

// CloseWithError is Close. There is no message that could tell the remote the
// code, so it is what calls on this side return.
func (c *conn) CloseWithError(code network.ConnErrorCode) error {
	if c.end(&network.ConnError{ErrorCode: code, TransportError: errConnClosed}) {
		c.close()
	}
	<-c.closed
	return c.closeErr
}

// gone is the end of the connection by the remote or the network. It does not
// block.
func (c *conn) gone(err error) {
	if c.end(&network.ConnError{Remote: true, TransportError: err}) {
		go c.close() // what waits for it is Close
	}
}

// abort is Close from where that would wait for itself.
func (c *conn) abort(code network.ConnErrorCode) {
	if c.end(&network.ConnError{ErrorCode: code, TransportError: errConnClosed}) {
		go c.close() // what waits for it is Close
	}
}

// end is true for the first who ends the connection.
func (c *conn) end(err error) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.err != nil {
		return false
	}
	c.err = err
	close(c.ended)
	return true
}

// close is called once.
func (c *conn) close() {
	c.mu.Lock()
	err, streams := c.err, c.streams
	c.streams = nil
	c.mu.Unlock()
	for s := range streams {
		s.gone(err)
	}
	c.channels.closer.stop()
	c.closeErr = c.closePC()
	c.pumps.Wait()
	c.channels.close()
	c.scope.Done()
	if c.onClosed != nil {
		c.onClosed()
	}
	close(c.closed)
}

// IsClosed says whether the connection is over.
func (c *conn) IsClosed() bool {
	select {
	case <-c.ended:
		return true
	default:
		return false
	}
}

// As gives access to the *pion.PeerConnection.
func (c *conn) As(target any) bool {
	pc, ok := target.(**pion.PeerConnection)
	if ok {
		*pc = c.pc
	}
	return ok
}

// ConnState has no security protocol and no muxer: both are WebRTC's own.
func (c *conn) ConnState() network.ConnectionState {
	return network.ConnectionState{Transport: "webrtc"}
}

func (c *conn) LocalPeer() peer.ID             { return c.localPeer }
func (c *conn) RemotePeer() peer.ID            { return c.remotePeer }
func (c *conn) RemotePublicKey() ic.PubKey     { return c.remoteKey }
func (c *conn) LocalMultiaddr() ma.Multiaddr   { return c.local }
func (c *conn) RemoteMultiaddr() ma.Multiaddr  { return c.remote }
func (c *conn) Scope() network.ConnScope       { return c.scope }
func (c *conn) Transport() transport.Transport { return c.transport }
