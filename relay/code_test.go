package relay_test

import (
	"errors"
	"testing"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"

	"github.com/tangop2p/tango/relay"
)

// TestCircuitsEndWithACode: who loses a circuit learns from the stream what was the
// matter, where its multiplexer has codes.
func TestCircuitsEndWithACode(t *testing.T) {
	for _, c := range []struct {
		name string
		end  func(r *relay.Relay, a host.Host, s network.Stream) error
		want network.StreamErrorCode
	}{
		{"closed", func(r *relay.Relay, _ host.Host, _ network.Stream) error { return r.Close() }, network.StreamShutdown},
		{"evicted", func(r *relay.Relay, a host.Host, _ network.Stream) error {
			if !r.Evict(a.ID()) {
				return errors.New("nothing evicted")
			}
			return nil
		}, network.StreamGated},
		{"data", func(_ *relay.Relay, _ host.Host, s network.Stream) error {
			_, err := s.Write(make([]byte, 8<<10))
			return err
		}, network.StreamResourceLimitExceeded},
	} {
		t.Run(c.name, func(t *testing.T) {
			l := relay.SignalingOnly()
			l.CircuitBytes = 4 << 10
			r, rh := newRelay(t, relay.WithLimits(l))
			a, b := newHost(t), newHost(t)
			reserve(t, b, rh)
			connect(t, a, rh)
			s, _ := rawCircuit(t, a, rh, b)
			if err := c.end(r, a, s); err != nil {
				t.Fatal(err)
			}
			var got error
			for b := make([]byte, 1<<10); got == nil; {
				_, got = s.Read(b)
			}
			if e, ok := errors.AsType[*network.StreamError](got); !ok || e.ErrorCode != c.want || !e.Remote {
				t.Errorf("%v, want code %#x from the relay", got, uint32(c.want))
			}
		})
	}
}
