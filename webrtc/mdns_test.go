package webrtc

import (
	"net/netip"
	"testing"
)

func TestHiddenCandidate(t *testing.T) {
	const hidden = "candidate:1 1 udp 2113937151 5a1b2c3d-0000-4000-8000-000000000000.local 50000 typ host generation 0"
	name, ok := mdnsName(hidden)
	if !ok || name != "5a1b2c3d-0000-4000-8000-000000000000.local" || kindOf(hidden) != "mdns" {
		t.Errorf("name %q, %v, kind %q", name, ok, kindOf(hidden))
	}
	const want = "candidate:1 1 udp 2113937151 192.0.2.1 50000 typ host generation 0"
	if got := withAddress(hidden, netip.MustParseAddr("192.0.2.1")); got != want || kindOf(got) != "host" {
		t.Errorf("%q, want %q", got, want)
	}
	for _, plain := range []string{"", "candidate:1", want, "candidate:1 1 udp 1 host.localhost 5 typ host"} {
		if name, ok := mdnsName(plain); ok {
			t.Errorf("%q hides %q", plain, name)
		}
	}
}

// The resolver starts, asks and ends, whatever the network here can do.
func TestResolverEnds(t *testing.T) {
	var r resolver
	if _, err := r.start(); err != nil {
		t.Log(err)
	}
	if err := r.Close(); err != nil {
		t.Error(err)
	}
	if _, err := r.resolve(t.Context(), "x.local"); err == nil {
		t.Error("no error after Close")
	}
}
