package relay

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Defaults of the options of [Callout].
const (
	// DefaultCalloutTimeout is how long a server may take by default, with the wait for its turn.
	DefaultCalloutTimeout = 3 * time.Second
	// DefaultCalloutConcurrency is how many requests a server has at once by default.
	DefaultCalloutConcurrency = 32
	// DefaultCalloutCache is how long an answer counts by default.
	DefaultCalloutCache = 10 * time.Second
)

const (
	maxCalloutTimeout     = 8 * time.Second // decideTimeout has to be longer
	maxCalloutConcurrency = 1024
	maxCalloutCache       = time.Hour
	maxCalloutAnswer      = 16 << 10 // bytes
	maxCalloutAnswers     = 4096     // remembered
	// calloutTries is after how many failures in a row the server is left alone for calloutPause: requests do not
	// queue up for a server that is down.
	calloutTries = 3
	calloutPause = 2 * time.Second
)

// CalloutOption configures a [Callout].
type CalloutOption func(*calloutConfig) error

type calloutConfig struct {
	timeout     time.Duration
	concurrency int
	cache       time.Duration
	failOpen    bool
}

// WithCalloutTimeout sets how long the server may take to answer, 10 ms to 8 s.
// The default is [DefaultCalloutTimeout].
func WithCalloutTimeout(d time.Duration) CalloutOption {
	return func(c *calloutConfig) error {
		if d < 10*time.Millisecond || d > maxCalloutTimeout {
			return fmt.Errorf("WithCalloutTimeout(%v): use 10ms to %v", d, maxCalloutTimeout)
		}
		c.timeout = d
		return nil
	}
}

// WithCalloutConcurrency sets how many requests the server has at once, 1 to
// 1024; others wait for their turn within their timeout. The default is
// [DefaultCalloutConcurrency].
func WithCalloutConcurrency(n int) CalloutOption {
	return func(c *calloutConfig) error {
		if n < 1 || n > maxCalloutConcurrency {
			return fmt.Errorf("WithCalloutConcurrency(%d): use 1 to %d", n, maxCalloutConcurrency)
		}
		c.concurrency = n
		return nil
	}
}

// WithCalloutCache sets how long an answer counts for the same question, up to
// 1 h; 0 asks each time. 4096 answers are remembered. The default is
// [DefaultCalloutCache].
func WithCalloutCache(d time.Duration) CalloutOption {
	return func(c *calloutConfig) error {
		if d < 0 || d > maxCalloutCache {
			return fmt.Errorf("WithCalloutCache(%v): use 0s to %v", d, maxCalloutCache)
		}
		c.cache = d
		return nil
	}
}

// FailOpen makes the callout have no opinion while its server does not answer.
// The default is [FailClosed].
func FailOpen() CalloutOption { return failsOpen(true) }

// FailClosed makes the callout refuse while its server does not answer, with
// [ReasonCalloutFailed]; also those who hold a reservation, when they renew it, and
// all of them when [Relay.SetPolicy] asks again. It is the default.
func FailClosed() CalloutOption { return failsOpen(false) }

func failsOpen(open bool) CalloutOption {
	return func(c *calloutConfig) error {
		c.failOpen = open
		return nil
	}
}

// Callout is a policy that asks an HTTP server. It POSTs a [CalloutRequest] as
// JSON and expects the status 200 and a [CalloutAnswer] as JSON of at most
// 16 KiB. Redirects are not followed, and no proxy is used. After three failures
// in a row it asks again 2 s later. It is safe for concurrent use.
type Callout struct {
	calloutConfig

	url    url.URL
	client *http.Client
	turns  chan struct{}

	mu       sync.Mutex
	answers  *simplelru.LRU[calloutKey, calloutMemory] // guarded by mu, as all below
	failures int                                       // in a row
	pause    time.Time                                 // until when the server is left alone
}

var _ HostPolicy = (*Callout)(nil)

// CalloutRequest is what a server is asked.
type CalloutRequest struct {
	Op      string    `json:"op"`              // "reserve", "connect-from" or "connect-to"
	Peer    peer.ID   `json:"peer"`            // that asks, or is to be reached
	Addr    string    `json:"addr"`            // of Peer, an IP address
	Other   string    `json:"other,omitempty"` // the peer ID of the other end of a circuit
	Renewal bool      `json:"renewal"`         // Peer holds a reservation already
	Time    time.Time `json:"time"`            // RFC 3339
}

