// Command gopeer is a Go peer that tests drive as they drive the js-libp2p peers:
// it speaks the agent's protocol, JSON lines on stdin and stdout, and has one
// peer. It is a process of its own so that it can live in another network
// namespace, and be killed.
package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"runtime"
	"sync"
	"syscall"

	"github.com/tangop2p/tango/internal/interop"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "gopeer:", err)
		os.Exit(1)
	}
}

type request struct {
	ID         int               `json:"id"`
	Op         string            `json:"op"`
	Config     interop.Config    `json:"config"`
	Method     string            `json:"method"`
	Parameters []json.RawMessage `json:"parameters"`
}

type answer struct {
	ID     int    `json:"id"`
	Result any    `json:"result"`
	Error  string `json:"error,omitempty"`
}

// agent answers requests, each in a goroutine of its own.
type agent struct {
	peer *gopeer

	mu  sync.Mutex
	out *json.Encoder // guarded by mu
}

// run answers until stdin ends, or ctx.
func run(ctx context.Context) (err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	a := &agent{peer: &gopeer{}, out: json.NewEncoder(os.Stdout)}
	defer func() { err = errors.Join(err, a.peer.close()) }()
	a.write(map[string]any{"ready": true, "version": "tango with " + runtime.Version()})
	requests := make(chan request)
	ended := make(chan error, 1)
	go func() { ended <- read(requests) }() // the process ends with it
	var calls sync.WaitGroup
	defer calls.Wait()
	defer cancel()
	for {
		select {
		case r := <-requests:
			calls.Go(func() { a.answer(ctx, r) })
		case err := <-ended:
			return err
		case <-ctx.Done():
			return nil
		}
	}
}

func read(requests chan<- request) error {
	lines := bufio.NewScanner(os.Stdin)
	for lines.Scan() {
		var r request
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return fmt.Errorf("%w in %q", err, lines.Text())
		}
		requests <- r
	}
	return lines.Err()
}

func (a *agent) answer(ctx context.Context, r request) {
	result, err := a.handle(ctx, r)
	if err != nil {
		a.write(answer{ID: r.ID, Error: err.Error()})
		return
	}
	a.write(answer{ID: r.ID, Result: result})
}

func (a *agent) write(v any) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.out.Encode(v); err != nil {
		fmt.Fprintln(os.Stderr, "gopeer:", err)
	}
}

func (a *agent) handle(ctx context.Context, r request) (any, error) {
	switch r.Op {
	case "open":
		return 0, nil
	case "start":
		return a.peer.start(ctx, r.Config)
	case "call":
		return a.peer.call(ctx, r.Method, r.Parameters)
	case "console":
		return []string{}, nil
	case "close":
		return nil, a.peer.close()
	default:
		return nil, fmt.Errorf("a Go peer cannot %q", r.Op)
	}
}
