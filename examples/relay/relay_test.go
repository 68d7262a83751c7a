package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/client"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/tangop2p/tango/relay"
)

// TestMain turns the test binary into the relay when asked to.
func TestMain(m *testing.M) {
	if os.Getenv("BE_THE_RELAY") != "" {
		main()
		return
	}
	os.Exit(m.Run())
}

func TestSettings(t *testing.T) {
	t.Setenv("TANGO_TOPIC", "from env")
	t.Setenv("TANGO_PRESET", "data")
	s, err := parseSettings([]string{"-listen", "127.0.0.1:4001,/ip6/::1/tcp/9/ws", "-preset", "signaling", "-forward", "a, b"}, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.listen) != 6 || s.listen[1] != "/ip4/127.0.0.1/tcp/4001/ws" || s.listen[5] != "/ip6/::1/tcp/9/ws" {
		t.Errorf("listen %q", s.listen)
	}
	if !slices.Equal(s.topics, []string{"from", "env"}) {
		t.Errorf("topics %q, want those of the environment", s.topics)
	}
	if s.limits != relay.SignalingOnly() {
		t.Errorf("limits %+v: the flag does not win over the environment", s.limits)
	}
	if !slices.Equal(s.forward, []string{"a", "b"}) {
		t.Errorf("forward %q", s.forward)
	}
}

func TestSettingsRefuse(t *testing.T) {
	for _, args := range [][]string{
		{"-listen", "4001"},
		{"-listen", "localhost:4001"},
		{"-listen", "1.2.3.4:70000"},
		{"-listen", ","},
		{"-preset", "huge"},
		{"-max-reservations", "-5"},
		{"-max-data", "3"},
		{"-allow", "/nowhere/allowed"},
		{"-web", "/nowhere"},
		{"-key", "/nowhere/key.pem", "-cert", "/nowhere/cert.pem"},
		{"-key", "-cert"},
		{"-trusted-proxies", "oops"},
		{"-proxy-protocol"},
		{"-no-such-flag"},
		{"word"},
	} {
		value := strings.TrimSuffix(args[len(args)-1], ",")
		if _, err := parseSettings(args, io.Discard); err == nil || !strings.Contains(err.Error(), value) {
			t.Errorf("%q: %v, want an error that names the value", args, err)
		}
	}
}

func TestHelp(t *testing.T) {
	var help bytes.Buffer
	if _, err := parseSettings([]string{"-help"}, &help); !errors.Is(err, flag.ErrHelp) {
		t.Errorf("-help: %v", err)
	}
	for _, word := range []string{"TANGO_LISTEN", "-identity", "/relay.json", "Examples:"} {
		if !strings.Contains(help.String(), word) {
			t.Errorf("help does not mention %s", word)
		}
	}
}

// A bad value leaves no key file behind.
func TestNothingStartsOnBadValues(t *testing.T) {
	for flag, value := range map[string]string{
		"-announce":     "relay.example",
		"-saved-table":  "/nowhere/table",
		"-alternatives": "/ip4/192.0.2.1/tcp/1",
	} {
		key := filepath.Join(t.TempDir(), "relay.key")
		err := run([]string{"-identity", key, flag, value}, io.Discard, io.Discard)
		if err == nil || !strings.Contains(err.Error(), value) {
			t.Errorf("%s %s: %v, want an error that names the value", flag, value, err)
		}
		if _, err := os.Stat(key); !os.IsNotExist(err) {
			t.Errorf("%s %s: the key file was made: %v", flag, value, err)
		}
	}
}

type process struct {
	cmd *exec.Cmd
	out *bufio.Scanner
}

func startRelay(t *testing.T, args ...string) *process {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], args...)
	cmd.Env = append(os.Environ(), "BE_THE_RELAY=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return &process{cmd, bufio.NewScanner(out)}
}

// line returns the rest of the next line that starts with prefix.
func (p *process) line(t *testing.T, prefix string) string {
	t.Helper()
	for p.out.Scan() {
		if rest, ok := strings.CutPrefix(p.out.Text(), prefix); ok {
			return rest
		}
	}
	t.Fatalf("the relay did not print %q", prefix)
	return ""
}

func (p *process) stop(t *testing.T, sig os.Signal) {
	t.Helper()
	if err := p.cmd.Process.Signal(sig); err != nil {
		t.Fatal(err)
	}
	p.wait(t)
}

// wait waits for the end of a process that was told to stop.
func (p *process) wait(t *testing.T) {
	t.Helper()
	for p.out.Scan() { // to its end, so that Wait sees all output read
	}
	if err := p.cmd.Wait(); err != nil {
		t.Error(err)
	}
}

func get(t *testing.T, url string) (status int, body string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(b)
}

