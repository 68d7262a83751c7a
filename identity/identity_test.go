package identity

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

var keyTypes = map[string]int{
	"RSA":       crypto.RSA,
	"Ed25519":   crypto.Ed25519,
	"Secp256k1": crypto.Secp256k1,
	"ECDSA":     crypto.ECDSA,
}

// mustRead returns the bytes of a file.
func mustRead(t *testing.T, path string) []byte {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// keyFile writes data to a new file that only its owner can read, and returns its path.
func keyFile(t *testing.T, data []byte) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "node.key")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func newKey(t *testing.T, keyType int) crypto.PrivKey {
	t.Helper()
	key, _, err := crypto.GenerateKeyPair(keyType, 2048)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func mustIdentity(t *testing.T, id *Identity, err error) *Identity {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if err := tryOut(id.PrivKey()); err != nil {
		t.Fatalf("identity %v does not work: %v", id, err)
	}
	if !id.ID().MatchesPrivateKey(id.PrivKey()) || !id.ID().MatchesPublicKey(id.PubKey()) {
		t.Fatalf("peer id %v is not of its keys", id)
	}
	return id
}

// wantError checks that err is an *Error for path, matches target, and does not repeat the secret.
func wantError(t *testing.T, err error, path string, target error, words ...string) {
	t.Helper()
	var typed *Error
	if !errors.As(err, &typed) {
		t.Fatalf("got %v (%T), want an *Error", err, err)
	}
	if typed.Path != path {
		t.Errorf("error is about path %q, want %q", typed.Path, path)
	}
	if !errors.Is(err, target) {
		t.Errorf("%v: does not match %v", err, target)
	}
	if typed.Cure == "" || strings.ContainsAny(err.Error(), "\n\r") {
		t.Errorf("%q: not one sentence with a cure", err)
	}
	for _, word := range append(words, path) {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("%q does not say %q", err, word)
		}
	}
}

func TestEphemeral(t *testing.T) {
	one, err := Ephemeral()
	one = mustIdentity(t, one, err)
	two, err := Ephemeral()
	two = mustIdentity(t, two, err)
	if one.ID() == two.ID() {
		t.Error("two new identities are the same peer")
	}
	if got := one.PrivKey().Type(); got != crypto.Ed25519 {
		t.Errorf("made a key of type %v, want Ed25519", got)
	}
}

func TestZeroIdentity(t *testing.T) {
	var zero Identity
	if zero.ID() != "" || zero.PrivKey() != nil || zero.PubKey() != nil || zero.String() != "" {
		t.Error("the zero identity is somebody")
	}
	_, err := zero.ExportBase64()
	wantError(t, err, "", ErrMalformed)
	path := filepath.Join(t.TempDir(), "node.key")
	wantError(t, zero.Save(path), path, ErrMalformed)
}

func TestFromPrivKey(t *testing.T) {
	for name, keyType := range keyTypes {
		t.Run(name, func(t *testing.T) {
			key := newKey(t, keyType)
			id, err := FromPrivKey(key)
			id = mustIdentity(t, id, err)
			if id.PrivKey() != key {
				t.Error("not the key that was given")
			}
		})
	}
	_, err := FromPrivKey(nil)
	wantError(t, err, "", ErrMalformed)
}

// brokenKey is a key whose public half or own bytes cannot be had.
type brokenKey struct {
	crypto.PrivKey
	public crypto.PubKey
}

type brokenPublic struct{ crypto.PubKey }

var errBroken = errors.New("broken")

func (k brokenKey) Raw() ([]byte, error)     { return nil, errBroken }
func (k brokenKey) GetPublic() crypto.PubKey { return k.public }

func (brokenPublic) Raw() ([]byte, error) { return nil, errBroken }

func TestKeyThatStaysElsewhere(t *testing.T) {
	key := newKey(t, crypto.Ed25519)
	id, err := FromPrivKey(brokenKey{PrivKey: key, public: key.GetPublic()})
	id = mustIdentity(t, id, err)
	_, err = id.ExportBase64()
	wantError(t, err, "", errBroken, id.String())
	path := filepath.Join(t.TempDir(), "node.key")
	wantError(t, id.Save(path), path, errBroken)

	_, err = FromPrivKey(brokenKey{PrivKey: key, public: brokenPublic{key.GetPublic()}})
	wantError(t, err, "", errBroken)
}

