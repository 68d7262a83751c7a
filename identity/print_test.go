package identity

import (
	"bytes"
	"encoding/base64"
	"encoding/gob"
	"encoding/hex"
	"encoding/json"
	"encoding/xml"
	"errors"
	"fmt"
	"log/slog"
	"reflect"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
)

// holder keeps an identity in every way that a caller's struct can. fmt may call no method on the small fields.
type holder struct {
	Value   Identity
	Pointer *Identity
	Any     any
	value   Identity
	pointer *Identity
	any     any
	list    []Identity
	table   map[string]*Identity
	deeper  *holder
}

func newHolder(id *Identity, depth int) *holder {
	if depth == 0 {
		return nil
	}
	return &holder{
		Value: *id, Pointer: id, Any: *id,
		value: *id, pointer: id, any: id,
		list:   []Identity{*id},
		table:  map[string]*Identity{"me": id},
		deeper: newHolder(id, depth-1),
	}
}

// carriers are the ways in which an identity gets to a printer.
func carriers(id *Identity) map[string]any {
	deep := newHolder(id, 3)
	return map[string]any{
		"value":              *id,
		"pointer":            id,
		"pointer to pointer": &id,
		"slice":              []Identity{*id},
		"slice of pointers":  []*Identity{id},
		"array":              [1]Identity{*id},
		"map":                map[string]Identity{"me": *id},
		"exported fields":    struct{ ID Identity }{*id},
		"struct":             *deep,
		"pointer to struct":  deep,
		"slice of structs":   []holder{*deep},
		"error":              &Error{Problem: "is that of", Cure: "nothing", Err: fmt.Errorf("peer %v", id)},
	}
}

// traces are the forms in which four bytes of the secret in a row would show.
func traces(secret []byte) []string {
	var all []string
	join := func(part []byte, format, separator string) string {
		words := make([]string, len(part))
		for i, b := range part {
			words[i] = fmt.Sprintf(format, b)
		}
		return strings.Join(words, separator)
	}
	for i := range len(secret) - 4 {
		part := secret[i : i+4]
		all = append(
			all,
			string(part), hex.EncodeToString(part), strings.ToUpper(hex.EncodeToString(part)),
			join(part, "%d", " "), join(part, "%d", ", "), join(part, "%d", ","),
			join(part, "0x%x", ", "), join(part, "0x%02x", ", "), join(part, "%02x", " "), join(part, "%02X", " "),
			join(part, "%o", " "), join(part, "%b", " "), join(part, "%08b", " "), join(part, "%U", " "),
		)
	}
	for i := range len(secret) - 6 { // six bytes are eight letters, and one of three in a row begins a group
		text := base64.StdEncoding.EncodeToString(secret[i : i+6])
		all = append(all, text, base64.URLEncoding.EncodeToString(secret[i:i+6]))
	}
	return all
}

// secretOf returns the half of the key that is not in the peer id.
func secretOf(t *testing.T, key crypto.PrivKey) []byte {
	t.Helper()
	raw, err := key.Raw()
	if err != nil {
		t.Fatal(err)
	}
	return raw[:32]
}

// secret is what no output may show a part of.
type secret struct {
	bytes  []byte
	traces []string
}

// in returns how the secret shows in the text, "" if it does not.
func (s secret) in(text string) string {
	for _, trace := range s.traces {
		if strings.Contains(text, trace) {
			return trace
		}
	}
	return ""
}

func fixedIdentity(t *testing.T) (*Identity, secret) {
	t.Helper()
	id, err := FromBase64(jsVectors[0].text)
	if err != nil {
		t.Fatal(err)
	}
	half := secretOf(t, id.PrivKey())
	return id, secret{bytes: half, traces: traces(half)}
}

var formats = func() []string {
	var all []string
	for _, flags := range []string{"", "+", "#", "-", " ", "0", "+#", "# ", "+# 0-", "100", "-100.3", ".200"} {
		for _, verb := range "vTtbcdoOqxXUeEfFgGspwz" {
			all = append(all, "%"+flags+string(verb))
		}
	}
	return all
}()

func TestFmtHidesKey(t *testing.T) {
	id, secret := fixedIdentity(t)
	for name, carrier := range carriers(id) {
		t.Run(name, func(t *testing.T) {
			for _, format := range formats {
				out := fmt.Sprintf(format, carrier)
				if found := secret.in(out); found != "" {
					t.Errorf("%s shows the key: %q in %s", format, found, out)
				}
			}
			out := fmt.Sprintln(carrier) + fmt.Errorf("wrapped: %w", fmt.Errorf("%v", carrier)).Error()
			if found := secret.in(out); found != "" {
				t.Errorf("shows the key: %q in %s", found, out)
			}
		})
	}
}

// TestTracesAreFound proves that the tests here would see a key: a bare one shows.
func TestTracesAreFound(t *testing.T) {
	id, secret := fixedIdentity(t)
	key := id.PrivKey()
	for _, format := range []string{"%v", "%+v", "%#v", "%d", "%x", "%X", "%s", "%q", "%o", "%b"} {
		if secret.in(fmt.Sprintf(format, key)) == "" && format != "%q" {
			t.Errorf("a key printed with %s is not noticed", format)
		}
	}
	text, err := id.ExportBase64()
	if err != nil {
		t.Fatal(err)
	}
	if secret.in(text) == "" {
		t.Error("a key in base64 is not noticed")
	}
	if !reachable(secret.bytes, struct{ key crypto.PrivKey }{key}) {
		t.Error("a key in an unexported field is not reached")
	}
}

