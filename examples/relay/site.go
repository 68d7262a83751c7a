package main

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync/atomic"

	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"

	"github.com/tangop2p/tango"
)

//go:embed status.html
var statusText string

var statusPage = template.Must(template.New("status").Parse(statusText))

// site answers the HTTP requests on the relay's WebSocket port.
type site struct {
	settings *settings
	mux      *http.ServeMux
	node     atomic.Pointer[tango.Node] // nil until the relay has started
}

// info is the answer at /relay.json.
type info struct {
	ID      string   `json:"id"`
	Addrs   []string `json:"addrs"`   // what a page can dial
	Topics  []string `json:"topics"`  // discovery topics
	Forward []string `json:"forward"` // other GossipSub topics
	Circuit circuit  `json:"circuit"`
	STUN    []string `json:"stun"` // URLs of the relay's own server, for iceServers
}

// circuit is what one relayed connection may use.
type circuit struct {
	Seconds int   `json:"seconds"`
	Bytes   int64 `json:"bytes"` // each way
}

func newSite(s *settings) *site {
	st := &site{settings: s, mux: http.NewServeMux()}
	st.mux.HandleFunc("GET /livez", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	st.mux.HandleFunc("GET /relay.json", st.serveInfo)
	if s.web != "" {
		st.mux.Handle("GET /", http.FileServer(http.Dir(s.web)))
	} else {
		st.mux.HandleFunc("GET /{$}", st.serveStatus)
	}
	return st
}

// serve makes the site speak of a node that has started.
func (st *site) serve(node *tango.Node) { st.node.Store(node) }

func (st *site) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Referrer-Policy", "no-referrer")
	// scripts and styles are ours; a page may dial any relay that it is told of
	h.Set("Content-Security-Policy", "default-src 'self'; connect-src * ws: wss:; img-src 'self' data:; frame-ancestors 'none'")
	h.Set("Cache-Control", "no-cache")
	if st.node.Load() == nil {
		http.Error(w, "the relay is starting, try again", http.StatusServiceUnavailable)
		return
	}
	st.mux.ServeHTTP(w, r)
}

func (st *site) info() info {
	node := st.node.Load()
	l := node.Relay().Limits()
	i := info{
		ID:      node.Host().ID().String(),
		Addrs:   []string{},
		Topics:  st.settings.topics,
		Forward: append([]string{}, st.settings.forward...),
		Circuit: circuit{Seconds: int(l.CircuitDuration.Seconds()), Bytes: l.CircuitBytes},
	}
	i.STUN = append([]string{}, node.Relay().ICEServers()...)
	for _, a := range node.BrowserAddrs() {
		i.Addrs = append(i.Addrs, a.String())
	}
	return i
}

func (st *site) serveInfo(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Access-Control-Allow-Origin", "*") // applications served elsewhere read it too
	_ = json.NewEncoder(w).Encode(st.info())           // fails only if the client has gone
}

func (st *site) serveStatus(w http.ResponseWriter, _ *http.Request) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	_ = statusPage.Execute(w, st.info())
}

// pageURLs returns where the site is found, loopback first. Addresses by name are
// left out unless the relay has a certificate for them: they are announced, and
// the proxy there knows better.
func pageURLs(addrs []ma.Multiaddr, certified bool) []string {
	var loopback, others []string
	for _, a := range addrs {
		u, ok := pageURL(a, certified)
		if !ok {
			continue
		}
		if ip := net.ParseIP(u.Hostname()); ip.IsLoopback() {
			loopback = append(loopback, u.String())
		} else {
			others = append(others, u.String())
		}
	}
	return slices.Compact(append(loopback, others...))
}

func pageURL(a ma.Multiaddr, certified bool) (*url.URL, bool) {
	_, host, err := manet.DialArgs(a)
	if _, errWS := a.ValueForProtocol(ma.P_WS); err != nil || errWS != nil {
		return nil, false
	}
	u := &url.URL{Scheme: "http", Host: host, Path: "/"}
	if _, err := a.ValueForProtocol(ma.P_TLS); err == nil {
		u.Scheme = "https"
		u.Host = strings.TrimSuffix(host, ":443")
	}
	return u, net.ParseIP(u.Hostname()) != nil || certified && u.Scheme == "https"
}
