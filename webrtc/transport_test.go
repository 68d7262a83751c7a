package webrtc_test

import (
	"bytes"
	"fmt"
	"io"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/tangop2p/tango/webrtc"
)

const echoID = "/test/echo/1"

func serveEcho(n *peerNode) {
	n.SetStreamHandler(echoID, func(s network.Stream) {
		if n, err := io.Copy(s, s); err != nil {
			fmt.Println("echo", n, err)
		}
		_ = s.Close()
	})
}

func echo(t *testing.T, from, to *peerNode, data []byte) network.Conn {
	t.Helper()
	s, err := from.NewStream(short(t), to.ID(), echoID)
	if err != nil {
		t.Fatal(err)
	}
	_ = s.SetDeadline(time.Now().Add(10 * time.Second))
	go func() {
		n, err := s.Write(data)
		if err != nil {
			t.Errorf("%d bytes written: %v", n, err)
		}
		if err := s.CloseWrite(); err != nil {
			t.Error(err)
		}
	}()
	got, err := io.ReadAll(s)
	if err != nil || !bytes.Equal(got, data) {
		t.Fatalf("%d bytes came back of %d: %v", len(got), len(data), err)
	}
	_ = s.Close()
	return s.Conn()
}

func TestConnect(t *testing.T) {
	r := newRelay(t)
	a, b := newPeer(t, r), newPeer(t, r)
	serveEcho(b)
	start := time.Now()
	path := connect(t, a, b)
	t.Logf("direct after %v: %v\n%v", time.Since(start), path, a.Explain(b.ID()))
	if path.Kind != webrtc.PathDirect {
		t.Fatalf("path %v", path)
	}
	if _, err := path.Addr.ValueForProtocol(ma.P_WEBRTC); err != nil {
		t.Errorf("address %v", path.Addr)
	}
	conn := echo(t, a, b, bytes.Repeat([]byte("tango"), 100_000))
	if conn.Stat().Limited || conn.Stat().Direction != network.DirOutbound || conn.ConnState().Transport != "webrtc" {
		t.Errorf("stat %+v, state %+v", conn.Stat(), conn.ConnState())
	}
	await(t, "the other side is direct too", func() bool { return b.Path(a.ID()).Kind == webrtc.PathDirect })
}
