package webrtc

import (
	"errors"
	"io"

	"github.com/libp2p/go-libp2p/core/network"
)

// machine is the state of a stream: libp2p specs, webrtc/README.md
// §Multiplexing, with FIN_ACK. It neither waits nor sends: each input returns
// what has to go out, in that order.
//
// The channel may be closed only when both halves are over: a browser drops
// what it has not handed on yet when its channel closes, and js-libp2p counts a
// connection as dead whose streams do not answer a FIN. Its end without one
// counts as what has not come yet: FIN_ACK for a FIN that was sent, and RESET
// for a half that was open, because js-libp2p closes the channel right behind
// a RESET and may lose it that way. For the same reason this side leaves it to
// the remote to close the channel after a RESET of ours.
//
// When both halves end well, who opened the channel closes it first. The other
// one's end of it is then an answer, which proves that nothing of the old
// channel is under way when the id is used again. js-libp2p closes it as well,
// without waiting, so with it this side does not wait either, for the sake of
// closer's rounds.
type machine struct {
	opener  bool // of the channel
	eager   bool // closes the channel, whoever opened it
	send    half
	recv    half
	channel channelState

	resetSent               bool // and the remote is to close the channel
	writeClosed, readClosed bool // by the application

	writeErr error // of a Write, once send is not open
	readErr  error // of a Read, behind what is buffered
}

// half is one direction of a stream.
type half uint8

const (
	halfOpen  half = iota
	halfFIN        // send: FIN is sent, FIN_ACK is not here. recv: the application reads no more, FIN is not here
	halfDone       // FIN and FIN_ACK were exchanged
	halfReset      // given up by either side
)

func (h half) over() bool { return h >= halfDone }

type channelState uint8

const (
	channelOpen   channelState = iota
	channelClosed              // by this side
	channelEnded               // by both
)

// effects are what an input asks for: flags to send, and then perhaps the
// channel to close. No input asks for more than three flags.
type effects struct {
	flags [3]flag
	n     int
	code  uint32 // with RESET and STOP_SENDING
	close bool   // the channel
	drop  bool   // what is buffered for Read
}

func (e *effects) add(f flag) {
	e.flags[e.n] = f
	e.n++
}

func (e *effects) list() []flag { return e.flags[:e.n] }

var errWriteClosed = errors.New("webrtc: the stream is closed for writing")

// accepts says whether payload that comes now is for the application.
func (m *machine) accepts() bool { return m.recv == halfOpen }

// lingers says whether the stream waits for nothing but the remote.
func (m *machine) lingers() bool {
	return m.channel == channelOpen && (m.writeClosed && m.readClosed || m.send.over() && m.recv.over())
}

// closeWrite is the application's.
func (m *machine) closeWrite() (e effects) {
	m.finish(&e)
	m.writeClosed = true
	m.settle(&e)
	return e
}

// finish sends FIN.
func (m *machine) finish(e *effects) {
	if m.send != halfOpen {
		return
	}
	m.send = halfFIN
	m.fail(&m.writeErr, errWriteClosed)
	e.add(flagFIN)
}

// closeRead is the application's; unread says that it leaves payload unread.
func (m *machine) closeRead(unread bool) (e effects) {
	m.stop(&e, unread)
	m.settle(&e)
	return e
}

func (m *machine) stop(e *effects, unread bool) {
	if m.recv == halfOpen {
		m.recv = halfFIN
		e.add(flagStopSending)
	}
	if !m.readClosed && (unread || m.readErr == nil) {
		m.readErr = &network.StreamError{}
	}
	m.readClosed = true
	e.drop = true
}

// close is the application's Close.
func (m *machine) close(unread bool) (e effects) {
	m.finish(&e)
	m.writeClosed = true
	m.stop(&e, unread)
	m.settle(&e)
	return e
}

