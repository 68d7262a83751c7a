package reservation

import (
	"crypto/rand"
	"errors"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/crypto"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	ma "github.com/multiformats/go-multiaddr"
	protobuf "google.golang.org/protobuf/proto"
)

// voucher is what a relay signs.
func voucher(t testing.TB, signer crypto.PrivKey, relay, p peer.ID) []byte {
	t.Helper()
	envelope, err := record.Seal(&proto.ReservationVoucher{Relay: relay, Peer: p, Expiration: time.Now()}, signer)
	if err != nil {
		t.Fatal(err)
	}
	b, err := envelope.Marshal()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func newKey(t testing.TB) (crypto.PrivKey, peer.ID) {
	t.Helper()
	key, pub, err := crypto.GenerateEd25519Key(rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	id, err := peer.IDFromPublicKey(pub)
	if err != nil {
		t.Fatal(err)
	}
	return key, id
}

func okAnswer(expire uint64) *pbv2.HopMessage {
	return &pbv2.HopMessage{
		Type: pbv2.HopMessage_STATUS.Enum(), Status: pbv2.Status_OK.Enum(),
		Reservation: &pbv2.Reservation{Expire: &expire},
	}
}

func TestParseAnswer(t *testing.T) {
	key, relay := newKey(t)
	otherKey, other := newKey(t)
	_, self := newKey(t)
	now := time.Unix(1_900_000_000, 0)
	hour := uint64(now.Add(time.Hour).Unix())
	with := func(v []byte) *pbv2.HopMessage {
		m := okAnswer(hour)
		m.Reservation.Voucher = v
		return m
	}
	for _, c := range []struct {
		name string
		m    *pbv2.HopMessage
		want error
	}{
		{"without a voucher", okAnswer(hour), nil},
		{"with one", with(voucher(t, key, relay, self)), nil},
		{"signed by another", with(voucher(t, otherKey, relay, self)), ErrMalformed},
		{"for another relay", with(voucher(t, key, other, self)), ErrMalformed},
		{"for another peer", with(voucher(t, key, relay, other)), ErrMalformed},
		{"garbage for a voucher", with([]byte("voucher")), ErrMalformed},
		{"no reservation", &pbv2.HopMessage{Type: pbv2.HopMessage_STATUS.Enum(), Status: pbv2.Status_OK.Enum()}, ErrMalformed},
		{"no status", &pbv2.HopMessage{Type: pbv2.HopMessage_RESERVE.Enum()}, ErrMalformed},
		{"empty", &pbv2.HopMessage{}, ErrMalformed},
	} {
		t.Run(c.name, func(t *testing.T) {
			g, err := parseAnswer(c.m, self, relay, now)
			if !errors.Is(err, c.want) || (err == nil) == (g == nil) {
				t.Fatalf("%+v, %v; want %v", g, err, c.want)
			}
			if g != nil && !g.expires.Equal(now.Add(time.Hour)) {
				t.Errorf("expires %v", g.expires)
			}
		})
	}
	refusal := &pbv2.HopMessage{Type: pbv2.HopMessage_STATUS.Enum(), Status: pbv2.Status_PERMISSION_DENIED.Enum()}
	_, err := parseAnswer(refusal, self, relay, now)
	if refused, ok := errors.AsType[*RefusedError](err); !ok || refused.Status != pbv2.Status_PERMISSION_DENIED {
		t.Error(err)
	}
}

func TestExpiry(t *testing.T) {
	now := time.Unix(1_900_000_000, 0)
	for unix, want := range map[uint64]time.Duration{
		0:                           skewedLifetime,
		uint64(now.Unix()):          skewedLifetime, // its clock is behind
		uint64(now.Unix()) - 86400:  skewedLifetime,
		uint64(now.Unix()) + 1:      time.Second,
		uint64(now.Unix()) + 3600:   time.Hour,
		uint64(now.Unix()) + 864000: maxLifetime,
		1 << 63:                     maxLifetime,
		1<<64 - 1:                   maxLifetime,
	} {
		if got := expiry(unix, now).Sub(now); got != want {
			t.Errorf("%d: %v, want %v", unix, got, want)
		}
	}
}

func TestParseAddrsIsBounded(t *testing.T) {
	encoded := [][]byte{nil, []byte("garbage"), ma.StringCast("/ip4/8.8.8.8/tcp/1").Bytes()}
	if got := parseAddrs(encoded); len(got) != 1 {
		t.Errorf("%v", got)
	}
	for range 10_000 {
		encoded = append(encoded, encoded[2])
	}
	if got := parseAddrs(encoded); len(got) > maxRelayAddrs {
		t.Errorf("%d addresses", len(got))
	}
}

// Whatever a relay answers, it bounds what follows from it.
func FuzzParseAnswer(f *testing.F) {
	key, relay := newKey(f)
	_, self := newKey(f)
	m := okAnswer(uint64(time.Now().Add(time.Hour).Unix()))
	m.Reservation.Voucher = voucher(f, key, relay, self)
	m.Reservation.Addrs = [][]byte{ma.StringCast("/ip4/8.8.8.8/tcp/1/ws/p2p/" + relay.String()).Bytes(), []byte("no")}
	m.Limit = &pbv2.Limit{Duration: new(uint32), Data: new(uint64)}
	for _, seed := range []*pbv2.HopMessage{m, okAnswer(0), okAnswer(1<<64 - 1), {}} {
		b, err := protobuf.Marshal(seed)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(b)
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m := new(pbv2.HopMessage)
		if protobuf.Unmarshal(b, m) != nil {
			return
		}
		now := time.Now()
		g, err := parseAnswer(m, self, relay, now)
		if err != nil {
			return
		}
		if d := g.expires.Sub(now); d < 0 || d > maxLifetime || g.limitDuration < 0 {
			t.Errorf("expires in %v, circuits of %v", d, g.limitDuration)
		}
		list := circuits([]peer.ID{relay}, map[peer.ID]sources{relay: {reserved: g.addrs}})
		if len(list) > maxAddrsOfRelay {
			t.Errorf("%d addresses", len(list))
		}
		for _, a := range list {
			if id, err := peer.AddrInfoFromP2pAddr(a[:len(a)-1]); err != nil || id.ID != relay {
				t.Errorf("%v: %v", a, err)
			}
		}
	})
}
