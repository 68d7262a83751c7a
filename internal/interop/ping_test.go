package interop

import (
	"context"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// TestPing: examples/ping reaches a browser tab over /webrtc.
func TestPing(t *testing.T) {
	Need(t, Chromium)
	binary, err := build(filepath.FromSlash("../../examples"), "ping", t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	relay, tab := StartRelay(t), openPeer(t, Chromium, "tab")
	startQuiet(t, tab, Config{Relays: relay.Addrs})
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	out, err := exec.CommandContext(ctx, binary, webrtcAddrs(t, tab)[0]).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "path: direct at ") || !strings.Contains(string(out), "\npinged ") {
		t.Errorf("%v\n%s", err, out)
	}
}
