package front

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tangop2p/tango/internal/prom"
)

// reason is why a connection or a request is refused, a label of the metrics.
type reason string

const (
	refusedHeader    reason = "header"    // a trusted proxy's is missing or malformed
	refusedUntrusted reason = "untrusted" // a PROXY header from elsewhere
	refusedGater     reason = "gater"     // the connection gater said no
	refusedResources reason = "resources" // the resource manager said no
	refusedTimeout   reason = "timeout"   // a handshake took too long
	refusedHandshake reason = "handshake" // no WebSocket handshake
)

type metrics struct {
	refused    *prometheus.CounterVec
	unregister func()
}

func newMetrics(r prometheus.Registerer, cert *Certificate) (*metrics, error) {
	const ns, sub = "libp2p", "front"
	m := &metrics{refused: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: ns, Subsystem: sub, Name: "refused_total", Help: "Connections and requests refused, by reason.",
	}, []string{"reason"})}
	for _, why := range []reason{
		refusedHeader, refusedUntrusted, refusedGater, refusedResources, refusedTimeout, refusedHandshake,
	} {
		m.refused.WithLabelValues(string(why)) // counts from 0
	}
	collectors := []prometheus.Collector{m.refused}
	if cert != nil {
		collectors = append(collectors, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: ns, Subsystem: sub, Name: "certificate_expiry_timestamp_seconds", Help: "When the certificate in use expires.",
		}, func() float64 { return float64(cert.Status().Expires.Unix()) }), prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: ns, Subsystem: sub, Name: "certificate_reload_failed", Help: "1 while the last reload of the certificate failed.",
		}, func() float64 {
			if cert.Status().Err != nil {
				return 1
			}
			return 0
		}))
	}
	var err error
	m.unregister, err = prom.Register(r, collectors...)
	return m, err
}
