package relay_test

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/tangop2p/tango/relay"
)

func newCallout(t testing.TB, url string, opts ...relay.CalloutOption) *relay.Callout {
	t.Helper()
	c, err := relay.NewCallout(url, opts...)
	if err != nil {
		t.Fatal(err)
	}
	stop, err := relay.StartPolicy(nil, c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(stop)
	return c
}

// answering is a server that says the same to all, and counts them.
func answering(t testing.TB, status int, body string) (url string, asked *atomic.Int32) {
	t.Helper()
	asked = new(atomic.Int32)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		asked.Add(1)
		_, _ = io.Copy(io.Discard, r.Body)
		w.Header().Set("Location", "/elsewhere")
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}))
	t.Cleanup(s.Close)
	return s.URL, asked
}

func TestCalloutAnswers(t *testing.T) {
	future, past := time.Now().Add(time.Hour).UTC().Format(time.RFC3339), time.Now().Add(-time.Hour).UTC().Format(time.RFC3339)
	for name, c := range map[string]struct {
		status int
		body   string
		want   string
		fails  bool // an answer that is none
	}{
		"yes":               {200, `{"allow": true}`, "ok", false},
		"with terms":        {200, `{"allow": true, "data": 77, "rate": 5, "ttl": 60, "duration": 1.5}`, "allow 77", false},
		"until":             {200, `{"allow": true, "until": "` + future + `"}`, "ok", false},
		"until it was over": {200, `{"allow": true, "until": "` + past + `"}`, "callout", false},
		"no":                {200, `{"allow": false}`, "callout", false},
		"a known reason":    {200, `{"allow": false, "reason": "not-listed"}`, "not-listed", false},
		"rate":              {200, `{"allow": false, "reason": "rate"}`, "rate", false},
		"another reason":    {200, `{"allow": false, "reason": "because"}`, "callout", false},
		"more fields":       {200, `{"allow": true, "comment": "welcome"}`, "ok", false},
		"no answer in it":   {200, `{}`, "callout-failed", true},
		"null":              {200, `null`, "callout-failed", true},
		"no JSON":           {200, `yes`, "callout-failed", true},
		"bad terms":         {200, `{"allow": true, "data": -1}`, "callout-failed", true},
		"endless terms":     {200, `{"allow": true, "ttl": 1e300}`, "callout-failed", true},
		"too long":          {200, `{"allow": true, "a": "` + strings.Repeat("a", 16<<10) + `"}`, "callout-failed", true},
		"an error":          {500, `{"allow": true}`, "callout-failed", true},
		"a redirect":        {307, `{"allow": true}`, "callout-failed", true},
		"nothing":           {204, ``, "callout-failed", true},
	} {
		t.Run(name, func(t *testing.T) {
			url, asked := answering(t, c.status, c.body)
			q := question{op: relay.Reserve, peer: string(id(t, alice)), addr: "192.0.2.1"}
			closed := newCallout(t, url)
			if got := answerOf(q.ask(closed, time.Now())); got != c.want {
				t.Errorf("%q, want %q", got, c.want)
			}
			open := c.want
			if c.fails {
				open = "ok"
			}
			if got := answerOf(q.ask(newCallout(t, url, relay.FailOpen()), time.Now())); got != open {
				t.Errorf("fail open: %q, want %q", got, open)
			}
			// an answer is remembered, a failure is not
			asked.Store(0)
			q.ask(closed, time.Now())
			if again := asked.Load() > 0; again != c.fails {
				t.Errorf("asked again: %v", again)
			}
		})
	}
}

