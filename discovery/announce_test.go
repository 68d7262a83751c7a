package discovery

import (
	"slices"
	"testing"
	"time"

	ma "github.com/multiformats/go-multiaddr"
)

func TestSentGrows(t *testing.T) {
	for name, tc := range map[string]struct{ now, want time.Duration }{
		"later":                   {5 * time.Millisecond, 5 * time.Millisecond},
		"in the same millisecond": {900 * time.Microsecond, time.Millisecond},
		"clock set back":          {-time.Hour, time.Millisecond},
	} {
		if got := after(t0, t0.Add(tc.now)); !got.Equal(t0.Add(tc.want)) {
			t.Errorf("%s: %v after the last, want %v", name, got.Sub(t0), tc.want)
		}
	}
}

func TestAnnounced(t *testing.T) {
	const circuit = "/ip4/192.168.0.9/tcp/1/ws/p2p/12D3KooWJW3at6B3xcR1p9WN69QcDsdyhy9ndp329TrWDQLYoz5E/p2p-circuit"
	for name, tc := range map[string]struct{ all, want []ma.Multiaddr }{
		"one machine": {
			addrs("/ip4/127.0.0.1/tcp/1", "/ip4/127.0.0.1/tcp/1/ws", "/ip4/0.0.0.0/tcp/1"),
			addrs("/ip4/127.0.0.1/tcp/1/ws", "/ip4/127.0.0.1/tcp/1"),
		},
		"public": {
			addrs("/ip4/127.0.0.1/tcp/1/ws", "/ip4/192.168.0.2/tcp/1/ws", "/ip4/8.8.8.8/tcp/1", "/ip4/8.8.8.8/tcp/1/tls/ws"),
			addrs("/ip4/8.8.8.8/tcp/1/tls/ws", "/ip4/8.8.8.8/tcp/1"),
		},
		"behind a relay": {
			addrs("/ip4/192.168.0.2/tcp/1/ws", circuit, circuit+"/webrtc"),
			addrs(circuit+"/webrtc", circuit),
		},
		"nothing": {nil, nil},
	} {
		if got := announced(tc.all); !slices.EqualFunc(got, tc.want, ma.Multiaddr.Equal) {
			t.Errorf("%s: %v, want %v", name, got, tc.want)
		}
	}
	many := addrs(slices.Repeat([]string{"/ip4/127.0.0.1/tcp/1/ws"}, 3*maxAnnounced)...)
	if got := announced(many); len(got) != maxAnnounced {
		t.Errorf("announces %d addresses, want %d", len(got), maxAnnounced)
	}
}
