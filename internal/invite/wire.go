package invite

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// Protocol presents a token to a relay: one line, the token, and one line
	// back, "ok" or "no" with the reason after a space. Lines end with a line
	// feed; the end of the stream ends the first one as well. It is text so that a
	// page needs no library for it.
	Protocol = "/tango/invite/1.0.0"

	// Timeout is how long either side waits for the other.
	Timeout = 10 * time.Second

	maxAnswer = 64
)

// RefusedError is a relay's no to a token.
type RefusedError struct{ Reason string }

func (e *RefusedError) Error() string { return "the relay refuses the invite: " + e.Reason }

// Present gives a token to a relay and returns its answer. A relay that does
// not speak the protocol has no use for tokens: that is the error that
// host.NewStream returns.
func Present(ctx context.Context, h host.Host, relay peer.ID, token string) error {
	ctx, cancel := context.WithTimeout(ctx, Timeout)
	defer cancel()
	s, err := h.NewStream(ctx, relay, Protocol)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	answer, err := present(s, token)
	if err != nil {
		_ = s.Reset()
		if ctx.Err() != nil {
			return errors.Join(context.Cause(ctx), err)
		}
		return err
	}
	_ = s.Close()
	return parseAnswer(answer)
}

func present(s network.Stream, token string) (answer string, err error) {
	if _, err := io.WriteString(s, token+"\n"); err != nil {
		return "", fmt.Errorf("send: %w", err)
	}
	if err := s.CloseWrite(); err != nil {
		return "", fmt.Errorf("send: %w", err)
	}
	return readLine(s, maxAnswer)
}

func parseAnswer(line string) error {
	if line == "ok" {
		return nil
	}
	reason, ok := strings.CutPrefix(line, "no ")
	if !ok || reason == "" || strings.Trim(reason, "abcdefghijklmnopqrstuvwxyz-") != "" {
		return fmt.Errorf("malformed answer %.40q", line)
	}
	return &RefusedError{Reason: reason}
}

// ReadToken reads the token that a peer presents.
func ReadToken(r io.Reader) (string, error) { return readLine(r, MaxToken) }

// WriteAnswer answers; an empty reason is a yes.
func WriteAnswer(w io.Writer, reason string) error {
	line := "ok\n"
	if reason != "" {
		line = "no " + reason + "\n"
	}
	_, err := io.WriteString(w, line)
	return err
}

// readLine reads a line of at most so many bytes, without its end.
func readLine(r io.Reader, limit int) (string, error) {
	line, err := bufio.NewReaderSize(r, limit+1).ReadSlice('\n')
	switch {
	case err == nil:
		return string(line[:len(line)-1]), nil
	case errors.Is(err, io.EOF) && len(line) > 0:
		return string(line), nil
	case errors.Is(err, bufio.ErrBufferFull):
		return "", fmt.Errorf("a line of more than %d bytes", limit)
	default:
		return "", err
	}
}