func TestCalloutAsks(t *testing.T) {
	var got struct {
		path, user, password, contentType string
		body                              map[string]any
	}
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		got.path, got.contentType = r.Method+" "+r.URL.String(), r.Header.Get("Content-Type")
		got.user, got.password, _ = r.BasicAuth()
		if err := json.NewDecoder(r.Body).Decode(&got.body); err != nil {
			t.Error(err)
		}
		_, _ = io.WriteString(w, `{"allow": true, "ttl": 90, "duration": 2.5, "data": 5, "rate": 7, "until": "2100-01-01T00:00:00Z"}`)
	}))
	t.Cleanup(s.Close)
	c := newCallout(t, strings.Replace(s.URL, "http://", "http://relay:secret@", 1)+"/ask?x=1")
	at := time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC)
	d := c.Decide(context.Background(), &relay.Request{
		Op: relay.ConnectFrom, Peer: id(t, alice), Other: id(t, bob), Addr: netip.MustParseAddr("2001:db8::1"), Time: at,
	})
	want := map[string]any{
		"op": "connect-from", "peer": alice, "other": bob, "addr": "2001:db8::1", "renewal": false, "time": "2026-11-25T12:00:00Z",
	}
	if got.path != "POST /ask?x=1" || got.user != "relay" || got.password != "secret" || got.contentType != "application/json" {
		t.Errorf("%+v", got)
	}
	if len(got.body) != len(want) {
		t.Errorf("%v", got.body)
	}
	for k, v := range want {
		if got.body[k] != v {
			t.Errorf("%s: %v, want %v", k, got.body[k], v)
		}
	}
	if d.Terms() != (relay.Terms{TTL: 90 * time.Second, Duration: 2500 * time.Millisecond, Data: 5, Rate: 7}) || d.Ends().Year() != 2100 {
		t.Errorf("%+v until %v", d.Terms(), d.Ends())
	}
}

// A server that hangs costs its timeout, three times; after that nobody waits
// for it until it is tried again.
func TestCalloutHangs(t *testing.T) {
	release := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body) // else the server does not see that the client has gone
		select {
		case <-release:
		case <-r.Context().Done():
		}
	}))
	t.Cleanup(s.Close)
	t.Cleanup(func() { close(release) })
	c := newCallout(t, s.URL, relay.WithCalloutTimeout(100*time.Millisecond))
	q := question{op: relay.Reserve, peer: "a", addr: "192.0.2.1"}
	for i := range 6 {
		started := time.Now()
		if got := answerOf(q.ask(c, started)); got != "callout-failed" {
			t.Error(got)
		}
		if took := time.Since(started); i < 3 && took < 90*time.Millisecond || took > 2*time.Second {
			t.Errorf("%d: %v", i, took)
		}
	}
	started := time.Now()
	asked := 0
	for ; asked < 1000 && time.Since(started) < 2*time.Second; asked++ {
		q.ask(c, started)
	}
	if asked < 1000 {
		t.Errorf("%d in 2 s while it is down", asked)
	}
}

// The server gets as many requests at once as it may, and the others their turn.
func TestCalloutConcurrency(t *testing.T) {
	var now, most atomic.Int32
	gate := make(chan struct{})
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		n := now.Add(1)
		defer now.Add(-1)
		for old := most.Load(); n > old && !most.CompareAndSwap(old, n); old = most.Load() {
		}
		<-gate
		_, _ = io.WriteString(w, `{"allow": true}`)
	}))
	t.Cleanup(s.Close)
	c := newCallout(t, s.URL, relay.WithCalloutConcurrency(3), relay.WithCalloutTimeout(8*time.Second))
	var wg sync.WaitGroup
	for i := range 12 {
		q := question{op: relay.Reserve, peer: string(rune('a' + i)), addr: "192.0.2.1"}
		wg.Go(func() {
			if got := answerOf(q.ask(c, time.Now())); got != "ok" {
				t.Error(got)
			}
		})
	}
	waitFor(t, func() bool { return now.Load() == 3 })
	close(gate)
	wg.Wait()
	if most.Load() != 3 {
		t.Errorf("%d at once", most.Load())
	}
}

