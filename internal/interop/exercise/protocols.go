package exercise

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"io"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
)

// The protocols.
const (
	Echo      protocol.ID = "/tango/test/echo/1"
	Sink      protocol.ID = "/tango/test/sink/1"
	Source    protocol.ID = "/tango/test/source/1"
	Reset     protocol.ID = "/tango/test/reset/1"
	HalfClose protocol.ID = "/tango/test/halfclose/1"
)

// Greeting is what the server of [HalfClose] says.
const Greeting = "your turn\n"

// How a direction of a stream ended, besides the words of an error.
const (
	EOF     = "eof"
	ByReset = "reset"
)

// Received is a stream that a remote has opened, once nothing more comes.
type Received struct {
	Protocol string  `json:"protocol"`
	Peer     string  `json:"peer"`
	Bytes    int64   `json:"bytes"`
	SHA256   string  `json:"sha256"` // empty for Echo and Reset
	End      string  `json:"end"`
	At       float64 `json:"at"` // milliseconds since the Unix epoch
}

// Outcome is how a number of echo streams went.
type Outcome struct {
	OK     int      `json:"ok"`
	Failed int      `json:"failed"`
	Errors []string `json:"errors"` // the first few
	MS     float64  `json:"ms"`
}

// Transfer is a number of bytes that went one way and arrived unchanged.
type Transfer struct {
	Bytes  int64   `json:"bytes"`
	SHA256 string  `json:"sha256"`
	MS     float64 `json:"ms"`
}

// MBps is the speed in 10^6 bytes a second.
func (t Transfer) MBps() float64 { return float64(t.Bytes) / 1000 / t.MS }

// HalfClosed is an exchange in which the remote closed its direction first.
type HalfClosed struct {
	Greeting string `json:"greeting"`
	End      string `json:"end"` // of the remote's direction
	Bytes    int64  `json:"bytes"`
	SHA256   string `json:"sha256"`
}

// maxStreams is how many streams of a protocol a remote may have open; the
// tests open 100, js-libp2p's own limit is 32.
const maxStreams = 128

// Limits admits that many streams; go-libp2p's own limit is some 70 of a
// protocol and peer, depending on the machine.
func Limits(limits *rcmgr.ScalingLimitConfig) {
	room := rcmgr.BaseLimit{StreamsInbound: maxStreams, StreamsOutbound: maxStreams, Streams: 2 * maxStreams, Memory: 64 << 20}
	for _, id := range []protocol.ID{Echo, Sink, Source, Reset, HalfClose} {
		limits.AddProtocolPeerLimit(id, room, rcmgr.BaseLimitIncrease{})
	}
}

// ending says how a direction ended, by the error of the last Read.
func ending(err error) string {
	switch {
	case err == nil, errors.Is(err, io.EOF):
		return EOF
	case errors.Is(err, network.ErrReset):
		return ByReset
	default:
		return err.Error()
	}
}

func digest(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}
