package webrtc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/libp2p/go-libp2p/core/network"
	pion "github.com/pion/webrtc/v4"
)

const (
	// initLabel is of the channel that the offerer makes so that the offer has a
	// section for channels at all: libp2p specs, webrtc/webrtc.md. It never
	// carries anything.
	initLabel = "init"
	// maxEarly is how many channels wait for a connection to take them up. A
	// browser opens two or three before that.
	maxEarly = 256
	// maxRefused is how many channels that were refused may wait for the remote to
	// close them too. One more ends the connection: a remote that answers a reset
	// does not get there.
	maxRefused = 1024
)

// channels collects the data channels of a PeerConnection from its birth on,
// and hands those that carry streams to a connection.
type channels struct {
	pc      *pion.PeerConnection
	offerer bool
	init    chan channel  // the offerer's, once it is open
	done    chan struct{} // closed by close
	closer  closer
	resets  *resets

	wg sync.WaitGroup // what runs here

	mu       sync.Mutex
	closed   bool                // guarded by mu, as all below
	early    []early             // until there is a connection
	conn     *conn               // nil until then
	initSeen bool                // the answerer's, there is one only
	refused  int                 // that the remote has not closed yet
	foreign  map[uint16]struct{} // ids of this side that the remote has used
}

// early is a channel that waits for the connection.
type early struct {
	channel
	id uint16
}

// newChannels must come before SetRemoteDescription: js-libp2p opens channels
// before the offerer is through with its own.
func newChannels(pc *pion.PeerConnection, offerer bool, r *resets) *channels {
	c := &channels{
		pc: pc, offerer: offerer, resets: r,
		init:    make(chan channel, 1),
		done:    make(chan struct{}),
		foreign: make(map[uint16]struct{}),
	}
	// pion accepts no other channel until this returns.
	pc.OnDataChannel(func(dc *pion.DataChannel) {
		dc.OnOpen(func() {
			if c.enter() {
				defer c.wg.Done()
				c.opened(dc)
			}
		})
	})
	return c
}

// createInit makes the channel "init" of the offerer.
func (c *channels) createInit() error {
	id := uint16(initID)
	dc, err := c.pc.CreateDataChannel(initLabel, &pion.DataChannelInit{ID: &id})
	if err != nil {
		return err
	}
	dc.OnOpen(func() {
		ch, err := detach(dc)
		if err != nil {
			log.Debugw("channel init not detached", "error", err)
			return
		}
		c.init <- ch
	})
	return nil
}

// awaitInit waits until the channel "init" is open, and closes it. It is read to
// its end in the background: a browser tells its application that a channel is
// closed only when both sides have reset it.
func (c *channels) awaitInit(ctx context.Context) error {
	select {
	case ch := <-c.init:
		closeChannel(ch)
		c.run(func() { discard(ch) })
		return nil
	case <-c.done:
		return errConnClosed
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// run runs f in a goroutine that close waits for, unless it is closed.
func (c *channels) run(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.wg.Go(f)
	}
}

// enter has close wait for a call of wg.Done, unless it is closed.
func (c *channels) enter() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.closed {
		c.wg.Add(1)
	}
	return !c.closed
}

// opened takes a channel of the remote's.
func (c *channels) opened(dc *pion.DataChannel) {
	ch, err := detach(dc)
	if err != nil {
		log.Debugw("channel not detached", "error", err)
		return
	}
	id := *dc.ID() // the remote's choice, so there is one
	switch {
	case dc.Label() == initLabel:
		c.openedInit(ch)
	case !dc.Ordered() || dc.MaxRetransmits() != nil || dc.MaxPacketLifeTime() != nil:
		c.refuse(ch, network.StreamProtocolViolation)
	case (id%2 == 1) == c.offerer:
		// It may be the next that this side uses. RFC 8832 §6 leaves the choice to
		// the sides' good will.
		c.mu.Lock()
		c.foreign[id] = struct{}{}
		c.mu.Unlock()
		c.refuse(ch, network.StreamProtocolViolation)
	default:
		c.admit(ch, id)
	}
}

