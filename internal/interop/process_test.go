package interop

import (
	"os"
	"os/exec"
	"runtime"
	"syscall"
	"testing"
	"time"
)

// TestProcessOutlivesThread: a thread ends with the namespace that it is in, and may
// have been a test's before, which started processes of the sandbox on it.
func TestProcessOutlivesThread(t *testing.T) {
	unavailable(t, errSandbox)
	var p *process
	var err error
	onLastThread(func() { p, err = startProcess(nil, "sleep", exec.Command("sleep", "60"), syscall.SIGKILL) })
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.kill)
	select {
	case <-p.done:
		t.Errorf("the process has ended with the thread: %v", p.err)
	case <-time.After(time.Second): // it took some milliseconds
	}
}

// onLastThread runs f on a thread that ends then.
func onLastThread(f func()) {
	done := make(chan struct{})
	go func() {
		defer close(done)
		runtime.LockOSThread()
		if syscall.Gettid() == os.Getpid() { // Go keeps the first thread
			onLastThread(f)
			runtime.UnlockOSThread()
			return
		}
		f()
	}()
	<-done
}
