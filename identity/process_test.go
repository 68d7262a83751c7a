//go:build unix

package identity

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// childTask is set in processes that a test started from this test binary.
const childTask = "TANGO_IDENTITY_TEST_TASK"

// nobody is the user id that owns nothing.
const nobody = 65534

func TestMain(m *testing.M) {
	switch os.Getenv(childTask) {
	case "":
		os.Exit(m.Run())
	case "nobody":
		if err := errors.Join(syscall.Setgroups(nil), syscall.Setgid(nobody), syscall.Setuid(nobody)); err != nil {
			fmt.Println("error", err)
			return
		}
	}
	serve(os.Stdin, os.Stdout)
}

// serve is the child: it loads each path that it reads and answers with the peer id, or with the error.
func serve(paths io.Reader, answers io.Writer) {
	for lines := bufio.NewScanner(paths); lines.Scan(); {
		id, err := Load(lines.Text())
		switch {
		case errors.Is(err, fs.ErrPermission):
			fmt.Fprintln(answers, "forbidden", err)
		case err != nil:
			fmt.Fprintln(answers, "error", err)
		default:
			fmt.Fprintln(answers, id)
		}
	}
}

// child is a process that loads identities.
type child struct {
	command *exec.Cmd
	ask     io.WriteCloser
	answers *bufio.Reader
}

func startChild(t *testing.T, task string) *child {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	command := exec.CommandContext(t.Context(), self)
	// Without the second variable, the race detector makes each child sleep for a second when it ends.
	command.Env = append(os.Environ(), childTask+"="+task, "GORACE=atexit_sleep_ms=0")
	command.Stderr = os.Stderr
	ask, err := command.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	answers, err := command.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := command.Start(); err != nil {
		t.Fatal(err)
	}
	return &child{command: command, ask: ask, answers: bufio.NewReader(answers)}
}

func (c *child) answer(t *testing.T) string {
	t.Helper()
	line, err := c.answers.ReadString('\n')
	if err != nil {
		t.Fatal(err)
	}
	return strings.TrimSpace(line)
}

func (c *child) stop(t *testing.T) {
	t.Helper()
	if err := errors.Join(c.ask.Close(), c.command.Wait()); err != nil {
		t.Error(err)
	}
}

func TestRaceOfProcesses(t *testing.T) {
	const processes, rounds = 12, 40
	children := make([]*child, processes)
	for i := range children {
		children[i] = startChild(t, "load")
		defer children[i].stop(t)
	}
	for round := range rounds {
		dir := t.TempDir()
		path := filepath.Join(dir, "node.key")
		for _, child := range children {
			if _, err := fmt.Fprintln(child.ask, path); err != nil {
				t.Fatal(err)
			}
		}
		peers := map[string]int{}
		for _, child := range children {
			peers[child.answer(t)]++
		}
		id, err := Read(path)
		if mustIdentity(t, id, err); peers[id.String()] != processes {
			t.Fatalf("round %d: the file is of %v, the processes got %v", round, id, peers)
		}
		if left := leftovers(t, dir); left != nil {
			t.Fatalf("left %q behind", left)
		}
	}
}

// TestKillLeavesNoHalfFile kills processes while they make key files: under its own name each is whole.
func TestKillLeavesNoHalfFile(t *testing.T) {
	dir := t.TempDir()
	const rounds, files = 10, 200
	for round := range rounds {
		child := startChild(t, "load")
		go func() {
			for i := range files {
				path := filepath.Join(dir, fmt.Sprintf("%d-%d.key", round, i))
				if _, err := fmt.Fprintln(child.ask, path); err != nil {
					return // killed, as planned
				}
			}
		}()
		for range round + 1 {
			child.answer(t)
		}
		if err := child.command.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = child.command.Wait() // says that it was killed
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	whole := 0
	for _, entry := range entries {
		if strings.Contains(entry.Name(), ".unfinished-") {
			continue
		}
		id, err := Read(filepath.Join(dir, entry.Name()))
		mustIdentity(t, id, err)
		whole++
	}
	if whole < rounds {
		t.Errorf("only %d files were made", whole)
	}
}

// TestWithoutRights runs as a user who is not root, whoever runs the tests.
func TestWithoutRights(t *testing.T) {
	task := "load"
	if os.Geteuid() == 0 {
		task = "nobody"
	}
	dir := t.TempDir()
	own := func(path string, mode fs.FileMode) {
		t.Helper()
		if task == "nobody" {
			if err := os.Chown(path, nobody, nobody); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
	}
	// The test's directory lies in one that only its owner may enter.
	for _, path := range []string{dir, filepath.Dir(dir)} {
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	closed, open, unlistable := filepath.Join(dir, "closed"), filepath.Join(dir, "open"), filepath.Join(dir, "unlistable")
	for path, mode := range map[string]fs.FileMode{closed: 0o500, open: 0o700, unlistable: 0o300} {
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Fatal(err)
		}
		own(path, mode)
	}
	unreadable := filepath.Join(open, "unreadable.key")
	if err := os.WriteFile(unreadable, ed25519File(t), 0o600); err != nil {
		t.Fatal(err)
	}
	own(unreadable, 0o200)

	child := startChild(t, task)
	defer child.stop(t)
	for _, test := range []struct{ path, want string }{
		{filepath.Join(open, "node.key"), "12D3Koo"},
		{filepath.Join(unlistable, "node.key"), "12D3Koo"},
		{unreadable, "forbidden key file " + unreadable + " may not be read by this user: "},
		{filepath.Join(closed, "node.key"), "forbidden key file " + filepath.Join(closed, "node.key") + " cannot be made in " + closed},
	} {
		if _, err := fmt.Fprintln(child.ask, test.path); err != nil {
			t.Fatal(err)
		}
		if got := child.answer(t); !strings.HasPrefix(got, test.want) {
			t.Errorf("%s: got %q, want %q…", test.path, got, test.want)
		}
	}
}
