package discovery

import (
	"bytes"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// seeded returns an Ed25519 key that is the same in every run.
func seeded(tb testing.TB, seed byte) (crypto.PrivKey, peer.ID) {
	tb.Helper()
	key, _, err := crypto.GenerateEd25519Key(bytes.NewReader(bytes.Repeat([]byte{seed}, 32)))
	if err != nil {
		tb.Fatal(err)
	}
	id, err := peer.IDFromPrivateKey(key)
	if err != nil {
		tb.Fatal(err)
	}
	return key, id
}

// jsRecord is what @libp2p/pubsub-peer-discovery 12.0.0 encodes for the key of
// seed 1 and the addresses /ip4/127.0.0.1/tcp/4001/ws/p2p/<relay of seed
// 2>/p2p-circuit/webrtc and /ip4/192.0.2.7/tcp/9/ws, each with /p2p/<self>; made
// with its own Peer.encode in Node.
const jsRecord = "" +
	"0a24080112208a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c1260047f000001060fa1dd03" +
	"a503260024080112208139770ea87d175f56a35466c34c7ecccb8d8a91b4ee37a25df60f5b8fc9b394a2029902a503260024" +
	"080112208a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c123304c0000207060009dd03a503" +
	"260024080112208a88e3dd7409f195fd52db2d3cba5d72ca6709bf1d94121bf3748801b40f6f5c"

func testRecord(tb testing.TB) (*Record, peer.ID) {
	tb.Helper()
	key, id := seeded(tb, 1)
	_, relay := seeded(tb, 2)
	return &Record{
		Key: key.GetPublic(),
		Addrs: []ma.Multiaddr{
			ma.StringCast("/ip4/127.0.0.1/tcp/4001/ws/p2p/" + relay.String() + "/p2p-circuit/webrtc"),
			ma.StringCast("/ip4/192.0.2.7/tcp/9/ws"),
		},
	}, id
}

func TestRecordMatchesJS(t *testing.T) {
	want, err := hex.DecodeString(jsRecord)
	if err != nil {
		t.Fatal(err)
	}
	r, id := testRecord(t)
	got, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("Marshal:\n got %x\nwant %x", got, want)
	}
	parsed, err := ParseRecord(id, want)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.EqualFunc(parsed.Addrs, r.Addrs, ma.Multiaddr.Equal) {
		t.Errorf("addresses %v, want %v", parsed.Addrs, r.Addrs)
	}
}

func TestRecordRoundTrip(t *testing.T) {
	r, id := testRecord(t)
	r.Sent = time.UnixMilli(1_790_000_000_123)
	r.Interval = 2500 * time.Millisecond
	r.Leaving = true
	data, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	got, err := ParseRecord(id, data)
	if err != nil {
		t.Fatal(err)
	}
	if !got.Sent.Equal(r.Sent) || got.Interval != 3*time.Second || !got.Leaving || !got.Key.Equals(r.Key) {
		t.Errorf("got %+v, want %+v with the interval rounded up to whole seconds", got, r)
	}
}

func TestRecordOfRSAKey(t *testing.T) {
	_, pub, err := crypto.GenerateRSAKeyPair(2048, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	data, err := (&Record{Key: pub}).Marshal()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ParseRecord(id, data); err != nil {
		t.Error(err)
	}
}

func TestParseRecordRefuses(t *testing.T) {
	r, id := testRecord(t)
	valid, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	_, other := seeded(t, 3)
	key, err := crypto.MarshalPublicKey(r.Key)
	if err != nil {
		t.Fatal(err)
	}
	addr := func(n int) []byte { return appendBytes(nil, fieldAddrs, bytes.Repeat([]byte{1}, n)) }
	withKey := appendBytes(nil, fieldPublicKey, key)
	foreign := appendBytes(nil, fieldAddrs, ma.StringCast("/ip4/192.0.2.1/tcp/1/p2p/"+other.String()).Bytes())
	filler := appendBytes(nil, 9, make([]byte, MaxRecordSize+1-len(withKey)-3)) // 3 bytes of tag and length

	for name, tc := range map[string]struct {
		signer peer.ID
		data   []byte
		want   error
	}{
		"key of another":        {other, valid, ErrRecordForeign},
		"address of another":    {id, slices.Concat(withKey, foreign), ErrRecordForeign},
		"empty":                 {id, nil, ErrRecordMalformed},
		"no key":                {id, addr(8), ErrRecordMalformed},
		"text":                  {id, []byte("hello, I am a chat message"), ErrRecordMalformed},
		"truncated":             {id, valid[:len(valid)-1], ErrRecordMalformed},
		"key with a tail":       {id, appendBytes(nil, fieldPublicKey, append(slices.Clone(key), 0x18, 1)), ErrRecordForeign},
		"one byte too large":    {id, slices.Concat(withKey, filler), ErrRecordTooLarge},
		"one address too many":  {id, slices.Concat(withKey, bytes.Repeat(addr(8), MaxRecordAddrs+1)), ErrRecordTooLarge},
		"20,000 addresses":      {id, slices.Concat(withKey, bytes.Repeat(addr(8), 20_000)), ErrRecordTooLarge},
		"an address too long":   {id, slices.Concat(withKey, addr(MaxAddrSize+1)), ErrRecordTooLarge},
		"a key too long":        {id, appendBytes(nil, fieldPublicKey, make([]byte, maxKeySize+1)), ErrRecordTooLarge},
		"length beyond the end": {id, []byte{0x0a, 0xff, 0xff, 0xff, 0xff, 0x0f}, ErrRecordMalformed},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParseRecord(tc.signer, tc.data)
			if !errors.Is(err, tc.want) {
				t.Errorf("got %v, %v, want %v", got, err, tc.want)
			}
			if re := new(RecordError); !errors.As(err, &re) {
				t.Errorf("%T is not a *RecordError", err)
			}
		})
	}
}

func TestParseRecordSkipsUnknownAddresses(t *testing.T) {
	r, id := testRecord(t)
	r.Addrs = r.Addrs[:1]
	data, err := r.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	data = appendBytes(data, fieldAddrs, []byte{0xff, 0xff, 0x7f, 1})
	got, err := ParseRecord(id, data)
	if err != nil {
		t.Fatal(err)
	}
	if len(got.Addrs) != 1 {
		t.Errorf("addresses %v, want the one known", got.Addrs)
	}
}

func TestMarshalRefusesTooMany(t *testing.T) {
	r, _ := testRecord(t)
	for range MaxRecordAddrs {
		r.Addrs = append(r.Addrs, r.Addrs[0])
	}
	if _, err := r.Marshal(); !errors.Is(err, ErrRecordTooLarge) {
		t.Errorf("got %v, want %v", err, ErrRecordTooLarge)
	}
}

func FuzzParseRecord(f *testing.F) {
	r, id := testRecord(f)
	plain, err := r.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	r.Sent, r.Interval, r.Leaving = time.UnixMilli(1), time.Second, true
	full, err := r.Marshal()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(plain)
	f.Add(full)
	f.Add([]byte{})
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := ParseRecord(id, data)
		if err != nil {
			return
		}
		if len(data) > MaxRecordSize || len(got.Addrs) > MaxRecordAddrs || !id.MatchesPublicKey(got.Key) {
			t.Fatalf("accepted %x as %+v", data, got)
		}
		again, err := got.Marshal()
		if errors.Is(err, ErrRecordTooLarge) {
			return // the /p2p suffixes that it lacked did not fit any more
		}
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ParseRecord(id, again); err != nil {
			t.Fatalf("refuses its own encoding: %v", err)
		}
	})
}
