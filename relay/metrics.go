package relay

import (
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/tangop2p/tango/internal/prom"
)

// metrics has go-libp2p's names, but the true reasons, and is the relay's own.
type metrics struct {
	status       prometheus.Gauge
	reservations prometheus.Gauge
	changes      *prometheus.CounterVec // reservations, by type
	circuits     *prometheus.CounterVec // by type
	responses    [2]*prometheus.CounterVec
	rejections   [2]*prometheus.CounterVec
	causes       *prometheus.CounterVec
	duration     prometheus.Histogram
	bytes        prometheus.CounterFunc
	unread       prometheus.Counter
	dropped      prometheus.Counter
	unsaved      prometheus.Counter
	stun         *prometheus.CounterVec
	unforwarded  *prometheus.CounterVec // announcements, by reason
	unregister   func()
}

// newMetrics registers them. The bytes are counted when they are asked for, of
// open circuits too.
func newMetrics(r prometheus.Registerer, bytes func() float64) (*metrics, error) {
	const ns, sub = "libp2p", "relaysvc"
	vec := func(name, help, label string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: name, Help: help}, []string{label})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Namespace: ns, Subsystem: sub, Name: name, Help: help})
	}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: ns, Subsystem: sub, Name: name, Help: help})
	}
	m := &metrics{
		status:       gauge("status", "1 while the relay serves."),
		reservations: gauge("reservations", "Reservations held."),
		changes:      vec("reservations_total", "Reservations opened, renewed, restored and closed.", "type"),
		circuits:     vec("connections_total", "Circuits opened and closed.", "type"),
		responses: [2]*prometheus.CounterVec{
			vec("reservation_request_response_status_total", "RESERVE requests, by answer.", "status"),
			vec("connection_request_response_status_total", "CONNECT requests, by answer.", "status"),
		},
		rejections: [2]*prometheus.CounterVec{
			vec("reservation_rejections_total", "RESERVE requests refused, by reason.", "reason"),
			vec("connection_rejections_total", "CONNECT requests refused, by reason.", "reason"),
		},
		stun:        vec("stun_requests_total", "STUN requests, by outcome.", "outcome"),
		unforwarded: vec("announcements_dropped_total", "Announcements not forwarded, by reason.", "reason"),
		causes:      vec("connection_causes_total", "Circuits closed, by cause.", "cause"),
		duration: prometheus.NewHistogram(prometheus.HistogramOpts{
			Namespace: ns, Subsystem: sub, Name: "connection_duration_seconds", Help: "How long circuits were open.",
		}),
		bytes: prometheus.NewCounterFunc(prometheus.CounterOpts{
			Namespace: ns, Subsystem: sub, Name: "data_transferred_bytes_total", Help: "Bytes carried by circuits.",
		}, bytes),
		unread:  counter("requests_unread_total", "HOP streams reset because too many requests were being read."),
		unsaved: counter("saved_table_errors_total", "Failed attempts to save the reservation table."),
		dropped: counter("events_dropped_total", "Events that no subscriber saw because one was slow."),
	}
	var err error
	m.unregister, err = prom.Register(r, m.status, m.reservations, m.changes, m.circuits, m.responses[0], m.responses[1],
		m.rejections[0], m.rejections[1], m.causes, m.duration, m.bytes, m.stun, m.unforwarded, m.unread, m.dropped, m.unsaved)
	return m, err
}

// knownReasons are the labels; what policies of others say is "other".
var knownReasons = []Reason{
	ReasonDenied, ReasonNotListed, ReasonPerPeer, ReasonPerIP, ReasonPerSubnet, ReasonPerASN, ReasonRate, ReasonCapacity,
	ReasonDraining, ReasonNoReservation, ReasonNoAddress, ReasonUnreachable, ReasonMalformed, ReasonResources, ReasonShutdown,
	ReasonNoInvite, ReasonInviteMalformed, ReasonInviteIssuer, ReasonInviteAudience, ReasonInviteSubject, ReasonInviteNotYet,
	ReasonInviteExpired, ReasonInviteRevoked, ReasonInviteUsed, ReasonCallout, ReasonCalloutFailed,
}

func kindOf(op Op) int {
	if op == Reserve {
		return 0
	}
	return 1
}

func (m *metrics) answered(op Op) { m.responses[kindOf(op)].WithLabelValues("ok").Inc() }

func (m *metrics) refused(op Op, why Reason) {
	if !slices.Contains(knownReasons, why) {
		why = "other"
	}
	status := "rejected"
	if why == ReasonMalformed || why == ReasonUnreachable {
		status = "error"
	}
	m.responses[kindOf(op)].WithLabelValues(status).Inc()
	m.rejections[kindOf(op)].WithLabelValues(string(why)).Inc()
}

func (m *metrics) changed(c ReservationChange) {
	m.changes.WithLabelValues(map[ReservationChange]string{
		ReservationMade: "opened", ReservationRenewed: "renewed", ReservationEnded: "closed",
		ReservationRestored: "restored",
	}[c]).Inc()
}

func (m *metrics) opened() { m.circuits.WithLabelValues("opened").Inc() }

func (m *metrics) closed(c *openCircuit) {
	m.circuits.WithLabelValues("closed").Inc()
	m.causes.WithLabelValues(string(c.ended())).Inc()
	m.duration.Observe(time.Since(c.since).Seconds())
}
