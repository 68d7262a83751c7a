package main

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pubsubpb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/core/sec"
	"github.com/libp2p/go-libp2p/core/transport"
	"github.com/libp2p/go-libp2p/p2p/muxer/yamux"
	"github.com/libp2p/go-libp2p/p2p/net/upgrader"
	circuitpb "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	circuit "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"
	"github.com/libp2p/go-libp2p/p2p/protocol/identify"
	identifypb "github.com/libp2p/go-libp2p/p2p/protocol/identify/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/ping"
	"github.com/libp2p/go-libp2p/p2p/security/noise"
	"github.com/libp2p/go-libp2p/p2p/transport/websocket"
	multistream "github.com/multiformats/go-multistream"
	"google.golang.org/protobuf/encoding/protodelim"

	"github.com/tangop2p/tango/discovery"
)

// patience bounds each step of a peer.
const patience = 60 * time.Second

const maxMessage = 4096

// lightPeer is a peer with one connection to the relay.
type lightPeer struct {
	id      peer.ID
	key     crypto.PubKey
	priv    crypto.PrivKey
	relay   *peer.AddrInfo
	ws      transport.Transport
	streams *multistream.MultistreamMuxer[protocol.ID]
	link    atomic.Pointer[link]
	gossip  network.MuxedStream // of the first connection
}

// link is a connection.
type link struct {
	transport.CapableConn
	gone     chan struct{} // closed when it has ended
	reserved atomic.Bool
}

// connect makes a new peer and connects it.
func connect(ctx context.Context, relay *peer.AddrInfo) (*lightPeer, error) {
	p, err := newPeer(relay)
	if err != nil {
		return nil, err
	}
	return p, p.dial(ctx)
}

func newPeer(relay *peer.AddrInfo) (*lightPeer, error) {
	priv, pub, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return nil, err
	}
	muxers := []upgrader.StreamMuxer{{ID: yamux.ID, Muxer: yamux.DefaultTransport}}
	security, err := noise.New(noise.ID, priv, muxers)
	if err != nil {
		return nil, err
	}
	up, err := upgrader.New([]sec.SecureTransport{security}, muxers, nil, &network.NullResourceManager{}, nil)
	if err != nil {
		return nil, err
	}
	ws, err := websocket.New(up, nil, nil)
	if err != nil {
		return nil, err
	}
	p := &lightPeer{key: pub, priv: priv, relay: relay, ws: ws, streams: multistream.NewMultistreamMuxer[protocol.ID]()}
	p.handle()
	p.id, err = peer.IDFromPublicKey(pub)
	return p, err
}

// dial connects the peer, again if need be.
func (p *lightPeer) dial(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	conn, err := p.ws.Dial(ctx, p.relay.Addrs[0], p.relay.ID)
	if err != nil {
		return err
	}
	l := &link{CapableConn: conn, gone: make(chan struct{})}
	go p.serve(l)
	p.link.Store(l)
	return p.subscribe(ctx, l)
}

// handle says how streams that the relay opens are answered.
func (p *lightPeer) handle() {
	for id, serve := range map[protocol.ID]func(io.ReadWriter) error{
		identify.ID:            p.identify,
		ping.ID:                echo,
		circuit.ProtoIDv2Stop:  stop,
		pubsub.GossipSubID_v11: drain,
	} {
		p.streams.AddHandler(id, func(_ protocol.ID, s io.ReadWriteCloser) error {
			defer func() { _ = s.Close() }()
			return serve(s)
		})
	}
}

// serve answers the relay until the connection ends.
func (p *lightPeer) serve(l *link) {
	defer close(l.gone)
	for {
		s, err := l.AcceptStream()
		if err != nil {
			_ = l.Close()
			return
		}
		go func() {
			if err := p.streams.Handle(s); err != nil {
				_ = s.Reset()
			}
		}()
	}
}

