package tango_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/tangop2p/tango"

// layers lists the packages from the bottom up; each may import only those
// above it in this list.
var layers = []string{"identity", "signaling", "discovery", "relay", "front", "reservation", ""}

func TestLayersPointDown(t *testing.T) {
	for i, layer := range layers {
		deps := dependencies(t, "./"+layer)
		for _, above := range layers[i+1:] {
			if dep := strings.TrimSuffix(module+"/"+above, "/"); slices.Contains(deps, dep) {
				t.Errorf("%s imports %s, which stands above it", layer, dep)
			}
		}
		// what examples, tests and benchmarks need stays out of users' builds
		for _, dep := range deps {
			if strings.HasPrefix(dep, module+"/internal/interop") || strings.HasPrefix(dep, module+"/examples") {
				t.Errorf("%s imports %s", layer, dep)
			}
		}
		// these do not build for GOOS=js, where the blocks shall run one day
		for _, dep := range []string{"github.com/libp2p/go-libp2p", "github.com/libp2p/go-libp2p/p2p/transport/webrtc"} {
			if layer != "" && slices.Contains(deps, dep) {
				t.Errorf("%s imports %s, which only package tango may", layer, dep)
			}
		}
	}
}

func dependencies(t *testing.T, pkg string) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), "go", "list", "-deps", pkg).Output()
	if err != nil {
		t.Fatalf("go list -deps %s: %v", pkg, err)
	}
	return strings.Fields(string(out))
}
