package interop

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"testing"
)

// Kind is what a peer is made of: js-libp2p in a browser or in Node, or Go.
type Kind string

// The kinds of peers.
const (
	Chromium Kind = "chromium"
	Firefox  Kind = "firefox"
	Node     Kind = "node"
	Go       Kind = "go"
)

// Need ends the test, with the reason, unless peers of these kinds can run here. In
// CI nothing may be missing and the test fails; elsewhere it is skipped.
func Need(t testing.TB, kinds ...Kind) {
	t.Helper()
	problems := []error{errSandbox}
	for _, kind := range kinds {
		_, err := kind.command()
		problems = append(problems, err)
	}
	unavailable(t, errors.Join(problems...))
}

func unavailable(t testing.TB, err error) {
	t.Helper()
	switch {
	case err == nil:
	case os.Getenv("CI") == "true":
		t.Fatal(err)
	default:
		t.Skip(err)
	}
}

func nodeBinary() (string, error) {
	// What Go calls amd64 npm calls x64.
	arch := map[string]string{"amd64": "x64", "arm64": "arm64"}[runtime.GOARCH]
	path := filepath.Join("js/node_modules", "node-linux-"+arch, "bin/node")
	if _, err := os.Stat(path); err != nil {
		return "", errors.New("the npm packages of internal/interop/js are missing: `make test` installs them (npm ci)")
	}
	return path, nil
}

// command starts the agent of a peer of this kind.
func (k Kind) command() (*exec.Cmd, error) {
	if k == Go {
		return exec.Command(os.Getenv(goPeerEnv)), nil // Main has built it
	}
	node, err := nodeBinary()
	if err != nil {
		return nil, err
	}
	executable, err := k.executable()
	if err != nil {
		return nil, err
	}
	return exec.Command(node, filepath.FromSlash("js/agent.ts"), string(k), executable), nil
}

// executable returns the browser to run; empty for Node.
func (k Kind) executable() (string, error) {
	switch k {
	case Chromium:
		return findBrowser("TANGO_CHROMIUM", "chromium", "chromium-browser", "google-chrome")
	case Firefox:
		return findBrowser("TANGO_FIREFOX", "firefox-esr", "firefox")
	default:
		return "", nil
	}
}

func findBrowser(variable string, names ...string) (string, error) {
	if path := os.Getenv(variable); path != "" {
		return path, nil
	}
	for _, name := range names {
		if path, err := exec.LookPath(name); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("%s is missing: `make test` installs it (apt-get install %[1]s)", names[0])
}