// reset is the application's RESET.
func (m *machine) reset(code network.StreamErrorCode) (e effects) {
	err := &network.StreamError{ErrorCode: code}
	if m.channel == channelOpen && !m.resetSent {
		m.resetSent = true
		e.add(flagReset)
		e.code = uint32(code)
	}
	m.abandon(&e, err)
	if !m.readClosed {
		m.readErr = err // what is unread is lost, so no EOF
	}
	e.drop = true
	m.writeClosed, m.readClosed = true, true
	return e
}

// expel is a RESET for the remote's fault, which is not trusted to close the channel.
func (m *machine) expel(code network.StreamErrorCode) (e effects) {
	e = m.reset(code)
	m.closeChannel(&e)
	return e
}

// abandon ends what is not over, for err.
func (m *machine) abandon(e *effects, err error) {
	if !m.send.over() {
		m.send = halfReset
		if m.writeErr == errWriteClosed { //nolint:errorlint // ours, and never wrapped
			m.writeErr = nil
		}
		m.fail(&m.writeErr, err)
	}
	if !m.recv.over() {
		m.recv = halfReset
		m.fail(&m.readErr, err)
		e.drop = true
	}
	m.settle(e)
}

// fail notes an error; the first one stays.
func (m *machine) fail(at *error, err error) {
	if *at == nil {
		*at = err
	}
}

// onFlag is a frame's.
func (m *machine) onFlag(f flag, code uint32) (e effects) {
	switch f {
	case flagFIN:
		if m.recv.over() {
			break // said before
		}
		m.recv = halfDone
		m.fail(&m.readErr, io.EOF)
		e.add(flagFINAck)
	case flagFINAck:
		if m.send == halfFIN {
			m.send = halfDone
		}
	case flagStopSending:
		m.onStop(&e, code)
	case flagReset:
		m.abandon(&e, &network.StreamError{Remote: true, ErrorCode: network.StreamErrorCode(code)})
		m.closeChannel(&e)
	default:
	}
	m.settle(&e)
	return e
}

// onStop answers STOP_SENDING with FIN: nothing more will come, which is what
// the remote waits for before it closes the channel.
func (m *machine) onStop(e *effects, code uint32) {
	switch m.send {
	case halfOpen:
		m.writeErr = &network.StreamError{Remote: true, ErrorCode: network.StreamErrorCode(code)}
		m.finish(e)
	case halfFIN: // who does not want the bytes need not confirm them
		m.send = halfDone
	default:
	}
}

// onEnd is the end of the channel, by the remote. What is buffered stays.
func (m *machine) onEnd() (e effects) {
	m.channel = channelEnded
	err := &network.StreamError{Remote: true}
	if m.send == halfFIN {
		m.send = halfDone
	}
	if m.send == halfOpen {
		m.send = halfReset
		m.fail(&m.writeErr, err)
	}
	if !m.recv.over() {
		m.recv = halfReset
		m.fail(&m.readErr, err)
	}
	return e
}

// onPatience ends a stream that has waited for the remote long enough.
func (m *machine) onPatience() (e effects) {
	if m.channel != channelOpen {
		return e
	}
	if !m.send.over() || !m.recv.over() {
		e.add(flagReset)
	}
	m.abandon(&e, &network.StreamError{})
	m.closeChannel(&e)
	return e
}

// onGone is the end of the connection. What a remote has sent and ended before
// it stays readable, for some close the connection right behind their answer.
func (m *machine) onGone(err error) (e effects) {
	m.channel = channelEnded // there is nothing left to close
	m.abandon(&e, err)
	return e
}

// settle closes the channel when there is nothing left to exchange.
func (m *machine) settle(e *effects) {
	if m.send.over() && m.recv.over() && !m.resetSent && (m.opener || m.eager || m.send == halfReset || m.recv == halfReset) {
		m.closeChannel(e)
	}
}

func (m *machine) closeChannel(e *effects) {
	if m.channel == channelOpen {
		m.channel = channelClosed
		e.close = true
	}
}
