package main

import (
	"bytes"
	"context"
	"io"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/tangop2p/tango"
)

// output is written by run and read by the test.
type output struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.b.String()
}

// wait starts a ping that waits to be pinged, and returns its addresses.
func wait(t *testing.T, args ...string) []string {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	out, ended := &output{}, make(chan error, 1)
	go func() { ended <- run(ctx, args, out, io.Discard) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(10 * time.Second); !strings.Contains(out.String(), "waiting to be pinged"); <-tick.C {
		if time.Now().After(deadline) {
			t.Fatalf("it does not wait to be pinged:\n%s", out)
		}
	}
	return regexp.MustCompile(`(?m)^/\S+$`).FindAllString(out.String(), -1)
}

// pingOne pings the first address that contains a text.
func pingOne(t *testing.T, addrs []string, text string, args ...string) string {
	t.Helper()
	for _, a := range addrs {
		if !strings.Contains(a, text) {
			continue
		}
		var out output
		if err := run(t.Context(), append(args, a), &out, io.Discard); err != nil {
			t.Fatalf("%v\n%s", err, &out)
		}
		pinged := regexp.MustCompile(`(?m)^pinged ` + regexp.QuoteMeta(a) + ` in [0-9.]+ ms$`)
		if !pinged.MatchString(out.String()) {
			t.Fatalf("no line that tells of the ping:\n%s", &out)
		}
		return out.String()
	}
	t.Fatalf("no address with %q in %q", text, addrs)
	return ""
}

func TestPingOverTCP(t *testing.T) {
	out := pingOne(t, wait(t), "/ip4/127.0.0.1/tcp/")
	if !strings.Contains(out, "path: direct at /ip4/127.0.0.1/tcp/") {
		t.Error(out)
	}
}

// TestPingOverWebRTC is between two that nobody can dial, or the relayed
// connection would be replaced by one over TCP or QUIC just as well.
func TestPingOverWebRTC(t *testing.T) {
	relay, err := tango.New(tango.WithRelay(), tango.WithListen("/ip4/127.0.0.1/tcp/0/ws"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = relay.Close() })
	out := pingOne(t, wait(t, "-no-listen", "-relay", relay.Addrs()[0].String()), "/p2p-circuit/webrtc/", "-no-listen")
	if !strings.Contains(out, "path: direct at ") || !strings.Contains(out, "/webrtc\n") {
		t.Error(out)
	}
}

func TestBadArguments(t *testing.T) {
	for _, args := range [][]string{{"nonsense"}, {"/ip4/127.0.0.1/tcp/1"}, {"-relay", "x"}, {"-stun", "x"}, {"a", "b"}} {
		if err := run(t.Context(), args, io.Discard, io.Discard); err == nil {
			t.Errorf("%q: no error", args)
		} else {
			t.Log(err)
		}
	}
}
