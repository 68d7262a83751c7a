package webrtc

import (
	"errors"
	"fmt"
	"io"
	"strconv"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	pion "github.com/pion/webrtc/v4"
)

// rawRemote is a connection of ours, and a remote that does with pion what it
// likes. It is the answerer, so its ids are the even ones.
type rawRemote struct {
	t    *testing.T
	ours *side
	pc   *pion.PeerConnection
}

func newRawRemote(t *testing.T, opts ...pairOption) *rawRemote {
	t.Helper()
	a, b := newPionPair(t, append(opts, withRawRemote)...)
	r := &rawRemote{t: t, ours: a, pc: b.pc}
	// Without this, pion would close what comes.
	r.pc.OnDataChannel(func(dc *pion.DataChannel) { dc.OnOpen(func() { _, _ = detach(dc) }) })
	await(t, "association", func() bool { return b.pc.SCTP().State() == pion.SCTPTransportStateConnected })
	return r
}

// in has a subtest fail instead.
func (r *rawRemote) in(t *testing.T) *rawRemote {
	t.Helper()
	return &rawRemote{t, r.ours, r.pc}
}

func (r *rawRemote) open(id uint16, label string, change func(*pion.DataChannelInit)) channel {
	r.t.Helper()
	init := pion.DataChannelInit{ID: &id}
	if change != nil {
		change(&init)
	}
	dc, err := r.pc.CreateDataChannel(label, &init)
	if err != nil {
		r.t.Fatal(err)
	}
	ch, err := detach(dc)
	if err != nil {
		r.t.Fatal(err)
	}
	return ch
}

func (r *rawRemote) write(ch channel, messages ...[]byte) {
	r.t.Helper()
	for _, m := range messages {
		if _, err := ch.Write(m); err != nil {
			r.t.Fatal(err)
		}
	}
}

// taken waits now and then until all of n channels that nobody accepts are there.
// pion has a queue of 16 for them. What goes beyond is dropped, and may bring the
// connection to a standstill for good: if the data of one is taken and its
// opening dropped, pion waits for that, and takes no other.
func (r *rawRemote) taken(n int) {
	r.t.Helper()
	if n%8 != 0 {
		return
	}
	await(r.t, "channels taken", func() bool {
		r.ours.channels.mu.Lock()
		defer r.ours.channels.mu.Unlock()
		return len(r.ours.accepted)+r.ours.channels.refused >= n || r.ours.IsClosed()
	})
}

// reset reads a channel until it is reset.
func (r *rawRemote) reset(ch channel) (code uint32) {
	r.t.Helper()
	var messages [][]byte
	for {
		p := make([]byte, 64<<10)
		n, _, err := ch.ReadDataChannel(p)
		if err != nil {
			break
		}
		messages = append(messages, p[:n])
	}
	got, err := readFrames(messages...)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, f := range got.flags {
		if f.flag == flagReset {
			return f.code
		}
	}
	r.t.Fatalf("the channel ended without RESET: %+v", got)
	return 0
}

// works says whether a stream of ours still goes through.
func (r *rawRemote) works(id uint16) {
	r.t.Helper()
	ch := r.open(id, "", nil)
	r.write(ch, appendData(nil, []byte("fine")), flagFrame(flagFIN))
	for {
		s := accept(r.t, r.ours)
		if s.id != id {
			continue
		}
		if got, err := io.ReadAll(s); err != nil || string(got) != "fine" {
			r.t.Fatal(string(got), err)
		}
		_ = s.Reset()
		return
	}
}

func TestHostileFrames(t *testing.T) {
	r := newRawRemote(t)
	id := uint16(0)
	for name, send := range map[string]func(*rawRemote, channel){
		"malformed": func(r *rawRemote, ch channel) { r.write(ch, []byte{2, 0, 0}) },
		"varint": func(r *rawRemote, ch channel) {
			r.write(ch, []byte{255, 255, 255, 255, 255, 255, 255, 255, 255, 255, 255})
		},
		"frame too long":   func(r *rawRemote, ch channel) { r.write(ch, []byte{0xff, 0xff, 0xff, 0x7f}) },
		"message too long": func(_ *rawRemote, ch channel) { r.write(ch, make([]byte, maxMessage+1)) },
		"text": func(_ *rawRemote, ch channel) {
			_, _ = ch.(interface {
				WriteDataChannel(p []byte, text bool) (int, error)
			}).WriteDataChannel([]byte("hello"), true)
		},
	} {
		t.Run(name, func(t *testing.T) {
			id += 2
			r := r.in(t)
			ch := r.open(id, "", nil)
			r.write(ch, appendData(nil, []byte("x")))
			send(r, ch)
			if code := r.reset(ch); code != uint32(network.StreamProtocolViolation) {
				t.Errorf("code %d", code)
			}
			s := accept(t, r.ours)
			if _, err := io.ReadAll(s); !errors.Is(err, network.ErrReset) {
				t.Errorf("Read returned %v", err)
			}
			id += 2
			r.works(id)
		})
	}
}

