package signaling

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// outcome maps how a session ended to a value of the metrics' label.
func outcome(err error) string {
	if err == nil {
		return "done"
	}
	for _, o := range [...]struct {
		err  error
		name string
	}{
		{ErrAborted, "aborted"},
		{ErrClosed, "closed"},
		{ErrBusy, "busy"},
		{ErrLimit, "limit"},
		{ErrProtocol, "protocol"},
		{ErrTimeout, "timeout"},
		{ErrRefused, "refused"},
		{ErrUnsupported, "unsupported"},
	} {
		if errors.Is(err, o.err) {
			return o.name
		}
	}
	return "stream" // it broke, could not be opened, or has no resources
}

type metrics struct {
	sessions *prometheus.CounterVec
	refused  *prometheus.CounterVec
}

func newMetrics() *metrics {
	const ns, sub = "libp2p", "webrtcsignaling"
	return &metrics{
		sessions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: ns, Subsystem: sub, Name: "sessions_total", Help: "Sessions that have ended, by this side's role and the outcome.",
		}, []string{"role", "outcome"}),
		refused: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: ns, Subsystem: sub, Name: "refused_candidates_total", Help: "Remote candidates that were skipped, by reason.",
		}, []string{"reason"}),
	}
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.sessions, m.refused}
}
