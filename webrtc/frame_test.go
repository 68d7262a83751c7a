package webrtc

import (
	"bytes"
	"encoding/hex"
	"errors"
	"slices"
	"testing"

	"google.golang.org/protobuf/encoding/protowire"
)

// said is what frames say: payload moved together, and the flags with how much
// payload was before them.
type said struct {
	payload []byte
	flags   []saidFlag
}

type saidFlag struct {
	at   int
	flag flag
	code uint32
}

// readFrames reads messages as they come.
func readFrames(messages ...[]byte) (said, error) {
	var r frameReader
	var s said
	for _, m := range messages {
		for i := 0; i < len(m); {
			next, p, err := r.next(m, i)
			if err != nil {
				return s, err
			}
			s.payload = append(s.payload, m[p.start:p.end]...)
			if p.flag != noFlag {
				s.flags = append(s.flags, saidFlag{len(s.payload), p.flag, p.code})
			}
			i = next
		}
	}
	return s, nil
}

// referenceFrames reads frames with protowire, one at a time, each complete.
func referenceFrames(b []byte) (s said, complete bool, err error) {
	for len(b) > 0 {
		length, n := protowire.ConsumeVarint(b)
		if n < 0 {
			return s, false, nil
		}
		if length > maxFrameReceived {
			return s, true, errFrameSize
		}
		b = b[n:]
		if uint64(len(b)) < length {
			return s, false, nil
		}
		if err := s.reference(b[:length]); err != nil {
			return s, true, err
		}
		b = b[length:]
	}
	return s, true, nil
}

func (s *said) reference(frame []byte) error {
	f, payload := saidFlag{flag: noFlag}, false
	for len(frame) > 0 {
		field, typ, n := protowire.ConsumeTag(frame)
		if n < 0 || !field.IsValid() { // a number beyond 1<<29 - 1, which ConsumeTag lets pass and proto.Unmarshal does not
			return errFrameSyntax
		}
		frame = frame[n:]
		if n = protowire.ConsumeFieldValue(field, typ, frame); n < 0 || typ == protowire.StartGroupType {
			return errFrameSyntax
		}
		value := frame[:n]
		frame = frame[n:]
		switch {
		case typ == protowire.VarintType:
			v, _ := protowire.ConsumeVarint(value)
			if field == fieldFlag && v <= 3 {
				f.flag = flag(v)
			}
			if field == fieldErrorCode {
				f.code = uint32(v)
			}
		case typ == protowire.BytesType && field == fieldMessage:
			if payload {
				return errFrameSyntax
			}
			payload = true
			b, _ := protowire.ConsumeBytes(value)
			s.payload = append(s.payload, b...)
		}
	}
	if f.flag != noFlag {
		f.at = len(s.payload)
		s.flags = append(s.flags, f)
	}
	return nil
}

func (s said) equal(o said) bool {
	return bytes.Equal(s.payload, o.payload) && slices.Equal(s.flags, o.flags)
}

// TestFrameVectors has the bytes that js-libp2p and go-libp2p write, and reads.
func TestFrameVectors(t *testing.T) {
	for want, got := range map[string][]byte{
		"020800":             appendFlag(nil, flagFIN, 0),
		"020801":             appendFlag(nil, flagStopSending, 0),
		"020802":             appendFlag(nil, flagReset, 0),
		"020803":             appendFlag(nil, flagFINAck, 0),
		"0408021807":         appendFlag(nil, flagReset, 7),
		"05080218ac02":       appendFlag(nil, flagReset, 300),
		"0812066c6962703270": appendData(nil, []byte("libp2p")),
	} {
		if hex.EncodeToString(got) != want {
			t.Errorf("%x instead of %s", got, want)
		}
	}
	if n := len(appendData(nil, make([]byte, maxPayload))); n > maxFrame {
		t.Errorf("a full frame has %d bytes", n)
	}
	if n := len(appendFlag(nil, flagReset, 1<<32-1)); n > maxFlagFrame {
		t.Errorf("the largest flag has %d bytes", n)
	}
}