func TestBase64RoundTrip(t *testing.T) {
	for name, keyType := range keyTypes {
		t.Run(name, func(t *testing.T) {
			want, err := FromPrivKey(newKey(t, keyType))
			if err != nil {
				t.Fatal(err)
			}
			text, err := want.ExportBase64()
			if err != nil {
				t.Fatal(err)
			}
			got, err := FromBase64("\r\n\t " + text[:20] + "\n" + text[20:] + " \n")
			got = mustIdentity(t, got, err)
			if got.ID() != want.ID() || !got.PrivKey().Equals(want.PrivKey()) {
				t.Errorf("got %v, want %v", got, want)
			}
		})
	}
}

func TestFromBase64Refuses(t *testing.T) {
	ed25519 := strings.ReplaceAll(jsVectors[0].text, "\n", "")
	tests := []struct{ name, text, word string }{
		{"empty", "", "empty"},
		{"blank", " \n\t", "empty"},
		{"no base64", "this is no key, sorry", "not base64"},
		{"PEM", "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEI\n-----END PRIVATE KEY-----", "PEM"},
		{"JSON", `{"Identity":{"PrivKey":"` + ed25519 + `"}}`, "JSON"},
		{"cut in a group", ed25519[:41], "not base64"},
		{"cut at a group", ed25519[:40], "cut short (30 of 68 bytes)"},
		{"no padding", strings.TrimRight(ed25519, "="), "not base64"},
		{"base64 twice", base64.StdEncoding.EncodeToString([]byte(ed25519)), "base64"},
		{"multibase", "m" + ed25519, "not base64"},
		{"too large", strings.Repeat(" ", maxText) + ed25519, "larger"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			_, err := FromBase64(test.text)
			wantError(t, err, "", ErrMalformed, test.word, "ExportBase64")
			for _, part := range []string{ed25519[8:24], ed25519[len(ed25519)-24:]} {
				if strings.Contains(err.Error(), part) {
					t.Errorf("%q repeats the key", err)
				}
			}
		})
	}
}

func TestJSVectors(t *testing.T) {
	for _, vector := range jsVectors {
		t.Run(vector.name, func(t *testing.T) {
			data, err := base64.StdEncoding.DecodeString(vector.text)
			if err != nil {
				t.Fatal(err)
			}
			id, err := Read(keyFile(t, data))
			id = mustIdentity(t, id, err)
			if vector.id != "" && id.String() != vector.id {
				t.Errorf("peer id %v, js-libp2p says %v", id, vector.id)
			}
			// js-libp2p reads the same bytes back.
			path := filepath.Join(t.TempDir(), "saved.key")
			if err := id.Save(path); err != nil {
				t.Fatal(err)
			}
			if got := mustRead(t, path); string(got) != string(data) {
				t.Error("saved other bytes than js-libp2p wrote")
			}
		})
	}
}

func TestSpecVectors(t *testing.T) {
	for _, vector := range specVectors {
		t.Run(vector.name, func(t *testing.T) {
			data, err := hex.DecodeString(vector.private)
			if err != nil {
				t.Fatal(err)
			}
			id, flaw := parse(data)
			if flaw != nil {
				t.Fatal(flaw)
			}
			public, err := crypto.MarshalPublicKey(id.PubKey())
			if err != nil {
				t.Fatal(err)
			}
			if got := hex.EncodeToString(public); got != vector.public {
				t.Errorf("public key %s, want %s", got, vector.public)
			}
			text, err := id.ExportBase64()
			if err != nil {
				t.Fatal(err)
			}
			if text != base64.StdEncoding.EncodeToString(data) {
				t.Error("encoding is not byte for byte that of the specs")
			}
		})
	}
}

// TestSameFileAsGoLibp2p holds what the package comment promises to programs that use go-libp2p's own functions.
func TestSameFileAsGoLibp2p(t *testing.T) {
	for name, keyType := range keyTypes {
		t.Run(name, func(t *testing.T) {
			key := newKey(t, keyType)
			data, err := crypto.MarshalPrivateKey(key)
			if err != nil {
				t.Fatal(err)
			}
			want, err := peer.IDFromPrivateKey(key)
			if err != nil {
				t.Fatal(err)
			}
			id, err := Load(keyFile(t, data))
			if mustIdentity(t, id, err).ID() != want {
				t.Errorf("peer id %v, want %v", id, want)
			}
		})
	}
}
