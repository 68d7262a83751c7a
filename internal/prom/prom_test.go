package prom

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"
)

func TestRegister(t *testing.T) {
	gauge := func(name string) prometheus.Collector {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: "help"})
	}
	r := prometheus.NewRegistry()
	count := func() int {
		families, err := r.Gather()
		if err != nil {
			t.Fatal(err)
		}
		return len(families)
	}
	unregister, err := Register(r, gauge("a"), gauge("b"))
	if err != nil || count() != 2 {
		t.Fatalf("%d registered, %v", count(), err)
	}
	if _, err := Register(r, gauge("c"), gauge("a")); err == nil || count() != 2 {
		t.Errorf("a name twice: %v, %d registered", err, count())
	}
	if unregister(); count() != 0 {
		t.Errorf("%d left", count())
	}
	if unregister, err = Register(nil, gauge("a")); err != nil {
		t.Fatal(err)
	}
	unregister()
}
