package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/tangop2p/tango/internal/interop"
	"github.com/tangop2p/tango/internal/interop/exercise"
)

// dialLimit bounds a dial; package webrtc's own limits are shorter.
const dialLimit = time.Minute

var errNotStarted = errors.New("the peer was not started")

// gopeer is what Peer of js/peer.ts is.
type gopeer struct {
	node   *node
	server *exercise.Server
	stop   context.CancelFunc // ends watch
	wg     sync.WaitGroup

	mu         sync.Mutex // for all below
	identified map[string]bool
	dials      []*interop.Dial
	events     []interop.Event
}

// start is called once.
func (p *gopeer) start(ctx context.Context, config interop.Config) (string, error) {
	n, err := newNode(ctx, config)
	if err != nil {
		return "", err
	}
	p.identified = map[string]bool{}
	sub, err := n.EventBus().Subscribe(new(event.EvtPeerIdentificationCompleted), eventbus.BufSize(64))
	if err != nil {
		return "", errors.Join(err, n.close())
	}
	p.node, p.server = n, exercise.Serve(n)
	ping.NewPingService(n) // answers others
	n.Network().Notify(&network.NotifyBundle{
		ConnectedF:    func(_ network.Network, c network.Conn) { p.record("connection:open", describe(c)) },
		DisconnectedF: func(_ network.Network, c network.Conn) { p.record("connection:close", describe(c)) },
	})
	watching, stop := context.WithCancel(ctx)
	p.stop = stop
	p.wg.Go(func() { p.watch(watching, sub) })
	return n.ID().String(), nil
}

// watch notes which connections are identified.
func (p *gopeer) watch(ctx context.Context, sub event.Subscription) {
	defer func() { _ = sub.Close() }()
	for {
		select {
		case e := <-sub.Out():
			done, ok := e.(event.EvtPeerIdentificationCompleted)
			if !ok {
				continue
			}
			p.record("peer:identify", describe(done.Conn))
			p.mu.Lock()
			p.identified[done.Conn.ID()] = true
			p.mu.Unlock()
		case <-ctx.Done():
			return
		}
	}
}

func (p *gopeer) close() error {
	if p.node == nil {
		return nil
	}
	p.stop()
	p.wg.Wait()
	return p.node.close()
}

// call calls a method by the name that it has in js/peer.ts.
func (p *gopeer) call(ctx context.Context, method string, args []json.RawMessage) (any, error) {
	if p.node == nil {
		return nil, errNotStarted
	}
	switch method {
	case "state":
		return p.state(), nil
	case "dial":
		return with(args, func(id string, addrs []string) (any, error) { return p.dial(ctx, id, addrs) })
	case "abort":
		return with(args, func(conn string, _ *int) (any, error) { return nil, p.abort(conn) })
	case "ping":
		return with(args, func(id string, _ *int) (any, error) { return p.pingOnce(ctx, id) })
	case "received":
		return with(args, func(id protocol.ID, _ *int) (any, error) { return p.server.Received(id), nil })
	default:
		return p.exercise(ctx, method, args)
	}
}

// exercise calls a method whose first argument is a peer to exercise with.
func (p *gopeer) exercise(ctx context.Context, method string, args []json.RawMessage) (any, error) {
	var id string
	var n [3]int
	if err := unmarshal(args, &id, &n[0], &n[1], &n[2]); err != nil {
		return nil, err
	}
	remote, err := peer.Decode(id)
	if err != nil {
		return nil, err
	}
	c := exercise.Client{Host: p.node, Peer: remote}
	switch method {
	case "streams":
		return c.Streams(ctx, n[0], n[1], n[2]), nil
	case "upload":
		return c.Upload(ctx, n[0], uint32(n[1]))
	case "download":
		return c.Download(ctx, n[0], uint32(n[1]))
	case "halfClose":
		return c.HalfClose(ctx, n[0], uint32(n[1]))
	case "resetSeen":
		return c.ResetSeen(ctx)
	default:
		return nil, fmt.Errorf("a Go peer has no method %q", method)
	}
}

