package signaling

import (
	"context"
	"errors"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
)

// Tests run in bubbles, whose clock is not the machine's, so their host
// and their streams are made of pipes.

const remotePeer = peer.ID("remote")

// pipeHost is a host whose only peer is the test.
type pipeHost struct {
	host.Host
	mu      sync.Mutex
	handler network.StreamHandler                             // guarded by mu
	open    func(ctx context.Context) (network.Stream, error) // what NewStream does
}

type noProtocols struct{ protocol.Switch }

func (noProtocols) Protocols() []protocol.ID { return nil }

func (*pipeHost) Mux() protocol.Switch { return noProtocols{} }

func (h *pipeHost) SetStreamHandler(_ protocol.ID, f network.StreamHandler) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.handler = f
}

func (h *pipeHost) RemoveStreamHandler(protocol.ID) { h.SetStreamHandler("", nil) }

type pipeNetwork struct{ network.Network }

func (pipeNetwork) Connectedness(peer.ID) network.Connectedness { return network.Limited }

func (*pipeHost) Network() network.Network { return pipeNetwork{} }

func (h *pipeHost) NewStream(ctx context.Context, _ peer.ID, _ ...protocol.ID) (network.Stream, error) {
	return h.open(ctx)
}

// dial opens a stream from the remote and returns the remote's end.
func (h *pipeHost) dial() *pipeStream {
	ours, theirs := newPipe()
	h.mu.Lock()
	handler := h.handler
	h.mu.Unlock()
	go handler(ours)
	return theirs
}

// pipeStream is one end of a stream; writes wait for the reader.
type pipeStream struct {
	network.Stream
	r, w  net.Conn      // a pipe for each direction
	reset chan struct{} // closed by the first reset of either side
	once  *sync.Once
	code  *network.StreamErrorCode // written before reset is closed
	scope pipeScope
}

// pipeScope is a scope that has as much as it says.
type pipeScope struct {
	network.NullScope
	noService, noMemory error
}

func (s *pipeScope) SetService(string) error        { return s.noService }
func (s *pipeScope) ReserveMemory(int, uint8) error { return s.noMemory }

func newPipe() (a, b *pipeStream) {
	a = &pipeStream{reset: make(chan struct{}), once: new(sync.Once), code: new(network.StreamErrorCode)}
	b = &pipeStream{reset: a.reset, once: a.once, code: a.code}
	a.r, b.w = net.Pipe()
	b.r, a.w = net.Pipe()
	return a, b
}

func (s *pipeStream) Read(b []byte) (int, error) {
	n, err := s.r.Read(b)
	return n, s.name(err)
}

func (s *pipeStream) Write(b []byte) (int, error) {
	n, err := s.w.Write(b)
	return n, s.name(err)
}

func (s *pipeStream) name(err error) error {
	select {
	case <-s.reset:
		if err != nil {
			return &network.StreamError{ErrorCode: *s.code, Remote: true}
		}
	default:
	}
	return err
}

func (s *pipeStream) ResetWithError(code network.StreamErrorCode) error {
	s.once.Do(func() {
		*s.code = code
		close(s.reset)
	})
	return errors.Join(s.r.Close(), s.w.Close())
}

func (s *pipeStream) CloseWrite() error                  { return s.w.Close() }
func (s *pipeStream) Close() error                       { return errors.Join(s.r.Close(), s.w.Close()) }
func (s *pipeStream) SetWriteDeadline(t time.Time) error { return s.w.SetWriteDeadline(t) }
func (s *pipeStream) Conn() network.Conn                 { return pipeConn{} }
func (s *pipeStream) Scope() network.StreamScope         { return &s.scope }

type pipeConn struct{ network.Conn }

func (pipeConn) RemotePeer() peer.ID           { return remotePeer }
func (pipeConn) RemoteMultiaddr() ma.Multiaddr { return ma.StringCast("/ip4/127.0.0.1/tcp/1") }

func newPipeService(t *testing.T) (*pipeHost, *Service) {
	t.Helper()
	h := &pipeHost{}
	s, err := New(h)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return h, s
}

// send writes a message as the remote.
func (s *pipeStream) send(t *testing.T, typ messageType, data string) {
	t.Helper()
	if _, err := s.Write(message{typ, data}.frame()); err != nil {
		t.Fatal(err)
	}
}

// offered has the service offer to the remote, and returns both ends.
func offered(t *testing.T, h *pipeHost, s *Service) (*Outgoing, *pipeStream) {
	t.Helper()
	ours, theirs := newPipe()
	h.open = func(context.Context) (network.Stream, error) { return ours, nil }
	got := make(chan message, 1)
	go func() {
		msg, _ := newReader(theirs, 1<<14).next() // a wrong message fails the test below
		got <- msg
	}()
	out, err := s.Offer(t.Context(), remotePeer, "our offer")
	if err != nil {
		t.Fatal(err)
	}
	if msg := <-got; msg != (message{typeOffer, "our offer"}) {
		t.Fatalf("the remote got %v", msg)
	}
	return out, theirs
}
