// Package invite is the token by which an issuer vouches for peers at a relay.
//
// A token is a signed envelope (libp2p RFC 0002) in unpadded base64url
// (RFC 4648 §5), of at most [MaxToken] bytes. The domain of its signature is
// [Domain] and its payload type [PayloadType], so that nothing else which a
// libp2p key has signed passes for a token. The payload is a protobuf:
//
//	message Invite {
//	  bytes  audience   = 1; // the relay's peer ID
//	  bytes  subject    = 2; // the only peer that may use it; empty: whoever has it
//	  bytes  id         = 3; // 16 random bytes
//	  uint64 not_before = 4; // Unix time, seconds
//	  uint64 expires    = 5; // Unix time, seconds
//	  uint32 peers      = 6; // how many may use it at once
//	}
//
// with each field once at most, in this order, none that is zero and no other:
// of one invite there is one encoding. A change of the format gets another
// payload type.
package invite

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	"google.golang.org/protobuf/encoding/protowire"
)

const (
	// Domain separates the signatures of tokens from others of the same key.
	Domain = "tango-invite"
	// PayloadType is the version of the format.
	PayloadType = "/tango/invite/1"
	// MaxToken is the most bytes of a token. One of an Ed25519 key has some 320, one of an RSA key with 4096
	// bits some 1,600.
	MaxToken = 2048
	// MaxPeers is the most peers that one invite is for.
	MaxPeers = 1 << 16

	idSize  = 16
	maxTime = 1 << 38 // seconds; the year 10680
)

// What [Parse] returns wraps one of these.
var (
	ErrMalformed = errors.New("malformed invite")
	ErrIssuer    = errors.New("issuer is not trusted")
)

// Invite is what a token says.
type Invite struct {
	ID        string
	Issuer    peer.ID
	Audience  peer.ID
	Subject   peer.ID
	NotBefore time.Time
	Expires   time.Time
	Peers     int
}

// Seal makes a token that key has signed, with an ID of its own.
func Seal(key crypto.PrivKey, i Invite) (string, error) {
	id := make([]byte, idSize)
	_, _ = rand.Read(id) // never fails (crypto/rand)
	i.ID = hex.EncodeToString(id)
	if err := i.check(); err != nil {
		return "", err
	}
	envelope, err := record.Seal(&payload{i}, key)
	if err != nil {
		return "", err
	}
	data, err := envelope.Marshal()
	if err != nil {
		return "", err
	}
	token := base64.RawURLEncoding.EncodeToString(data)
	if len(token) > MaxToken {
		return "", fmt.Errorf("the key makes tokens of %d bytes, more than %d: use an Ed25519 key", len(token), MaxToken)
	}
	return token, nil
}

