package interop

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// Relay is a running relay binary, a child process.
type Relay struct {
	ID    string
	URL   string   // http://127.0.0.1:PORT
	Addrs []string // WebSocket multiaddrs with /p2p/ID
	trace string
	proc  *process
}

// relayBinary builds examples/relay, or returns the binary that the environment names.
func relayBinary(dir string) (string, error) {
	if path := os.Getenv(relayEnv); path != "" {
		return path, nil
	}
	return build(filepath.FromSlash("../../examples"), "relay", dir)
}

// build compiles a command of a module into dir.
func build(module, name, dir string) (string, error) {
	path := filepath.Join(dir, name)
	cmd := exec.Command("go", "build", "-o", path, "./"+name)
	cmd.Dir = module
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build %s in %s: %w\n%s", name, module, err, out)
	}
	return path, nil
}

// StartRelay starts the relay on loopback, with the given flags besides -listen,
// -identity and -trace, and waits until it says that it is alive.
func StartRelay(t testing.TB, args ...string) *Relay {
	t.Helper()
	return startRelay(t, os.Getenv(relayEnv), args...)
}

// StartStockRelay starts the relay of ./stockrelay, made of go-libp2p alone.
func StartStockRelay(t testing.TB, args ...string) *Relay {
	t.Helper()
	binary, err := build(".", "stockrelay", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return startRelay(t, binary, args...)
}

func startRelay(t testing.TB, binary string, args ...string) *Relay {
	t.Helper()
	unavailable(t, errSandbox)
	address := freeAddress(t)
	_, port, _ := net.SplitHostPort(address)
	dir := t.TempDir()
	r := &Relay{URL: "http://" + address, trace: filepath.Join(dir, "trace.json")}
	args = append([]string{
		"-listen", "/ip4/127.0.0.1/tcp/" + port + "/ws",
		"-identity", filepath.Join(dir, "identity.key"),
		"-trace", r.trace,
	}, args...)
	var err error
	r.proc, err = startProcess("relay", exec.Command(binary, args...), syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.stop(t) })
	Await(t, 15*time.Second, "the relay answers /livez", func(ctx context.Context) (bool, error) {
		select {
		case <-r.proc.done:
			t.Fatalf("the relay ended: %v", r.proc.err)
		default:
		}
		return r.describe(ctx)
	})
	return r
}

// freeAddress is free for sure: nobody else lives in this namespace.
func freeAddress(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	return l.Addr().String()
}

func (r *Relay) describe(ctx context.Context) (bool, error) {
	if err := getJSON(ctx, r.URL+"/livez", nil); err != nil {
		return false, err
	}
	var info struct {
		ID    string   `json:"id"`
		Addrs []string `json:"addrs"`
	}
	if err := getJSON(ctx, r.URL+"/relay.json", &info); err != nil {
		return false, err
	}
	r.ID = info.ID
	r.Addrs = nil
	for _, addr := range info.Addrs {
		if !strings.Contains(addr, "/p2p/") {
			addr += "/p2p/" + info.ID
		}
		if strings.Contains(addr, "/ws/") {
			r.Addrs = append(r.Addrs, addr)
		}
	}
	if len(r.Addrs) == 0 {
		return false, fmt.Errorf("/relay.json names no WebSocket address: %v", info.Addrs)
	}
	return true, nil
}

func getJSON(ctx context.Context, url string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", url, response.Status)
	}
	if into == nil {
		return nil
	}
	return json.NewDecoder(response.Body).Decode(into)
}

// Kill ends the relay as a crash or a power cut would, and returns when it is gone.
func (r *Relay) Kill() {
	r.proc.kill()
}

func (r *Relay) stop(t testing.TB) {
	select {
	case <-r.proc.done: // by Kill
	default:
		if err := r.proc.terminate(10 * time.Second); err != nil {
			t.Errorf("the relay does not end cleanly on SIGTERM: %v", err)
		}
	}
	if t.Failed() {
		t.Logf("relay's log:\n%s", r.proc.log)
	}
}