// TestHostileChannels are refused, and the others work.
func TestHostileChannels(t *testing.T) {
	r := newRawRemote(t)
	no, n := false, uint16(1)
	id := uint16(0)
	for name, open := range map[string]func(*rawRemote) channel{
		"unordered": func(r *rawRemote) channel { return r.open(id, "", func(i *pion.DataChannelInit) { i.Ordered = &no }) },
		"rexmit": func(r *rawRemote) channel {
			return r.open(id, "", func(i *pion.DataChannelInit) { i.MaxRetransmits = &n })
		},
		"lifetime": func(r *rawRemote) channel {
			return r.open(id, "", func(i *pion.DataChannelInit) { i.MaxPacketLifeTime = &n })
		},
		"init":   func(r *rawRemote) channel { return r.open(id, initLabel, nil) },
		"our id": func(r *rawRemote) channel { return r.open(3, "", nil) },
	} {
		t.Run(name, func(t *testing.T) {
			id += 2
			r := r.in(t)
			r.reset(open(r))
			id += 2
			r.works(id)
		})
	}
	// The id that the remote took is passed over.
	if s := open(t, r.ours); s.id == 3 {
		t.Error("id 3 is used")
	}
}

// TestHostileLabels are no reason to refuse a stream.
func TestHostileLabels(t *testing.T) {
	r := newRawRemote(t)
	ch := r.open(8, "anything", nil)
	r.write(ch, appendData(nil, []byte("x")))
	if s := accept(t, r.ours); s.id != 8 {
		t.Error(s.id)
	}
}

// TestHostileFlags come twice, late, and in crowds.
func TestHostileFlags(t *testing.T) {
	r := newRawRemote(t)
	ch := r.open(0, "", nil)
	r.write(ch, appendData(nil, []byte("x")), flagFrame(flagFIN), flagFrame(flagFIN), appendData(nil, []byte("late")))
	for range 1000 {
		r.write(ch, flagFrame(flagFIN), flagFrame(flagFINAck), flagFrame(flagStopSending))
	}
	s := accept(t, r.ours)
	if got, err := io.ReadAll(s); err != nil || string(got) != "x" {
		t.Fatal(string(got), err)
	}
	if _, err := s.Write([]byte("x")); !errors.Is(err, network.ErrReset) {
		t.Fatal(err)
	}
	_ = s.Close()
	r.works(2)
	for id := uint16(4); id < 200; id += 2 {
		ch := r.open(id, "", nil)
		for range 20 {
			r.write(ch, appendFlag(nil, flagReset, 9))
		}
		r.taken(int(id)/2 - 1)
	}
	r.works(200)
}

// TestHostileCrowd opens thousands of channels, more than may wait, and reads
// none of them; the connection ends, and with it all that they cost.
func TestHostileCrowd(t *testing.T) {
	r := newRawRemote(t)
	opened := 0
	for id := uint16(0); id < 8000 && !r.ours.IsClosed(); id += 2 {
		dc, err := r.pc.CreateDataChannel("", &pion.DataChannelInit{ID: &id})
		if err != nil {
			break
		}
		if _, err := detach(dc); err != nil {
			break
		}
		opened++
		r.taken(opened)
	}
	await(t, "closed", r.ours.IsClosed)
	t.Logf("closed after %d channels", opened)
	if err := r.ours.reason(nil); !errors.Is(err, &network.ConnError{ErrorCode: network.ConnResourceLimitExceeded}) {
		t.Errorf("closed for %v", err)
	}
	_ = r.ours.Close()
	if !r.ours.scope.empty() {
		t.Errorf("%d bytes are held", r.ours.scope.bytes.Load())
	}
}

