package interop

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// kuboBinary is what scripts/lib.sh builds; it takes two minutes on two cores.
func kuboBinary() (string, error) {
	path, err := filepath.Abs(filepath.FromSlash("kubo/ipfs"))
	if err == nil {
		_, err = os.Stat(path)
	}
	if err != nil {
		return "", errors.New("kubo is missing: `make test` builds it (go build in internal/interop/kubo)")
	}
	return path, nil
}

// kubo is a running IPFS node that knows one relay and nobody else.
type kubo struct {
	binary, repo string
	proc         *process
}

// startKubo starts a node behind forced reachability, which has AutoRelay hold a
// reservation at the relay, and waits until it answers.
func startKubo(t testing.TB, relay string) *kubo {
	t.Helper()
	binary, err := kuboBinary()
	unavailable(t, errors.Join(err, errSandbox))
	k := &kubo{binary: binary, repo: t.TempDir()}
	if _, err := k.run(t.Context(), "init", "--empty-repo"); err != nil {
		t.Fatal(err)
	}
	for key, value := range map[string]any{
		"Bootstrap":                        []string{},
		"AutoConf.Enabled":                 false,
		"AutoTLS.Enabled":                  false,
		"DNS.Resolvers":                    map[string]string{},
		"Ipns.DelegatedPublishers":         []string{},
		"Routing":                          map[string]any{"Type": "none", "DelegatedRouters": []string{}},
		"Discovery.MDNS.Enabled":           false,
		"Addresses.Swarm":                  []string{"/ip4/127.0.0.1/tcp/0"},
		"Addresses.API":                    "/ip4/127.0.0.1/tcp/0",
		"Addresses.Gateway":                []string{},
		"Swarm.RelayClient":                map[string]any{"Enabled": true, "StaticRelays": []string{relay}},
		"Swarm.RelayService.Enabled":       false,
		"Swarm.EnableHolePunching":         false, // it shall stay relayed
		"Internal.Libp2pForceReachability": "private",
	} {
		b, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := k.run(t.Context(), "config", "--json", key, string(b)); err != nil {
			t.Fatal(err)
		}
	}
	cmd := k.command(context.Background(), "daemon")
	if k.proc, err = startProcess(nil, "kubo", cmd, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		k.proc.kill()
		if t.Failed() {
			t.Logf("kubo's log:\n%s", k.proc.log)
		}
	})
	Await(t, 60*time.Second, "kubo is up", func(context.Context) (bool, error) {
		select {
		case <-k.proc.done:
			t.Fatalf("kubo ended: %v", k.proc.err)
		default:
		}
		return strings.Contains(k.proc.log.String(), "Daemon is ready"), nil
	})
	return k
}

func (k *kubo) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, k.binary, args...)
	cmd.Env = append(os.Environ(), "IPFS_PATH="+k.repo, "IPFS_TELEMETRY=off")
	return cmd
}

// run runs one command of kubo's, at the daemon once that runs.
func (k *kubo) run(ctx context.Context, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	out, err := k.command(ctx, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("ipfs %v: %w: %s", args, err, out)
	}
	return string(out), nil
}

// about returns the node's ID and addresses.
func (k *kubo) about(ctx context.Context) (id string, addrs []string, err error) {
	out, err := k.run(ctx, "id")
	if err != nil {
		return "", nil, err
	}
	var said struct {
		ID        string
		Addresses []string
	}
	err = json.Unmarshal([]byte(out), &said)
	return said.ID, said.Addresses, err
}
