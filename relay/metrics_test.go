package relay_test

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tangop2p/tango/relay"
)

// elsewhere is the metrics that other tests assert.
var elsewhere = []string{
	"connection_rejections_total", "reservation_rejections_total", // TestAnswers
	"data_transferred_bytes_total", // TestBytesCountWhileTheyPass
	"requests_unread_total",        // TestUnreadRequestsAreBounded
	"stun_requests_total",          // TestSTUN
	"events_dropped_total",         // TestDroppedEventsAreCounted
	"announcements_dropped_total",  // TestSpammers
}

// registrations is a registry that knows the names of what was registered.
type registrations struct {
	*prometheus.Registry

	names []string
}

func (r *registrations) Register(c prometheus.Collector) error {
	descs := make(chan *prometheus.Desc, 16)
	c.Describe(descs)
	close(descs)
	for d := range descs {
		name := regexp.MustCompile(`fqName: "libp2p_relaysvc_(\w+)"`).FindStringSubmatch(d.String())
		if name == nil {
			return fmt.Errorf("a strange name: %v", d)
		}
		r.names = append(r.names, name[1])
	}
	return r.Registry.Register(c)
}

// TestMetrics follows each metric through reservations, a circuit and their end,
// and fails for one that nobody asserts.
func TestMetrics(t *testing.T) {
	reg := &registrations{Registry: prometheus.NewRegistry()}
	dir := filepath.Join(t.TempDir(), "saved")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	r, rh := newRelay(t, relay.WithRegisterer(reg), relay.WithSavedTable(filepath.Join(dir, "reservations")))
	asserted := slices.Clone(elsewhere)
	expect := func(when string, want map[string]float64) { // of a name, or a name and a label
		t.Helper()
		for what, n := range want {
			name, label, _ := strings.Cut(what, " ")
			asserted = append(asserted, name)
			t.Logf("%s: %s becomes %v", when, what, n) // or waitFor ends the test
			waitFor(t, func() bool { return metric(t, reg, "libp2p_relaysvc_"+name, label) == n })
		}
	}
	a, b, c := newHost(t), newHost(t), newHost(t)
	expect("idle", map[string]float64{
		"status": 1, "reservations": 0, "reservations_total": 0, "connections_total": 0, "connection_duration_seconds": 0,
		"saved_table_errors_total": 0,
	})
	reserve(t, b, rh)
	reserve(t, b, rh)
	expect("reserved twice", map[string]float64{
		"reservations": 1, "reservations_total opened": 1, "reservations_total renewed": 1, "reservations_total closed": 0,
		"reservation_request_response_status_total ok": 2,
	})
	echoThrough(t, a, rh, b)
	expect("a circuit", map[string]float64{
		"connections_total opened": 1, "connections_total closed": 0, "connection_request_response_status_total ok": 1,
		"connection_duration_seconds": 0,
	})
	if status := connectStatus(t, a, rh, c); status == pbv2.Status_OK {
		t.Error("a circuit to one without a reservation")
	}
	expect("refused", map[string]float64{"connection_request_response_status_total rejected": 1, "connections_total opened": 1})
	r.Evict(b.ID())
	expect("evicted", map[string]float64{
		"reservations": 0, "reservations_total closed": 1, "connections_total closed": 1, "connection_causes_total evicted": 1,
		"connection_duration_seconds": 1,
	})
	if err := os.Rename(dir, dir+"-not"); err != nil { // at once: the relay may be saving, and makes files there
		t.Fatal(err)
	}
	reserve(t, c, rh)
	// it tries again and again
	waitFor(t, func() bool { return metric(t, reg, "libp2p_relaysvc_saved_table_errors_total", "") > 0 })
	for _, name := range reg.names {
		if !slices.Contains(asserted, name) {
			t.Errorf("no test asserts %s: do so here, or say where", name)
		}
	}
}
