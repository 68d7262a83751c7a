package signaling

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"unicode/utf8"

	"google.golang.org/protobuf/encoding/protowire"
)

// messageType is the enum Message.Type of the libp2p specs, webrtc/webrtc.md §Signaling Protocol.
type messageType uint64

const (
	typeOffer     messageType = 0
	typeAnswer    messageType = 1
	typeCandidate messageType = 2
)

// Field numbers of the Message.
const (
	fieldType = 1 // optional enum
	fieldData = 2 // optional string
)

// message is one signaling message.
type message struct {
	typ  messageType
	data string
}

// frame encodes m with its length in front. The type is always there, also
// when it is 0: js-libp2p takes a message without a type for no offer.
func (m message) frame() []byte {
	body := m.size()
	out := make([]byte, 0, protowire.SizeVarint(uint64(body))+body)
	out = protowire.AppendVarint(out, uint64(body))
	out = protowire.AppendTag(out, fieldType, protowire.VarintType)
	out = protowire.AppendVarint(out, uint64(m.typ))
	out = protowire.AppendTag(out, fieldData, protowire.BytesType)
	return protowire.AppendString(out, m.data)
}

// size returns the bytes of m without the length in front.
func (m message) size() int {
	return protowire.SizeTag(fieldType) + protowire.SizeVarint(uint64(m.typ)) +
		protowire.SizeTag(fieldData) + protowire.SizeBytes(len(m.data))
}

// parseMessage decodes the body of a frame. Unknown fields are skipped, and of
// a field that comes twice the last counts, as protobuf has it.
func parseMessage(body []byte) (message, error) {
	var (
		m     message
		typed bool
	)
	for len(body) > 0 {
		num, wire, n := protowire.ConsumeTag(body)
		if n < 0 {
			return message{}, malformed("not a protobuf")
		}
		body = body[n:]
		switch num {
		case fieldType:
			var v uint64
			v, n = consumeVarint(wire, body)
			m.typ, typed = messageType(v), true
		case fieldData:
			var v []byte
			v, n = consumeBytes(wire, body)
			m.data = string(v)
		default:
			n = protowire.ConsumeFieldValue(num, wire, body)
		}
		if n < 0 {
			return message{}, malformed("not a signaling message")
		}
		body = body[n:]
	}
	if err := m.check(typed); err != nil {
		return message{}, err
	}
	return m, nil
}

const wrongWireType = -1

func consumeVarint(wire protowire.Type, b []byte) (uint64, int) {
	if wire != protowire.VarintType {
		return 0, wrongWireType
	}
	return protowire.ConsumeVarint(b)
}

func consumeBytes(wire protowire.Type, b []byte) ([]byte, int) {
	if wire != protowire.BytesType {
		return nil, wrongWireType
	}
	return protowire.ConsumeBytes(b)
}

func (m message) check(typed bool) error {
	switch {
	case !typed:
		return malformed("a message without a type")
	case m.typ > typeCandidate:
		return malformed(fmt.Sprintf("a message of the unknown type %d", m.typ))
	case m.typ == typeCandidate:
		return nil // whatever it holds is its own matter
	case m.data == "":
		return malformed("an empty description")
	case !utf8.ValidString(m.data):
		return malformed("a description that is not UTF-8")
	}
	return nil
}

func malformed(what string) error { return fmt.Errorf("%w: %s", ErrProtocol, what) }

// reader reads frames.
type reader struct {
	r   *bufio.Reader
	max int
}

func newReader(r io.Reader, size int) *reader {
	return &reader{r: bufio.NewReaderSize(r, 512), max: size}
}

// next returns the next message. The error is io.EOF only between messages.
func (r *reader) next() (message, error) {
	size, err := r.size()
	if err != nil {
		return message{}, err
	}
	if size > r.max {
		return message{}, fmt.Errorf("%w: a message of %d bytes, %d are allowed", ErrLimit, size, r.max)
	}
	body := make([]byte, size)
	if _, err := io.ReadFull(r.r, body); err != nil {
		return message{}, within(err)
	}
	return parseMessage(body)
}

// maxPrefix is the bytes of the length of the largest message that Limits allow.
const maxPrefix = 3

// size reads a length prefix (multiformats unsigned-varint), whose first byte
// may be missing since the stream has ended.
func (r *reader) size() (int, error) {
	size := 0
	for i := range maxPrefix {
		b, err := r.r.ReadByte()
		switch {
		case err != nil && i == 0 && errors.Is(err, io.EOF):
			return 0, io.EOF
		case err != nil:
			return 0, within(err)
		}
		size |= int(b&0x7f) << (7 * i)
		if b < 0x80 {
			return size, nil
		}
	}
	return 0, fmt.Errorf("%w: a length prefix of more than %d bytes", ErrLimit, maxPrefix)
}

// within names an error after the first byte of a frame.
func within(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("%w: within a message: %w", ErrRefused, io.ErrUnexpectedEOF)
	}
	return streamError(err)
}
