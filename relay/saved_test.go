package relay_test

import (
	"context"
	"crypto/rand"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"

	"github.com/tangop2p/tango/relay"
)

// lives makes relays of one key that one after the other use the same file.
func lives(t *testing.T) (path string, next func(opts ...relay.Option) (*relay.Relay, host.Host)) {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(t.TempDir(), "reservations")
	return path, func(opts ...relay.Option) (*relay.Relay, host.Host) {
		h := newHost(t, libp2p.Identity(key), libp2p.ResourceManager(resources(t)))
		r, err := relay.New(h, append([]relay.Option{relay.WithTopics(), relay.WithSavedTable(path)}, opts...)...)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close() })
		return r, h
	}
}

// end ends a relay, and waits until a peer knows: else it believes that it is
// connected to the next one, which has the same ID.
func end(t *testing.T, r *relay.Relay, rh, h host.Host) {
	t.Helper()
	_ = r.Close()
	_ = rh.Close()
	waitFor(t, func() bool { return h.Network().Connectedness(rh.ID()) != network.Connected })
}

func content(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

func connectStatus(t *testing.T, from, rh, to host.Host) pbv2.Status {
	t.Helper()
	return hop(t, from, rh, send(hopMessage(pbv2.HopMessage_CONNECT, to.ID()))).GetStatus()
}

func TestSavedReservationIsBackWithItsPeer(t *testing.T) {
	for _, crash := range []bool{false, true} {
		t.Run(map[bool]string{false: "closed", true: "crashed"}[crash], func(t *testing.T) {
			path, next := lives(t)
			r, rh := next()
			a, b, absent := newHost(t), newHost(t), newHost(t)
			reserve(t, b, rh)
			reserve(t, absent, rh)
			since := r.Reservations()[0].Since
			if crash {
				waitFor(t, func() bool {
					return strings.Contains(content(t, path), b.ID().String()) && strings.Contains(content(t, path), absent.ID().String())
				})
				saved := content(t, path)
				_ = r.Close()
				if err := os.WriteFile(path, []byte(saved), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			end(t, r, rh, b)

			r, rh = next()
			changes := events(t, rh, new(relay.EvtReservation))
			connect(t, a, rh)
			if status := connectStatus(t, a, rh, b); status == pbv2.Status_OK {
				t.Errorf("answer %v while the peer is away", status)
			}
			connect(t, b, rh)
			if status := connectStatus(t, a, rh, b); status != pbv2.Status_OK {
				t.Errorf("answer %v though the peer is back", status)
			}
			if e, _ := changes().(relay.EvtReservation); e.Peer != b.ID() || e.Change != relay.ReservationRestored {
				t.Errorf("%+v", e)
			}
			held := r.Reservations()
			if len(held) != 1 || held[0].Peer != b.ID() || !held[0].Since.Equal(since.Round(0)) {
				t.Errorf("%+v, want it since %v", held, since)
			}
			reserve(t, b, rh)
			if e, _ := changes().(relay.EvtReservation); e.Change != relay.ReservationRenewed {
				t.Errorf("%+v, want a renewal", e)
			}
			_ = r.Close()
			if text := content(t, path); !strings.Contains(text, absent.ID().String()) || strings.Count(text, b.ID().String()) != 1 {
				t.Errorf("saved %s", text)
			}
		})
	}
}

// Who is called while the policy still thinks about his return is not told off.
func TestConnectWaitsForTheReturn(t *testing.T) {
	_, next := lives(t)
	r, rh := next()
	a, b := newHost(t), newHost(t)
	reserve(t, b, rh)
	end(t, r, rh, b)
	asked, called := make(chan struct{}), make(chan struct{})
	slow := relay.PolicyFunc(func(ctx context.Context, r *relay.Request) relay.Decision {
		switch r.Op {
		case relay.Reserve:
			close(asked)
			select {
			case <-called:
				<-time.After(100 * time.Millisecond) // longer than the rest of the call takes
			case <-ctx.Done():
			}
		case relay.ConnectFrom:
			close(called)
		default:
		}
		return relay.Decision{}
	})
	_, rh = next(relay.WithPolicy(slow))
	connect(t, a, rh)
	connect(t, b, rh)
	<-asked
	if status := connectStatus(t, a, rh, b); status != pbv2.Status_OK {
		t.Errorf("answer %v", status)
	}
}

func TestSavedReservationsEnd(t *testing.T) {
	deny := relay.PolicyFunc(func(_ context.Context, r *relay.Request) relay.Decision {
		if !r.Renewal {
			return relay.Decision{}
		}
		return relay.Refuse(relay.ReasonDenied)
	})
	for name, c := range map[string]struct {
		end     func(*relay.Relay, host.Host, host.Host)
		text    func(string) string
		options []relay.Option
	}{
		"expired":                {text: func(s string) string { return strings.Replace(s, `"expires":"2`, `"expires":"1`, 1) }},
		"evicted":                {end: func(r *relay.Relay, _, h host.Host) { r.Evict(h.ID()) }},
		"has left":               {end: func(r *relay.Relay, rh, h host.Host) { _ = h.Network().ClosePeer(rh.ID()); waitGone(t, r) }},
		"not allowed any longer": {options: []relay.Option{relay.WithPolicy(deny)}},
	} {
		t.Run(name, func(t *testing.T) {
			path, next := lives(t)
			r, rh := next()
			a, b := newHost(t), newHost(t)
			reserve(t, b, rh)
			if c.end != nil {
				c.end(r, rh, b)
			}
			end(t, r, rh, b)
			if c.text != nil {
				if err := os.WriteFile(path, []byte(c.text(content(t, path))), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			_, rh = next(c.options...)
			connect(t, a, rh)
			connect(t, b, rh)
			if status := connectStatus(t, a, rh, b); status != pbv2.Status_NO_RESERVATION {
				t.Errorf("answer %v", status)
			}
		})
	}
}

func waitGone(t *testing.T, r *relay.Relay) {
	t.Helper()
	waitFor(t, func() bool { return len(r.Reservations()) == 0 })
}

// A peer that is evicted while it is away does not come back.
func TestEvictOfTheAbsent(t *testing.T) {
	_, next := lives(t)
	r, rh := next()
	b := newHost(t)
	reserve(t, b, rh)
	end(t, r, rh, b)
	r, rh = next()
	if !r.Evict(b.ID()) || r.Evict(b.ID()) {
		t.Error("the saved reservation was not there, or is twice")
	}
	connect(t, b, rh)
	if status := connectStatus(t, b, rh, b); status != pbv2.Status_NO_RESERVATION {
		t.Errorf("answer %v", status)
	}
}

func TestSavedTableFile(t *testing.T) {
	const id = "12D3KooWQnwEGNqcM2nAcPtRR9rAX8Hrg4k9kJLCHoTR5chJfz6d"
	dir := t.TempDir()
	for name, c := range map[string]struct {
		path, text string
		want       []string // in the error; none for no error
	}{
		"no file":      {path: "new"},
		"no directory": {path: "there/is/none", want: []string{"there/is/none", "make it"}},
		"a directory":  {path: ".", want: []string{"WithSavedTable"}},
		"empty":        {path: "empty", text: " ", want: []string{`empty")`, "delete it"}},
		"garbage":      {path: "garbage", text: "relay", want: []string{`garbage")`, "delete it"}},
		"of later":     {path: "later", text: `{"version":2}`, want: []string{`later")`, "version 2, want 1", "delete it"}},
		"no peer":      {path: "nobody", text: `{"version":1,"reservations":[{}]}`, want: []string{"reservation 1", "delete it"}},
		"no end": {
			path: "endless", text: `{"version":1,"reservations":[{"peer":"` + id + `"}]}`, want: []string{id, "expires", "delete it"},
		},
		"none": {path: "none", text: `{"version":1,"reservations":[]}`},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(dir, c.path)
			if c.text != "" {
				if err := os.WriteFile(path, []byte(c.text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			_, err := relay.CheckOptions(relay.WithSavedTable(path))
			if (err != nil) != (len(c.want) > 0) {
				t.Fatal(err)
			}
			for _, want := range c.want {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%v, want %q in it", err, want)
				}
			}
		})
	}
	path, next := lives(t)
	next()
	if i, err := os.Stat(path); err != nil || i.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", i, err)
	}
	others, err := filepath.Glob(filepath.Join(filepath.Dir(path), "*"))
	if err != nil || len(others) != 1 {
		t.Errorf("files %v", others)
	}
	if _, err := relay.CheckOptions(relay.WithSavedTable("")); err == nil {
		t.Error("no name is taken")
	}
}

// What is saved while nothing changes stays as it is.
func TestSavedTableIsWrittenOnChange(t *testing.T) {
	path, next := lives(t)
	_, rh := next()
	b := newHost(t)
	start := time.Now()
	reserve(t, b, rh)
	waitFor(t, func() bool { return strings.Contains(content(t, path), b.ID().String()) })
	if took := time.Since(start); took > 2*time.Second {
		t.Errorf("saved after %v", took)
	}
}

func TestWithAlternatives(t *testing.T) {
	const id = "/p2p/12D3KooWQnwEGNqcM2nAcPtRR9rAX8Hrg4k9kJLCHoTR5chJfz6d"
	many := make([]string, 9)
	for i := range many {
		many[i] = "/ip4/192.0.2.1/tcp/1" + id
	}
	for name, c := range map[string]struct {
		addrs []string
		want  string
	}{
		"none":       {},
		"one":        {addrs: many[:1]},
		"most":       {addrs: many[:8]},
		"too many":   {addrs: many, want: "8 at most"},
		"no peer":    {addrs: []string{"/ip4/192.0.2.1/tcp/1"}, want: "/ip4/192.0.2.1/tcp/1"},
		"no address": {addrs: []string{id}, want: "without an address"},
	} {
		_, err := relay.CheckOptions(relay.WithAlternatives(c.addrs...))
		if (err != nil) != (c.want != "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}
