package webrtc

import (
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"sync/atomic"
	"testing"
	"time"

	"github.com/pion/transport/v5"
	"github.com/pion/transport/v5/stdnet"
)

// filtered is a network that loses what drops says.
type filtered struct {
	*stdnet.Net
	drops func(packet []byte) bool
}

func newFiltered(t *testing.T, drops func(packet []byte) bool) *filtered {
	t.Helper()
	n, err := stdnet.NewNet()
	if err != nil {
		t.Fatal(err)
	}
	return &filtered{n, drops}
}

func (n *filtered) ListenUDP(network string, addr *net.UDPAddr) (transport.UDPConn, error) {
	c, err := n.Net.ListenUDP(network, addr)
	return &filteredConn{c, n.drops}, err
}

type filteredConn struct {
	transport.UDPConn
	drops func(packet []byte) bool
}

func (c *filteredConn) WriteTo(p []byte, to net.Addr) (int, error) {
	if c.drops(p) {
		return len(p), nil
	}
	return c.UDPConn.WriteTo(p, to)
}

// losing is a network that loses one packet of DTLS when told to.
type losing struct {
	*filtered
	sent atomic.Int64 // packets of DTLS
	lose atomic.Int64 // the number of the one that is lost
}

func newLosing(t *testing.T) *losing {
	t.Helper()
	n := new(losing)
	n.filtered = newFiltered(t, func(p []byte) bool {
		const dtlsFirst, dtlsLast = 20, 63 // RFC 7983 §7
		return p[0] >= dtlsFirst && p[0] <= dtlsLast && n.sent.Add(1) == n.lose.Load()
	})
	return n
}

// TestRepeatedReset does not hit the next channel with the id. A side that is not
// told that its reset was performed asks for it again, and pion performs it twice.
func TestRepeatedReset(t *testing.T) {
	t.Parallel()
	for k := range int64(4) {
		t.Run(fmt.Sprint("packet ", k+1), func(t *testing.T) {
			t.Parallel()
			n := newLosing(t)
			a, b := newPionPair(t, withNet(n), withLimits(func(l *streamLimits) { l.ids = initID + 3 })) // one id
			s, r := halfClosed(t, a, b)
			quiet(t, n)
			n.lose.Store(n.sent.Load() + k + 1)
			if err := r.Close(); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadAll(s); err != nil {
				t.Fatal(err)
			}
			next := open(t, a)
			if _, err := next.Write([]byte("x")); err != nil {
				t.Fatal(err)
			}
			r = accept(t, b)
			for _, s := range []*stream{next, r} {
				_ = s.SetReadDeadline(time.Now().Add(3 * time.Second))
			}
			if got, err := io.ReadAll(r); string(got) != "x" || !errors.Is(err, os.ErrDeadlineExceeded) {
				t.Errorf("read %q, %v", got, err)
			}
		})
	}
}

// halfClosed is a stream of a's that only b still has to close.
func halfClosed(t *testing.T, a, b *side) (from, to *stream) {
	t.Helper()
	from = open(t, a)
	if err := from.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	to = accept(t, b)
	if _, err := io.ReadAll(to); err != nil {
		t.Fatal(err)
	}
	return from, to
}

// quiet waits until nothing was sent for a while.
func quiet(t *testing.T, n *losing) {
	t.Helper()
	last, since := n.sent.Load(), time.Now()
	await(t, "quiet", func() bool {
		if now := n.sent.Load(); now != last {
			last, since = now, time.Now()
		}
		return time.Since(since) > 500*time.Millisecond
	})
}
