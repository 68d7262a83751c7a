//go:build unix

package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"testing"
)

func TestModeIsPrivateWhateverTheUmask(t *testing.T) {
	for _, umask := range []int{0, 0o022, 0o077, 0o177, 0o277, 0o777} {
		t.Run(fmt.Sprintf("%03o", umask), func(t *testing.T) {
			path := filepath.Join(t.TempDir(), "node.key")
			old := syscall.Umask(umask)
			_, err := Load(path)
			syscall.Umask(old)
			if err != nil {
				t.Fatal(err)
			}
			info, err := os.Stat(path)
			if err != nil {
				t.Fatal(err)
			}
			if info.Mode() != 0o600 {
				t.Errorf("mode %v, want -rw-------", info.Mode())
			}
		})
	}
}

func TestReadRefusesModes(t *testing.T) {
	path := keyFile(t, ed25519File(t))
	for _, mode := range []fs.FileMode{0o644, 0o640, 0o604, 0o620, 0o602, 0o610, 0o601, 0o666, 0o777, 0o400, 0o600, 0o700} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := Load(path)
		if mode&0o077 == 0 {
			if err != nil {
				t.Errorf("mode %o: %v", mode, err)
			}
			continue
		}
		wantError(t, err, path, ErrInsecure, fmt.Sprintf("(mode 0%o)", mode), "chmod 600 "+path)
		if info, err := os.Stat(path); err != nil || info.Mode() != mode {
			t.Errorf("the mode was changed from %o to %v (%v)", mode, info.Mode(), err)
		}
	}
}

func TestReadRefusesWhatIsNoFile(t *testing.T) {
	dir := t.TempDir()
	pipe, socket, link := filepath.Join(dir, "pipe"), filepath.Join(dir, "s"), filepath.Join(dir, "link")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(pipe, link); err != nil {
		t.Fatal(err)
	}
	listener, err := net.ListenUnix("unix", &net.UnixAddr{Name: socket})
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	for path, word := range map[string]string{
		dir: "a directory", pipe: "a named pipe", link: "a named pipe", socket: "a socket", os.DevNull: "a device",
	} {
		// None of these may wait for a writer.
		_, err := Load(path)
		wantError(t, err, path, ErrNotRegular, word)
	}
}

// TestPlacesClosedToRoot needs no user of its own: even root cannot make files there.
func TestPlacesClosedToRoot(t *testing.T) {
	for _, path := range []string{"/proc/node.key", "/sys/node.key"} {
		if _, err := os.Stat(filepath.Dir(path)); err != nil {
			continue
		}
		_, err := Load(path)
		var typed *Error
		if !errors.As(err, &typed) {
			t.Fatalf("%s: got %v", path, err)
		}
		wantError(t, err, path, typed.Err, "cannot be made in "+filepath.Dir(path), "let this user write")
	}
}

// TestInsecureFileSystem is for one that shows every file as open to others and keeps it so, as FAT does. The files that
// Linux shows about a process are such.
func TestInsecureFileSystem(t *testing.T) {
	file, err := os.Open("/proc/self/status")
	if err != nil {
		t.Skip(err)
	}
	defer file.Close()
	flaw := fill(file, ed25519File(t))
	if flaw == nil {
		t.Fatal("no error")
	}
	wantError(t, flaw.at("node.key"), "node.key", ErrInsecure, "cannot be kept private in /proc/self (mode 0444)")
}

// TestFillFails has the disk refuse each step.
func TestFillFails(t *testing.T) {
	path := keyFile(t, nil)
	file, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	flaw := fill(file, ed25519File(t)) // opened for reading
	if flaw == nil {
		t.Fatal("no error for a failed write")
	}
	wantError(t, flaw.at(path), path, syscall.EBADF, "cannot be made in "+filepath.Dir(path))
	if err := file.Close(); err != nil {
		t.Fatal(err)
	}
	if flaw := fill(file, nil); flaw == nil || !errors.Is(flaw, os.ErrClosed) {
		t.Errorf("got %v for a closed file", flaw)
	}
}

func TestSyncDir(t *testing.T) {
	dir := t.TempDir()
	if err := syncDir(dir); err != nil {
		t.Error(err)
	}
	if err := syncDir(filepath.Join(dir, "gone")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v for a directory that is gone", err)
	}
}
