package interop

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"sync"
	"syscall"
	"testing"
	"time"
)

// crowd is a running ./crowd, which answers one request after another.
type crowd struct {
	proc *process

	mu  sync.Mutex // for all below
	in  io.Writer
	out *bufio.Scanner
}

// crowdRequest and crowdAnswer are those of crowd/main.go.
type crowdRequest struct {
	Op   string `json:"op"`
	N    int    `json:"n,omitempty"`
	Size int64  `json:"size,omitempty"`
	Kind string `json:"kind,omitempty"`
	Peer string `json:"peer,omitempty"`
}

type crowdAnswer struct {
	Seconds float64
	Failed  map[string]int
	Done    map[string]int
	Took    []float64 // ms
}

// crowdLimit bounds one request.
const crowdLimit = 10 * time.Minute

func startCrowd(t testing.TB, binary string, relays ...string) *crowd {
	t.Helper()
	return startCrowdBy(t, nil, exec.Command(binary, relays...))
}

// startCrowdBy starts a command that ends in being a crowd, in a network namespace
// unless that is nil.
func startCrowdBy(t testing.TB, place *Namespace, cmd *exec.Cmd) *crowd {
	t.Helper()
	in, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, output := io.Pipe()
	cmd.Stdout = output
	p, err := startProcess(place, "crowd", cmd, syscall.SIGKILL)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		<-p.done
		_ = output.Close()
	}()
	t.Cleanup(p.kill)
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20) // a long list of times
	return &crowd{proc: p, in: in, out: lines}
}

// do has the crowd do something.
func (c *crowd) do(ctx context.Context, r crowdRequest) (a crowdAnswer, err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, crowdLimit)
	defer cancel()
	defer context.AfterFunc(ctx, c.proc.kill)()
	if err := json.NewEncoder(c.in).Encode(r); err != nil {
		return a, err
	}
	if !c.out.Scan() {
		return a, fmt.Errorf("%s: the crowd ended: %w\n%s", r.Op, errors.Join(context.Cause(ctx), c.out.Err()), c.proc.log)
	}
	return a, json.Unmarshal(c.out.Bytes(), &a)
}

// ask is do; whatever failed fails the test.
func (c *crowd) ask(t testing.TB, r crowdRequest) crowdAnswer {
	t.Helper()
	a, err := c.do(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	if len(a.Failed) > 0 {
		t.Errorf("%s failed: %v", r.Op, a.Failed)
	}
	return a
}
