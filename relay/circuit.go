package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"

	pool "github.com/libp2p/go-buffer-pool"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"
	"golang.org/x/time/rate"
)

// Cause is why a circuit has ended: a label of the metrics, and part of events.
type Cause string

// The causes.
const (
	CauseClosed   Cause = "closed"   // by its ends
	CauseReset    Cause = "reset"    // by one of its ends, or with its connection
	CauseData     Cause = "data"     // it carried as many bytes as it may
	CauseDuration Cause = "duration" // it was open as long as it may
	CauseEvicted  Cause = "evicted"  // see [Relay.Evict]
	CauseShutdown Cause = "shutdown" // the relay was closed
)

// Circuit is an open circuit.
type Circuit struct {
	Source, Destination peer.ID
	Since               time.Time
	Sent, Received      int64 // bytes from the source and to it
}

// circuit is a pair of streams that are copied to each other.
type circuit struct {
	src, dst peer.ID
	since    time.Time
	terms    Terms
	streams  [2]network.Stream // to the source, to the destination
	carried  [2]atomic.Int64   // bytes that came from each
	rates    [2]*rate.Limiter  // of both ends, nil without
	done     chan struct{}     // closed by end

	mu    sync.Mutex
	cause Cause // guarded by mu; empty while it is open
}

// end resets both streams; the first cause counts.
func (c *circuit) end(why Cause) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != "" {
		return
	}
	c.cause = why
	close(c.done)
	if why == CauseClosed {
		return
	}
	for _, s := range c.streams {
		if s != nil {
			_ = s.Reset()
		}
	}
}

func (c *circuit) ended() Cause {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.cause
}

func (c *circuit) public() Circuit {
	return Circuit{c.src, c.dst, c.since, c.carried[0].Load(), c.carried[1].Load()}
}

// freeBytes is what each direction of a circuit carries before it counts for
// the peers' rates: what identify and signaling need, so that they are never
// slowed down by what else the peers do.
const freeBytes = 128 << 10

// run copies until both directions have ended.
func (c *circuit) run(bufferSize int) {
	deadline := time.Now().Add(c.terms.Duration)
	for _, s := range c.streams {
		_ = s.SetDeadline(deadline)
	}
	var back sync.WaitGroup
	back.Go(func() { c.copy(1, bufferSize) })
	c.copy(0, bufferSize)
	back.Wait()
	c.end(CauseClosed)
	for _, s := range c.streams {
		_ = s.Close()
	}
}

// copy copies from the stream of one end to that of the other.
func (c *circuit) copy(from, bufferSize int) {
	buf := pool.Get(bufferSize)
	defer pool.Put(buf)
	src, dst := c.streams[from], c.streams[1-from]
	for {
		n, err := src.Read(buf)
		total := c.carried[from].Add(int64(n))
		switch {
		case total > c.terms.Data:
			c.end(CauseData)
			return
		case n > 0:
			if total > freeBytes && !c.wait(n) {
				return
			}
			if _, err := dst.Write(buf[:n]); err != nil {
				c.end(causeOf(err))
				return
			}
		}
		if errors.Is(err, io.EOF) {
			_ = dst.CloseWrite()
			return
		}
		if err != nil {
			c.end(causeOf(err))
			return
		}
	}
}

// wait waits until the rates of both ends allow n bytes more.
func (c *circuit) wait(n int) bool {
	for _, r := range c.rates {
		if r == nil {
			continue
		}
		select {
		case <-time.After(r.ReserveN(time.Now(), n).Delay()):
		case <-c.done:
			return false
		}
	}
	return true
}

func causeOf(err error) Cause {
	if timeout, ok := errors.AsType[net.Error](err); ok && timeout.Timeout() {
		return CauseDuration
	}
	return CauseReset
}

// connectTimeout is how long a destination may take to answer.
const connectTimeout = 30 * time.Second

// callStop asks the destination to take a circuit, over the connection that it
// has to the relay.
func (h *hop) callStop(ctx context.Context, c *circuit) (network.Stream, error) {
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	s, err := h.host.NewStream(network.WithNoDial(ctx, "relay"), c.dst, proto.ProtoIDv2Stop)
	if err != nil {
		return nil, err
	}
	if err := h.handshake(ctx, s, c); err != nil {
		_ = s.Reset()
		return nil, err
	}
	return s, nil
}

func (h *hop) handshake(ctx context.Context, s network.Stream, c *circuit) error {
	if err := attach(s); err != nil {
		return err
	}
	defer s.Scope().ReleaseMemory(maxMessage)
	deadline, _ := ctx.Deadline()
	_ = s.SetDeadline(deadline)
	err := util.NewDelimitedWriter(s).WriteMsg(&pbv2.StopMessage{
		Type:  pbv2.StopMessage_CONNECT.Enum(),
		Peer:  util.PeerInfoToPeerV2(peer.AddrInfo{ID: c.src}),
		Limit: limitMessage(c.terms),
	})
	if err != nil {
		return err
	}
	var answer pbv2.StopMessage
	in := util.NewDelimitedReader(s, maxMessage)
	defer in.Close()
	if err := in.ReadMsg(&answer); err != nil {
		return err
	}
	if answer.GetType() != pbv2.StopMessage_STATUS || answer.GetStatus() != pbv2.Status_OK {
		return fmt.Errorf("the destination answers %v, %v", answer.GetType(), answer.GetStatus())
	}
	return nil
}

func limitMessage(t Terms) *pbv2.Limit {
	seconds, data := uint32(t.Duration/time.Second), uint64(t.Data)
	return &pbv2.Limit{Duration: &seconds, Data: &data}
}
