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
	URL   string   // http://ADDRESS:PORT
	Addrs []string // WebSocket multiaddrs with /p2p/ID
	trace string
	place *Namespace
	proc  *process
	cmd   []string // as it was started
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
	unavailable(t, errSandbox)
	return startRelay(t, nil, freeAddress(t), os.Getenv(relayEnv), args...)
}

// StartRelayIn is StartRelay in a network namespace of a lab, on the IPv4 address and port.
func StartRelayIn(t testing.TB, place *Namespace, address string, args ...string) *Relay {
	t.Helper()
	return startRelay(t, place, address, os.Getenv(relayEnv), args...)
}

// StartStockRelay starts the relay of ./stockrelay, made of go-libp2p alone.
func StartStockRelay(t testing.TB, args ...string) *Relay {
	t.Helper()
	unavailable(t, errSandbox)
	binary, err := build(".", "stockrelay", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	return startRelay(t, nil, freeAddress(t), binary, args...)
}

func startRelay(t testing.TB, place *Namespace, address, binary string, args ...string) *Relay {
	t.Helper()
	ip, port, _ := net.SplitHostPort(address)
	dir := t.TempDir()
	r := &Relay{URL: "http://" + address, trace: filepath.Join(dir, "trace.json"), place: place}
	args = append([]string{
		"-listen", "/ip4/" + ip + "/tcp/" + port + "/ws",
		"-identity", filepath.Join(dir, "identity.key"),
		"-trace", r.trace,
	}, args...)
	r.cmd = append([]string{binary}, args...)
	r.run(t)
	t.Cleanup(func() { r.stop(t) })
	return r
}

// run starts the process and waits until it answers.
func (r *Relay) run(t testing.TB) {
	t.Helper()
	var err error
	if r.proc, err = startProcess(r.place, "relay", exec.Command(r.cmd[0], r.cmd[1:]...), syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	Await(t, 15*time.Second, "the relay answers /livez", func(ctx context.Context) (bool, error) {
		select {
		case <-r.proc.done:
			t.Fatalf("the relay ended: %v", r.proc.err)
		default:
		}
		return r.describe(ctx)
	})
}

// Restart starts the relay again after its end, with the same key and port.
func (r *Relay) Restart(t testing.TB) {
	t.Helper()
	<-r.proc.done
	r.run(t)
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
	if err := r.getJSON(ctx, "/livez", nil); err != nil {
		return false, err
	}
	var info struct {
		ID    string   `json:"id"`
		Addrs []string `json:"addrs"`
	}
	if err := r.getJSON(ctx, "/relay.json", &info); err != nil {
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

func (r *Relay) getJSON(ctx context.Context, path string, into any) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, r.URL+path, nil)
	if err != nil {
		return err
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true, DialContext: r.place.Dial}}
	response, err := client.Do(request)
	if err != nil {
		return err
	}
	defer func() { _ = response.Body.Close() }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%s answers %s", path, response.Status)
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

// Terminate drains the relay, and returns when it is gone.
func (r *Relay) Terminate() error { return r.proc.terminate(30 * time.Second) }

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