// with decodes one or two arguments; one that is not given keeps its zero value.
func with[A, B any](args []json.RawMessage, call func(A, B) (any, error)) (any, error) {
	var a A
	var b B
	if err := unmarshal(args, &a, &b); err != nil {
		return nil, err
	}
	return call(a, b)
}

func unmarshal(args []json.RawMessage, into ...any) error {
	for i, arg := range args[:min(len(args), len(into))] {
		if err := json.Unmarshal(arg, into[i]); err != nil {
			return fmt.Errorf("argument %d: %w", i, err)
		}
	}
	return nil
}

// dial returns how many milliseconds it took to a direct connection.
func (p *gopeer) dial(ctx context.Context, id string, addrs []string) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, dialLimit)
	defer cancel()
	remote, err := peer.Decode(id)
	if err != nil {
		return 0, err
	}
	var parsed []ma.Multiaddr
	for _, addr := range addrs {
		a, err := ma.NewMultiaddr(addr)
		if err != nil {
			return 0, err
		}
		parsed = append(parsed, a)
	}
	d := &interop.Dial{Peer: id, StartedAt: now()}
	p.mu.Lock()
	p.dials = append(p.dials, d)
	p.mu.Unlock()
	err = p.node.connect(ctx, remote, parsed)
	p.record("dialled", p.node.explain(remote))
	p.mu.Lock()
	defer p.mu.Unlock()
	d.EndedAt = now()
	if err != nil {
		d.Error = err.Error()
	}
	return float64(d.EndedAt - d.StartedAt), err
}

func (p *gopeer) abort(conn string) error {
	for _, c := range p.node.Network().Conns() {
		if c.ID() == conn {
			return c.Close()
		}
	}
	return nil
}

// pingOnce returns the round trip time in milliseconds.
func (p *gopeer) pingOnce(ctx context.Context, id string) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	remote, err := peer.Decode(id)
	if err != nil {
		return 0, err
	}
	select {
	case r := <-ping.Ping(network.WithNoDial(ctx, "ping"), p.node, remote):
		return float64(r.RTT) / float64(time.Millisecond), r.Error
	case <-ctx.Done():
		return 0, context.Cause(ctx)
	}
}

func (p *gopeer) state() interop.State {
	s := interop.State{
		Peer: p.node.ID().String(), Addresses: []string{}, Connections: []interop.Connection{}, Discovered: []interop.Discovery{},
		Dials: []interop.Dial{}, Messages: []interop.Message{}, Subscribers: map[string][]string{},
	}
	for _, a := range p.node.Addrs() {
		s.Addresses = append(s.Addresses, a.String()+"/p2p/"+s.Peer)
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range p.node.Network().Conns() {
		s.Connections = append(s.Connections, p.connection(c))
	}
	for _, d := range p.dials {
		s.Dials = append(s.Dials, *d)
	}
	s.Events = slices.Clone(p.events)
	return s
}

// connection is called with the mutex held.
func (p *gopeer) connection(c network.Conn) interop.Connection {
	stat := c.Stat()
	out := interop.Connection{
		ID: c.ID(), Peer: c.RemotePeer().String(), Address: address(c), Direction: "inbound", Status: "open",
		Limited: stat.Limited, Identified: p.identified[c.ID()], OpenedAt: stamp(stat.Opened),
	}
	if stat.Direction == network.DirOutbound {
		out.Direction = "outbound"
	}
	if c.IsClosed() {
		out.Status = "closed"
	}
	for _, s := range c.GetStreams() {
		out.Streams = append(out.Streams, string(s.Protocol()))
	}
	return out
}

func address(c network.Conn) string {
	return c.RemoteMultiaddr().String() + "/p2p/" + c.RemotePeer().String()
}

func describe(c network.Conn) string {
	limited := ""
	if c.Stat().Limited {
		limited = " limited"
	}
	return fmt.Sprintf("%v %s%s", c.Stat().Direction, address(c), limited)
}

func (p *gopeer) record(kind, detail string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.events = append(p.events, interop.Event{At: now(), Kind: kind, Detail: detail})
}

func now() interop.Stamp { return stamp(time.Now()) }

func stamp(t time.Time) interop.Stamp { return interop.Stamp(float64(t.UnixMicro()) / 1000) }
