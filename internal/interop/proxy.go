package interop

import (
	"context"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

// proxyAddress is the reverse proxy's own in a Lab's public network: where it
// listens, and from where it connects to the relay.
const proxyAddress = "203.0.113.11"

// StartNginx starts Debian's nginx in a lab's public network, with what is to
// stand in its http block, and waits until it listens on the port.
func StartNginx(t testing.TB, place *Namespace, port, config string) {
	t.Helper()
	dir := t.TempDir()
	startProxy(t, place, "nginx", dir, port, strings.NewReplacer("DIR", dir, "CONFIG", config).Replace(`
		daemon off;
		user root; # the test's directory is its own
		worker_processes 1;
		pid DIR/nginx.pid;
		error_log stderr warn;
		events { worker_connections 4096; }
		http {
			access_log off;
			client_body_temp_path DIR/body; proxy_temp_path DIR/proxy;
			fastcgi_temp_path DIR/fastcgi; uwsgi_temp_path DIR/uwsgi; scgi_temp_path DIR/scgi;
			map $http_upgrade $upgrade { default upgrade; '' close; }
			CONFIG
		}`), "-c")
}

// StartHAProxy starts Debian's HAProxy, with sections of its configuration.
func StartHAProxy(t testing.TB, place *Namespace, port, config string) {
	t.Helper()
	startProxy(t, place, "haproxy", t.TempDir(), port, `
		defaults
			timeout connect 5s
			timeout client 1h
			timeout server 1h
		`+config+"\n", "-db", "-f")
}

// startProxy starts a proxy whose last argument is its configuration.
func startProxy(t testing.TB, place *Namespace, name, dir, port, config string, args ...string) {
	t.Helper()
	binary, err := findServer(name)
	unavailable(t, err)
	file := filepath.Join(dir, "proxy.conf")
	if err := os.WriteFile(file, []byte(config), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := startProcess(place, name, exec.Command(binary, append(args, file)...), syscall.SIGTERM)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = p.terminate(10 * time.Second) // HAProxy says so with its status
		if t.Failed() {
			t.Logf("%s's log:\n%s", name, p.log)
		}
	})
	Await(t, 10*time.Second, name+" listens", func(ctx context.Context) (bool, error) {
		select {
		case <-p.done:
			t.Fatalf("%s ended: %v\n%s", name, p.err, p.log)
		default:
		}
		c, err := place.Dial(ctx, "tcp4", net.JoinHostPort(proxyAddress, port))
		if err != nil {
			return false, err
		}
		return true, c.Close()
	})
}

// findServer looks where Debian puts servers too, which may not be in PATH.
func findServer(name string) (string, error) {
	for _, candidate := range []string{name, "/usr/sbin/" + name} {
		if path, err := exec.LookPath(candidate); err == nil {
			return path, nil
		}
	}
	return "", errors.New(name + " is missing: `make test` installs it (apt-get install " + name + ")")
}
