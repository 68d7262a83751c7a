package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

const (
	insideEnv  = "TANGO_INTEROP_NETNS" // set to 1 inside the namespace
	scratchEnv = "TANGO_INTEROP_SCRATCH"
	relayEnv   = "TANGO_INTEROP_RELAY"  // a relay binary to test instead of examples/relay
	goPeerEnv  = "TANGO_INTEROP_GOPEER" // the Go peer's binary, set inside
)

// errSandbox says why there is no network namespace; nil if there is one.
var errSandbox = errors.New("not run through interop.Main")

// Main runs the tests of m in a network namespace of their own and returns the
// exit code. It does so by starting the test binary a second time; the namespace
// ends with the last process in it.
func Main(m *testing.M) int {
	if os.Getenv(insideEnv) == "1" {
		errSandbox = raiseNetwork()
		return runInside(m)
	}
	code, err := runOutside()
	if errors.Is(err, errNoNamespace) {
		// Each test then says that this is why it does not run.
		errSandbox = err
		return m.Run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func runInside(m *testing.M) int {
	starter = newStarter()
	code := m.Run()
	starter.Close()
	fmt.Println(seen.summary())
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			return 1
		}
	}
	return code
}

var errNoNamespace = errors.New("cannot make a network namespace")

// runOutside prepares what needs the machine's own network, which downloads Go
// modules, then runs the tests inside.
func runOutside() (int, error) {
	scratch, err := os.MkdirTemp("", "tango-interop-")
	if err != nil {
		return 0, err
	}
	defer func() { _ = os.RemoveAll(scratch) }()
	binary, err := relayBinary(scratch)
	if err != nil {
		return 0, err
	}
	goPeer, err := build(".", "gopeer", scratch)
	if err != nil {
		return 0, err
	}
	if err := buildDemo(); err != nil {
		fmt.Fprintln(os.Stderr, err) // the tests of the page say that it is missing
	}
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	// TMPDIR: a browser that is killed leaves its profile behind; it goes with scratch.
	cmd.Env = append(os.Environ(), insideEnv+"=1", scratchEnv+"="+scratch, relayEnv+"="+binary, goPeerEnv+"="+goPeer, "TMPDIR="+scratch)
	cmd.SysProcAttr = inNewNamespace()
	return runAndSweep(cmd, scratch)
}

func inNewNamespace() *syscall.SysProcAttr {
	attr := &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET, Pdeathsig: syscall.SIGKILL}
	if os.Geteuid() != 0 {
		attr.Cloneflags |= syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
		attr.GidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}}
	}
	return attr
}

func runAndSweep(cmd *exec.Cmd, scratch string) (int, error) {
	// Pdeathsig fires when the thread that forked ends, not the process (golang/go#27505).
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := cmd.Start(); err != nil {
		return 0, fmt.Errorf("%w (%w): run as root, or let users make user namespaces", errNoNamespace, err)
	}
	namespace, err := os.Readlink(filepath.Join("/proc", strconv.Itoa(cmd.Process.Pid), "ns/net"))
	if err != nil {
		return 0, errors.Join(err, cmd.Process.Kill(), cmd.Wait())
	}
	signals := make(chan os.Signal, 8)
	signal.Notify(signals, syscall.SIGINT, syscall.SIGTERM, syscall.SIGHUP, syscall.SIGQUIT)
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s)
		}
	}()
	err = cmd.Wait()
	signal.Stop(signals)
	close(signals)
	if leftover := sweep(scratch, append(labNamespaces(scratch), namespace)); leftover > 0 {
		fmt.Fprintf(os.Stderr, "interop: killed %d processes that the tests left behind\n", leftover)
	}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return max(exit.ExitCode(), 1), nil
	}
	return 0, err
}

// sweep kills whatever of this run still runs in namespaces that it made: after a
// panic or a time-out of the tests nobody else would end the browsers. A namespace
// that has ended may have given its number to one of another run, so the name of the
// scratch directory in the environment counts too.
func sweep(scratch string, namespaces []string) int {
	if own, err := os.Readlink("/proc/self/ns/net"); err != nil || slices.Contains(namespaces, own) {
		return 0
	}
	killed := 0
	for deadline := time.Now().Add(3 * time.Second); time.Now().Before(deadline); {
		inside := processesIn(scratch, namespaces)
		if len(inside) == 0 {
			break
		}
		for _, pid := range inside {
			if syscall.Kill(pid, syscall.SIGKILL) == nil {
				killed++
			}
		}
		<-time.After(50 * time.Millisecond) // the kernel needs a moment to end them
	}
	return killed
}

func processesIn(scratch string, namespaces []string) []int {
	links, _ := filepath.Glob("/proc/[0-9]*/ns/net")
	var pids []int
	for _, link := range links {
		target, err := os.Readlink(link) // fails for zombies, which need no kill
		if err != nil || !slices.Contains(namespaces, target) {
			continue
		}
		process := filepath.Dir(filepath.Dir(link))
		environment, err := os.ReadFile(filepath.Join(process, "environ"))
		if err != nil || !bytes.Contains(environment, []byte(scratchEnv+"="+scratch+"\x00")) {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(process)); err == nil {
			pids = append(pids, pid)
		}
	}
	return pids
}

// raiseNetwork gives the namespace what browsers want before they offer WebRTC
// candidates: an interface besides loopback with an address and a default route.
// They only look the route up; nothing answers at its gateway.
func raiseNetwork() error {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	for _, args := range [][]string{
		{"link", "set", "lo", "up"},
		{"link", "add", "e0", "type", "veth", "peer", "name", "e1"},
		{"addr", "add", "10.99.0.1/24", "dev", "e0"},
		{"link", "set", "e0", "up"},
		{"link", "set", "e1", "up"},
		{"route", "add", "default", "via", "10.99.0.254", "dev", "e0"},
	} {
		if out, err := exec.CommandContext(ctx, "ip", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("`ip %s` does not work (%w: %s): run as root, with iproute2, which `make test` installs",
				strings.Join(args, " "), err, bytes.TrimSpace(out))
		}
	}
	return nil
}
