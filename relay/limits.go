package relay

import (
	"cmp"
	"errors"
	"fmt"
	"math"
	"time"

	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"

	"github.com/tangop2p/tango/internal/perip"
)

// Limits bounds what a relay gives away. Start from a preset and change what
// you must.
type Limits struct {
	// Reservations is how many peers may hold a reservation at once.
	Reservations int
	// ReservationsPerIP is how many of them may share one IPv4 address or IPv6 /56: an
	// office behind a NAT, or everybody behind a reverse proxy.
	ReservationsPerIP int
	// ReservationsPerASN is how many of them may share one IPv6 autonomous system.
	ReservationsPerASN int
	// ReservationTTL is how long a reservation lasts unless it is renewed.
	ReservationTTL time.Duration
	// Circuits is how many circuits may be open at once. Signaling always wins: beyond
	// that the circuit makes room that has carried more than 128 KiB one way for
	// longest; if there is none, the oldest of the IPv4 address or IPv6 /56 that has
	// opened the most, unless the newcomer's has as many.
	Circuits int
	// CircuitsPerPeer is how many circuits a peer may have open, counting both ends.
	CircuitsPerPeer int
	// CircuitDuration is when an open circuit is reset. It cannot be
	// unlimited: js-libp2p and go-libp2p put GossipSub on a circuit without a
	// limit, do not move it to the direct connection, and lose it with the relay.
	CircuitDuration time.Duration
	// CircuitBytes is how many bytes a circuit carries in each direction
	// before it is reset. It cannot be unlimited either.
	CircuitBytes int64
	// Rate is how many bytes per second the circuits of a peer carry, all together
	// and both directions; 0 sets no limit. The first 128 KiB each way of a circuit do
	// not count, so that signaling is never slowed down.
	Rate int64
	// BufferSize is the bytes of memory that each direction of a circuit copies through.
	BufferSize int
}

// SignalingOnly is the preset for relays that introduce peers to each other:
// circuits carry identify, signaling and ping, and end after 2 minutes or
// 128 KiB, which are circuit v2's customary limits.
func SignalingOnly() Limits {
	return Limits{
		Reservations:       1024,
		ReservationsPerIP:  64,
		ReservationsPerASN: 256,
		ReservationTTL:     time.Hour,
		Circuits:           1024,
		CircuitsPerPeer:    64,
		CircuitDuration:    2 * time.Minute,
		CircuitBytes:       128 << 10,
		BufferSize:         2 << 10,
	}
}

// Data is the preset for relays that also carry the data of peers whose
// networks admit no direct connection: 64 MiB each way within 30 minutes, at
// 2 MiB/s for each peer.
func Data() Limits {
	l := SignalingOnly()
	l.CircuitDuration = 30 * time.Minute
	l.CircuitBytes = 64 << 20
	l.Rate = 2 << 20
	l.BufferSize = 16 << 10
	return l
}

// String returns the values in one line, with their units.
func (l Limits) String() string {
	rate := "no rate limit"
	if l.Rate > 0 {
		rate = fmt.Sprintf("%d bytes/s a peer", l.Rate)
	}
	return fmt.Sprintf("%d reservations of %v (%d an IP address, %d an IPv6 autonomous system); "+
		"%d circuits (%d a peer) of %v, %d bytes each way, %s, %d bytes of buffer",
		l.Reservations, l.ReservationTTL, l.ReservationsPerIP, l.ReservationsPerASN,
		l.Circuits, l.CircuitsPerPeer, l.CircuitDuration, l.CircuitBytes, rate, l.BufferSize)
}

// Validate says what is wrong with l, naming each field.
func (l Limits) Validate() error {
	check := func(name string, v, low, high int64, unit string) error {
		if v < low || v > high {
			return fmt.Errorf("%s %d: use %d to %d %s", name, v, low, high, unit)
		}
		return nil
	}
	const many = 1 << 20
	second := func(d time.Duration) int64 { return int64(d / time.Second) }
	return errors.Join(
		check("Limits.Reservations", int64(l.Reservations), 1, many, "peers"),
		check("Limits.ReservationsPerIP", int64(l.ReservationsPerIP), 1, many, "peers"),
		check("Limits.ReservationsPerASN", int64(l.ReservationsPerASN), 1, many, "peers"),
		check("Limits.ReservationTTL", second(l.ReservationTTL), 60, 7*24*3600, "seconds"),
		check("Limits.Circuits", int64(l.Circuits), 1, many, "circuits"),
		check("Limits.Rate", l.Rate, 0, math.MaxInt64, "bytes per second, 0 for no limit"),
		check("Limits.CircuitsPerPeer", int64(l.CircuitsPerPeer), 1, 1<<14, "circuits"),
		check("Limits.CircuitDuration", second(l.CircuitDuration), 1, math.MaxUint32, "seconds, never without a limit"),
		check("Limits.CircuitBytes", l.CircuitBytes, 4<<10, math.MaxInt64-1, "bytes, never without a limit"),
		check("Limits.BufferSize", int64(l.BufferSize), 512, 1<<20, "bytes"),
	)
}

// terms fills in what a policy has left to the relay.
func (l Limits) terms(t Terms) Terms {
	return Terms{
		TTL:      cmp.Or(t.TTL, l.ReservationTTL),
		Duration: cmp.Or(t.Duration, l.CircuitDuration),
		Data:     cmp.Or(t.Data, l.CircuitBytes),
		Rate:     cmp.Or(t.Rate, l.Rate),
	}
}

// ResourceManagerOptions returns the limits of a resource manager on
// connections from one IP address in which the reservations of l fit: the
// defaults admit 8 and 16 new ones in 80 seconds, so that the ninth browser of
// an office would not reach the relay.
func (l Limits) ResourceManagerOptions() []rcmgr.Option {
	return perip.Options(2 * l.ReservationsPerIP) // twice: a page that reloads overlaps with its former self
}
