package invite_test

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"io"
	"math"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"

	"github.com/tangop2p/tango/internal/invite"
)

// zeros makes the same key each time.
type zeros struct{}

func (zeros) Read(b []byte) (int, error) { clear(b); return len(b), nil }

func newKey(t testing.TB, from io.Reader) (crypto.PrivKey, peer.ID) {
	t.Helper()
	key, _, err := crypto.GenerateEd25519Key(from)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	return key, id
}

func seal(t testing.TB, key crypto.PrivKey, i invite.Invite) string {
	t.Helper()
	token, err := invite.Seal(key, i)
	if err != nil {
		t.Fatal(err)
	}
	return token
}

func TestRoundTrip(t *testing.T) {
	key, issuer := newKey(t, rand.Reader)
	_, relay := newKey(t, rand.Reader)
	_, subject := newKey(t, rand.Reader)
	want := invite.Invite{Audience: relay, NotBefore: time.Unix(1_700_000_000, 0), Expires: time.Unix(1_800_000_000, 0), Peers: 300}
	one := want
	one.Subject, one.Peers = subject, 1
	for _, want := range []invite.Invite{want, one} {
		token := seal(t, key, want)
		got, err := invite.Parse(token, nil)
		if err != nil {
			t.Fatal(err)
		}
		if len(got.ID) != 32 || len(token) > 400 {
			t.Errorf("ID %q, %d bytes", got.ID, len(token))
		}
		want.ID, want.Issuer = got.ID, issuer
		if got != want {
			t.Errorf("%+v, want %+v", got, want)
		}
		if again, err := invite.Parse(seal(t, key, want), nil); err != nil || again.ID == got.ID {
			t.Errorf("two invites with the ID %s, %v", got.ID, err)
		}
		if _, err := invite.Parse(token, func(p peer.ID) bool { return p != issuer }); !errors.Is(err, invite.ErrIssuer) {
			t.Errorf("not trusted: %v", err)
		}
	}
}