// TestReflectionFindsNoKey is for printers that follow every pointer: none can reach the key.
func TestReflectionFindsNoKey(t *testing.T) {
	id, secret := fixedIdentity(t)
	for name, carrier := range carriers(id) {
		t.Run(name, func(t *testing.T) {
			if reachable(secret.bytes, carrier) {
				t.Error("reflection reaches the key")
			}
		})
	}
}

// reachable walks everything that reflection can read, unexported fields included.
func reachable(secret []byte, in any) bool {
	var seen bytes.Buffer
	visited := map[uintptr]bool{}
	var walk func(v reflect.Value)
	walk = func(v reflect.Value) {
		switch v.Kind() {
		case reflect.Pointer:
			if v.IsNil() || visited[v.Pointer()] {
				return
			}
			visited[v.Pointer()] = true
			walk(v.Elem())
		case reflect.Interface:
			walk(v.Elem())
		case reflect.Struct:
			for _, field := range v.Fields() {
				walk(field)
			}
		case reflect.Slice, reflect.Array:
			for i := range v.Len() {
				walk(v.Index(i))
			}
		case reflect.Map:
			for entries := v.MapRange(); entries.Next(); {
				walk(entries.Key())
				walk(entries.Value())
			}
		case reflect.String:
			seen.WriteString(v.String())
		case reflect.Uint8:
			seen.WriteByte(byte(v.Uint()))
		default: // numbers, functions and channels lead nowhere
		}
	}
	walk(reflect.ValueOf(in))
	return bytes.Contains(seen.Bytes(), secret[:8])
}

func TestFormat(t *testing.T) {
	id, _ := fixedIdentity(t)
	const name = "12D3KooWCHssci8TuHZ3X9XvZRsint6dKAqurPazCVpqR1BkkJnA"
	tests := []struct{ format, want string }{
		{"%v", name},
		{"%+v", name},
		{"%s", name},
		{"%x", name},
		{"%d", name},
		{"%q", `"` + name + `"`},
		{"%#v", `identity.Identity("` + name + `")`},
		{"%54s", "  " + name},
		{"%-54s|", name + "  |"},
	}
	for _, test := range tests {
		for _, arg := range []any{id, *id} {
			if got := fmt.Sprintf(test.format, arg); got != test.want {
				t.Errorf("%s of %T: got %s, want %s", test.format, arg, got, test.want)
			}
		}
	}
	if got := fmt.Sprint(struct{ ID *Identity }{nil}); got != "{<nil>}" {
		t.Errorf("a nil pointer prints as %s", got)
	}
}

func TestMarshalersShowPeerID(t *testing.T) {
	id, secret := fixedIdentity(t)
	type document struct {
		Value   Identity
		Pointer *Identity
		hidden  Identity
	}
	doc := document{Value: *id, Pointer: id, hidden: *id}
	marshalers := map[string]func() ([]byte, error){
		"json":   func() ([]byte, error) { return json.Marshal(doc) },
		"indent": func() ([]byte, error) { return json.MarshalIndent(&doc, "", " ") },

		"xml": func() ([]byte, error) { return xml.Marshal(doc) },
		"slog text": func() ([]byte, error) {
			return logged(func(out *bytes.Buffer) slog.Handler { return slog.NewTextHandler(out, nil) }, id, doc)
		},
		"slog json": func() ([]byte, error) {
			return logged(func(out *bytes.Buffer) slog.Handler { return slog.NewJSONHandler(out, nil) }, id, doc)
		},
	}
	for name, marshal := range marshalers {
		t.Run(name, func(t *testing.T) {
			out, err := marshal()
			if err != nil {
				t.Fatal(err)
			}
			if found := secret.in(string(out)); found != "" {
				t.Errorf("shows the key: %q in %s", found, out)
			}
			if !bytes.Contains(out, []byte(id.String())) {
				t.Errorf("does not show the peer id: %s", out)
			}
		})
	}
	if doc.hidden.ID() != id.ID() {
		t.Error("a copy is another peer")
	}
}

func logged(handler func(*bytes.Buffer) slog.Handler, id *Identity, doc any) ([]byte, error) {
	var out bytes.Buffer
	slog.New(handler(&out)).With("self", *id).Info(
		"started", "peer", id, slog.Group("group", "peer", *id), "list", []*Identity{id}, "doc", doc,
	)
	return out.Bytes(), nil
}

func TestGobRefuses(t *testing.T) {
	id, secret := fixedIdentity(t)
	for name, value := range map[string]any{"value": *id, "pointer": id, "field": struct{ ID Identity }{*id}} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			if err := gob.NewEncoder(&out).Encode(value); err == nil || !strings.Contains(err.Error(), "not for gob") {
				t.Errorf("got error %v", err)
			}
			if secret.in(out.String()) != "" {
				t.Error("wrote the key")
			}
		})
	}
}

func TestErrorUnwraps(t *testing.T) {
	cause := errors.New("cause")
	err := fmt.Errorf("start: %w", &Error{Path: "node.key", Problem: "is bad", Cure: "mend it", Err: malformed(cause)})
	if got, want := err.Error(), "start: key file node.key is bad: mend it"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if !errors.Is(err, cause) || !errors.Is(err, ErrMalformed) {
		t.Error("cause is lost")
	}
}
