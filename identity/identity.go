package identity

import (
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"strings"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
)

// Identity is a peer's key pair and the peer id that follows from it. It never changes after it was made.
//
// However it is printed, logged or marshaled, it shows the peer id and not the key. Its zero value is no identity: the
// peer id is empty and the keys are nil.
type Identity struct {
	// name is the peer id as text: all that printing by reflection may find.
	name string
	// keys is a function because fmt cannot call methods on unexported fields of the caller's structs and prints what
	// it can reach there instead. It can reach a function's address but not what the function holds.
	keys func() keyPair
}

type keyPair struct {
	id      peer.ID
	private crypto.PrivKey
}

// Ephemeral makes a new Ed25519 identity that is kept in memory only.
func Ephemeral() (*Identity, error) {
	key, _, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		return nil, fmt.Errorf("make an Ed25519 key: %w", err)
	}
	return FromPrivKey(key)
}

// FromPrivKey makes an identity of a key that the caller keeps. The key need not be exportable: one that signs
// elsewhere will do, except for [Identity.Save] and [Identity.ExportBase64].
func FromPrivKey(key crypto.PrivKey) (*Identity, error) {
	id, flaw := fromKey(key)
	if flaw != nil {
		return nil, flaw
	}
	return id, nil
}

func fromKey(key crypto.PrivKey) (*Identity, *Error) {
	if key == nil {
		return nil, &Error{Problem: "is nil", Cure: "give a private key, or make one with Ephemeral", Err: ErrMalformed}
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		return nil, &Error{
			Problem: fmt.Sprintf("has no peer id (%v)", err),
			Cure:    "give a private key of a type that libp2p knows",
			Err:     malformed(err),
		}
	}
	pair := keyPair{id: id, private: key}
	return &Identity{name: id.String(), keys: func() keyPair { return pair }}, nil
}

// FromBase64 reads an identity from text as kubo keeps it in Identity.PrivKey and as [Identity.ExportBase64] returns
// it: the standard base64 encoding of the key file's bytes. White space around it, and line breaks within, are ignored.
func FromBase64(text string) (*Identity, error) {
	id, flaw := parseText(text)
	if flaw != nil {
		// Whatever is wrong with a text, what to do is the same.
		flaw.Cure = "give Identity.PrivKey of kubo's configuration, or what ExportBase64 returned, whole"
		return nil, flaw
	}
	return id, nil
}

func parseText(text string) (*Identity, *Error) {
	if len(text) > maxText {
		return nil, tooLarge()
	}
	text = strings.TrimSpace(text)
	data, err := base64.StdEncoding.DecodeString(text)
	if err != nil {
		if flaw := foreign([]byte(text)); flaw != nil {
			return nil, flaw
		}
		return nil, &Error{Problem: fmt.Sprintf("is not base64 text (%v)", err), Err: malformed(err)}
	}
	return parse(data)
}

// ID returns the peer id.
func (i Identity) ID() peer.ID { return i.pair().id }

// PrivKey returns the private key, for libp2p.Identity and for signing. It is the secret itself: printing it shows the
// key.
func (i Identity) PrivKey() crypto.PrivKey { return i.pair().private }

// PubKey returns the public key.
func (i Identity) PubKey() crypto.PubKey {
	if key := i.PrivKey(); key != nil {
		return key.GetPublic()
	}
	return nil
}

// ExportBase64 returns the private key as text for [FromBase64], for a secret store or for kubo's configuration.
// Whoever has the text is this peer.
func (i Identity) ExportBase64() (string, error) {
	data, flaw := i.encode()
	if flaw != nil {
		return "", flaw
	}
	return base64.StdEncoding.EncodeToString(data), nil
}

func (i Identity) pair() keyPair {
	if i.keys == nil {
		return keyPair{}
	}
	return i.keys()
}
