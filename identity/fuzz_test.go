package identity

import (
	"encoding/base64"
	"encoding/hex"
	"errors"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/crypto"
)

// seeds are key files of our own encoder and of others.
func seeds(f *testing.F) [][]byte {
	f.Helper()
	var all [][]byte
	for _, keyType := range []int{crypto.Ed25519, crypto.Secp256k1, crypto.ECDSA, crypto.RSA} {
		key, _, err := crypto.GenerateKeyPair(keyType, 2048)
		if err != nil {
			f.Fatal(err)
		}
		id, err := FromPrivKey(key)
		if err != nil {
			f.Fatal(err)
		}
		data, flaw := id.encode()
		if flaw != nil {
			f.Fatal(flaw)
		}
		all = append(all, data)
	}
	for _, vector := range specVectors {
		data, err := hex.DecodeString(vector.private)
		if err != nil {
			f.Fatal(err)
		}
		all = append(all, data, data[:len(data)/2])
	}
	return append(all, nil, []byte("-----BEGIN PRIVATE KEY-----"), []byte("{}"), []byte{0x30, 0x82})
}

// checkParsed holds for every input: either an error that matches and is quiet, or an identity that works and survives
// encoding.
func checkParsed(t *testing.T, id *Identity, err error, input string) {
	t.Helper()
	if err != nil {
		if id != nil || !errors.Is(err, ErrMalformed) {
			t.Fatalf("identity %v with error %v", id, err)
		}
		if len(input) > 40 && strings.Contains(err.Error(), input[8:32]) {
			t.Fatalf("error repeats the input: %v", err)
		}
		return
	}
	text, err := id.ExportBase64()
	if err != nil {
		t.Fatal(err)
	}
	again, err := FromBase64(text)
	if err != nil {
		t.Fatalf("our own encoding is refused: %v", err)
	}
	if again.ID() != id.ID() || again.String() != id.String() {
		t.Fatalf("peer %v became %v", id, again)
	}
}

func FuzzParse(f *testing.F) {
	for _, seed := range seeds(f) {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		id, flaw := parse(data)
		if flaw != nil {
			checkParsed(t, id, flaw, string(data))
			return
		}
		checkParsed(t, id, nil, string(data))
	})
}

func FuzzFromBase64(f *testing.F) {
	for _, seed := range seeds(f) {
		f.Add(base64.StdEncoding.EncodeToString(seed))
		f.Add(string(seed))
	}
	f.Fuzz(func(t *testing.T, text string) {
		id, err := FromBase64(text)
		checkParsed(t, id, err, text)
	})
}
