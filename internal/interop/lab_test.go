package interop

import (
	"math/rand/v2"
	"net"
	"net/netip"
	"testing"
	"time"

	"github.com/pion/stun/v3"
)

// TestBindingResponse: the STUN server tells the sender's address, and answers
// nothing but binding requests.
func TestBindingResponse(t *testing.T) {
	from := &net.UDPAddr{IP: net.IPv4(203, 0, 113, 1), Port: 4711}
	request := stun.MustBuild(stun.TransactionID, stun.BindingRequest)
	raw, ok := bindingResponse(request.Raw, from)
	if !ok {
		t.Fatal("no answer")
	}
	response := &stun.Message{Raw: raw}
	var got stun.XORMappedAddress
	if err := response.Decode(); err != nil || got.GetFrom(response) != nil || response.TransactionID != request.TransactionID {
		t.Fatalf("answer %v, %v", response, err)
	}
	if !got.IP.Equal(from.IP) || got.Port != from.Port {
		t.Errorf("mapped to %v, want %v", got, from)
	}
	for _, other := range [][]byte{nil, raw, []byte("no STUN at all, but long enough for it")} {
		if _, ok := bindingResponse(other, from); ok {
			t.Errorf("%q is answered", other)
		}
	}
}

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
