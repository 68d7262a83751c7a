package relay

import (
	"net/netip"

	"github.com/pion/stun/v4"
)

// NoTracer is for tests that watch a router.
type NoTracer = noTracer

// STUNAnswerer returns what answers a packet, nil if it is silent.
func STUNAnswerer() func(packet []byte) []byte {
	s := &stunServer{limit: stunLimiter()}
	return func(packet []byte) []byte {
		var in, out stun.Message
		if s.answer(&in, &out, packet, netip.MustParseAddrPort("[2001:db8::1]:9")) != stunAnswered {
			return nil
		}
		return out.Raw
	}
}