// CalloutAnswer is what a server says. Terms that are left out are the relay's,
// and all stay within its [Limits].
type CalloutAnswer struct {
	Allow bool `json:"allow"`
	// Reason is why not: "denied", "not-listed", "rate" or "capacity"; other words count as "callout".
	Reason   Reason  `json:"reason"`
	TTL      float64 `json:"ttl"`      // of a reservation, seconds
	Duration float64 `json:"duration"` // of a circuit, seconds
	Data     int64   `json:"data"`     // bytes each way of a circuit
	Rate     int64   `json:"rate"`     // bytes per second of the peer's circuits
	// Until is when a reservation has to end, RFC 3339.
	Until time.Time `json:"until,omitzero"`
}

// calloutKey is a question but for its time.
type calloutKey struct {
	op          Op
	renewal     bool
	peer, other peer.ID
	addr        string
}

// calloutMemory is an answer that counts for a while.
type calloutMemory struct {
	answer CalloutAnswer
	until  time.Time
}

// NewCallout makes a policy that asks the server at an http or https URL. A
// password in it is sent as basic authentication (RFC 7617).
func NewCallout(address string, opts ...CalloutOption) (*Callout, error) {
	c := &Callout{calloutConfig: calloutConfig{
		timeout: DefaultCalloutTimeout, concurrency: DefaultCalloutConcurrency, cache: DefaultCalloutCache,
	}}
	var errs []error
	for _, opt := range opts {
		errs = append(errs, opt(&c.calloutConfig))
	}
	if u, err := url.Parse(address); err != nil || u.Host == "" || u.Scheme != "http" && u.Scheme != "https" {
		errs = append(errs, errors.New("the URL has to be like https://auth.example/relay"))
	} else {
		c.url = *u
	}
	if err := errors.Join(errs...); err != nil {
		return nil, fmt.Errorf("relay: callout to %s: %w", redacted(address), err)
	}
	c.turns = make(chan struct{}, c.concurrency)
	c.client = &http.Client{
		Transport: &http.Transport{
			MaxConnsPerHost: c.concurrency, MaxIdleConnsPerHost: c.concurrency,
			IdleConnTimeout: time.Minute, MaxResponseHeaderBytes: maxCalloutAnswer,
			ForceAttemptHTTP2: true,
		},
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	c.answers, _ = simplelru.NewLRU[calloutKey, calloutMemory](maxCalloutAnswers, nil) // fails without a size only
	return c, nil
}

// redacted is an address without its password.
func redacted(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "a malformed URL" // which may hold a password anywhere
	}
	return u.Redacted()
}

// Start implements [HostPolicy]: what it gives back is the connections.
func (c *Callout) Start(host.Host) (stop func(), err error) {
	return c.client.CloseIdleConnections, nil
}

// Decide implements [Policy]. It waits for the server at most as long as its
// timeout.
func (c *Callout) Decide(ctx context.Context, r *Request) Decision {
	key := calloutKey{op: r.Op, renewal: r.Renewal, peer: r.Peer, other: r.Other, addr: r.Addr.String()}
	if a, ok := c.recall(key, r.Time); ok {
		return a.decision(r.Time)
	}
	a, err := c.ask(ctx, &CalloutRequest{
		Op: r.Op.String(), Peer: r.Peer, Addr: key.addr, Other: text(r.Other), Renewal: r.Renewal, Time: r.Time,
	})
	if ctx.Err() == nil { // else it is not the server's fault
		c.note(err, time.Now())
	}
	switch {
	case err == nil:
		c.remember(key, a, time.Now())
		return a.decision(r.Time)
	case c.failOpen:
		return Decision{}
	default:
		return Refuse(ReasonCalloutFailed)
	}
}

func text(p peer.ID) string {
	if p == "" {
		return ""
	}
	return p.String()
}

