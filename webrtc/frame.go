package webrtc

import (
	"errors"

	"google.golang.org/protobuf/encoding/protowire"
)

// A frame is what libp2p specs, webrtc/README.md §Multiplexing puts on a data
// channel: an unsigned varint with the length of the message, and the message
//
//	optional Flag   flag      = 1; // FIN 0, STOP_SENDING 1, RESET 2, FIN_ACK 3
//	optional bytes  message   = 2;
//	optional uint32 errorCode = 3; // go-libp2p's, others skip it
//
// It is coded by hand: go-libp2p registers generated code for it under the
// global name "Message", so nobody else in the process can.
const (
	// maxFrame is the most bytes of a frame that is sent, length included. The
	// spec allows no more, and go-libp2p and rust-libp2p read no more.
	maxFrame = 16 << 10
	// maxPayload leaves room for two varints of two bytes, a tag, and a flag
	// beside them; it is what js-libp2p and go-libp2p send too.
	maxPayload = maxFrame - 7
	// maxFrameReceived is the most bytes of a frame that is accepted, length not
	// included: go-libp2p's bound, which is the largest message that browsers
	// send (256 KiB) and some.
	maxFrameReceived = 257 << 10
)

// flag is a frame's flag.
type flag int8

const (
	noFlag          flag = -1
	flagFIN         flag = 0
	flagStopSending flag = 1
	flagReset       flag = 2
	flagFINAck      flag = 3
)

const (
	fieldFlag      protowire.Number = 1
	fieldMessage   protowire.Number = 2
	fieldErrorCode protowire.Number = 3
)

// appendData appends a frame with a payload of at most maxPayload bytes.
func appendData(b, payload []byte) []byte {
	b = protowire.AppendVarint(b, uint64(protowire.SizeTag(fieldMessage)+protowire.SizeBytes(len(payload))))
	b = protowire.AppendTag(b, fieldMessage, protowire.BytesType)
	return protowire.AppendBytes(b, payload)
}

// appendFlag appends a frame with a flag. It is written even if 0, for that is
// FIN, and field presence is what js-libp2p goes by.
func appendFlag(b []byte, f flag, code uint32) []byte {
	size := protowire.SizeTag(fieldFlag) + protowire.SizeVarint(uint64(f))
	if code != 0 {
		size += protowire.SizeTag(fieldErrorCode) + protowire.SizeVarint(uint64(code))
	}
	b = protowire.AppendVarint(b, uint64(size))
	b = protowire.AppendTag(b, fieldFlag, protowire.VarintType)
	b = protowire.AppendVarint(b, uint64(f))
	if code != 0 {
		b = protowire.AppendTag(b, fieldErrorCode, protowire.VarintType)
		b = protowire.AppendVarint(b, uint64(code))
	}
	return b
}

var (
	errFrameSize   = errors.New("a frame is longer than 257 KiB")
	errFrameSyntax = errors.New("a frame is malformed")
)

// frameReader takes frames apart as their bytes come, however SCTP messages
// split or join them: js-libp2p sends the length and the rest as two messages.
// It keeps no bytes, so a frame costs no memory but what its payload takes.
//
// Varints may be longer than they need be, as protobuf allows. Unknown fields
// and known ones of another wire type are skipped. A second message field in a
// frame is an error: protobuf would have it replace the first, whose bytes have
// been handed on.
type frameReader struct {
	state readState
	left  int    // what is left of the frame
	run   int    // what is left of a payload, or of a field that is skipped
	acc   uint64 // the varint that is being read
	shift uint

	payload bool // there was one
	flag    flag
	code    uint32
}

type readState uint8

const (
	readLength readState = iota
	readTag
	readFlag
	readCode
	readPayloadLength
	readPayload
	readSkipVarint
	readSkipLength
	readSkip
)

// piece is what a frame, or part of one, says. The payload comes first.
type piece struct {
	start, end int // the payload in the bytes given; none if equal
	flag       flag
	code       uint32
}

