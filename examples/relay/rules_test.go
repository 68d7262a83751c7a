package main

import (
	"bufio"
	"bytes"
	"errors"
	"flag"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"

	"github.com/tangop2p/tango/relay"
)

// ruled is a relay process with rules in files.
type ruled struct {
	*process

	dir  string
	info *peer.AddrInfo
}

// startRuled starts a relay. Arguments that begin with @ are files in dir.
func startRuled(t *testing.T, dir string, args ...string) *ruled {
	t.Helper()
	for i, arg := range args {
		if name, ok := strings.CutPrefix(arg, "@"); ok {
			args[i] = filepath.Join(dir, name)
		}
	}
	args = append([]string{"-listen", "/ip4/127.0.0.1/tcp/0/ws", "-identity", filepath.Join(dir, "k")}, args...)
	p := &ruled{process: startRelay(t, args...), dir: dir}
	p.info = p.dial(t)
	return p
}

func write(t *testing.T, dir, name, text string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// hangUp has the relay read its rules again.
func (p *ruled) hangUp(t *testing.T, want string) {
	t.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	if got := p.line(t, "rules"); !strings.Contains(got, want) {
		t.Errorf("the relay says %q, want %s in it", got, want)
	}
}

// reserve returns the relay's answer.
func (p *ruled) reserve(t *testing.T, h host.Host) pbv2.Status {
	t.Helper()
	_, err := client.Reserve(t.Context(), h, *p.info)
	refused, ok := errors.AsType[client.ReservationError](err)
	switch {
	case err == nil:
		return pbv2.Status_OK
	case ok:
		return refused.Status
	}
	t.Fatal(err)
	return 0
}

// TestHangUpAtOnce: who has read the first line that the relay prints may have it
// read its rules again.
func TestHangUpAtOnce(t *testing.T) {
	told := make(chan os.Signal, 2)
	signal.Notify(told, syscall.SIGHUP, syscall.SIGTERM) // the test outlives those that the relay does not wait for
	t.Cleanup(func() { signal.Stop(told) })
	self, err := os.FindProcess(os.Getpid())
	if err != nil {
		t.Fatal(err)
	}
	in, out := io.Pipe() // the relay goes on when its line is read
	ended := make(chan error, 1)
	go func() {
		ended <- run([]string{"-listen", "/ip4/127.0.0.1/tcp/0/ws", "-identity", filepath.Join(t.TempDir(), "k")}, out, io.Discard)
		_ = out.Close()
	}()
	end := sync.OnceFunc(func() { _ = self.Signal(syscall.SIGTERM) })
	late := time.AfterFunc(20*time.Second, end)
	p := &process{out: bufio.NewScanner(in)}
	t.Cleanup(func() {
		late.Stop()
		end()
		for p.out.Scan() { // to its end
		}
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	p.line(t, "relay ")
	if err := self.Signal(syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	<-told
	if got := p.line(t, "rules"); got != " read again" {
		t.Errorf("the relay says %q", got)
	}
}

func newToken(t *testing.T, args ...string) (token, id, issuer string) {
	t.Helper()
	var out, about bytes.Buffer
	if err := run(append([]string{"invite"}, args...), &out, &about); err != nil {
		t.Fatal(err)
	}
	words := strings.Fields(about.String())
	return strings.TrimSpace(out.String()), words[1], strings.TrimSuffix(words[len(words)-6], ",")
}

func TestInvites(t *testing.T) {
	dir := t.TempDir()
	key := filepath.Join(dir, "issuer")
	_, _, issuer := newToken(t, "-audience", "12D3KooWEcUGo9iGnUMn17qGvzhvFwApy2zBRNDoKML26ozmSmzW", "-issuer", key)
	write(t, dir, "issuers", issuer+" # us\n")
	write(t, dir, "revoked", "# none yet\n")
	write(t, dir, "allowed", "")
	p := startRuled(t, dir, "-invite-issuers", "@issuers", "-invite-revoked", "@revoked", "-allow", "@allowed")
	defer p.stop(t, syscall.SIGTERM)
	token, id, _ := newToken(t, "-audience", p.info.Addrs[0].String()+"/p2p/"+p.info.ID.String(), "-issuer", key)
	h := newClient(t)
	if err := h.Connect(t.Context(), *p.info); err != nil {
		t.Fatal(err)
	}
	if err := relay.PresentInvite(t.Context(), h, p.info.ID, token); err != nil {
		t.Fatal(err)
	}
	if got := p.reserve(t, h); got != pbv2.Status_OK {
		t.Errorf("with an invite: %v", got)
	}
	write(t, dir, "revoked", id+"\n")
	p.hangUp(t, "read again")
	if got := p.reserve(t, h); got != pbv2.Status_PERMISSION_DENIED {
		t.Errorf("with a revoked invite: %v", got)
	}
	write(t, dir, "allowed", h.ID().String())
	p.hangUp(t, "read again")
	if got := p.reserve(t, h); got != pbv2.Status_OK {
		t.Errorf("on the list: %v", got)
	}
	write(t, dir, "issuers", "somebody")
	p.hangUp(t, `"somebody"`)
}

func TestCallout(t *testing.T) {
	answer := make(chan string, 1)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, <-answer) }))
	t.Cleanup(s.Close)
	t.Setenv("TANGO_CALLOUT", s.URL)
	p := startRuled(t, t.TempDir())
	defer p.stop(t, syscall.SIGTERM)
	for text, want := range map[string]pbv2.Status{
		`{"allow": true}`:                        pbv2.Status_OK,
		`{"allow": false, "reason": "capacity"}`: pbv2.Status_RESERVATION_REFUSED,
		"oops":                                   pbv2.Status_PERMISSION_DENIED,
	} {
		answer <- text
		if got := p.reserve(t, newClient(t)); got != want {
			t.Errorf("%s: %v, want %v", text, got, want)
		}
	}
	open := startRuled(t, t.TempDir(), "-callout-fail-open")
	defer open.stop(t, syscall.SIGTERM)
	answer <- "oops"
	if got := open.reserve(t, newClient(t)); got != pbv2.Status_OK {
		t.Errorf("fail open: %v", got)
	}
}

