package identity

import (
	"encoding"
	"encoding/gob"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
)

// The methods have value receivers, so that they hold for an Identity, for a pointer to one, and for either inside
// another value.
var (
	_ fmt.Formatter          = Identity{}
	_ fmt.Stringer           = Identity{}
	_ fmt.GoStringer         = Identity{}
	_ slog.LogValuer         = Identity{}
	_ json.Marshaler         = Identity{}
	_ encoding.TextMarshaler = Identity{}
	_ gob.GobEncoder         = Identity{}
)

// String returns the peer id as text.
func (i Identity) String() string { return i.name }

// GoString returns the peer id in the manner of Go.
func (i Identity) GoString() string { return fmt.Sprintf("identity.Identity(%q)", i.name) }

// Format prints the peer id under every verb. Verbs for numbers and bytes print it as %s does.
func (i Identity) Format(state fmt.State, verb rune) {
	text := i.name
	if verb == 'v' && state.Flag('#') {
		text = i.GoString()
	}
	if verb == 'q' {
		text = fmt.Sprintf("%q", i.name)
	}
	if width, ok := state.Width(); ok {
		if state.Flag('-') {
			width = -width
		}
		text = fmt.Sprintf("%*s", width, text)
	}
	// A formatter has nowhere to report a failed write: the caller of fmt.Fprint gets it.
	_, _ = io.WriteString(state, text)
}

// LogValue returns the peer id.
func (i Identity) LogValue() slog.Value { return slog.StringValue(i.name) }

// MarshalText returns the peer id.
func (i Identity) MarshalText() ([]byte, error) { return []byte(i.name), nil }

// MarshalJSON returns the peer id as a JSON string.
func (i Identity) MarshalJSON() ([]byte, error) { return json.Marshal(i.name) }

// GobEncode always fails: an identity that lost its key on the way would not be one.
func (i Identity) GobEncode() ([]byte, error) {
	return nil, errors.New("identity: not for gob, use Save or ExportBase64")
}
