package discovery

import (
	"github.com/prometheus/client_golang/prometheus"
)

// Values of the label "verdict".
const (
	recordAccepted = "accepted"
	recordRejected = "rejected" // malformed, too large or about another peer
	recordStale    = "stale"    // replayed, postdated, too frequent, or no room
)

type metrics struct {
	records       *prometheus.CounterVec
	announcements prometheus.Counter
	peers         prometheus.Gauge
}

func newMetrics() *metrics {
	const ns, sub = "libp2p", "pubsubdiscovery"
	return &metrics{
		records: prometheus.NewCounterVec(prometheus.CounterOpts{
			Namespace: ns, Subsystem: sub, Name: "records_total", Help: "Records received, by verdict.",
		}, []string{"verdict"}),
		announcements: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: ns, Subsystem: sub, Name: "announcements_total", Help: "Own records published.",
		}),
		peers: prometheus.NewGauge(prometheus.GaugeOpts{
			Namespace: ns, Subsystem: sub, Name: "peers", Help: "Peers in the table.",
		}),
	}
}

func (m *metrics) all() []prometheus.Collector {
	return []prometheus.Collector{m.records, m.announcements, m.peers}
}
