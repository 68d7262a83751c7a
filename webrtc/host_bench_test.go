package webrtc_test

import (
	"io"
	"testing"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	webrtcdirect "github.com/libp2p/go-libp2p/p2p/transport/webrtc"
)

// BenchmarkHostBulk: one stream between two hosts, one way, over /webrtc and over
// go-libp2p's webrtc-direct.
func BenchmarkHostBulk(b *testing.B) {
	b.Run("webrtc", func(b *testing.B) {
		r := newRelay(b)
		from, to := newPeer(b, r), newPeer(b, r)
		connect(b, from, to)
		bulk(b, from, to)
	})
	b.Run("webrtc-direct", func(b *testing.B) {
		listen := libp2p.ListenAddrStrings("/ip4/127.0.0.1/udp/0/webrtc-direct")
		from := newHost(b, libp2p.Transport(webrtcdirect.New), libp2p.NoListenAddrs)
		to := newHost(b, libp2p.Transport(webrtcdirect.New), listen)
		if err := from.Connect(b.Context(), peer.AddrInfo{ID: to.ID(), Addrs: to.Addrs()}); err != nil {
			b.Fatal(err)
		}
		bulk(b, from, to)
	})
}

// bulk sends b.N blocks of 64 KiB and waits until the last has come.
func bulk(b *testing.B, from, to host.Host) {
	b.Helper()
	const block = 64 << 10
	to.SetStreamHandler(sinkID, func(s network.Stream) {
		_, _ = io.Copy(io.Discard, s)
		_ = s.Close()
	})
	s, err := from.NewStream(b.Context(), to.ID(), sinkID)
	if err != nil {
		b.Fatal(err)
	}
	data := make([]byte, block)
	b.SetBytes(block)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Write(data); err != nil {
			b.Fatal(err)
		}
	}
	if err := s.CloseWrite(); err != nil {
		b.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, s); err != nil { // the other side closes when it has all
		b.Fatal(err)
	}
}

const sinkID = "/test/sink/1"