func (p piece) empty() bool { return p.start == p.end && p.flag == noFlag }

// next reads in b, from i on, until there is something to tell, and returns
// where the bytes behind it begin.
func (r *frameReader) next(b []byte, i int) (int, piece, error) {
	p := piece{flag: noFlag}
	for i < len(b) && p.empty() {
		if r.run > 0 {
			n := min(r.run, len(b)-i)
			if r.state == readPayload {
				p.start, p.end = i, i+n
			}
			i += n
			r.advance(n)
		} else {
			complete, err := r.varint(b[i])
			i++
			if err != nil {
				return i, p, err
			}
			if complete {
				err = r.value()
			}
			if err != nil {
				return i, p, err
			}
		}
		if err := r.finish(&p); err != nil {
			return i, p, err
		}
	}
	return i, p, nil
}

// advance goes over n bytes of a run.
func (r *frameReader) advance(n int) {
	r.run -= n
	r.left -= n
	if r.run == 0 {
		r.state = readTag
	}
}

// finish ends a frame that is over.
func (r *frameReader) finish(p *piece) error {
	switch {
	case r.left > 0 || r.state == readLength:
		return nil
	case r.state != readTag || r.shift > 0:
		return errFrameSyntax // it ends inside a field
	}
	p.flag, p.code = r.flag, r.code
	r.state = readLength
	return nil
}

// varint takes a byte of a varint and says whether it was the last one.
func (r *frameReader) varint(c byte) (complete bool, err error) {
	if r.shift == 63 && c > 1 {
		return false, errFrameSyntax // more than 64 bits
	}
	if r.state != readLength {
		r.left--
	}
	r.acc |= uint64(c&0x7f) << r.shift
	r.shift += 7
	return c < 0x80, nil
}

// value goes on with the varint that was read.
func (r *frameReader) value() error {
	v := r.acc
	r.acc, r.shift = 0, 0
	switch r.state {
	case readLength:
		return r.begin(v)
	case readTag:
		return r.tag(v)
	case readFlag:
		// Not one of ours: skipped, as protobuf does with enums that grow.
		if v <= uint64(flagFINAck) {
			r.flag = flag(v)
		}
	case readCode:
		r.code = uint32(v)
	case readPayloadLength:
		return r.skip(v, readPayload)
	case readSkipLength:
		return r.skip(v, readSkip)
	default: // readSkipVarint; the others are runs
	}
	r.state = readTag
	return nil
}

func (r *frameReader) begin(length uint64) error {
	if length > maxFrameReceived {
		return errFrameSize
	}
	if length > 0 { // an empty one says nothing
		*r = frameReader{state: readTag, left: int(length), flag: noFlag}
	}
	return nil
}

func (r *frameReader) tag(v uint64) error {
	field, typ := protowire.DecodeTag(v)
	if !field.IsValid() {
		return errFrameSyntax
	}
	switch typ {
	case protowire.VarintType:
		switch field {
		case fieldFlag:
			r.state = readFlag
		case fieldErrorCode:
			r.state = readCode
		default:
			r.state = readSkipVarint
		}
	case protowire.BytesType:
		r.state = readSkipLength
		if field == fieldMessage {
			if r.payload {
				return errFrameSyntax
			}
			r.payload, r.state = true, readPayloadLength
		}
	case protowire.Fixed32Type:
		return r.skip(4, readSkip)
	case protowire.Fixed64Type:
		return r.skip(8, readSkip)
	default: // groups; proto3 has none
		return errFrameSyntax
	}
	return nil
}

// skip begins a run of n bytes.
func (r *frameReader) skip(n uint64, as readState) error {
	if n > uint64(r.left) {
		return errFrameSyntax
	}
	r.run, r.state = int(n), as
	if n == 0 {
		r.state = readTag
	}
	return nil
}
