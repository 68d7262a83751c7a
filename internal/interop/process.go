package interop

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"
)

// process is a child that leads a process group of its own.
type process struct {
	name string
	cmd  *exec.Cmd
	log  *tail
	done chan struct{}
	err  error // what Wait returned; read it after done
}

// starter starts the processes of the sandbox. The thread of a test may become a
// namespace's later and end with that, and to Pdeathsig the thread is the parent.
var starter *Namespace

// startProcess starts cmd, in another network namespace unless place is nil; what it writes to stderr, and to stdout unless that is
// taken, is kept for a failing test to print. The child gets the signal orphaned if
// this process dies without ending it.
func startProcess(place *Namespace, name string, cmd *exec.Cmd, orphaned syscall.Signal) (*process, error) {
	p := &process{name: name, cmd: cmd, log: &tail{}, done: make(chan struct{})}
	cmd.Stderr = p.log
	if cmd.Stdout == nil {
		cmd.Stdout = p.log
	}
	// A grandchild that keeps stderr open must not keep Wait from returning.
	cmd.WaitDelay = 2 * time.Second
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: orphaned}
	if place == nil {
		place = starter
	}
	if err := place.Do(cmd.Start); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		p.err = cmd.Wait()
		close(p.done)
	}()
	return p, nil
}

// wait returns how the process ended, or an error once the time is over.
func (p *process) wait(limit time.Duration) error {
	select {
	case <-p.done:
		return p.err
	case <-time.After(limit):
		return fmt.Errorf("%s still runs after %v", p.name, limit)
	}
}

// kill ends the process and its group, and returns once the process is gone.
func (p *process) kill() {
	select {
	case <-p.done:
		// Its id may belong to somebody else by now; a group that it left behind
		// is ended with the namespace.
		return
	default:
	}
	_ = syscall.Kill(-p.cmd.Process.Pid, syscall.SIGKILL)
	<-p.done
}

// killTree is kill with all descendants, also those in groups of their own as
// browsers are. Stopped first, none can start another meanwhile.
func (p *process) killTree() {
	family := []int{p.cmd.Process.Pid}
	for i := 0; i < len(family); i++ {
		_ = syscall.Kill(family[i], syscall.SIGSTOP)
		family = append(family, childrenOf(family[i])...)
	}
	for _, pid := range family {
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	<-p.done
}

// childrenOf reads what /proc says of each thread (proc_pid_task_tid_children(5)).
func childrenOf(pid int) []int {
	lists, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", pid))
	var children []int
	for _, list := range lists {
		text, _ := os.ReadFile(list) // of a thread that has just ended
		for field := range strings.FieldsSeq(string(text)) {
			if child, err := strconv.Atoi(field); err == nil {
				children = append(children, child)
			}
		}
	}
	return children
}

// terminate asks the process to end; one that does not within the limit is killed.
func (p *process) terminate(limit time.Duration) error {
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("%s ended before it was asked to: %w", p.name, errors.Join(p.wait(limit), err))
	}
	err := p.wait(limit)
	p.kill()
	return err
}

// tailSize is enough for a relay's log of one test at its default level.
const tailSize = 128 << 10

// tail keeps the last tailSize bytes that were written to it.
type tail struct {
	mu  sync.Mutex
	buf []byte
}

func (t *tail) Write(b []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.buf = append(t.buf, b...)
	if extra := len(t.buf) - tailSize; extra > 0 {
		t.buf = append(t.buf[:0], t.buf[extra:]...)
	}
	return len(b), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.buf)
}
