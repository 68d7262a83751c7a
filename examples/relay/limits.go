package main

import (
	"cmp"
	"flag"
	"fmt"

	"github.com/tangop2p/tango/relay"
)

// limitFlags are those that change a preset; zero leaves what it says.
type limitFlags struct {
	preset *string
	change relay.Limits
}

func addLimitFlags(fs *flag.FlagSet) *limitFlags {
	f := &limitFlags{
		preset: fs.String("preset", "signaling", "limits of a circuit: \"signaling\" (2 min, 128 KiB) or \"data\" (30 min, 64 MiB)"),
	}
	c := &f.change
	fs.IntVar(&c.Reservations, "max-reservations", 0, "how many `peers` may hold a reservation (default of the preset)")
	fs.IntVar(&c.ReservationsPerIP, "max-reservations-per-ip", 0, "how many `peers` of one IP address may hold one (default of the preset)")
	fs.IntVar(&c.ReservationsPerASN, "max-reservations-per-asn", 0,
		"how many `peers` of one autonomous system may hold one (default of the preset)")
	fs.DurationVar(&c.ReservationTTL, "reservation-ttl", 0, "how `long` a reservation lasts unless it is renewed (default of the preset)")
	fs.IntVar(&c.CircuitsPerPeer, "max-circuits", 0, "how many `circuits` a peer may have open (default of the preset)")
	fs.DurationVar(&c.CircuitDuration, "max-duration", 0, "after how much `time` a circuit is reset (default of the preset)")
	fs.Int64Var(&c.CircuitBytes, "max-data", 0, "how many `bytes` a circuit carries each way (default of the preset)")
	fs.Int64Var(&c.Rate, "max-rate", 0, "how many `bytes` per second the circuits of a peer carry (default of the preset)")
	return f
}

// limits returns the preset with what was changed.
func (f *limitFlags) limits() (relay.Limits, error) {
	l, err := presetLimits(*f.preset)
	if err != nil {
		return l, err
	}
	c := f.change
	l.Reservations = cmp.Or(c.Reservations, l.Reservations)
	l.ReservationsPerIP = cmp.Or(c.ReservationsPerIP, l.ReservationsPerIP)
	l.ReservationsPerASN = cmp.Or(c.ReservationsPerASN, l.ReservationsPerASN)
	l.ReservationTTL = cmp.Or(c.ReservationTTL, l.ReservationTTL)
	l.CircuitsPerPeer = cmp.Or(c.CircuitsPerPeer, l.CircuitsPerPeer)
	l.CircuitDuration = cmp.Or(c.CircuitDuration, l.CircuitDuration)
	l.CircuitBytes = cmp.Or(c.CircuitBytes, l.CircuitBytes)
	l.Rate = cmp.Or(c.Rate, l.Rate)
	if err := l.Validate(); err != nil {
		return l, fmt.Errorf("-preset %s with the flags -max-* and -reservation-ttl: %w", *f.preset, err)
	}
	return l, nil
}

func presetLimits(name string) (relay.Limits, error) {
	switch name {
	case "signaling":
		return relay.SignalingOnly(), nil
	case "data":
		return relay.Data(), nil
	}
	return relay.Limits{}, fmt.Errorf("-preset %q: use signaling or data", name)
}
