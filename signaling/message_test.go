package signaling

import (
	"bytes"
	"encoding/hex"
	"errors"
	"io"
	"strings"
	"testing"
	"testing/iotest"
)

// chromiumCandidate is as Chromium writes it.
const chromiumCandidate = `{"candidate":"candidate:1 1 udp 2122260223 192.168.0.196 46243 typ host generation 0 ufrag x ` +
	`network-cost 999","sdpMid":"0","sdpMLineIndex":0,"usernameFragment":"x"}`

// jsVectors were made with Message.encode of @libp2p/webrtc 6.0.33 and encode.single of it-length-prefixed, which
// js-libp2p's pbStream uses, in Node 22.
var jsVectors = []struct {
	name string
	message
	frame string
}{
	{"offer", message{typeOffer, "v=0\r\n"}, "0908001205763d300d0a"},
	{"answer", message{typeAnswer, "v=0\r\n"}, "0908011205763d300d0a"},
	{"empty candidate", message{typeCandidate, ""}, "0408021200"},
	{"candidate", message{typeCandidate, chromiumCandidate}, "aa01080212a501" + hex.EncodeToString([]byte(chromiumCandidate))},
	{"long", message{typeAnswer, strings.Repeat("x", 300)}, "b102080112ac02" + strings.Repeat("78", 300)},
}

func TestJSVectors(t *testing.T) {
	for _, v := range jsVectors {
		t.Run(v.name, func(t *testing.T) {
			if got := hex.EncodeToString(v.message.frame()); got != v.frame {
				t.Errorf("encoded as %s, want %s", got, v.frame)
			}
			frame, err := hex.DecodeString(v.frame)
			if err != nil {
				t.Fatal(err)
			}
			// a byte at a time: a frame may come in any pieces
			got, err := newReader(iotest.OneByteReader(bytes.NewReader(frame)), len(frame)).next()
			if err != nil || got != v.message {
				t.Errorf("decoded as %v, %v, want %v", got, err, v.message)
			}
		})
	}
}

func TestReader(t *testing.T) {
	tests := []struct {
		name, frame string
		want        message
		err         error
	}{
		{"candidate without data, as js writes undefined", "020802", message{typeCandidate, ""}, nil},
		{"a field cut off by the length", "0e" + "0800" + "1a0161" + "2005" + "2d00000000" + "120178", message{}, ErrProtocol},
		{"unknown fields", "0f" + "0800" + "1a0161" + "2005" + "2d00000000" + "120178", message{typeOffer, "x"}, nil},
		{"data before type", "05" + "120178" + "0801", message{typeAnswer, "x"}, nil},
		{"a field twice, the last counts", "0a" + "0802" + "120179" + "120178" + "0801", message{typeAnswer, "x"}, nil},
		{"a longer varint than needed", "8500" + "0801" + "120178", message{typeAnswer, "x"}, nil},
		{"no type, as js refuses it", "03" + "120178", message{}, ErrProtocol},
		{"empty message", "00", message{}, ErrProtocol},
		{"unknown type", "05" + "0803" + "120178", message{}, ErrProtocol},
		{"negative type", "0e" + "08ffffffffffffffffff01" + "120178", message{}, ErrProtocol},
		{"offer without data", "020800", message{}, ErrProtocol},
		{"empty answer", "0408011200", message{}, ErrProtocol},
		{"offer that is not UTF-8", "05" + "0800" + "1201ff", message{}, ErrProtocol},
		{"type as bytes", "06" + "0a0100" + "120178", message{}, ErrProtocol},
		{"data as a varint", "04" + "0800" + "1001", message{}, ErrProtocol},
		{"truncated field", "05" + "0800" + "120578", message{}, ErrProtocol},
		{"group", "03" + "0800" + "1b", message{}, ErrProtocol},
		{"field zero", "04" + "0800" + "0000", message{}, ErrProtocol},
		{"too large", "c13e" + "0800", message{}, ErrLimit}, // 8001 bytes, 8000 are allowed
		{"endless prefix", "ffffffffffff", message{}, ErrLimit},
		{"nothing", "", message{}, io.EOF},
		{"end in the prefix", "80", message{}, ErrRefused},
		{"end after the prefix", "05", message{}, io.ErrUnexpectedEOF},
		{"end in the body", "050801", message{}, ErrRefused},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			frame, err := hex.DecodeString(tt.frame)
			if err != nil {
				t.Fatal(err)
			}
			got, err := newReader(bytes.NewReader(frame), 8000).next()
			if !errors.Is(err, tt.err) || got != tt.want {
				t.Errorf("%v, %v, want %v, %v", got, err, tt.want, tt.err)
			}
			if tt.err != io.EOF && err == io.EOF { //nolint:errorlint // the bare one means that the remote is done
				t.Error("an end within a message looks like one between messages")
			}
		})
	}
}

func TestReaderNamesErrors(t *testing.T) {
	broken := errors.New("broken")
	for _, sent := range []string{"", "\x05", "\x05\x08"} {
		r := newReader(io.MultiReader(strings.NewReader(sent), iotest.ErrReader(broken)), 100)
		if _, err := r.next(); !errors.Is(err, broken) {
			t.Errorf("after %d bytes: %v, want the stream's own error", len(sent), err)
		}
	}
}

func FuzzReader(f *testing.F) {
	for _, v := range jsVectors {
		f.Add(v.message.frame())
		f.Add(append(v.message.frame(), v.message.frame()...))
	}
	f.Add([]byte("\xff\xff\xff\xff"))
	f.Fuzz(func(t *testing.T, data []byte) {
		r := newReader(bytes.NewReader(data), 1<<10)
		for {
			m, err := r.next()
			if err != nil {
				return
			}
			if len(m.data) > 1<<10 || m.typ > typeCandidate {
				t.Fatalf("type %d, %d bytes", m.typ, len(m.data))
			}
			again, err := newReader(bytes.NewReader(m.frame()), len(m.frame())).next()
			if err != nil || again != m {
				t.Fatalf("%v became %v, %v", m, again, err)
			}
		}
	})
}
