package exercise

import (
	"bufio"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// Server serves the protocols. Closing its host ends it.
type Server struct {
	mu       sync.Mutex
	received []Received // guarded by mu
}

const (
	// keptReceived is 1,500 echo streams and what a test does besides.
	keptReceived = 4000
	// streamTimeout is when a stream has failed; 64 MiB between two Firefoxes took 5 s.
	streamTimeout = time.Minute
	// echoTimeout is shorter; 100 at once, of 64 KiB, took a busy Chromium 11 s.
	echoTimeout = 30 * time.Second
)

// handler serves one stream and returns what came on it.
type handler func(network.Stream) (Received, error)

// Serve answers the protocols on a host.
func Serve(h host.Host) *Server {
	s := &Server{}
	for id, serve := range map[protocol.ID]handler{
		Echo: serveEcho, Sink: serveSink, Source: serveSource, Reset: serveReset, HalfClose: serveHalfClose,
	} {
		h.SetStreamHandler(id, func(stream network.Stream) { s.serve(stream, serve) })
	}
	return s
}

// Received returns the streams of a protocol that have ended, the oldest first.
func (s *Server) Received(id protocol.ID) []Received {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(s.received), func(r Received) bool { return r.Protocol != string(id) })
}

func (s *Server) serve(stream network.Stream, serve handler) {
	_ = stream.SetDeadline(time.Now().Add(streamTimeout))
	got, err := serve(stream)
	if err == nil {
		err = stream.Close()
	}
	if err != nil {
		_ = stream.Reset()
	}
	if got.End == "" {
		got.End = ending(err)
	}
	got.Protocol, got.Peer = string(stream.Protocol()), stream.Conn().RemotePeer().String()
	got.At = float64(time.Now().UnixMicro()) / 1000
	s.mu.Lock()
	defer s.mu.Unlock()
	s.received = append(s.received, got)
	if extra := len(s.received) - keptReceived; extra > 0 {
		s.received = slices.Delete(s.received, 0, extra)
	}
}

func serveEcho(stream network.Stream) (Received, error) {
	n, err := io.Copy(stream, stream)
	return Received{Bytes: n}, err
}

func serveSink(stream network.Stream) (Received, error) {
	hash := sha256.New()
	n, err := io.Copy(hash, stream)
	got := Received{Bytes: n, SHA256: hex.EncodeToString(hash.Sum(nil)), End: ending(err)}
	if err != nil {
		return got, err
	}
	return got, json.NewEncoder(stream).Encode(receipt{got.Bytes, got.SHA256}) // ends the line
}

// receipt is what [Sink] answers.
type receipt struct {
	Bytes  int64  `json:"bytes"`
	SHA256 string `json:"sha256"`
}

// request is what [Source] is asked for.
type request struct {
	Bytes int    `json:"bytes"`
	Seed  uint32 `json:"seed"`
}

func serveSource(stream network.Stream) (Received, error) {
	line, err := bufio.NewReader(stream).ReadBytes('\n')
	got := Received{Bytes: int64(len(line)), SHA256: digest(line)}
	if err != nil {
		return got, err
	}
	var want request
	if err := json.Unmarshal(line, &want); err != nil {
		return got, err
	}
	_, err = stream.Write(Random(want.Seed, want.Bytes))
	return got, err
}

func serveReset(stream network.Stream) (Received, error) {
	n, err := io.ReadFull(stream, make([]byte, 1))
	if err == nil {
		err = stream.Reset()
	}
	return Received{Bytes: int64(n), End: "reset here"}, err
}

func serveHalfClose(stream network.Stream) (Received, error) {
	if _, err := io.WriteString(stream, Greeting); err != nil {
		return Received{}, err
	}
	if err := stream.CloseWrite(); err != nil {
		return Received{}, err
	}
	b, err := io.ReadAll(stream)
	return Received{Bytes: int64(len(b)), SHA256: digest(b), End: ending(err)}, err
}
