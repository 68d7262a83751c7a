package interop

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"time"
)

const (
	demoDir  = "../../examples/browser"
	demoDist = demoDir + "/dist"
)

// buildDemo builds the demo page unless what is there is newer than its sources.
func buildDemo() error {
	built, err := os.Stat(filepath.Join(demoDist, "app.js"))
	if err == nil && !newerThan(filepath.Join(demoDir, "src"), built.ModTime()) {
		return nil
	}
	steps := [][]string{{"run", "build"}}
	if _, err := os.Stat(filepath.Join(demoDir, "node_modules")); err != nil {
		steps = [][]string{{"ci"}, {"run", "build"}}
	}
	for _, step := range steps {
		cmd := exec.Command("npm", step...)
		cmd.Dir = demoDir
		if out, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("npm %v in examples/browser: %w\n%s", step, err, out)
		}
	}
	return nil
}

func newerThan(dir string, than time.Time) bool {
	newer := false
	_ = filepath.WalkDir(dir, func(_ string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if info, err := d.Info(); err == nil && info.ModTime().After(than) {
			newer = true
		}
		return nil
	})
	return newer
}

func demoMissing() error {
	if _, err := os.Stat(filepath.Join(demoDist, "index.html")); err != nil {
		return errors.New("the demo page is not built: `make page` builds it (npm ci && npm run build in examples/browser)")
	}
	return nil
}
