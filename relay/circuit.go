package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/netip"
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
	CauseClosed      Cause = "closed"      // by both its ends
	CauseSource      Cause = "source"      // its source broke it off, or has left
	CauseDestination Cause = "destination" // its destination broke it off, or has left
	CauseData        Cause = "data"        // it carried as many bytes as it may
	CauseDuration    Cause = "duration"    // it was open as long as it may
	CauseCapacity    Cause = "capacity"    // it was bulk and made room, see [Limits.Circuits]
	CauseEvicted     Cause = "evicted"     // see [Relay.Evict]
	CauseShutdown    Cause = "shutdown"    // the relay was closed
)

// codes are what the ends are told, in the reset of their stream (go-libp2p,
// network.StreamErrorCode); not when one of them is the cause.
var codes = map[Cause]network.StreamErrorCode{
	CauseData:     network.StreamResourceLimitExceeded,
	CauseDuration: network.StreamResourceLimitExceeded,
	CauseCapacity: network.StreamResourceLimitExceeded,
	CauseEvicted:  network.StreamGated,
	CauseShutdown: network.StreamShutdown,
}

// causeOf is the cause when an end breaks off.
var causeOf = [2]Cause{CauseSource, CauseDestination}

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
	carried  [2]atomic.Int64  // bytes that came from each end
	rates    [2]*rate.Limiter // of both ends, nil without
	first    atomic.Int32     // 1 + the end that closed its side first, 0 if none has
	bulk     func()           // called once it has carried more than freeBytes; may be called again
	group    netip.Prefix     // that its source is in
	seated   bool             // guarded by the mutex of circuits: it counts for the capacity

	ctx    context.Context //nolint:containedctx // until the circuit ends
	cancel context.CancelFunc

	mu      sync.Mutex
	streams [2]network.Stream // guarded by mu; to the source, to the destination
	cause   Cause             // guarded by mu; empty while it is open
}

func newCircuit(ctx context.Context, src, dst peer.ID) *circuit {
	c := &circuit{src: src, dst: dst, since: time.Now(), bulk: func() {}}
	c.ctx, c.cancel = context.WithCancel(ctx)
	return c
}

// begin gives the circuit its streams, unless it was ended before.
func (c *circuit) begin(src, dst network.Stream) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cause != "" {
		return false
	}
	c.streams = [2]network.Stream{src, dst}
	return true
}

// end resets both streams, unless the circuit was ended before: the first cause
// counts.
func (c *circuit) end(why Cause) bool {
	c.mu.Lock()
	if c.cause != "" {
		c.mu.Unlock()
		return false
	}
	c.cause = why
	streams := c.streams
	c.mu.Unlock()
	c.cancel()
	for _, s := range streams {
		if s != nil && why != CauseClosed {
			_ = s.ResetWithError(codes[why])
		}
	}
	return true
}

// lost ends the circuit if it is on a connection, which has ended. Its streams
// may look as if they had been closed in order.
func (c *circuit) lost(conn network.Conn) {
	c.mu.Lock()
	streams := c.streams
	c.mu.Unlock()
	for end, s := range streams {
		if s != nil && s.Conn() == conn {
			c.end(causeOf[end])
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

// freeBytes is what each direction of a circuit carries before it is bulk, and
// counts for the peers' rates: what identify and signaling need, so that they
// are never held up by what else the peers do.
const freeBytes = 128 << 10

// run copies until both directions have ended.
func (c *circuit) run(bufferSize int) {
	c.mu.Lock()
	streams := c.streams
	c.mu.Unlock()
	over := time.AfterFunc(c.terms.Duration, func() { _ = c.end(CauseDuration) })
	defer over.Stop()
	var back sync.WaitGroup
	back.Go(func() { c.copy(streams, 1, bufferSize) })
	c.copy(streams, 0, bufferSize)
	back.Wait()
	c.end(CauseClosed)
	for _, s := range streams {
		_ = s.Close()
	}
}

// copy copies from the stream of one end to that of the other.
func (c *circuit) copy(streams [2]network.Stream, from, bufferSize int) {
	buf := pool.Get(bufferSize)
	defer pool.Put(buf)
	src, dst := streams[from], streams[1-from]
	for {
		n, err := src.Read(buf)
		total := c.carried[from].Add(int64(n))
		switch {
		case total > c.terms.Data:
			c.end(CauseData)
			return
		case n > 0:
			if total > freeBytes && !c.wait(n, total) {
				return
			}
			if _, err := dst.Write(buf[:n]); err != nil {
				c.broken(1 - from)
				return
			}
		}
		if errors.Is(err, io.EOF) {
			c.first.CompareAndSwap(0, int32(from)+1)
			_ = dst.CloseWrite()
			return
		}
		if err != nil {
			c.broken(from)
			return
		}
	}
}

// broken ends a circuit of which an end's stream fails. A peer that leaves often
// closes its side first, upon which the other breaks off: that counts as the
// first one's doing.
func (c *circuit) broken(end int) {
	if first := c.first.Load(); first != 0 {
		end = int(first) - 1
	}
	c.end(causeOf[end])
}

// wait waits until the rates of both ends allow n bytes more, of which the last
// makes it total.
func (c *circuit) wait(n int, total int64) bool {
	if total-int64(n) <= freeBytes {
		c.bulk()
	}
	for _, r := range c.rates {
		if r == nil {
			continue
		}
		delay := r.ReserveN(time.Now(), n).Delay()
		if delay == 0 {
			continue
		}
		over := time.NewTimer(delay)
		select {
		case <-over.C:
		case <-c.ctx.Done():
			over.Stop()
			return false
		}
	}
	return true
}

// connectTimeout is how long a destination may take to answer.
const connectTimeout = 30 * time.Second

// callStop asks the destination to take a circuit, over the connection that it
// has to the relay. It gives up as soon as the circuit is ended.
func (h *hop) callStop(c *circuit) (network.Stream, error) {
	ctx, cancel := context.WithTimeout(c.ctx, connectTimeout)
	defer cancel()
	s, err := h.host.NewStream(network.WithNoDial(ctx, "relay"), c.dst, proto.ProtoIDv2Stop)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	if err := h.handshake(s, c); err != nil {
		_ = s.Reset()
		return nil, err
	}
	return s, nil
}

func (h *hop) handshake(s network.Stream, c *circuit) error {
	if err := attach(s); err != nil {
		return err
	}
	defer s.Scope().ReleaseMemory(maxMessage)
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

// limitMessage tells what a circuit may carry. 0 s would mean without a limit.
func limitMessage(t Terms) *pbv2.Limit {
	seconds := uint32(min((t.Duration+time.Second-1)/time.Second, math.MaxUint32))
	data := uint64(t.Data)
	return &pbv2.Limit{Duration: &seconds, Data: &data}
}