// openedInit leaves the channel to the offerer, who has to see it open and
// closes it then, and closes this side's end behind that. js-libp2p's dial fails
// if it is closed sooner.
func (c *channels) openedInit(ch channel) {
	c.mu.Lock()
	second := c.initSeen || c.offerer
	c.initSeen = true
	c.mu.Unlock()
	if second {
		c.refuse(ch, network.StreamProtocolViolation)
		return
	}
	c.run(func() {
		discard(ch)
		closeChannel(ch)
	})
}

func (c *channels) admit(ch channel, id uint16) {
	c.mu.Lock()
	conn := c.conn
	switch {
	case c.closed:
		c.mu.Unlock()
		return
	case conn == nil && len(c.early) < maxEarly:
		c.early = append(c.early, early{ch, id})
		c.mu.Unlock()
		return
	}
	c.mu.Unlock()
	if conn == nil || !conn.incoming(ch, id) {
		c.refuse(ch, network.StreamResourceLimitExceeded)
	}
}

// adopt hands the channels to a connection, those to come too.
func (c *channels) adopt(conn *conn) {
	c.mu.Lock()
	waiting := c.early
	c.early, c.conn = nil, conn
	c.mu.Unlock()
	for _, e := range waiting {
		if !conn.incoming(e.channel, e.id) {
			c.refuse(e.channel, network.StreamResourceLimitExceeded)
		}
	}
}

// refuse resets a channel. Until the remote has closed it too, what is under way
// on it is read, for it takes of the receive window that all streams share.
func (c *channels) refuse(ch channel, code network.StreamErrorCode) {
	var b [maxFlagFrame]byte
	if _, err := ch.Write(appendFlag(b[:0], flagReset, uint32(code))); err != nil {
		log.Debugw("channel not reset", "error", err)
	}
	c.closer.close(ch)
	c.mu.Lock()
	defer c.mu.Unlock()
	switch {
	case c.closed:
	case c.refused < maxRefused:
		c.refused++
		c.wg.Go(func() {
			c.closer.await(ch)
			discard(ch)
			c.closer.ended(ch)
			c.mu.Lock()
			defer c.mu.Unlock()
			c.refused--
		})
	case c.conn != nil:
		log.Debugw("connection closed over channels that the remote does not close", "peer", c.conn.remotePeer)
		c.conn.abort(network.ConnResourceLimitExceeded)
	}
}

// errForeign says that the remote has used an id that is for this side to use.
var errForeign = errors.New("webrtc: the remote uses this id")

// open opens a channel for a stream.
func (c *channels) open(id uint16) (channel, error) {
	c.mu.Lock()
	_, foreign := c.foreign[id]
	c.mu.Unlock()
	if foreign {
		return nil, errForeign
	}
	// On an association that stands, pion opens it at once and does not wait for
	// the acknowledgement (RFC 8832 §6 allows to send right away).
	dc, err := c.pc.CreateDataChannel("", &pion.DataChannelInit{ID: &id})
	if err != nil {
		return nil, err
	}
	ch, err := detach(dc)
	if err != nil {
		_ = dc.Close() // it is not open, and shall not be later
	}
	return ch, err
}

// close ends what no connection has taken up, and waits for what runs here,
// which it does until the PeerConnection is closed.
func (c *channels) close() {
	c.mu.Lock()
	if !c.closed {
		c.closed = true
		c.early = nil
		close(c.done)
	}
	c.mu.Unlock()
	c.closer.stop()
	c.wg.Wait()
}

// detach takes a channel out of pion's hands. pion would keep it until the end
// of the connection otherwise.
func detach(dc *pion.DataChannel) (channel, error) {
	raw, err := dc.Detach()
	if err != nil {
		return nil, err
	}
	ch, ok := raw.(channel)
	if !ok {
		return nil, fmt.Errorf("webrtc: a channel of pion's cannot be throttled: %T", raw)
	}
	return ch, nil
}

func closeChannel(ch channel) {
	if err := ch.Close(); err != nil {
		log.Debugw("channel not closed", "error", err)
	}
}

// discard reads a channel to its end.
func discard(ch channel) {
	for {
		var small [64]byte
		_, _, err := ch.ReadDataChannel(small[:])
		for n := frameSegment; errors.Is(err, io.ErrShortBuffer); n *= 2 {
			_, _, err = ch.ReadDataChannel(make([]byte, n)) // pion holds as much already
		}
		if err != nil {
			return
		}
	}
}