// What was answered counts for a while, and for the same question only.
func TestCalloutCache(t *testing.T) {
	url, asked := answering(t, 200, `{"allow": false}`)
	c := newCallout(t, url, relay.WithCalloutCache(time.Minute))
	q, now := question{op: relay.Reserve, peer: "a", addr: "192.0.2.1"}, time.Now()
	other, elsewhere, op := q, q, q
	other.peer, elsewhere.addr, op.op = "b", "192.0.2.2", relay.ConnectFrom
	for i, c2 := range []struct {
		q     question
		after time.Duration
		want  int32
	}{{q, 0, 1}, {q, 59 * time.Second, 1}, {other, 0, 2}, {elsewhere, 0, 3}, {op, 0, 4}, {q, 62 * time.Second, 5}} {
		if c2.q.ask(c, now.Add(c2.after)); asked.Load() != c2.want {
			t.Errorf("%d: asked %d times, want %d", i, asked.Load(), c2.want)
		}
	}
	never := newCallout(t, url, relay.WithCalloutCache(0))
	asked.Store(0)
	for range 3 {
		q.ask(never, now)
	}
	if asked.Load() != 3 {
		t.Errorf("without a cache it asks %d times", asked.Load())
	}
}

// After a pause the server is tried again, also if the relay itself has ended requests.
func TestCalloutRecovers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c, err := relay.NewCallout("http://192.0.2.1/", relay.WithCalloutCache(0))
		if err != nil {
			t.Fatal(err)
		}
		var asked int
		answer := `{"allow": true}`
		relay.CalloutTransport(c, roundTrip(func(*http.Request) (*http.Response, error) {
			asked++
			if answer == "" {
				return nil, errors.New("it is down")
			}
			return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(answer))}, nil
		}))
		q := question{op: relay.Reserve, peer: "a", addr: "192.0.2.1"}
		ask := func(n int) (last string) {
			for range n {
				last = answerOf(q.ask(c, time.Now()))
			}
			return last
		}
		answer = ""
		if ask(100); asked != 3 {
			t.Errorf("asked %d times", asked)
		}
		answer = `{"allow": true}`
		if got := ask(1); got != "callout-failed" {
			t.Error(got)
		}
		<-time.After(2 * time.Second)
		if got := ask(1); got != "ok" || asked != 4 {
			t.Errorf("%s, asked %d times", got, asked)
		}
		answer = ""
		if got := ask(1); got != "callout-failed" {
			t.Error(got)
		}
		answer = `{"allow": true}` // one failure alone is none
		if got := ask(1); got != "ok" {
			t.Error(got)
		}
	})
}

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func TestBadCallouts(t *testing.T) {
	for url, want := range map[string]string{
		"":                        "https://",
		"ftp://a/":                "ftp://a/",
		"http://":                 "callout to http:",
		"auth.example/relay":      "https://",
		"gopher://u:secret@host/": "gopher://u:xxxxx@host/",
		"http://a b/%zz:secret":   "malformed URL",
	} {
		if _, err := relay.NewCallout(url); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: %v, want %s in it", url, err, want)
		}
	}
	for want, opt := range map[string]relay.CalloutOption{
		"Timeout(9s)":     relay.WithCalloutTimeout(9 * time.Second),
		"Timeout(1ms)":    relay.WithCalloutTimeout(time.Millisecond),
		"Concurrency(0)":  relay.WithCalloutConcurrency(0),
		"Cache(-1s)":      relay.WithCalloutCache(-time.Second),
		"Concurrency(-1)": relay.WithCalloutConcurrency(-1),
	} {
		if _, err := relay.NewCallout("http://a/", opt); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want %s in it", err, want)
		}
	}
}

func FuzzCalloutAnswer(f *testing.F) {
	f.Add(`{"allow": true, "data": 77, "rate": 5, "ttl": 60, "duration": 1.5, "until": "2100-01-01T00:00:00Z"}`)
	f.Add(`{"allow": false, "reason": "rate"}`)
	f.Fuzz(func(t *testing.T, body string) {
		c, err := relay.NewCallout("http://192.0.2.1/", relay.WithCalloutCache(0))
		if err != nil {
			t.Fatal(err)
		}
		relay.CalloutTransport(c, roundTrip(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: http.StatusOK, Body: io.NopCloser(strings.NewReader(body))}, nil
		}))
		d := c.Decide(context.Background(), &relay.Request{Op: relay.Reserve, Peer: peer.ID("a"), Time: time.Now()})
		if terms := d.Terms(); terms.TTL < 0 || terms.Duration < 0 || terms.Data < 0 || terms.Rate < 0 {
			t.Errorf("%+v", terms)
		}
	})
}