func TestASNTable(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "asns", "127.0.0.0\t127.255.255.255\t64500\tZZ\tus\n")
	p := startRuled(t, dir, "-asn-table", "@asns", "-max-reservations-per-asn", "1")
	defer p.stop(t, syscall.SIGTERM)
	first, second := newClient(t), newClient(t)
	if got := p.reserve(t, first); got != pbv2.Status_OK {
		t.Errorf("the first: %v", got)
	}
	if got := p.reserve(t, second); got != pbv2.Status_RESERVATION_REFUSED {
		t.Errorf("the second: %v", got)
	}
	write(t, dir, "asns", "127.0.0.0/8 0\n")
	p.hangUp(t, "read again")
	if got := p.reserve(t, second); got != pbv2.Status_OK {
		t.Errorf("with another table: %v", got)
	}
}

func TestRulesRefuse(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "bad", "oops\n")
	write(t, dir, "empty", "# nobody\n")
	for _, args := range [][]string{
		{"-invite-issuers", "/nowhere/issuers"},
		{"-invite-issuers", dir + "/bad"},
		{"-invite-issuers", dir + "/empty"},
		{"-invite-revoked", dir + "/empty"},
		{"-asn-table", dir + "/bad"},
		{"-callout", "auth.example"},
		{"-max-reservations-per-asn", "-7"},
	} {
		if _, err := parseSettings(args, io.Discard); err == nil || !strings.Contains(err.Error(), args[1]) {
			t.Errorf("%q: %v, want an error that names the value", args, err)
		}
	}
	for want, args := range map[string][]string{
		`-audience ""`:  {"-issuer", dir + "/key"},
		`-subject "me"`: {"-issuer", dir + "/key", "-audience", "12D3KooWEcUGo9iGnUMn17qGvzhvFwApy2zBRNDoKML26ozmSmzW", "-subject", "me"},
		`"word"`:        {"word"},
		"help":          {"-help"},
	} {
		if err := run(append([]string{"invite"}, args...), io.Discard, io.Discard); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want %s in it", args, err, want)
		} else if errors.Is(err, flag.ErrHelp) != (want == "help") {
			t.Error(err)
		}
	}
	if _, err := os.Stat(dir + "/key"); !os.IsNotExist(err) {
		t.Errorf("a bad value leaves a key: %v", err)
	}
}
