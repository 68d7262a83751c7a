package reservation

import (
	"errors"

	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/prometheus/client_golang/prometheus"
)

// Values of the label "outcome".
const (
	outcomeReserved    = "reserved"
	outcomeRenewed     = "renewed"
	outcomeRefused     = "refused" // full, or at its limits
	outcomeDenied      = "denied"  // not allowed
	outcomeUnsupported = "unsupported"
	outcomeMalformed   = "malformed"
	outcomeTimeout     = "timeout"     // connected, but no answer
	outcomeFailed      = "failed"      // connected, but the exchange broke off
	outcomeUnreachable = "unreachable" // could not be dialled
)

// Values of the label "reason".
const (
	lostConnection = "connection"
	lostExpired    = "expired"
	lostWithdrawn  = "withdrawn" // the peer says that it is no relay any longer
	lostReleased   = "released"  // given up by us: enough others
)

type metrics struct {
	attempts *prometheus.CounterVec
	lost     *prometheus.CounterVec
	held     prometheus.Gauge
}

func newMetrics() *metrics {
	const ns, sub = "libp2p", "reservation"
	return &metrics{
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: ns, Subsystem: sub, Name: "attempts_total", Help: "Attempts to reserve at a relay, by outcome.",
		}, []string{"outcome"}),
		lost: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: ns, Subsystem: sub, Name: "lost_total", Help: "Reservations no longer held, by reason.",
		}, []string{"reason"}),
		held: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: ns, Subsystem: sub, Name: "held", Help: "Reservations held.",
		}),
	}
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.attempts, m.lost, m.held}
}

// attempted counts how an exchange with a relay ended.
func (m *metrics) attempted(err error, renewal bool) {
	m.attempts.WithLabelValues(outcomeOf(err, renewal)).Inc()
}

func outcomeOf(err error, renewal bool) string {
	switch {
	case err == nil && renewal:
		return outcomeRenewed
	case err == nil:
		return outcomeReserved
	case errors.Is(err, ErrUnsupported):
		return outcomeUnsupported
	case errors.Is(err, ErrMalformed):
		return outcomeMalformed
	case isTimeout(err):
		return outcomeTimeout
	}
	refused, ok := errors.AsType[*RefusedError](err)
	switch {
	case !ok:
		return outcomeFailed
	case refused.Status == pbv2.Status_PERMISSION_DENIED:
		return outcomeDenied
	default:
		return outcomeRefused
	}
}

// lostReason is the label for why a reservation is no longer held.
func lostReason(err error) string {
	switch {
	case errors.Is(err, ErrLost):
		return lostConnection
	case errors.Is(err, ErrExpired):
		return lostExpired
	case errors.Is(err, ErrUnsupported):
		return lostWithdrawn
	default:
		return lostReleased
	}
}
