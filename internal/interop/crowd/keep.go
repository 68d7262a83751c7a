package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// retry is the pause, 25 % more or less, of the loop that applications write
	// around go-libp2p's client.Reserve: AutoRelay's own takes minutes.
	retry = time.Second
	// turns are the exchanges on a circuit, and turn the pause between two.
	turns, turn = 5, 200 * time.Millisecond
	// talkative is which peers stay on a circuit as long as it lasts, every tenth.
	talkative = 10
	// parting is how long after a stream the connection may end that took it along.
	parting = time.Second
)

// tally counts what the peers did since the last reset.
type tally struct {
	mu     sync.Mutex
	counts map[string]int   // guarded by mu, as all below
	talked map[peer.ID]bool // who completed an exchange
}

func newTally() *tally {
	t := &tally{}
	t.reset()
	return t
}

func (t *tally) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts, t.talked = make(map[string]int), make(map[peer.ID]bool)
}

func (t *tally) count(what string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.counts[what]++
}

func (t *tally) exchanged(p peer.ID) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.talked[p] = true
}

func (c *crowd) status() answer {
	held := 0
	for _, p := range c.peers {
		if l := p.link.Load(); l.reserved.Load() && !l.IsClosed() {
			held++
		}
	}
	c.tally.mu.Lock()
	defer c.tally.mu.Unlock()
	return answer{Failed: maps.Clone(c.tally.counts), Done: map[string]int{"held": held, "talked": len(c.tally.talked)}}
}

// keep returns at once; what it starts ends with the process.
func (c *crowd) keep(ctx context.Context) {
	for i, p := range c.peers {
		go c.hold(ctx, p)
		go c.talk(ctx, p, c.peers[(i+1)%len(c.peers)].id, i%talkative == 0)
	}
}

// hold makes the peer's reservation again whenever its connection has ended.
func (c *crowd) hold(ctx context.Context, p *lightPeer) {
	for ctx.Err() == nil {
		l := p.link.Load()
		if l.reserved.Load() {
			<-l.gone
		}
		pause(ctx, retry)
		if err := p.resume(ctx); err != nil {
			c.tally.count("reserve: " + p.link.Load().blame(err))
		}
	}
}

// resume connects the peer unless it is, and reserves.
func (p *lightPeer) resume(ctx context.Context) error {
	if p.link.Load().IsClosed() {
		if err := p.dial(ctx); err != nil {
			return err
		}
	}
	return p.link.Load().reserve(ctx)
}

// talk opens a circuit to another peer, exchanges something, and begins anew.
func (c *crowd) talk(ctx context.Context, p *lightPeer, to peer.ID, long bool) {
	for ctx.Err() == nil {
		pause(ctx, retry)
		l := p.link.Load()
		if l.IsClosed() {
			continue // hold sees to it
		}
		s, err := l.circuit(ctx, to)
		if err != nil {
			c.tally.count("circuit: " + l.blame(err))
			continue
		}
		for i := 0; err == nil && (long || i < turns); i++ {
			if err = exchangeBytes(s, 1<<10); err == nil {
				c.tally.exchanged(p.id)
				pause(ctx, turn)
			}
		}
		if err != nil {
			c.tally.count("circuit ended: " + l.blame(err))
			_ = s.Reset()
			continue
		}
		_ = s.Close()
	}
}

// exchangeBytes sends so many bytes to a peer that echoes, and has them back.
func exchangeBytes(s network.MuxedStream, size int) error {
	_ = s.SetDeadline(time.Now().Add(patience))
	b := make([]byte, size)
	if _, err := s.Write(b); err != nil {
		return err
	}
	_, err := io.ReadFull(s, b)
	return err
}

// silent marks what the relay ended without any reason on the wire.
const silent = "no reason"

// blame says what reason the relay gave for an error on this connection: a status of circuit v2, the
// code of a reset, or the end of the whole connection.
func (l *link) blame(err error) string {
	if r, ok := errors.AsType[refusal](err); ok {
		return r.Error()
	}
	if e, ok := errors.AsType[*network.StreamError](err); ok && e.Remote && e.ErrorCode != network.StreamNoError {
		return fmt.Sprintf("stream code %#x", uint32(e.ErrorCode))
	}
	select {
	case <-l.gone:
		return "connection lost"
	case <-time.After(parting):
		return fmt.Sprintf("%s: %v", silent, err)
	}
}

// reach opens a circuit to a peer that need not be of this crowd.
func (c *crowd) reach(ctx context.Context, to peer.ID) error {
	l := c.peers[0].link.Load()
	if l.IsClosed() {
		return errors.New("connection lost")
	}
	s, err := l.circuit(ctx, to)
	if err != nil {
		return err
	}
	return s.Reset()
}

// pause waits for about d.
func pause(ctx context.Context, d time.Duration) {
	spread := time.Duration((rand.Float64() - 0.5) / 2 * float64(d))
	select {
	case <-time.After(d + spread):
	case <-ctx.Done():
	}
}

const (
	// messages is how many round trips a signaling takes: the protocols, noise, the
	// multiplexer and offer with answer; each has messageSize bytes each way.
	messages, messageSize = 4, 1 << 10
	// signalPause is between two signalings of a peer.
	signalPause = time.Second / 2
)

// signal measures how long it takes to open a circuit and to say on it what two
// browsers say, n times for each peer.
func (c *crowd) signal(ctx context.Context, n int) answer {
	a := answer{Failed: make(map[string]int), Done: make(map[string]int)}
	var mu sync.Mutex
	var wg sync.WaitGroup
	start := time.Now()
	for i, p := range c.peers {
		wg.Go(func() {
			for range n {
				pause(ctx, signalPause)
				took, err := p.signal(ctx, c.peers[(i+1)%len(c.peers)].id)
				mu.Lock()
				if err != nil {
					a.Failed[reason(err)]++
				} else {
					a.Took = append(a.Took, float64(took)/float64(time.Millisecond))
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	a.Seconds = time.Since(start).Seconds()
	return a
}

func (p *lightPeer) signal(ctx context.Context, to peer.ID) (time.Duration, error) {
	start := time.Now()
	s, err := p.link.Load().circuit(ctx, to)
	if err != nil {
		return 0, err
	}
	for range messages {
		if err := exchangeBytes(s, messageSize); err != nil {
			return 0, errors.Join(err, s.Reset())
		}
	}
	took := time.Since(start)
	return took, s.Close()
}
