package interop

import (
	"context"
	"encoding/csv"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"
)

// holding has HAProxy hold a page's connection while the relay is away, as package
// front's documentation says: it tries once a second. Its figures are at figuresURL.
const (
	holding = `option forwardfor
			retries 10
			retry-on conn-failure empty-response`
	figures = `
		frontend figures
			mode http
			bind 203.0.113.11:81
			stats enable
			stats uri /`
	figuresURL = "http://" + proxyAddress + ":81/;csv"
)

// heldLimit is less than the 5 s that js-libp2p waits for its dial.
const heldLimit = 3 * time.Second

// hour is longer than js-libp2p by itself keeps a peer's addresses, and less than the
// reservations last that the relay gives.
const hour, reservationTTL = 61 * time.Minute, 2 * time.Hour

// TestRestart: pages of stock js-libp2p, which dials its relay once at the moment that
// it loses it and not again, do not notice when a relay behind HAProxy is killed, or
// drained, and started again: they can be reached, and what is direct stays. The
// relay is away until the pages' dials have failed at HAProxy, which tries again.
//
// The first page has a direct connection to each other one. Who has not may come
// back by itself later, when an announcement has it dial that peer through the relay.
func TestRestart(t *testing.T) {
	Need(t, Chromium, Firefox)
	place := newRestart(t)
	kill := func() error { place.relay.Kill(); return nil }
	for _, way := range []struct {
		name string
		age  time.Duration // of the pages, by their clocks, before it
		end  func() error
	}{
		{"kill", 0, kill},
		{"drain", 0, place.relay.Terminate},
		{"kill when the pages are old", hour, kill},
	} {
		t.Run(way.name, func(t *testing.T) {
			for _, p := range place.peers {
				p.age(t, way.age)
			}
			before, err := readHAProxy(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := way.end(); err != nil {
				t.Fatal(err)
			}
			gone := time.Now()
			Await(t, heldLimit, "HAProxy holds a dial of each page", func(ctx context.Context) (bool, error) {
				now, err := readHAProxy(ctx)
				held := now.sessions == len(place.peers) && now.retries-before.retries >= len(place.peers)
				return held, errors.Join(err, fmt.Errorf("%+v", now))
			})
			place.relay.Restart(t)
			place.returned(t, gone)
			place.stayed(t)
		})
	}
}

// newRestart is a relay behind HAProxy, three pages with direct connections, and
// a crowd that reaches them and goes to the relay itself.
func newRestart(t *testing.T) *chaos {
	t.Helper()
	unavailable(t, errSandbox)
	sandboxAddresses(t, 1) // where the pages dial, hence come from
	for _, address := range []string{publicAddress, proxyAddress} {
		var sandbox *Namespace
		if err := sandbox.IP("addr replace " + address + "/32 dev lo"); err != nil {
			t.Fatal(err)
		}
	}
	public := fmt.Sprintf("/ip4/%s/tcp/80/ws", sandboxAddress(0))
	c := &chaos{relay: StartRelayIn(t, nil, relayAddress, "-announce", public, "-trusted-proxies", proxyAddress,
		"-drain", drainLimit.String(), "-reservation-ttl", reservationTTL.String())}
	StartHAProxy(t, nil, "80", strings.NewReplacer("MODE", "http", "OPTION", holding, "SERVER", "").Replace(haproxyServer)+figures)
	binary, err := build(".", "crowd", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	c.crowd = startCrowd(t, binary, fmt.Sprintf("/ip4/%s/tcp/4001/ws/p2p/%s", publicAddress, c.relay.ID))
	c.crowd.ask(t, crowdRequest{Op: "connect", N: 2})
	c.crowd.ask(t, crowdRequest{Op: "reserve"})
	c.crowd.ask(t, crowdRequest{Op: "keep"})
	chromium, firefox := StartAgent(t, Chromium), StartAgent(t, Firefox)
	c.peers = []*Peer{chromium.Open(t), chromium.Open(t), firefox.Open(t)}
	c.pairs = [][2]*Peer{{c.peers[0], c.peers[1]}, {c.peers[2], c.peers[0]}}
	c.meet(t, Config{Relays: []string{public + "/p2p/" + c.relay.ID}, Comeback: Stock})
	return c
}

// age puts the clock of a page forward.
func (p *Peer) age(t *testing.T, by time.Duration) {
	t.Helper()
	script := fmt.Sprintf("(() => { const now = Date.now; Date.now = () => now() + %d })()", by.Milliseconds())
	if err := p.tab.Evaluate(t.Context(), script, nil); err != nil {
		t.Fatal(err)
	}
}

// haproxyFigures are those of the backend.
type haproxyFigures struct {
	sessions int // now
	retries  int // since it started
}

func readHAProxy(ctx context.Context) (haproxyFigures, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, figuresURL, nil)
	if err != nil {
		return haproxyFigures{}, err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return haproxyFigures{}, err
	}
	defer func() { _ = response.Body.Close() }()
	table, err := csv.NewReader(response.Body).ReadAll()
	if err != nil {
		return haproxyFigures{}, err
	}
	for _, row := range table {
		if row[0] == "relay" && row[1] == "BACKEND" {
			sessions, err := strconv.Atoi(row[slices.Index(table[0], "scur")])
			retries, wrong := strconv.Atoi(row[slices.Index(table[0], "wretr")])
			return haproxyFigures{sessions, retries}, errors.Join(err, wrong)
		}
	}
	return haproxyFigures{}, fmt.Errorf("HAProxy tells no figures of its backend: %v", table)
}