// The longest keys fit.
func TestRSA(t *testing.T) {
	key, _, err := crypto.GenerateRSAKeyPair(4096, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	_, relay := newKey(t, rand.Reader)
	token := seal(t, key, invite.Invite{
		Audience: relay, Subject: relay, NotBefore: time.Unix(1, 0), Expires: time.Unix(2, 0), Peers: 1,
	})
	if _, err := invite.Parse(token, nil); err != nil {
		t.Errorf("%d bytes: %v", len(token), err)
	}
}

func TestSealRefuses(t *testing.T) {
	key, relay := newKey(t, rand.Reader)
	good := invite.Invite{Audience: relay, NotBefore: time.Unix(1, 0), Expires: time.Unix(2, 0), Peers: 1}
	for name, change := range map[string]func(*invite.Invite){
		"audience":         func(i *invite.Invite) { i.Audience = "" },
		"end after":        func(i *invite.Invite) { i.Expires = time.Unix(1, 0) },
		"valid from":       func(i *invite.Invite) { i.NotBefore = time.Unix(0, 0) },
		"valid":            func(i *invite.Invite) { i.Expires = time.Unix(math.MaxInt64, 0) },
		"for 0 peers":      func(i *invite.Invite) { i.Peers = 0 },
		"for 65537 peers":  func(i *invite.Invite) { i.Peers = 65537 },
		"leave one out":    func(i *invite.Invite) { i.Peers, i.Subject = 2, relay },
		"for -1 peers: us": func(i *invite.Invite) { i.Peers = -1 },
	} {
		bad := good
		change(&bad)
		if _, err := invite.Seal(key, bad); err == nil || !strings.Contains(err.Error(), name) {
			t.Errorf("%v, want %q in it", err, name)
		}
	}
}

// other is a record of the same key and content, of another kind.
type other struct {
	domain, codec string
	content       []byte
}

func (o other) Domain() string                 { return o.domain }
func (o other) Codec() []byte                  { return []byte(o.codec) }
func (o other) MarshalRecord() ([]byte, error) { return o.content, nil }
func (other) UnmarshalRecord([]byte) error     { return nil }

func TestParseRefuses(t *testing.T) {
	key, relay := newKey(t, rand.Reader)
	good := seal(t, key, invite.Invite{Audience: relay, NotBefore: time.Unix(1, 0), Expires: time.Unix(2, 0), Peers: 1})
	data, err := base64.RawURLEncoding.DecodeString(good)
	if err != nil {
		t.Fatal(err)
	}
	envelope, err := record.UnmarshalEnvelope(data)
	if err != nil {
		t.Fatal(err)
	}
	content := envelope.RawPayload
	sign := func(o other) string {
		e, err := record.Seal(o, key)
		if err != nil {
			t.Fatal(err)
		}
		b, err := e.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		return base64.RawURLEncoding.EncodeToString(b)
	}
	mine := func(content ...byte) string { return sign(other{invite.Domain, invite.PayloadType, content}) }
	if _, err := invite.Parse(mine(content...), nil); err != nil {
		t.Fatal(err) // what follows would prove nothing
	}
	flipped := bytes.Replace(data, content, append(bytes.Clone(content[:len(content)-1]), 9), 1)
	for name, token := range map[string]string{
		"empty":          "",
		"no base64":      "?" + good[1:],
		"padded":         good + "=",
		"a line break":   good[:9] + "\n" + good[9:],
		"cut":            good[:len(good)-9],
		"long":           good + strings.Repeat("A", invite.MaxToken),
		"other content":  base64.RawURLEncoding.EncodeToString(flipped),
		"other domain":   sign(other{"libp2p-peer-record", invite.PayloadType, content}),
		"other version":  sign(other{invite.Domain, "/tango/invite/2", content}),
		"unknown field":  mine(append(bytes.Clone(content), 7<<3, 1)...),
		"a field twice":  mine(append(bytes.Clone(content), 6<<3, 1)...),
		"a long number":  mine(append(bytes.Clone(content[:len(content)-1]), 0x81, 0)...),
		"cut content":    mine(content[:len(content)-1]...),
		"another type":   mine(append(bytes.Clone(content), 6<<3|1)...),
		"an overlong ID": mine(append([]byte{1<<3 | 2, 120}, content...)...),
		"no content":     mine(0),
	} {
		if _, err := invite.Parse(token, nil); !errors.Is(err, invite.ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// vector is of the key that zeros makes.
const vector = "CiQIARIgO2onvM62pC1io6jQKm8Nc2UyFXcd4kOmOsBIoYtZ2ikSDy90YW5nby9pbnZpdGUvMRpICiYAJAgBEiA7aie8zrakLWKj" +
	"qNAqbw1zZTIVdx3iQ6Y6wEihi1naKRoQQT5NL_UtAJd7XlR9LcEbOCCA4s-qBiiAqNa5BzAFKkBTEYl5F7N41ooMpTqAXVsTOfPt03ON26lAQ76z" +
	"Lm1WqBnnByaFv4dIgew9JT3mfnJb6mdq6x7CA5sLpvjGyOAB"

// A token stays what it was: others make them too.
func TestVector(t *testing.T) {
	i, err := invite.Parse(vector, nil)
	if err != nil {
		t.Fatal(err)
	}
	_, issuer := newKey(t, zeros{})
	if i.Issuer != issuer || i.Audience != issuer || i.Subject != "" || i.Peers != 5 ||
		i.NotBefore.Unix() != 1_700_000_000 || i.Expires.Unix() != 2_000_000_000 {
		t.Errorf("%+v", i)
	}
}

func FuzzParse(f *testing.F) {
	key, relay := newKey(f, zeros{})
	f.Add(vector)
	f.Add(seal(f, key, invite.Invite{Audience: relay, Subject: relay, NotBefore: time.Unix(1, 0), Expires: time.Unix(2, 0), Peers: 1}))
	f.Fuzz(func(t *testing.T, token string) {
		i, err := invite.Parse(token, nil)
		if err != nil {
			return
		}
		if i.Audience.Validate() != nil || i.Peers < 1 || !i.Expires.After(i.NotBefore) {
			t.Errorf("%+v", i)
		}
	})
}

// What is in an envelope of the right key, domain and type is anybody's guess.
func FuzzPayload(f *testing.F) {
	key, relay := newKey(f, zeros{})
	data, err := base64.RawURLEncoding.DecodeString(vector)
	if err != nil {
		f.Fatal(err)
	}
	envelope, err := record.UnmarshalEnvelope(data)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(envelope.RawPayload)
	f.Add([]byte{1<<3 | 2, 0})
	f.Fuzz(func(t *testing.T, content []byte) {
		e, err := record.Seal(other{invite.Domain, invite.PayloadType, content}, key)
		if err != nil {
			return
		}
		b, err := e.Marshal()
		if err != nil {
			t.Fatal(err)
		}
		i, err := invite.Parse(base64.RawURLEncoding.EncodeToString(b), nil)
		if err == nil && (i.Issuer != relay || len(i.ID) != 32 || i.Peers > invite.MaxPeers) {
			t.Errorf("%+v", i)
		}
	})
}

func TestLines(t *testing.T) {
	for in, want := range map[string]string{
		"abc\n": "abc", "abc": "abc", "abc\ndef": "abc", "\n": "", "": "EOF",
		strings.Repeat("a", invite.MaxToken+1):       "more than",
		strings.Repeat("a", invite.MaxToken) + "\nb": strings.Repeat("a", invite.MaxToken),
	} {
		got, err := invite.ReadToken(strings.NewReader(in))
		if err != nil {
			got = err.Error()
		}
		if got != want && (err == nil || !strings.Contains(got, want)) {
			t.Errorf("%.9q: %.40q, want %.40q", in, got, want)
		}
	}
}