func TestRelayProcess(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "index.html"), []byte("the page"), 0o600); err != nil {
		t.Fatal(err)
	}
	args := []string{
		"-listen", "127.0.0.1:0", "-identity", filepath.Join(dir, "relay.key"),
		"-topic", "app", "-forward", "chat", "-trace", filepath.Join(dir, "trace"), "-web", dir,
	}
	first := startRelay(t, args...)
	id, _, _ := strings.Cut(first.line(t, "relay "), ",")
	page := first.line(t, "page: ")

	if status, body := get(t, page); status != http.StatusOK || body != "the page" {
		t.Errorf("GET /: %d %q", status, body)
	}
	if status, body := get(t, page+"livez"); status != http.StatusOK || body != "ok\n" {
		t.Errorf("GET /livez: %d %q", status, body)
	}
	var i info
	if _, body := get(t, page+"relay.json"); json.Unmarshal([]byte(body), &i) != nil {
		t.Errorf("GET /relay.json: %q", body)
	}
	if i.ID != id || len(i.Addrs) != 3 || !slices.Equal(i.Topics, []string{"app"}) || !slices.Equal(i.Forward, []string{"chat"}) ||
		i.Circuit != (circuit{120, 128 << 10}) {
		t.Errorf("relay.json: %+v", i)
	}
	first.stop(t, syscall.SIGTERM)

	second := startRelay(t, args...)
	if again, _, _ := strings.Cut(second.line(t, "relay "), ","); again != id {
		t.Errorf("after a restart the relay is %s, was %s", again, id)
	}
	second.line(t, "page: ")
	second.stop(t, os.Interrupt)
}

func TestStatusPage(t *testing.T) {
	p := startRelay(t, "-listen", "/ip4/127.0.0.1/tcp/0/ws", "-identity", filepath.Join(t.TempDir(), "k"), "-stun", "127.0.0.1:0")
	id, _, _ := strings.Cut(p.line(t, "relay "), ",")
	server := p.line(t, "STUN: ")
	page := p.line(t, "page: ")
	if status, body := get(t, page); status != http.StatusOK || !strings.Contains(body, id) {
		t.Errorf("GET /: %d %q", status, body)
	}
	var i info
	if _, body := get(t, page+"relay.json"); json.Unmarshal([]byte(body), &i) != nil ||
		!strings.HasPrefix(server, "stun:127.0.0.1:") || !slices.Equal(i.STUN, []string{server}) {
		t.Errorf("GET /relay.json: %s, want %s in it", body, server)
	}
	if status, _ := get(t, page+"other"); status != http.StatusNotFound {
		t.Errorf("GET /other: %d", status)
	}
	p.stop(t, syscall.SIGTERM)
}

func TestReload(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, "denied", "# nobody yet\n")
	p := startRuled(t, dir, "-deny", "@denied")
	defer p.stop(t, syscall.SIGTERM)
	h := newClient(t)
	if got := p.reserve(t, h); got != pbv2.Status_OK {
		t.Fatal(got)
	}
	write(t, dir, "denied", h.ID().String()+"\n")
	p.hangUp(t, "read again")
	write(t, dir, "denied", "oops\n")
	p.hangUp(t, "line 1")
	if got := p.reserve(t, h); got != pbv2.Status_PERMISSION_DENIED {
		t.Errorf("%v, want to be denied", got)
	}
}

// dial returns the first address that the relay prints.
func (p *process) dial(t *testing.T) *peer.AddrInfo {
	t.Helper()
	p.line(t, "browsers dial:")
	addr, err := peer.AddrInfoFromString(strings.TrimSpace(p.line(t, "  ")))
	if err != nil {
		t.Fatal(err)
	}
	return addr
}

// After kill -9 a peer can be called as soon as it is connected again.
func TestSavedTableSurvivesKill(t *testing.T) {
	dir := t.TempDir()
	table := filepath.Join(dir, "table")
	args := []string{"-identity", filepath.Join(dir, "k"), "-saved-table", table, "-listen"}
	first := startRelay(t, append(args, "/ip4/127.0.0.1/tcp/0/ws")...)
	addr := first.dial(t)
	callee := newClient(t)
	if _, err := client.Reserve(t.Context(), callee, *addr); err != nil {
		t.Fatal(err)
	}
	for saved := false; !saved; <-time.After(10 * time.Millisecond) {
		text, err := os.ReadFile(table)
		if err != nil {
			t.Fatal(err)
		}
		saved = bytes.Contains(text, []byte(callee.ID().String()))
	}
	if err := first.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.cmd.Wait() // it was killed

	second := startRelay(t, append(args, addr.Addrs[0].String())...)
	if again := second.dial(t); again.ID != addr.ID {
		t.Fatalf("%v is another relay", again)
	}
	caller := newClient(t)
	direct := network.WithForceDirectDial(t.Context(), "test")
	if err := errors.Join(callee.Connect(direct, *addr), caller.Connect(direct, *addr)); err != nil {
		t.Fatal(err)
	}
	circuit := addr.Addrs[0].Encapsulate(ma.StringCast("/p2p/" + addr.ID.String() + "/p2p-circuit"))
	if err := caller.Connect(t.Context(), peer.AddrInfo{ID: callee.ID(), Addrs: []ma.Multiaddr{circuit}}); err != nil {
		t.Error(err)
	}
	_ = caller.Close() // which ends the circuit that a drain would wait for
	second.stop(t, syscall.SIGTERM)
}
