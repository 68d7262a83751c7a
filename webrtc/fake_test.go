package webrtc

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// fakeChannel is a channel whose remote is the test.
type fakeChannel struct {
	mu     sync.Mutex
	cond   *sync.Cond
	inbox  []fakeMessage
	end    error    // behind the inbox
	sent   [][]byte // by the stream
	closed bool
	queued uint64
	low    uint64
	onLow  func()
	onOpen func()
}

type fakeMessage struct {
	data []byte
	text bool
}

func newFakeChannel() *fakeChannel {
	c := &fakeChannel{}
	c.cond = sync.NewCond(&c.mu)
	return c
}

func (c *fakeChannel) ReadDataChannel(p []byte) (int, bool, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for len(c.inbox) == 0 && c.end == nil {
		c.cond.Wait()
	}
	if len(c.inbox) == 0 {
		if errors.Is(c.end, io.EOF) {
			c.closed = true // as pion does
		}
		return 0, false, c.end
	}
	m := c.inbox[0]
	if len(m.data) > len(p) {
		return 0, false, io.ErrShortBuffer // without the size, as pion does
	}
	c.inbox = c.inbox[1:]
	return copy(p, m.data), m.text, nil
}

func (c *fakeChannel) Write(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return 0, errors.New("written behind the end")
	}
	c.sent = append(c.sent, bytes.Clone(p))
	c.queued += uint64(len(p))
	return len(p), nil
}

func (c *fakeChannel) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return nil
}

func (c *fakeChannel) BufferedAmount() uint64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.queued
}

func (c *fakeChannel) SetBufferedAmountLowThreshold(th uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.low = th
}

func (c *fakeChannel) OnBufferedAmountLow(f func()) { c.onLow = f }
func (c *fakeChannel) OnOpen(f func())              { c.onOpen = f }

// drain has the remote acknowledge n bytes.
func (c *fakeChannel) drain(n uint64) {
	c.mu.Lock()
	before := c.queued
	c.queued -= min(n, c.queued)
	passed := before > c.low && c.queued <= c.low
	c.mu.Unlock()
	if passed {
		c.onLow()
	}
}

func (c *fakeChannel) receive(data ...[]byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, d := range data {
		c.inbox = append(c.inbox, fakeMessage{data: d})
	}
	c.cond.Broadcast()
}

func (c *fakeChannel) receiveText(s string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.inbox = append(c.inbox, fakeMessage{[]byte(s), true})
	c.cond.Broadcast()
}

// over ends the channel, by io.EOF as from the remote.
func (c *fakeChannel) over(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.end = err
	c.cond.Broadcast()
}

func (c *fakeChannel) flags(t *testing.T) []flag {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	s, err := readFrames(c.sent...)
	if err != nil {
		t.Fatal(err)
	}
	var flags []flag
	for _, f := range s.flags {
		flags = append(flags, f.flag)
	}
	return flags
}

func (c *fakeChannel) isClosed() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.closed
}

func (c *fakeChannel) left() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.inbox)
}

// fakeOwner notes what a stream tells its connection.
type fakeOwner struct {
	mu           sync.Mutex
	nEnded, nRet int
}

func (o *fakeOwner) channelEnded(*stream) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.nEnded++
}

func (o *fakeOwner) retired(*stream) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.nRet++
}

type fakeRig struct {
	*stream
	ch    *fakeChannel
	owner *fakeOwner
	scope *countingScope
}

// inBubble runs f with a stream in a synctest bubble, where time costs nothing.
// f leaves the stream as it likes.
func inBubble(t *testing.T, f func(t *testing.T, r *fakeRig)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		r := newFakeRig(t, newFakeChannel(), nil)
		f(t, r)
		r.ch.over(io.EOF)
		r.gone(errGone)
		synctest.Wait()
		if r.owner.nEnded != 1 || r.owner.nRet != 1 || !r.scope.empty() {
			t.Errorf("ended %d, retired %d times; held: %d", r.owner.nEnded, r.owner.nRet, r.scope.bytes.Load())
		}
	})
}

func newFakeRig(t *testing.T, ch *fakeChannel, queue *sendQueue) *fakeRig {
	t.Helper()
	return newFakeRigOf(t, ch, &shared{queue: queue, closer: &closer{}, limits: defaultStreamLimits()}, true)
}

func newFakeRigOf(t *testing.T, ch *fakeChannel, with *shared, opener bool) *fakeRig {
	t.Helper()
	r := &fakeRig{ch: ch, owner: &fakeOwner{}, scope: &countingScope{}}
	if with.queue == nil {
		with.queue = &sendQueue{limit: 1 << 30, queued: func() int { return int(ch.BufferedAmount()) }}
	}
	with.owner = r.owner
	span, _ := r.scope.PeerScope().BeginSpan()
	if err := span.ReserveMemory(streamCost+firstWindow, 0); err != nil {
		t.Fatal(err)
	}
	r.stream = newStream(ch, 3, opener, span, with)
	go r.pump()
	return r
}

// pass lets a bubble's time pass.
func pass(d time.Duration) { <-time.After(d) }

func wantFlags(t *testing.T, r *fakeRig, want ...flag) {
	t.Helper()
	synctest.Wait()
	got := r.ch.flags(t)
	if len(got) != len(want) {
		t.Fatalf("flags %v were sent, not %v", got, want)
	}
	for i := range got {
		if got[i] != want[i] {
			t.Fatalf("flags %v were sent, not %v", got, want)
		}
	}
}

func flagFrame(f flag) []byte { return appendFlag(nil, f, 0) }
