package identity

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"strings"
	"unicode"
)

var (
	// ErrInsecure means that others than the file's owner can use the key file.
	ErrInsecure = errors.New("identity: key file open to others")
	// ErrMalformed means that the bytes or the text are not a libp2p private key that works.
	ErrMalformed = errors.New("identity: not a libp2p private key")
	// ErrNotRegular means that the path is a directory, a pipe or another thing that is not a regular file.
	ErrNotRegular = errors.New("identity: not a regular file")
)

// Error says what is wrong with a key and what to do about it.
type Error struct {
	// Path is the key file, empty for a key that came from elsewhere.
	Path string
	// Problem is what is wrong, in words that follow "key file PATH".
	Problem string
	// Cure is what to do about it.
	Cure string
	// Err is the cause for errors.Is and errors.As.
	Err error
}

// Error returns one sentence: the path, the problem and the cure.
func (e *Error) Error() string {
	subject := "key"
	if e.Path != "" {
		subject = "key file " + quote(e.Path)
	}
	return fmt.Sprintf("%s %s: %s", subject, e.Problem, e.Cure)
}

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// at names the file that the error is about.
func (e *Error) at(path string) *Error {
	e.Path = path
	return e
}

func malformed(cause error) error { return fmt.Errorf("%w: %w", ErrMalformed, cause) }

// quote returns the path on one line and, unless it has unprintable runes, as it can be pasted into a shell.
func quote(path string) string {
	unprintable := func(r rune) bool { return !unicode.IsPrint(r) }
	special := func(r rune) bool { return strings.ContainsRune(" \"'`$\\&|;<>()*?[]{}!#~", r) }
	switch {
	case strings.ContainsFunc(path, unprintable):
		return strconv.Quote(path)
	case strings.ContainsFunc(path, special):
		return "'" + strings.ReplaceAll(path, "'", `'\''`) + "'"
	default:
		return path
	}
}

// reason returns what the operating system said, without the path that package os puts around it.
func reason(err error) error {
	var (
		onPath *fs.PathError
		onLink *os.LinkError
	)
	switch {
	case errors.As(err, &onPath):
		return onPath.Err
	case errors.As(err, &onLink):
		return onLink.Err
	default:
		return err
	}
}
