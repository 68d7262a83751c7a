// Package prom registers a block's Prometheus collectors.
package prom

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

// Register adds all collectors to r or none, and returns what takes them off
// again. Without a registerer it does nothing.
func Register(r prometheus.Registerer, collectors ...prometheus.Collector) (unregister func(), err error) {
	if r == nil {
		return func() {}, nil
	}
	for i, c := range collectors {
		if err := r.Register(c); err != nil {
			unregisterAll(r, collectors[:i])
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return func() { unregisterAll(r, collectors) }, nil
}

func unregisterAll(r prometheus.Registerer, collectors []prometheus.Collector) {
	for _, c := range collectors {
		r.Unregister(c)
	}
}