func (p *lightPeer) identify(s io.ReadWriter) error {
	key, err := crypto.MarshalPublicKey(p.key)
	if err != nil {
		return err
	}
	agent := "crowd"
	_, err = protodelim.MarshalTo(s, &identifypb.Identify{
		PublicKey: key, AgentVersion: &agent, Protocols: protocol.ConvertToStrings(p.streams.Protocols()),
	})
	return err
}

func echo(s io.ReadWriter) error {
	_, err := io.Copy(s, s)
	return err
}

func drain(s io.ReadWriter) error {
	_, err := io.Copy(io.Discard, s)
	return err
}

// stop takes a circuit, and echoes what comes through it.
func stop(s io.ReadWriter) error {
	var m circuitpb.StopMessage
	in := util.NewDelimitedReader(s, maxMessage)
	defer in.Close()
	if err := in.ReadMsg(&m); err != nil {
		return err
	}
	ok := &circuitpb.StopMessage{Type: circuitpb.StopMessage_STATUS.Enum(), Status: circuitpb.Status_OK.Enum()}
	if err := util.NewDelimitedWriter(s).WriteMsg(ok); err != nil {
		return err
	}
	return echo(s)
}

func (l *link) open(ctx context.Context, id protocol.ID) (network.MuxedStream, error) {
	s, err := l.OpenStream(ctx)
	if err != nil {
		return nil, err
	}
	_ = s.SetDeadline(time.Now().Add(patience))
	if err := multistream.SelectProtoOrFail(id, s); err != nil {
		return nil, errors.Join(err, s.Reset())
	}
	return s, nil
}

// subscribe opens GossipSub's stream, which stays open.
func (p *lightPeer) subscribe(ctx context.Context, l *link) error {
	s, err := l.open(ctx, pubsub.GossipSubID_v11)
	if err != nil {
		return fmt.Errorf("GossipSub: %w", err)
	}
	_ = s.SetDeadline(time.Time{})
	if p.gossip == nil {
		p.gossip = s
	}
	topic, yes := discovery.DefaultTopic, true
	_, err = protodelim.MarshalTo(s, &pubsubpb.RPC{Subscriptions: []*pubsubpb.RPC_SubOpts{{Topicid: &topic, Subscribe: &yes}}})
	return err
}

// refusal is a status other than OK.
type refusal circuitpb.Status

func (r refusal) Error() string { return circuitpb.Status(r).String() }

// hop sends a request to the relay, and returns the stream once it agrees.
func (l *link) hop(ctx context.Context, m *circuitpb.HopMessage) (network.MuxedStream, error) {
	s, err := l.open(ctx, circuit.ProtoIDv2Hop)
	if err != nil {
		return nil, err
	}
	if err := exchange(s, m); err != nil {
		return nil, errors.Join(err, s.Reset())
	}
	return s, nil
}

func exchange(s network.MuxedStream, m *circuitpb.HopMessage) error {
	if err := util.NewDelimitedWriter(s).WriteMsg(m); err != nil {
		return err
	}
	var answer circuitpb.HopMessage
	in := util.NewDelimitedReader(s, maxMessage)
	defer in.Close()
	if err := in.ReadMsg(&answer); err != nil {
		return err
	}
	if answer.GetStatus() != circuitpb.Status_OK {
		return refusal(answer.GetStatus())
	}
	return nil
}

func (l *link) reserve(ctx context.Context) error {
	s, err := l.hop(ctx, &circuitpb.HopMessage{Type: circuitpb.HopMessage_RESERVE.Enum()})
	if err != nil {
		return err
	}
	l.reserved.Store(true)
	return s.Close()
}

// circuit opens a circuit to another, which echoes.
func (l *link) circuit(ctx context.Context, to peer.ID) (network.MuxedStream, error) {
	return l.hop(ctx, &circuitpb.HopMessage{Type: circuitpb.HopMessage_CONNECT.Enum(), Peer: &circuitpb.Peer{Id: []byte(to)}})
}
