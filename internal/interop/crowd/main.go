package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

// atOnce is how many peers are busy at a time.
const atOnce = 64

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "crowd:", err)
		os.Exit(1)
	}
}

type request struct {
	Op   string  `json:"op"`
	N    int     `json:"n"`
	Size int64   `json:"size"`
	Kind string  `json:"kind"`
	Peer peer.ID `json:"peer"`
}

type answer struct {
	Seconds float64        `json:"seconds"`
	Failed  map[string]int `json:"failed,omitempty"`
	Done    map[string]int `json:"done,omitempty"`
	Took    []float64      `json:"took,omitempty"` // ms, of each signaling that succeeded
}

func run(args []string) error {
	if len(args) == 0 {
		return errors.New("no relay: give its WebSocket multiaddrs with /p2p/")
	}
	c := &crowd{tally: newTally()}
	for _, arg := range args {
		relay, err := peer.AddrInfoFromString(arg)
		if err != nil {
			return fmt.Errorf("relay %q: %w; give a WebSocket multiaddr with /p2p/", arg, err)
		}
		c.relays = append(c.relays, relay)
	}
	var files syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return err
	}
	files.Cur = files.Max
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &files); err != nil {
		return err
	}
	lines, out := bufio.NewScanner(os.Stdin), json.NewEncoder(os.Stdout)
	for lines.Scan() {
		var r request
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return fmt.Errorf("%w in %q", err, lines.Text())
		}
		a, err := c.do(context.Background(), r)
		if err != nil {
			return err
		}
		if err := out.Encode(a); err != nil {
			return err
		}
	}
	return lines.Err()
}

type crowd struct {
	relays []*peer.AddrInfo // the same one at several addresses
	tally  *tally

	mu    sync.Mutex
	peers []*lightPeer // guarded by mu
}

func (c *crowd) do(ctx context.Context, r request) (answer, error) {
	switch r.Op {
	case "connect":
		return timed(r.N, func(i int) error {
			p, err := connect(ctx, c.relays[i%len(c.relays)])
			if err != nil {
				return err
			}
			c.mu.Lock()
			c.peers = append(c.peers, p)
			c.mu.Unlock()
			return nil
		}), nil
	case "reserve":
		return timed(len(c.peers), func(i int) error { return c.peers[i].link.Load().reserve(ctx) }), nil
	case "circuits":
		return timed(r.N, func(i int) error { return c.send(ctx, i, 1<<10) }), nil
	case "bytes":
		return timed(r.N, func(i int) error { return c.send(ctx, i, r.Size) }), nil
	case "keep":
		c.keep(ctx)
		return answer{}, nil
	case "mark":
		c.tally.reset()
		return answer{}, nil
	case "status":
		return c.status(), nil
	case "reach":
		return timed(1, func(int) error { return c.reach(ctx, r.Peer) }), nil
	case "signal":
		return c.signal(ctx, r.N), nil
	case "flood":
		return c.flood(ctx, r.Kind, time.Duration(r.N)*time.Second)
	}
	return answer{}, fmt.Errorf("op %q is not known", r.Op)
}

// send sends so many bytes from the i-th peer to the next, and has them back.
func (c *crowd) send(ctx context.Context, i int, size int64) error {
	from, to := c.peers[i%len(c.peers)], c.peers[(i+1)%len(c.peers)]
	s, err := from.link.Load().circuit(ctx, to.id)
	if err != nil {
		return err
	}
	sent := make(chan error, 1)
	go func() { sent <- write(s, size) }()
	n, err := io.Copy(io.Discard, s)
	if err := errors.Join(err, <-sent); err != nil {
		return errors.Join(err, s.Reset())
	}
	if n != size {
		return fmt.Errorf("%d of %d bytes came back", n, size)
	}
	return nil
}

func write(s network.MuxedStream, size int64) error {
	chunk := make([]byte, 16<<10)
	for left := size; left > 0; {
		n, err := s.Write(chunk[:min(left, int64(len(chunk)))])
		if err != nil {
			return err
		}
		left -= int64(n)
	}
	return s.CloseWrite()
}

// timed runs n tasks, some at once.
func timed(n int, task func(i int) error) answer {
	a := answer{Failed: make(map[string]int)}
	var mu sync.Mutex
	var next atomic.Int64
	var wg sync.WaitGroup
	start := time.Now()
	for range min(n, atOnce) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= n {
					return
				}
				if err := task(i); err != nil {
					mu.Lock()
					a.Failed[reason(err)]++
					mu.Unlock()
				}
			}
		})
	}
	wg.Wait()
	a.Seconds = time.Since(start).Seconds()
	return a
}

func reason(err error) string {
	if r, ok := errors.AsType[refusal](err); ok {
		return r.Error()
	}
	return err.Error()
}
