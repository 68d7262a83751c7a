package main

import (
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"net"
	"sync"
	"time"

	pubsub "github.com/libp2p/go-libp2p-pubsub"
	pubsubpb "github.com/libp2p/go-libp2p-pubsub/pb"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/protocol"
	circuit "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	manet "github.com/multiformats/go-multiaddr/net"
	"google.golang.org/protobuf/encoding/protodelim"
	"google.golang.org/protobuf/encoding/protowire"
	"google.golang.org/protobuf/proto"

	"github.com/tangop2p/tango/discovery"
)

const (
	// floodPeers is how many connections a flood has, as many as the relay gives
	// reservations to one address.
	floodPeers = 64
	// tooLarge is what an oversized message says to have, and partSize what it has
	// of that.
	tooLarge, partSize = 1 << 20, 64 << 10
	// stunPort is where the relay under test answers STUN, beside any other port.
	stunPort = "3478"
)

// flood does one thing as often as it can, and counts how it went.
func (c *crowd) flood(ctx context.Context, kind string, limit time.Duration) (answer, error) {
	attack, ok := map[string]func(context.Context, *lightPeer, int) error{
		"connections":  c.floodConnections,
		"reservations": func(ctx context.Context, p *lightPeer, _ int) error { return p.link.Load().reserve(ctx) },
		"circuits":     c.floodCircuits,
		"slow":         floodSlow,
		"oversized":    floodOversized,
		"spam":         floodSpam,
		"stun":         nil,
	}[kind]
	if !ok {
		return answer{}, fmt.Errorf("flood %q is not known", kind)
	}
	start := time.Now()
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	c.tally.reset()
	var wg sync.WaitGroup
	if kind == "stun" {
		wg.Go(func() { c.floodSTUN(ctx) })
	} else {
		for i := range floodPeers {
			wg.Go(func() { c.attack(ctx, i, attack) })
		}
	}
	wg.Wait()
	c.tally.mu.Lock()
	defer c.tally.mu.Unlock()
	return answer{Seconds: time.Since(start).Seconds(), Done: maps.Clone(c.tally.counts)}, nil
}

// attack runs one attacker, connected again whenever the relay has hung up.
func (c *crowd) attack(ctx context.Context, i int, attack func(context.Context, *lightPeer, int) error) {
	var p *lightPeer
	defer func() {
		if p != nil && p.link.Load() != nil {
			_ = p.link.Load().Close()
		}
	}()
	for n := i; ctx.Err() == nil; n += floodPeers {
		if p == nil || p.link.Load().IsClosed() {
			fresh, err := connect(ctx, c.relays[0])
			if err != nil {
				c.tally.count("no connection")
				pause(ctx, turn)
				continue
			}
			p = fresh
			defer context.AfterFunc(ctx, func() { _ = fresh.link.Load().Close() })() // ends what waits
		}
		c.tally.count(outcome(attack(ctx, p, n)))
	}
}

// outcome is short, so that a table may show it.
func outcome(err error) string {
	if r, ok := errors.AsType[refusal](err); ok {
		return r.Error()
	}
	if err != nil {
		return "failed"
	}
	return "ok"
}

// floodConnections makes peers that leave at once.
func (c *crowd) floodConnections(ctx context.Context, _ *lightPeer, _ int) error {
	p, err := connect(ctx, c.relays[0])
	if p != nil && p.link.Load() != nil {
		_ = p.link.Load().Close()
	}
	return err
}

// floodCircuits opens circuits to another attacker and leaves them, and every other
// time one to nobody.
func (c *crowd) floodCircuits(ctx context.Context, p *lightPeer, n int) error {
	if !p.link.Load().reserved.Load() {
		if err := p.link.Load().reserve(ctx); err != nil {
			return err
		}
		c.mu.Lock()
		c.peers = append(c.peers, p)
		c.mu.Unlock()
	}
	to := c.relays[0].ID // which holds no reservation at itself
	if n/floodPeers%2 == 0 {
		c.mu.Lock()
		to = c.peers[n%len(c.peers)].id
		c.mu.Unlock()
	}
	_, err := p.link.Load().circuit(ctx, to)
	return err
}

// floodSlow opens requests and says the first of a hundred bytes.
func floodSlow(ctx context.Context, p *lightPeer, _ int) error {
	s, err := p.link.Load().open(ctx, circuit.ProtoIDv2Hop)
	if err != nil {
		return err
	}
	_, err = s.Write([]byte{100, 0})
	return err
}

// floodOversized sends the beginning of a message that is too large, by turns to
// the relay's circuits and to GossipSub.
func floodOversized(ctx context.Context, p *lightPeer, n int) error {
	id := protocol.ID(circuit.ProtoIDv2Hop)
	if n/floodPeers%2 == 0 {
		id = pubsub.GossipSubID_v11
	}
	s, err := p.link.Load().open(ctx, id)
	if err != nil {
		return err
	}
	defer func() { _ = s.Reset() }()
	_, err = s.Write(append(binary.AppendUvarint(nil, tooLarge+1), make([]byte, partSize)...))
	return err
}

// floodSpam says who it is all the time, and every other time what is not signed.
func floodSpam(_ context.Context, p *lightPeer, n int) error {
	m, err := p.announcement(uint64(n))
	if err != nil {
		return err
	}
	if n/floodPeers%2 == 0 {
		m.Signature[0] ^= 1
	}
	_, err = protodelim.MarshalTo(p.gossip, &pubsubpb.RPC{Publish: []*pubsubpb.Message{m}})
	return err
}

// announcement is a signed record as pubsubPeerDiscovery's: the public key, and an
// address (pubsub/README.md §Message Signing).
func (p *lightPeer) announcement(n uint64) (*pubsubpb.Message, error) {
	key, err := crypto.MarshalPublicKey(p.key)
	if err != nil {
		return nil, err
	}
	addr := p.relay.Addrs[0].Bytes()
	data := protowire.AppendBytes(protowire.AppendTag(nil, 1, protowire.BytesType), key)
	data = protowire.AppendBytes(protowire.AppendTag(data, 2, protowire.BytesType), addr)
	topic := discovery.DefaultTopic
	m := &pubsubpb.Message{From: []byte(p.id), Data: data, Seqno: binary.BigEndian.AppendUint64(nil, n), Topic: &topic}
	b, err := proto.Marshal(m)
	if err != nil {
		return nil, err
	}
	m.Signature, err = p.priv.Sign(append([]byte(pubsub.SignPrefix), b...))
	return m, err
}

// floodSTUN sends binding requests (RFC 8489 §6), and counts what comes back.
func (c *crowd) floodSTUN(ctx context.Context) {
	ip, err := manet.ToIP(c.relays[0].Addrs[0])
	if err != nil {
		c.tally.count(err.Error())
		return
	}
	conn, err := (&net.Dialer{}).DialContext(ctx, "udp", net.JoinHostPort(ip.String(), stunPort))
	if err != nil {
		c.tally.count(err.Error())
		return
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })()
	go func() {
		for b := make([]byte, 1500); ; {
			if _, err := conn.Read(b); err != nil {
				return
			}
			c.tally.count("answered")
		}
	}()
	request := append([]byte{0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42}, make([]byte, 12)...)
	_, _ = rand.Read(request[8:])
	for ctx.Err() == nil {
		if _, err := conn.Write(request); err == nil {
			c.tally.count("ok")
		}
	}
}