// recall returns an answer that still counts.
func (c *Callout) recall(key calloutKey, now time.Time) (CalloutAnswer, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	m, ok := c.answers.Get(key)
	return m.answer, ok && now.Before(m.until)
}

func (c *Callout) remember(key calloutKey, a CalloutAnswer, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.cache > 0 {
		c.answers.Add(key, calloutMemory{a, now.Add(c.cache)})
	}
}

// note counts failures in a row, and tells the operator when they begin and end.
func (c *Callout) note(err error, now time.Time) {
	if errors.Is(err, errPaused) {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if err == nil {
		if c.failures >= calloutTries {
			log.Infow("the callout works again", "url", c.url.Redacted())
		}
		c.failures = 0
		return
	}
	c.failures++
	if c.failures == calloutTries {
		log.Warnw("the callout fails: see that its server runs, and answers 200 with {\"allow\": true} or {\"allow\": false}",
			"url", c.url.Redacted(), "refuses", !c.failOpen, "error", err)
	}
	if c.failures >= calloutTries {
		c.pause = now.Add(calloutPause)
	}
}

func (c *Callout) paused(now time.Time) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return now.Before(c.pause)
}

var errPaused = errors.New("the server has failed and is left alone for a moment")

// ask asks the server when it is this request's turn.
func (c *Callout) ask(ctx context.Context, q *CalloutRequest) (CalloutAnswer, error) {
	if c.paused(time.Now()) {
		return CalloutAnswer{}, errPaused
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	select {
	case c.turns <- struct{}{}:
		defer func() { <-c.turns }()
	case <-ctx.Done():
		return CalloutAnswer{}, fmt.Errorf("%d requests are under way: %w", c.concurrency, context.Cause(ctx))
	}
	body, err := json.Marshal(q)
	if err != nil {
		return CalloutAnswer{}, err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, c.url.String(), bytes.NewReader(body))
	if err != nil {
		return CalloutAnswer{}, err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("Accept", "application/json")
	resp, err := c.client.Do(req)
	if err != nil {
		return CalloutAnswer{}, err
	}
	defer func() { _ = resp.Body.Close() }()
	return parseCallout(resp)
}

func parseCallout(resp *http.Response) (a CalloutAnswer, err error) {
	if resp.StatusCode != http.StatusOK {
		return a, fmt.Errorf("status %s, not 200 OK: a no is {\"allow\": false}", resp.Status)
	}
	text, err := io.ReadAll(io.LimitReader(resp.Body, maxCalloutAnswer+1))
	switch {
	case err != nil:
		return a, err
	case len(text) > maxCalloutAnswer:
		return a, fmt.Errorf("an answer of more than %d bytes", maxCalloutAnswer)
	}
	var got struct {
		Allow *bool `json:"allow"` // which has to be there
		CalloutAnswer
	}
	if err := json.Unmarshal(text, &got); err != nil {
		return a, fmt.Errorf("answer: %w", err)
	}
	if got.Allow == nil {
		return a, errors.New("an answer without \"allow\"")
	}
	a = got.CalloutAnswer
	a.Allow = *got.Allow
	return a, a.check()
}

// maxSeconds keeps times in a time.Duration.
const maxSeconds = 1 << 32

func (a *CalloutAnswer) check() error {
	if a.TTL < 0 || a.TTL > maxSeconds || a.Duration < 0 || a.Duration > maxSeconds || a.Data < 0 || a.Rate < 0 {
		return fmt.Errorf("terms %+v: use positive values, or leave them out", *a)
	}
	return nil
}

// decision is the answer as a decision.
func (a *CalloutAnswer) decision(now time.Time) Decision {
	if !a.Allow {
		switch a.Reason {
		case ReasonDenied, ReasonNotListed, ReasonRate, ReasonCapacity:
			return Refuse(a.Reason)
		default:
			return Refuse(ReasonCallout)
		}
	}
	if !a.Until.IsZero() && !a.Until.After(now) {
		return Refuse(ReasonCallout)
	}
	seconds := func(s float64) time.Duration { return time.Duration(s * float64(time.Second)) }
	return Allow(Terms{TTL: seconds(a.TTL), Duration: seconds(a.Duration), Data: a.Data, Rate: a.Rate}).Until(a.Until)
}