func TestFrameReader(t *testing.T) {
	for _, c := range []struct {
		name     string
		messages []string // hex
		payload  string
		flags    []saidFlag
		err      error
	}{
		{name: "one", messages: []string{"0812066c6962703270"}, payload: "libp2p"},
		{name: "prefix by itself, as from js-libp2p", messages: []string{"08", "12066c6962703270"}, payload: "libp2p"},
		{name: "two in one", messages: []string{"03120161" + "03120162"}, payload: "ab"},
		{name: "torn", messages: []string{"03", "1201", "61", "0312", "0162"}, payload: "ab"},
		{name: "empty", messages: []string{"00", "", "0000"}},
		{name: "no payload in it", messages: []string{"021200"}},
		{name: "FIN", messages: []string{"020800"}, flags: []saidFlag{{0, flagFIN, 0}}},
		{name: "payload and FIN", messages: []string{"05120161" + "0800"}, payload: "a", flags: []saidFlag{{1, flagFIN, 0}}},
		{name: "FIN and payload", messages: []string{"050800" + "120161"}, payload: "a", flags: []saidFlag{{1, flagFIN, 0}}},
		{name: "empty payload and FIN", messages: []string{"0412000800"}, flags: []saidFlag{{0, flagFIN, 0}}},
		{name: "code", messages: []string{"0508021882", "02"}, flags: []saidFlag{{0, flagReset, 258}}},
		{name: "code alone", messages: []string{"021805"}},
		{name: "unknown flag", messages: []string{"020804", "020800"}, flags: []saidFlag{{0, flagFIN, 0}}},
		{name: "last flag counts", messages: []string{"0408000802"}, flags: []saidFlag{{0, flagReset, 0}}},
		{name: "long varints", messages: []string{"8480808000" + "08808000"}, flags: []saidFlag{{0, flagFIN, 0}}},
		{
			name: "unknown fields", messages: []string{"15" + "2005" + "2a0161" + "3501020304" + "390102030405060708" + "0800"},
			flags: []saidFlag{{0, flagFIN, 0}},
		},
		{name: "known fields of other types", messages: []string{"0b" + "0a0161" + "1005" + "1a020000"}},
		{name: "too long", messages: []string{"818c10"}, err: errFrameSize},
		{name: "far too long", messages: []string{"ffffffffffffffffff01"}, err: errFrameSize},
		{name: "more than 64 bits", messages: []string{"ffffffffffffffffff02"}, err: errFrameSyntax},
		{name: "payload longer than the frame", messages: []string{"03120261"}, err: errFrameSyntax},
		{name: "value missing", messages: []string{"0108" + "020800"}, err: errFrameSyntax},
		{name: "length missing", messages: []string{"0112" + "020800"}, err: errFrameSyntax},
		{name: "field 0", messages: []string{"020000"}, err: errFrameSyntax},
		{name: "field 1<<29", messages: []string{"06808080801000"}, err: errFrameSyntax},
		{name: "group", messages: []string{"022324"}, err: errFrameSyntax},
		{name: "two payloads", messages: []string{"06120161120162"}, err: errFrameSyntax},
	} {
		t.Run(c.name, func(t *testing.T) {
			var messages [][]byte
			for _, m := range c.messages {
				b, err := hex.DecodeString(m)
				if err != nil {
					t.Fatal(err)
				}
				messages = append(messages, b)
			}
			got, err := readFrames(messages...)
			if !errors.Is(err, c.err) {
				t.Fatalf("error %v instead of %v", err, c.err)
			}
			if c.err == nil && !got.equal(said{[]byte(c.payload), c.flags}) {
				t.Errorf("read %+v", got)
			}
		})
	}
}

// TestLargeFrame is read in parts, as long as it may be.
func TestLargeFrame(t *testing.T) {
	p := randomBytes(1, maxFrameReceived-4)
	f := appendData(nil, p)
	for _, size := range []int{1 << 10, 16 << 10, len(f)} {
		got, err := readFrames(slices.Collect(slices.Chunk(f, size))...)
		if err != nil || !bytes.Equal(got.payload, p) {
			t.Fatal(len(got.payload), err)
		}
	}
}

// FuzzFrame compares with protowire, and every split with none.
func FuzzFrame(f *testing.F) {
	f.Add(appendData(nil, []byte("hello")), uint16(1), uint16(3))
	f.Add(appendFlag(appendData(nil, []byte("hello")), flagFIN, 0), uint16(2), uint16(9))
	f.Add(appendFlag(nil, flagReset, 1<<31), uint16(1), uint16(2))
	f.Add(appendFlag(appendFlag(nil, flagStopSending, 0), flagFINAck, 0), uint16(4), uint16(4))
	f.Add(appendData(nil, make([]byte, 300)), uint16(100), uint16(2))
	f.Add([]byte{4, 0x12, 0, 8, 0, 9, 0x39, 1, 2, 3, 4, 5, 6, 7, 8}, uint16(3), uint16(6))
	f.Fuzz(func(t *testing.T, b []byte, i, j uint16) {
		x, y := int(i)%(len(b)+1), int(j)%(len(b)+1)
		x, y = min(x, y), max(x, y)
		whole, err := readFrames(b)
		split, splitErr := readFrames(b[:x], b[x:y], b[y:])
		if !whole.equal(split) || !errors.Is(splitErr, err) {
			t.Fatalf("%+v, %v, but split at %d and %d %+v, %v", whole, err, x, y, split, splitErr)
		}
		want, complete, wantErr := referenceFrames(b)
		switch {
		case !complete: // the reference waits for more, where this may have found a fault
		case (err == nil) != (wantErr == nil):
			t.Fatalf("error %v instead of %v", err, wantErr)
		case err == nil && !whole.equal(want):
			t.Fatalf("%+v instead of %+v", whole, want)
		}
	})
}
