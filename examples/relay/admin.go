package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/tangop2p/tango"
	"github.com/tangop2p/tango/relay"
)

// admin answers those who run the relay, on an address of its own.
type admin struct {
	registry *prometheus.Registry
	server   *http.Server
	started  time.Time
	node     atomic.Pointer[tango.Node] // nil until the relay has started
	draining atomic.Bool
}

func newAdmin() *admin {
	a := &admin{registry: prometheus.NewRegistry(), started: time.Now()}
	a.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	mux := http.NewServeMux()
	mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", a.serveReady)
	mux.HandleFunc("GET /status.json", a.serveStatus)
	mux.HandleFunc("GET /debug/pprof/", pprof.Index)
	mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
	mux.Handle("GET /metrics", promhttp.HandlerFor(a.registry, promhttp.HandlerOpts{}))
	a.server = &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: time.Minute, MaxHeaderBytes: 16 << 10}
	return a
}

// listen begins to answer, before the node is there. Without an address it does nothing.
func (a *admin) listen(addr string) error {
	if addr == "" {
		return nil
	}
	l, err := new(net.ListenConfig).Listen(context.Background(), "tcp", addr)
	if err != nil {
		return fmt.Errorf("-admin %q: %w; use IP:PORT with a free port, such as 127.0.0.1:4002", addr, err)
	}
	a.server.Addr = l.Addr().String()
	go func() { _ = a.server.Serve(l) }() // until close
	return nil
}

func (a *admin) close() error { return a.server.Close() }

// ready is nil while a browser can get a reservation, as far as the relay knows.
func (a *admin) ready() error {
	node := a.node.Load()
	switch {
	case node == nil:
		return errors.New("the relay is starting")
	case a.draining.Load():
		return errors.New("the relay drains")
	case len(node.BrowserAddrs()) == 0:
		return errors.New("the relay has no address that a browser can dial")
	}
	return nil
}

func (a *admin) serveReady(w http.ResponseWriter, _ *http.Request) {
	if err := a.ready(); err != nil {
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	}
	fmt.Fprintln(w, "ok")
}

// status is the answer at /status.json.
type status struct {
	ID           string       `json:"id"`
	Seconds      int          `json:"seconds"` // since the start
	Ready        bool         `json:"ready"`
	Reason       string       `json:"reason,omitempty"` // why it is not ready
	Limits       relay.Limits `json:"limits"`           // durations in nanoseconds
	Reservations []held       `json:"reservations"`
	Circuits     []carried    `json:"circuits"`
}

// held is a reservation.
type held struct {
	Peer    string    `json:"peer"`
	Addr    string    `json:"addr"` // IP address
	Since   time.Time `json:"since"`
	Expires time.Time `json:"expires"`
}

// carried is a circuit.
type carried struct {
	Source      string    `json:"source"`
	Destination string    `json:"destination"`
	Since       time.Time `json:"since"`
	Sent        int64     `json:"sent"`     // bytes from the source
	Received    int64     `json:"received"` // bytes to the source
}

func (a *admin) status() status {
	s := status{Seconds: int(time.Since(a.started).Seconds()), Reservations: []held{}, Circuits: []carried{}}
	if err := a.ready(); err != nil {
		s.Reason = err.Error()
	}
	s.Ready = s.Reason == ""
	node := a.node.Load()
	if node == nil {
		return s
	}
	s.ID, s.Limits = node.Host().ID().String(), node.Relay().Limits()
	for _, r := range node.Relay().Reservations() {
		s.Reservations = append(s.Reservations, held{r.Peer.String(), r.Addr.String(), r.Since, r.Expires})
	}
	for _, c := range node.Relay().Circuits() {
		s.Circuits = append(s.Circuits, carried{c.Source.String(), c.Destination.String(), c.Since, c.Sent, c.Received})
	}
	return s
}

func (a *admin) serveStatus(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(a.status()) // fails only if the client has gone
}
