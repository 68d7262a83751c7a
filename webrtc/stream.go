package webrtc

import (
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
)

// channel is a detached data channel of pion's. Write and Close do not block:
// pion queues what it cannot send yet.
type channel interface {
	ReadDataChannel(p []byte) (n int, text bool, err error)
	Write(p []byte) (int, error)
	Close() error
	BufferedAmount() uint64
	SetBufferedAmountLowThreshold(th uint64)
	OnBufferedAmountLow(f func())
	// OnOpen calls f from a goroutine of its own once the acknowledgement (RFC
	// 8832 §5.2) is read. f must be set before the channel is read.
	OnOpen(f func())
}

// streamLimits bounds what streams may take.
type streamLimits struct {
	// accept is how many streams of the remote wait for AcceptStream; one more is
	// reset. A Go remote has at most 511 streams open.
	accept int
	// readBuffer is the most bytes that a stream holds for Read. They are
	// reserved with the resource manager as they are needed, 24 KiB in advance.
	readBuffer int
	// stall is how long a stream may hold back its payload, with its buffer
	// full, without the application reading any of it. SCTP has one receive window
	// for all streams of a connection, so that one that nobody reads would in the
	// end stop the others; it is reset.
	stall time.Duration
	// writeBuffer is how many bytes of a stream may be queued or under way before
	// Write waits, and connBuffer how many of all streams of a connection; with
	// pion as the remote it is less, see sendQueue.
	writeBuffer, connBuffer int
	// linger is how long a stream that the application has closed waits for the
	// remote to close it too. js-libp2p waits as long for a FIN_ACK.
	linger time.Duration
	// opening is how many channels may be open here that the remote has not
	// acknowledged. pion as a remote drops what goes beyond 16 at a time, and it
	// takes a second and more until that is sent again.
	opening int
	// ids is above all ids of streams that this side opens.
	ids int
	// rounds is for other remotes than pion, see closer, and roundMost how many
	// channels one has at most.
	rounds    bool
	roundMost int
	// eager is for those that close a channel without being asked to, see machine.
	eager bool
	// rest is how long an id is not used again after its channel has ended.
	rest time.Duration
	// firstAlone is for remotes that shuffle what comes right behind the opening of
	// a channel, see first.
	firstAlone bool
}

func defaultStreamLimits() streamLimits {
	return streamLimits{
		accept:      512,
		readBuffer:  1 << 20,
		stall:       5 * time.Second,
		writeBuffer: 256 << 10,
		connBuffer:  2 << 20,
		linger:      10 * time.Second,
		opening:     16,
		ids:         pionIDLimit,
		rest:        pionRest,
		roundMost:   roundMost,
	}
}

const (
	// streamCost is about what a stream takes besides its buffer: itself, its
	// goroutine, and pion's part.
	streamCost = 8 << 10
	// firstWindow is how much a stream may hold for Read from the start: a full
	// frame, and some small ones.
	firstWindow = 24 << 10
)

// stream is a libp2p stream on a data channel.
//
// One goroutine, the pump, reads the channel as long as it exists, so that a FIN
// is answered whether the application reads or not. What it finds beyond
// streamLimits.readBuffer it leaves in the channel, which slows the remote down.
//
// Locks are taken in the order of the fields.
type stream struct {
	id     uint16
	shared *shared
	heard  func() // called when the remote has heard of the stream, perhaps again and again

	writing sync.Mutex // held by Write, so that calls do not mix their frames

	// out is held from a change of state until what it has to send is in pion's
	// queue: what goes out is in the order of the states, and nothing comes behind the
	// channel's end, which pion as a remote would take for a new and broken
	// channel, and close the connection. Nothing blocks under it.
	out     sync.Mutex
	channel channel

	mu       sync.Mutex
	machine  machine     // guarded by mu, as all below
	buffer   buffer      //
	granted  int         // what may be held in the buffer
	memory   memory      // nil once given back
	canRead  sync.Cond   // for Read: payload, an error, a deadline
	canWrite sync.Cond   // for Write
	canPump  sync.Cond   // for the pump: room in the buffer
	reading  deadline    //
	sending  deadline    //
	patience *time.Timer // runs while the stream lingers
	stalled  *time.Timer // runs while the pump waits
	lastRead time.Time   // or when the pump began to wait
	pumped   bool        // the pump is through
	first    first       // message with payload
	inLine   bool        // of the sendQueue
	turned   bool        // it is this stream's turn there
	lowMark  bool        // pion tells when half of writeBuffer is left, not when nothing is
}

// memory is what the resource manager gives: a network.ResourceScopeSpan.
type memory interface {
	ReserveMemory(size int, prio uint8) error
	Done()
}