// TestHostileSilence never answers: not FIN, not the end of a channel.
func TestHostileSilence(t *testing.T) {
	r := newRawRemote(t, withLimits(func(l *streamLimits) { l.linger = 100 * time.Millisecond }))
	for range 30 {
		s := open(t, r.ours)
		_, _ = s.Write([]byte("x"))
		_ = s.Close()
	}
	// Their ids are not used again, so they are held, and so is a little memory.
	await(t, "reset", func() bool {
		r.ours.mu.Lock()
		defer r.ours.mu.Unlock()
		for s := range r.ours.streams {
			if s.look(func() bool { return s.machine.channel == channelOpen }) {
				return false
			}
		}
		return true
	})
	if n := r.ours.scope.bytes.Load(); n != 30*(streamCost+firstWindow) {
		t.Errorf("%d bytes are held", n)
	}
}

// TestHostileNeverReads has Write wait, which a deadline or the end of things ends.
func TestHostileNeverReads(t *testing.T) {
	r := newRawRemote(t)
	var errs []chan error
	for i := range 20 {
		s := open(t, r.ours)
		_ = s.SetWriteDeadline(time.Now().Add(time.Duration(200+10*i) * time.Millisecond))
		err := make(chan error, 1)
		go func() { err <- writeUntilError(s) }()
		errs = append(errs, err)
	}
	for _, err := range errs {
		if e := <-err; e == nil {
			t.Error("no error")
		}
	}
	if n := r.ours.pc.SCTP().BufferedAmount(); n > defaultStreamLimits().connBuffer+maxFrame {
		t.Errorf("%d bytes are queued", n)
	}
}

// TestHostileUnreadBeforeTheConnection sends all it can before there is one.
func TestHostileUnreadBeforeTheConnection(t *testing.T) {
	a, b := newSide(t, true, pairConfig{}), newSide(t, false, pairConfig{raw: true})
	if err := a.channels.createInit(); err != nil {
		t.Fatal(err)
	}
	signal(t, a.pc, b.pc)
	if err := a.channels.awaitInit(t.Context()); err != nil {
		t.Fatal(err)
	}
	r := &rawRemote{t: t, ours: a, pc: b.pc}
	await(t, "association", func() bool { return b.pc.SCTP().State() == pion.SCTPTransportStateConnected })
	for i := range 10 {
		ch := r.open(uint16(2*i), "", nil)
		r.write(ch, appendData(nil, fmt.Appendf(nil, "%d", 2*i)), flagFrame(flagFIN))
	}
	await(t, "early ones", func() bool {
		a.channels.mu.Lock()
		defer a.channels.mu.Unlock()
		return len(a.channels.early) == 10
	})
	a.adopt(pairConfig{limits: defaultStreamLimits()})
	for range 10 {
		s := accept(t, a)
		if got, err := io.ReadAll(s); err != nil || string(got) != strconv.Itoa(int(s.id)) {
			t.Error(string(got), err)
		}
	}
}

// TestDiscardedHandshake closes what no connection has taken up.
func TestDiscardedHandshake(t *testing.T) {
	a, b := newSide(t, true, pairConfig{}), newSide(t, false, pairConfig{})
	if err := a.channels.createInit(); err != nil {
		t.Fatal(err)
	}
	waited := make(chan error, 1)
	go func() {
		<-a.channels.done
		waited <- a.channels.awaitInit(t.Context())
	}()
	signal(t, a.pc, b.pc)
	for _, s := range []*side{a, b} {
		_ = s.pc.GracefulClose()
		s.channels.close()
		s.channels.close()
	}
	if err := <-waited; err != nil && !errors.Is(err, errConnClosed) {
		t.Error(err)
	}
}

// TestInitStaysOpen until the offerer closes it, and is closed then.
func TestInitStaysOpen(t *testing.T) {
	a, b := newSide(t, true, pairConfig{raw: true}), newSide(t, false, pairConfig{})
	id := uint16(initID)
	dc, err := a.pc.CreateDataChannel(initLabel, &pion.DataChannelInit{ID: &id})
	if err != nil {
		t.Fatal(err)
	}
	opened := make(chan channel, 1)
	dc.OnOpen(func() {
		if ch, err := detach(dc); err == nil {
			opened <- ch
		}
	})
	signal(t, a.pc, b.pc)
	ch := <-opened
	ended := make(chan error, 1)
	go func() {
		_, _, err := ch.ReadDataChannel(make([]byte, 100))
		ended <- err
	}()
	select {
	case err := <-ended:
		t.Fatal("closed by the answerer: ", err)
	case <-time.After(200 * time.Millisecond):
	}
	closeChannel(ch)
	if err := <-ended; !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
}
