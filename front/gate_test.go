package front_test

import (
	"errors"
	"net"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/tangop2p/tango/front"
)

// nothing is a resource manager that grants nothing.
type nothing struct{ network.NullResourceManager }

func (*nothing) OpenConnection(network.Direction, bool, ma.Multiaddr) (network.ConnManagementScope, error) {
	return nil, errors.New("nothing is left")
}

// visitors is a listener to which connections come from a channel.
type visitors struct {
	manet.Listener
	in chan manet.Conn
}

func (v visitors) Accept() (manet.Conn, error) {
	if conn, ok := <-v.in; ok {
		return conn, nil
	}
	return nil, net.ErrClosed
}

func (v visitors) Close() error {
	close(v.in)
	return nil
}

// visitor counts the connections that were closed.
type visitor struct {
	manet.Conn
	closed *atomic.Int64
}

func (visitor) RemoteMultiaddr() ma.Multiaddr { return ma.StringCast("/ip4/192.0.2.1/tcp/1") }

func (v visitor) Close() error {
	v.closed.Add(1)
	return nil
}

// Who is refused is kept waiting, if there is room, but does not hold up Close.
func TestRefusedAreKeptWaiting(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		v := visitors{in: make(chan manet.Conn)}
		gate := front.NewGate(v, &nothing{})
		var closed atomic.Int64
		come := func(n int) {
			for range n {
				v.in <- visitor{closed: &closed}
			}
			synctest.Wait()
		}
		expect := func(when string, want int64) {
			if got := closed.Load(); got != want {
				t.Errorf("%s: %d are closed, want %d", when, got, want)
			}
		}
		come(front.MaxRefused + 10)
		expect("at once", 10)
		<-time.After(front.RefusalDelay - time.Millisecond)
		expect("before the delay", 10)
		<-time.After(2 * time.Millisecond)
		synctest.Wait()
		expect("after the delay", front.MaxRefused+10)
		come(5)
		expect("once there is room again", front.MaxRefused+10)
		if err := gate.Close(); err != nil {
			t.Error(err)
		}
		expect("after Close", front.MaxRefused+15)
	})
}
