package identity

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/libp2p/go-libp2p/core/crypto"
)

const (
	// maxFile is the most bytes that are read of a key file. The largest key that go-libp2p takes, RSA with 8192 bits,
	// has under 5 KiB.
	maxFile = 64 << 10
	// maxText leaves room for base64, which adds a third, and for line breaks.
	maxText = 2 * maxFile

	cureRestore = "restore it from a backup, or move it away to start as a new peer"
	cureConvert = "convert it to the libp2p protobuf, in kubo with ipfs key import --format=pem-pkcs8-cleartext " +
		"followed by ipfs key export"
)

var errNotAPair = errors.New("private and public half do not belong together")

// encode returns the libp2p PrivateKey message.
func (i Identity) encode() ([]byte, *Error) {
	key := i.PrivKey()
	if key == nil {
		return nil, &Error{Problem: "is missing", Cure: "use an Identity that this package made", Err: ErrMalformed}
	}
	data, err := crypto.MarshalPrivateKey(key)
	if err != nil {
		return nil, &Error{
			Problem: fmt.Sprintf("of peer %s cannot be exported (%v)", i.name, err),
			Cure:    "keep it where it is and use FromPrivKey",
			Err:     err,
		}
	}
	return data, nil
}

// parse reads a libp2p PrivateKey message.
func parse(data []byte) (*Identity, *Error) {
	switch {
	case len(data) == 0:
		return nil, &Error{Problem: "is empty", Cure: cureRestore, Err: ErrMalformed}
	case len(data) > maxFile:
		return nil, tooLarge()
	}
	key, err := crypto.UnmarshalPrivateKey(data)
	if err != nil {
		return nil, explain(data, err)
	}
	if err := tryOut(key); err != nil {
		return nil, &Error{
			Problem: fmt.Sprintf("is damaged (%v)", err),
			Cure:    cureRestore,
			Err:     malformed(err),
		}
	}
	return fromKey(key)
}

// tryOut signs once and verifies as another peer would. Unmarshaling compares the two halves of an RSA key but not
// those of an Ed25519 key: with a flipped bit in its seed, the peer would have the right peer id and fail every
// handshake. It also takes a Secp256k1 key of zero, whose public key no peer can read.
func tryOut(key crypto.PrivKey) error {
	probe := []byte("tango identity: is this key a pair?")
	signature, err := key.Sign(probe)
	if err != nil {
		return err
	}
	wire, err := crypto.MarshalPublicKey(key.GetPublic())
	if err != nil {
		return err
	}
	public, err := crypto.UnmarshalPublicKey(wire)
	if err != nil {
		return err
	}
	ok, err := public.Verify(probe, signature)
	if err != nil {
		return err
	}
	if !ok {
		return errNotAPair
	}
	return nil
}

// explain finds words for bytes that go-libp2p does not take.
func explain(data []byte, cause error) *Error {
	if flaw := foreign(data); flaw != nil {
		return flaw
	}
	if errors.Is(cause, crypto.ErrRsaKeyTooSmall) || errors.Is(cause, crypto.ErrRsaKeyTooBig) {
		return &Error{
			Problem: fmt.Sprintf("holds an RSA key that libp2p refuses (%v)", cause),
			Cure:    "move it away to start as a new peer with an Ed25519 key",
			Err:     malformed(cause),
		}
	}
	if have, want, ok := lengths(data); ok && have < want {
		return &Error{
			Problem: fmt.Sprintf("is cut short (%d of %d bytes)", have, want),
			Cure:    cureRestore,
			Err:     malformed(cause),
		}
	}
	if _, err := crypto.UnmarshalPublicKey(data); err == nil {
		return &Error{
			Problem: "holds a public key",
			Cure:    "give the private key that belongs to it",
			Err:     malformed(cause),
		}
	}
	return &Error{
		Problem: fmt.Sprintf("is not a libp2p private key (%v)", cause),
		Cure:    "check that it is the right file, " + cureRestore,
		Err:     malformed(cause),
	}
}

// lengths returns how long a message in the usual field order (type, then data) is and how long it says that it is.
func lengths(data []byte) (have, want int, ok bool) {
	const typeTag, dataTag = 0x08, 0x12 // field 1 as varint, field 2 as bytes
	if len(data) < 3 || data[0] != typeTag || data[1] > 3 || data[2] != dataTag {
		return 0, 0, false
	}
	size, n := binary.Uvarint(data[3:])
	if n <= 0 || size > maxFile {
		return 0, 0, false
	}
	return len(data), 3 + n + int(size), true
}

// foreign tells which other form of a key the bytes are, nil if none. It never quotes them.
func foreign(data []byte) *Error {
	text := bytes.TrimSpace(data)
	form, cure := "", ""
	switch {
	case bytes.HasPrefix(text, []byte("-----BEGIN")):
		form, cure = "PEM text", cureConvert
	case bytes.HasPrefix(text, []byte("{")):
		form, cure = "JSON", "take the private key text out of it and give that to FromBase64"
	case bytes.HasPrefix(data, []byte{0x30, 0x82}), bytes.HasPrefix(data, []byte{0x30, 0x2e}):
		// A DER sequence of two length bytes (RSA) or of 46 bytes (Ed25519 in PKCS #8, RFC 8410 section 7).
		form, cure = "an ASN.1 (DER) key", cureConvert
	case isHex(text):
		form, cure = "hex text", "decode it into bytes with xxd -r -p"
	case isBase64(text):
		form, cure = "base64 text", "decode it into bytes with base64 -d, or give the text to FromBase64"
	default:
		return nil
	}
	return &Error{
		Problem: "looks like " + form + " rather than the libp2p protobuf",
		Cure:    cure,
		Err:     ErrMalformed,
	}
}

func isHex(text []byte) bool {
	raw, err := hex.AppendDecode(nil, text)
	return err == nil && len(raw) >= 32
}

func isBase64(text []byte) bool {
	raw, err := base64.StdEncoding.AppendDecode(nil, text)
	return err == nil && len(raw) >= 32
}

func tooLarge() *Error {
	return &Error{
		Problem: fmt.Sprintf("is larger than any key (over %d KiB)", maxFile>>10),
		Cure:    "check that it is the right file",
		Err:     ErrMalformed,
	}
}
