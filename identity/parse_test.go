package identity

import (
	"bytes"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"os"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
)

// ed25519File is a key file that go-libp2p takes.
func ed25519File(t *testing.T) []byte {
	t.Helper()
	data, err := hex.DecodeString(specVectors[0].private)
	if err != nil {
		t.Fatal(err)
	}
	return data
}

// message encodes a PrivateKey message with whatever is in it.
func message(keyType byte, data []byte) []byte {
	head := binary.AppendUvarint([]byte{0x08, keyType, 0x12}, uint64(len(data)))
	return append(head, data...)
}

// pkcs8 returns a new key in the form of openssl.
func pkcs8(t *testing.T, keyType int) []byte {
	t.Helper()
	var key any
	var err error
	if keyType == crypto.RSA {
		key, err = rsa.GenerateKey(rand.Reader, 2048)
	} else {
		_, key, err = ed25519.GenerateKey(rand.Reader)
	}
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return der
}

func smallRSA(t *testing.T) []byte {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 1024)
	if err != nil {
		t.Fatal(err)
	}
	return message(crypto.RSA, x509.MarshalPKCS1PrivateKey(key))
}

func TestReadRefusesContent(t *testing.T) {
	whole := ed25519File(t)
	flipped := bytes.Clone(whole)
	flipped[10] ^= 1
	public, err := crypto.MarshalPublicKey(newKey(t, crypto.Ed25519).GetPublic())
	if err != nil {
		t.Fatal(err)
	}
	legacy := append(bytes.Clone(whole[4:]), whole[36:]...)
	legacy[95] ^= 1

	tests := []struct {
		name  string
		data  []byte
		words []string
	}{
		{"empty", nil, []string{"is empty", "backup"}},
		{"one byte", whole[:1], []string{"not a libp2p private key"}},
		{"cut short", whole[:36], []string{"cut short (36 of 68 bytes)", "backup"}},
		{"cut by one byte", whole[:67], []string{"cut short (67 of 68 bytes)"}},
		{"one bit flipped", flipped, []string{"damaged", "backup"}},
		{"zeros, as after a crash", make([]byte, 68), []string{"not a libp2p private key"}},
		{
			"PEM", pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8(t, crypto.Ed25519)}),
			[]string{"PEM", "ipfs key import"},
		},
		{"OpenSSH", []byte("-----BEGIN OPENSSH PRIVATE KEY-----\nb3BlbnNzaC1rZXktdjEA\n"), []string{"PEM"}},
		{"DER of Ed25519", pkcs8(t, crypto.Ed25519), []string{"DER"}},
		{"DER of RSA", pkcs8(t, crypto.RSA), []string{"DER"}},
		{"JSON", []byte("\n{\"Identity\": {}}"), []string{"JSON", "FromBase64"}},
		{"base64", []byte(base64.StdEncoding.EncodeToString(whole) + "\n"), []string{"base64", "base64 -d"}},
		{"hex", []byte(hex.EncodeToString(whole) + "\n"), []string{"hex", "xxd -r -p"}},
		{"public key", public, []string{"public key"}},
		{"unknown key type", message(9, whole[4:]), []string{"not a libp2p private key"}},
		{"no type", []byte{0x12, 1, 0}, []string{"not a libp2p private key"}},
		{"legacy form with two public keys", message(crypto.Ed25519, legacy), []string{"redundant"}},
		{"zero Secp256k1", message(crypto.Secp256k1, make([]byte, 32)), []string{"damaged"}},
		{"small RSA", smallRSA(t), []string{"RSA", "2048", "Ed25519"}},
		{"text", []byte("correct horse battery staple"), []string{"not a libp2p private key"}},
		{"too large", make([]byte, maxFile+1), []string{"larger", "64 KiB"}},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			path := keyFile(t, test.data)
			_, err := Load(path)
			wantError(t, err, path, ErrMalformed, test.words...)
			if got := mustRead(t, path); !bytes.Equal(got, test.data) {
				t.Error("the refused file was changed")
			}
		})
	}
}

func TestSmallRSAError(t *testing.T) {
	_, err := Read(keyFile(t, smallRSA(t)))
	if !errors.Is(err, crypto.ErrRsaKeyTooSmall) {
		t.Errorf("%v does not match go-libp2p's ErrRsaKeyTooSmall", err)
	}
}

// TestLegacyEd25519 reads the 96 byte form of the specs, peer-ids/peer-ids.md, section Ed25519.
func TestLegacyEd25519(t *testing.T) {
	whole := ed25519File(t)
	legacy := message(crypto.Ed25519, append(bytes.Clone(whole[4:]), whole[36:]...))
	path := keyFile(t, legacy)
	id, err := Load(path)
	id = mustIdentity(t, id, err)
	want, flaw := parse(whole)
	if flaw != nil {
		t.Fatal(flaw)
	}
	if id.ID() != want.ID() {
		t.Errorf("peer id %v, want %v", id, want)
	}
	if !bytes.Equal(mustRead(t, path), legacy) {
		t.Error("reading changed the file")
	}
}

func TestLargestRSA(t *testing.T) {
	if testing.Short() {
		t.Skip("making an RSA key of 4096 bits takes seconds")
	}
	key, _, err := crypto.GenerateRSAKeyPair(4096, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := FromPrivKey(key)
	if err != nil {
		t.Fatal(err)
	}
	data, flaw := id.encode()
	if flaw != nil {
		t.Fatal(flaw)
	}
	if len(data) > maxFile/8 {
		t.Errorf("a key of 4096 bits takes %d bytes: the limit of %d is too near", len(data), maxFile)
	}
	got, err := Read(keyFile(t, data))
	if mustIdentity(t, got, err).ID() != id.ID() {
		t.Error("other peer")
	}
}

func TestErrorsAreQuotedForShell(t *testing.T) {
	tests := []struct{ path, want string }{
		{"/var/lib/node.key", "/var/lib/node.key"},
		{"/srv/a b/node.key", "'/srv/a b/node.key'"},
		{"it's $HOME", `'it'\''s $HOME'`},
		{"two\nlines", `"two\nlines"`},
		{"/srv/zoë/schlüssel", "/srv/zoë/schlüssel"},
	}
	for _, test := range tests {
		if got := quote(test.path); got != test.want {
			t.Errorf("quote(%q) = %s, want %s", test.path, got, test.want)
		}
	}
}

func TestReason(t *testing.T) {
	bare := errors.New("bare")
	for _, err := range []error{
		bare,
		&os.PathError{Op: "open", Path: "x", Err: bare},
		&os.LinkError{Op: "link", Old: "x", New: "y", Err: bare},
	} {
		if got := reason(err); !errors.Is(got, bare) || got.Error() != "bare" {
			t.Errorf("reason(%v) = %v", err, got)
		}
	}
}
