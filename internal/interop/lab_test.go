package interop

import (
	"math/rand/v2"
	"net/netip"
	"testing"
	"time"
)

// TestRouterFate: packets are lost and late at the rates asked for.
func TestRouterFate(t *testing.T) {
	r := &router{impairment: Impairment{Loss: 0.05, Delay: time.Second, Reorder: 0.1, Late: time.Second}, rng: rand.New(rand.NewPCG(1, 2))}
	const n = 10_000
	lost := 0
	for range n {
		delay, gone := r.fate()
		if gone {
			lost++
		} else if delay < time.Second || delay > 2*time.Second {
			t.Fatalf("delay of %v", delay)
		}
	}
	if share := float64(lost) / n; share < 0.04 || share > 0.06 {
		t.Errorf("%v of the packets are lost, want 0.05", share)
	}
	if share := float64(r.late.Load()) / float64(n-lost); share < 0.08 || share > 0.12 {
		t.Errorf("%v of the others come late, want 0.1", share)
	}
}

// TestPortOrder: packets leave when they are due, those of the same time in order.
func TestPortOrder(t *testing.T) {
	p := newPort(nil, true)
	for _, packet := range []struct {
		name  string
		delay time.Duration
	}{{"late", -time.Minute}, {"first", -time.Hour}, {"future", time.Hour}} {
		p.put([]byte(packet.name), packet.delay)
	}
	for _, want := range []string{"first", "late", ""} {
		if got, wait := p.next(); string(got) != want || (want == "") != (wait > 0) {
			t.Errorf("%q, wait %v, want %q", got, wait, want)
		}
	}
}

func TestDestination(t *testing.T) {
	header := make([]byte, 20)
	header[0] = 0x45
	copy(header[16:], []byte{10, 81, 0, 2})
	if got, want := destination(header), netip.MustParseAddr("10.81.0.2"); got != want {
		t.Errorf("%v, want %v", got, want)
	}
	for _, other := range [][]byte{nil, header[:19], append([]byte{0x60}, header[1:]...)} {
		if got := destination(other); got.IsValid() {
			t.Errorf("%x goes to %v", other, got)
		}
	}
}
