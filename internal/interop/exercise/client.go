package exercise

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
)

// maxFailures are enough to see what is wrong; each may take echoTimeout.
const maxFailures = 5

// Client drives the protocols at a peer. It does not dial: there must be a
// connection that no relay limits.
type Client struct {
	Host host.Host
	Peer peer.ID
}

// Streams opens count echo streams, up to concurrent at once, each with size
// bytes of its own. It opens no more after five have failed.
func (c Client) Streams(ctx context.Context, count, concurrent, size int) Outcome {
	started := time.Now()
	next := make(chan uint32)
	results := make(chan error)
	enough := make(chan struct{})
	var workers sync.WaitGroup
	for range concurrent {
		workers.Go(func() {
			for seed := range next {
				results <- c.echo(ctx, seed, size)
			}
		})
	}
	go func() {
		feed(next, uint32(count), enough)
		workers.Wait()
		close(results)
	}()
	outcome := Outcome{Errors: []string{}}
	for err := range results {
		if outcome.count(err); err != nil && outcome.Failed == maxFailures {
			close(enough)
		}
	}
	outcome.MS = since(started)
	return outcome
}

// feed hands out seeds until there are enough.
func feed(next chan<- uint32, count uint32, enough <-chan struct{}) {
	defer close(next)
	for seed := range count {
		select {
		case next <- seed + 1:
		case <-enough:
			return
		}
	}
}

func (o *Outcome) count(err error) {
	if err == nil {
		o.OK++
		return
	}
	o.Failed++
	if len(o.Errors) < maxFailures {
		o.Errors = append(o.Errors, err.Error())
	}
}

func (c Client) echo(ctx context.Context, seed uint32, size int) error {
	content := Random(seed, size)
	ctx, cancel := context.WithTimeout(ctx, echoTimeout)
	defer cancel()
	return c.with(ctx, Echo, func(s network.Stream) error {
		sent := make(chan error, 1)
		go func() {
			_, err := s.Write(content)
			sent <- errors.Join(err, s.CloseWrite())
		}()
		back, err := io.ReadAll(s)
		if err != nil {
			_ = s.Reset() // ends the Write
		}
		if err := errors.Join(err, <-sent); err != nil {
			return fmt.Errorf("stream %d: %w after %d bytes", seed, err, len(back))
		}
		if !bytes.Equal(back, content) {
			return fmt.Errorf("stream %d: sent %d bytes, other %d came back", seed, size, len(back))
		}
		return nil
	})
}

// Upload sends bytes and returns what the remote says that it received; its
// hashing is part of the time.
func (c Client) Upload(ctx context.Context, size int, seed uint32) (Transfer, error) {
	content := Random(seed, size)
	want := digest(content)
	var got Transfer
	started := time.Now()
	err := c.with(ctx, Sink, func(s network.Stream) error {
		if _, err := s.Write(content); err != nil {
			return err
		}
		if err := s.CloseWrite(); err != nil {
			return err
		}
		return json.NewDecoder(s).Decode(&got)
	})
	got.MS = since(started)
	if err == nil && (got.Bytes != int64(size) || got.SHA256 != want) {
		err = fmt.Errorf("sent %d bytes %s, the sink has %d bytes %s", size, want, got.Bytes, got.SHA256)
	}
	return got, err
}

// Download has the remote send bytes.
func (c Client) Download(ctx context.Context, size int, seed uint32) (Transfer, error) {
	want := digest(Random(seed, size))
	var content []byte
	started := time.Now()
	err := c.with(ctx, Source, func(s network.Stream) (err error) {
		if err := json.NewEncoder(s).Encode(request{Bytes: size, Seed: seed}); err != nil {
			return err
		}
		if err := s.CloseWrite(); err != nil {
			return err
		}
		content, err = io.ReadAll(s)
		return err
	})
	got := Transfer{Bytes: int64(len(content)), MS: since(started), SHA256: digest(content)}
	if err == nil && got.SHA256 != want {
		err = fmt.Errorf("wanted %d bytes %s, %d bytes %s came", size, want, got.Bytes, got.SHA256)
	}
	return got, err
}

// HalfClose sends only once the remote has closed its direction.
func (c Client) HalfClose(ctx context.Context, size int, seed uint32) (HalfClosed, error) {
	content := Random(seed, size)
	got := HalfClosed{Bytes: int64(size), SHA256: digest(content)}
	err := c.with(ctx, HalfClose, func(s network.Stream) error {
		greeting, err := io.ReadAll(s)
		got.Greeting, got.End = string(greeting), ending(err)
		if err != nil {
			return err
		}
		if _, err := s.Write(content); err != nil {
			return err
		}
		return s.CloseWrite()
	})
	return got, err
}

// ResetSeen returns how a stream ends that the remote resets.
func (c Client) ResetSeen(ctx context.Context) (string, error) {
	var end string
	err := c.with(ctx, Reset, func(s network.Stream) error {
		if _, err := s.Write([]byte{1}); err != nil {
			return err
		}
		_, err := io.ReadAll(s)
		end = ending(err)
		return nil
	})
	return end, err
}

// with runs a client on a stream of its own, and resets that if the client fails.
func (c Client) with(ctx context.Context, id protocol.ID, run func(network.Stream) error) error {
	ctx, cancel := context.WithTimeout(ctx, streamTimeout)
	defer cancel()
	s, err := c.Host.NewStream(network.WithNoDial(ctx, "exercise"), c.Peer, id)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	if err := run(s); err != nil {
		_ = s.Reset()
		return err
	}
	_ = s.Close() // all that was wanted is there, or the remote has reset the stream
	return nil
}

func since(t time.Time) float64 { return float64(time.Since(t)) / float64(time.Millisecond) }
