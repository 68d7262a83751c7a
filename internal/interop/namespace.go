package interop

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
)

// Namespace is a network namespace of a lab: a thread that is in it and does what
// it is told. A nil *Namespace is the sandbox itself.
type Namespace struct {
	name string
	jobs chan func()
	done chan struct{}
	file *os.File // by which others refer to it
}

// newNamespace makes an empty one, with loopback up and without IPv6.
func newNamespace(name string) (*Namespace, error) {
	n := &Namespace{name: name, jobs: make(chan func()), done: make(chan struct{})}
	made := make(chan error)
	go n.run(made)
	if err := <-made; err != nil {
		return nil, fmt.Errorf("namespace %s: %w", name, err)
	}
	err := errors.Join(
		n.Do(func() error { return os.WriteFile("/proc/sys/net/ipv6/conf/all/disable_ipv6", []byte("1"), 0o600) }),
		n.IP("link set lo up"),
	)
	if err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// newStarter makes a thread that is in the sandbox itself, and stays there.
func newStarter() *Namespace {
	n := &Namespace{name: "sandbox", jobs: make(chan func()), done: make(chan struct{})}
	go func() {
		defer close(n.done)
		runtime.LockOSThread()
		n.work()
	}()
	return n
}

// run has a thread of its own that ends with it, as nothing would bring it back.
func (n *Namespace) run(made chan<- error) {
	defer close(n.done)
	runtime.LockOSThread()
	err := syscall.Unshare(syscall.CLONE_NEWNET)
	if err == nil {
		n.file, err = os.Open("/proc/thread-self/ns/net")
	}
	if err == nil {
		err = register("/proc/thread-self/ns/net")
	}
	made <- err
	if err != nil {
		return
	}
	n.work()
}

func (n *Namespace) work() {
	for job := range n.jobs {
		job()
	}
}

// Do runs f in the namespace: its sockets are opened, and its processes started,
// there. Processes get the signal of their Pdeathsig when the namespace is closed.
func (n *Namespace) Do(f func() error) error {
	if n == nil {
		return f()
	}
	result := make(chan error, 1)
	n.jobs <- func() { result <- f() }
	return <-result
}

// Dial is net.Dialer.DialContext in the namespace.
func (n *Namespace) Dial(ctx context.Context, network, address string) (c net.Conn, err error) {
	err = n.Do(func() error {
		c, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return c, err
}

// IP runs ip with the words of args.
func (n *Namespace) IP(args string) error { return n.command(nil, "ip", strings.Fields(args)...) }

// NFT loads a ruleset of nftables.
func (n *Namespace) NFT(rules string) error {
	return n.command(strings.NewReader(rules), "nft", "-f", "-")
}

func (n *Namespace) command(stdin io.Reader, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	var out bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = stdin, &out, &out
	if err := n.Do(cmd.Start); err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	if err := cmd.Wait(); err != nil {
		return fmt.Errorf("%s %s in namespace %s: %w: %s", name, strings.Join(args, " "), n.name, err, bytes.TrimSpace(out.Bytes()))
	}
	return nil
}

// Path names the namespace to ip as long as this process lives.
func (n *Namespace) Path() string { return fmt.Sprintf("/proc/%d/fd/%d", os.Getpid(), n.file.Fd()) }

// Close ends the thread. The namespace ends with the last process and device handle in it.
func (n *Namespace) Close() {
	close(n.jobs)
	<-n.done
	_ = n.file.Close()
}

// register notes a namespace for the process outside, which sweeps it.
func register(link string) error {
	name, err := os.Readlink(link)
	if err != nil {
		return err
	}
	f, err := os.OpenFile(registerPath(os.Getenv(scratchEnv)), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintln(f, name)
	return errors.Join(err, f.Close())
}

func registerPath(scratch string) string { return filepath.Join(scratch, "namespaces") }

// labNamespaces are those that were registered, as the links in /proc call them.
func labNamespaces(scratch string) []string {
	text, _ := os.ReadFile(registerPath(scratch)) // no lab, no file
	return strings.Fields(string(text))
}