// shared is what the streams of a connection have in common.
type shared struct {
	limits streamLimits
	pools  pools
	queue  *sendQueue
	closer *closer
	owner  streamOwner
}

// streamOwner is the connection.
type streamOwner interface {
	// channelEnded says that both sides have closed the channel, or the connection
	// has ended.
	channelEnded(s *stream)
	// retired says that the stream holds nothing any more.
	retired(s *stream)
}

var _ network.MuxedStream = (*stream)(nil)

// newStream makes a stream of a channel. The memory that the resource manager
// grants it includes streamCost and firstWindow. Its pump is yet to be started.
func newStream(ch channel, id uint16, opener bool, mem memory, with *shared) *stream {
	s := &stream{
		id: id, shared: with, channel: ch,
		heard:   func() {},
		machine: machine{opener: opener, eager: with.limits.eager},
		buffer:  buffer{pools: &with.pools},
		granted: firstWindow,
		memory:  mem,
	}
	s.first.alone = opener && with.limits.firstAlone
	ch.OnBufferedAmountLow(s.drained)
	s.canRead.L, s.canWrite.L, s.canPump.L = &s.mu, &s.mu, &s.mu
	return s
}

// step gives the machine an input, and does what it asks for.
func (s *stream) step(input func(*machine) effects) {
	s.out.Lock()
	defer s.out.Unlock()
	s.mu.Lock()
	e := input(&s.machine)
	s.changed(e)
	s.mu.Unlock()
	s.perform(e)
}

// changed tells who waits that the state is another one.
func (s *stream) changed(e effects) {
	if e.drop {
		s.buffer.drop()
	}
	s.canRead.Broadcast()
	s.canWrite.Broadcast()
	s.canPump.Broadcast()
	if s.machine.readClosed && s.machine.writeClosed {
		s.reading.stop()
		s.sending.stop()
	}
	s.linger()
	s.retire()
}

// linger bounds the wait for the remote.
func (s *stream) linger() {
	switch lingers := s.machine.lingers(); {
	case lingers && s.patience == nil:
		s.patience = time.AfterFunc(s.shared.limits.linger, func() {
			s.step((*machine).onPatience)
		})
	case !lingers && s.patience != nil:
		s.patience.Stop()
	}
}

// retire gives the memory back once there is nothing in the buffer and nothing
// to come.
func (s *stream) retire() {
	if s.memory == nil || !s.pumped || !s.buffer.empty() {
		return
	}
	s.release()
}

func (s *stream) release() {
	s.memory.Done()
	s.memory = nil
	s.shared.owner.retired(s)
}

// perform sends flags, and closes the channel. The lock out is held. If it
// fails, the channel or the connection has ended, which the pump will tell.
func (s *stream) perform(e effects) {
	for _, f := range e.list() {
		code := uint32(0)
		if f == flagReset {
			code = e.code
		}
		if s.mayFollow(f) {
			s.sendFlag(f, code)
		}
	}
	if e.close {
		s.shared.closer.close(s.channel)
	}
}

func (s *stream) sendFlag(f flag, code uint32) {
	var b [maxFlagFrame]byte
	if _, err := s.channel.Write(appendFlag(b[:0], f, code)); err != nil {
		log.Debugw("flag not sent", "stream", s.id, "flag", f, "error", err)
	}
}

// maxFlagFrame is the most bytes of a frame with a flag and a code.
const maxFlagFrame = 9

// Close closes both directions. What was written is still sent, for as long as
// streamLimits.linger.
func (s *stream) Close() error {
	s.step(func(m *machine) effects { return m.close(!s.buffer.empty()) })
	return nil
}

// Reset is ResetWithError(0).
func (s *stream) Reset() error { return s.ResetWithError(network.StreamNoError) }

// ResetWithError gives both directions up.
func (s *stream) ResetWithError(code network.StreamErrorCode) error {
	s.step(func(m *machine) effects { return m.reset(code) })
	return nil
}

// gone is the end of the connection.
func (s *stream) gone(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.changed(s.machine.onGone(err))
	s.reading.stop()
	s.sending.stop()
	if s.memory != nil {
		s.release() // what a remote has ended before it may still be read
	}
}

// SetDeadline sets both deadlines.
func (s *stream) SetDeadline(t time.Time) error {
	_ = s.SetReadDeadline(t) // nil
	return s.SetWriteDeadline(t)
}

// deadline is when calls that wait on a condition give up.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

// set is called with the condition's lock held.
func (d *deadline) set(t time.Time, c *sync.Cond) {
	d.stop()
	d.at = t
	if wait := time.Until(t); !t.IsZero() && wait > 0 {
		d.timer = time.AfterFunc(wait, func() {
			c.L.Lock()
			defer c.L.Unlock()
			c.Broadcast()
		})
	}
	c.Broadcast()
}

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}
