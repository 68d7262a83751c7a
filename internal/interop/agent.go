package interop

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Agent is a running js/agent.ts, which has one browser or is Node, or a gopeer.
type Agent struct {
	Kind    Kind
	Version string

	proc   *process
	stdin  io.WriteCloser
	killed bool

	mu      sync.Mutex
	lastID  int
	waiting map[int]chan answer // nil once the agent has ended
}

type request struct {
	ID         int     `json:"id"`
	Op         string  `json:"op"`
	Tab        int     `json:"tab"`
	Config     *Config `json:"config,omitempty"`
	Method     string  `json:"method,omitempty"`
	Parameters []any   `json:"parameters,omitzero"`
	URL        string  `json:"url,omitempty"`
	Expression string  `json:"expression,omitempty"`
	Selector   string  `json:"selector,omitempty"`
	Text       string  `json:"text,omitempty"`
	Path       string  `json:"path,omitempty"`
}

type answer struct {
	ID     int             `json:"id"`
	Result json.RawMessage `json:"result"`
	Error  string          `json:"error"`
}

var errAgentEnded = errors.New("the agent has ended")

// launchLimit is for a cold Firefox on a busy two-core machine, which took 9 s.
const launchLimit = 60 * time.Second

// StartAgent starts a browser with an empty profile, a Node or a Go process, and
// returns once it is up.
func StartAgent(t testing.TB, kind Kind) *Agent {
	t.Helper()
	return StartAgentIn(t, nil, kind)
}

// StartAgentIn is StartAgent in a network namespace of a lab, with additions to its
// environment.
func StartAgentIn(t testing.TB, place *Namespace, kind Kind, env ...string) *Agent {
	t.Helper()
	Need(t, kind)
	cmd, _ := kind.command() // Need has looked
	cmd.Env = append(os.Environ(), env...)
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stdout, output := io.Pipe()
	cmd.Stdout = output
	a := &Agent{Kind: kind, stdin: stdin, waiting: map[int]chan answer{}}
	// SIGTERM: an agent that is killed outright leaves its Firefox behind.
	if a.proc, err = startProcess(place, string(kind)+" agent", cmd, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { a.close(t) })
	go func() {
		<-a.proc.done
		_ = output.Close()
	}()
	ready := make(chan string, 1)
	go a.read(stdout, ready)
	select {
	case a.Version = <-ready:
	case <-a.proc.done:
		t.Fatalf("%s did not start: %v\n%s", kind, a.proc.err, a.proc.log)
	case <-time.After(launchLimit):
		t.Fatalf("%s is not up after %v\n%s", kind, launchLimit, a.proc.log)
	}
	return a
}

// read hands each answer to the call that waits for it until the agent ends.
func (a *Agent) read(stdout io.Reader, ready chan<- string) {
	lines := bufio.NewReader(stdout)
	for {
		line, err := lines.ReadBytes('\n')
		if err != nil {
			a.mu.Lock()
			waiting := a.waiting
			a.waiting = nil
			a.mu.Unlock()
			for _, c := range waiting {
				close(c)
			}
			return
		}
		var message struct {
			answer
			Ready   bool   `json:"ready"`
			Version string `json:"version"`
		}
		if err := json.Unmarshal(line, &message); err != nil {
			_, _ = a.proc.log.Write(append([]byte("not an answer: "), line...))
			continue
		}
		if message.Ready {
			ready <- message.Version
			continue
		}
		a.mu.Lock()
		c := a.waiting[message.ID]
		delete(a.waiting, message.ID)
		a.mu.Unlock()
		if c != nil {
			c <- message.answer
		}
	}
}

// call sends a request and decodes the answer into result, unless that is nil.
func (a *Agent) call(ctx context.Context, r request, result any) error {
	c := make(chan answer, 1)
	if err := a.send(r, c); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return fmt.Errorf("%s %s %s: %w", a.Kind, r.Op, r.Method, context.Cause(ctx))
	case got, ok := <-c:
		switch {
		case !ok:
			return errAgentEnded
		case got.Error != "":
			return fmt.Errorf("%s %s %s: %w", a.Kind, r.Op, r.Method, PeerError(got.Error))
		case result == nil:
			return nil
		default:
			return json.Unmarshal(got.Result, result)
		}
	}
}

// send registers the call and writes the request; requests are small and the
// agent reads all the time, so the write does not block for long.
func (a *Agent) send(r request, c chan answer) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.waiting == nil {
		return errAgentEnded
	}
	a.lastID++
	r.ID = a.lastID
	line, err := json.Marshal(r)
	if err != nil {
		return err
	}
	a.waiting[r.ID] = c
	if _, err := a.stdin.Write(append(line, '\n')); err != nil {
		delete(a.waiting, r.ID)
		return fmt.Errorf("%w: %w", errAgentEnded, err)
	}
	return nil
}

// Kill ends the agent with its browser as a crash would, and returns when they are gone.
func (a *Agent) Kill() {
	a.killed = true
	a.proc.killTree()
}

// close lets the agent end its browser, which takes Firefox a second or two.
func (a *Agent) close(t testing.TB) {
	_ = a.stdin.Close()
	if err := a.proc.wait(20 * time.Second); err != nil && !a.killed {
		t.Logf("%s did not end well: %v", a.proc.name, err)
	}
	a.proc.kill()
	if t.Failed() {
		t.Logf("%s, %s, stderr:\n%s", a.proc.name, a.Version, a.proc.log)
	}
}

// PeerError is what a peer or its browser threw.
type PeerError string

func (e PeerError) Error() string { return string(e) }