// Parse reads a token and checks its form and signature; not its times, nor
// whom it is for. The signature costs most and comes last: a token of an issuer
// that is not trusted does not get there. A nil trusted is trust in all.
func Parse(token string, trusted func(issuer peer.ID) bool) (Invite, error) {
	if len(token) > MaxToken {
		return Invite{}, fmt.Errorf("%w: more than %d bytes", ErrMalformed, MaxToken)
	}
	if strings.ContainsAny(token, "\r\n") { // which base64 would skip
		return Invite{}, fmt.Errorf("%w: line breaks in it", ErrMalformed)
	}
	data, err := base64.RawURLEncoding.Strict().DecodeString(token)
	if err != nil {
		return Invite{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	envelope, err := record.UnmarshalEnvelope(data)
	if err != nil {
		return Invite{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if string(envelope.PayloadType) != PayloadType {
		return Invite{}, fmt.Errorf("%w: it is a %.80q, not a %q", ErrMalformed, envelope.PayloadType, PayloadType)
	}
	issuer, err := peer.IDFromPublicKey(envelope.PublicKey)
	if err != nil {
		return Invite{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if trusted != nil && !trusted(issuer) {
		return Invite{}, fmt.Errorf("%w: %v", ErrIssuer, issuer)
	}
	var p payload
	if _, err := record.ConsumeTypedEnvelope(data, &p); err != nil {
		return Invite{}, fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	p.Issuer = issuer
	return p.Invite, nil
}

// check says what no invite can say.
func (i *Invite) check() error {
	if err := i.Audience.Validate(); err != nil {
		return fmt.Errorf("audience: %w: name the relay's peer ID", err)
	}
	from, until := i.NotBefore.Unix(), i.Expires.Unix()
	switch {
	case from <= 0 || until <= from || until >= maxTime:
		return fmt.Errorf("valid from %v until %v: it has to end after it begins", i.NotBefore, i.Expires)
	case i.Peers < 1 || i.Peers > MaxPeers:
		return fmt.Errorf("for %d peers: use 1 to %d", i.Peers, MaxPeers)
	case i.Subject != "" && i.Peers != 1:
		return fmt.Errorf("for %d peers, but for %v alone: leave one out", i.Peers, i.Subject)
	}
	return nil
}

// payload is an invite as a signed record.
type payload struct{ Invite }

var _ record.Record = (*payload)(nil)

func (*payload) Domain() string { return Domain }

func (*payload) Codec() []byte { return []byte(PayloadType) }

func (p *payload) MarshalRecord() ([]byte, error) {
	id, err := hex.DecodeString(p.ID)
	if err != nil {
		return nil, err
	}
	var b []byte
	field := func(number protowire.Number, value []byte) {
		if len(value) > 0 {
			b = protowire.AppendBytes(protowire.AppendTag(b, number, protowire.BytesType), value)
		}
	}
	field(1, []byte(p.Audience))
	field(2, []byte(p.Subject))
	field(3, id)
	for i, v := range []uint64{uint64(p.NotBefore.Unix()), uint64(p.Expires.Unix()), uint64(p.Peers)} {
		b = protowire.AppendVarint(protowire.AppendTag(b, protowire.Number(4+i), protowire.VarintType), v)
	}
	return b, nil
}

func (p *payload) UnmarshalRecord(b []byte) error {
	texts, numbers, err := fields(b)
	if err != nil {
		return err
	}
	if texts[1] != "" {
		if p.Subject, err = peer.IDFromBytes([]byte(texts[1])); err != nil {
			return fmt.Errorf("subject: %w", err)
		}
	}
	if p.Audience, err = peer.IDFromBytes([]byte(texts[0])); err != nil {
		return fmt.Errorf("audience: %w", err)
	}
	p.ID = hex.EncodeToString([]byte(texts[2]))
	p.NotBefore, p.Expires, p.Peers = time.Unix(numbers[0], 0), time.Unix(numbers[1], 0), int(numbers[2])
	if len(texts[2]) != idSize {
		return fmt.Errorf("an ID of %d bytes, not %d", len(texts[2]), idSize)
	}
	if err := p.check(); err != nil {
		return err
	}
	if again, err := p.MarshalRecord(); err != nil || !bytes.Equal(again, b) {
		return errors.New("not the one encoding")
	}
	return nil
}

// fields reads fields 1 to 3 and 4 to 6.
func fields(b []byte) (texts [3]string, numbers [3]int64, err error) {
	for len(b) > 0 {
		number, kind, n := protowire.ConsumeTag(b)
		if n < 0 {
			return texts, numbers, protowire.ParseError(n)
		}
		b = b[n:]
		switch {
		case number >= 1 && number <= 3 && kind == protowire.BytesType:
			var v []byte
			v, n = protowire.ConsumeBytes(b)
			texts[number-1] = string(v) //nolint:gosec // the case is for 1 to 3
		case number >= 4 && number <= 6 && kind == protowire.VarintType:
			var v uint64
			v, n = protowire.ConsumeVarint(b)
			numbers[number-4] = int64(min(v, maxTime)) //nolint:gosec // bounded here
		default:
			return texts, numbers, fmt.Errorf("field %d of type %d is unknown", number, kind)
		}
		if n < 0 {
			return texts, numbers, protowire.ParseError(n)
		}
		b = b[n:]
	}
	return texts, numbers, nil
}
