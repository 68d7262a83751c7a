package relay_test

import (
	"bytes"
	"context"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/tangop2p/tango/relay"
)

func addrInfo(h host.Host, addrs ...string) peer.AddrInfo {
	i := peer.AddrInfo{ID: h.ID()}
	for _, a := range addrs {
		i.Addrs = append(i.Addrs, ma.StringCast(a))
	}
	return i
}

func TestFetchInfo(t *testing.T) {
	r, rh := newRelay(t, relay.WithSTUN("127.0.0.1:0"))
	h := newHost(t)
	h.Peerstore().AddAddrs(rh.ID(), rh.Addrs(), time.Hour)
	if got, err := relay.FetchInfo(t.Context(), h, info(rh)); err == nil || len(h.Network().Conns()) > 0 {
		t.Errorf("without a connection: %v, %v", got, err)
	}
	connect(t, h, rh)
	got, err := relay.FetchInfo(t.Context(), h, addrInfo(rh, "/dns4/relay.example/tcp/443/tls/ws", "/ip4/127.0.0.1/tcp/1", "/p2p-circuit"))
	port := strconv.Itoa(int(r.STUNAddrs()[0].Port()))
	want := []string{"stun:127.0.0.1:" + port, "stun:relay.example:" + port}
	if err != nil || !slices.Equal(got.STUN, want) {
		t.Errorf("%v, %v, want %v", got.STUN, err, want)
	}
	if err := r.Close(); err != nil {
		t.Fatal(err)
	}
	if got, err := relay.FetchInfo(t.Context(), h, info(rh)); err == nil {
		t.Errorf("%v of a relay that is closed", got)
	}
}

func TestFetchInfoWithoutSTUN(t *testing.T) {
	_, rh := newRelay(t)
	h := newHost(t)
	connect(t, h, rh)
	if got, err := relay.FetchInfo(t.Context(), h, info(rh)); err != nil || len(got.STUN) > 0 {
		t.Errorf("%v, %v", got, err)
	}
}

// A relay decides on ports at its own address, and on nothing else.
func TestFetchInfoOfAHostileRelay(t *testing.T) {
	tag := protowire.AppendTag(nil, 1, protowire.VarintType)
	port := func(n uint64) []byte { return protowire.AppendVarint(slices.Clone(tag), n) }
	for name, c := range map[string]struct {
		body  []byte
		ports []string
		says  string
	}{
		"one port":   {port(3478), []string{"3478"}, ""},
		"many ports": {slices.Concat(port(1), port(2), port(2), port(3), port(4), port(5)), []string{"1", "2", "3", "4"}, ""},
		"no ports":   {slices.Concat(port(0), port(1<<16), port(1<<40)), nil, ""},
		"a host":     {protowire.AppendString(protowire.AppendTag(nil, 1, protowire.BytesType), "stun:victim.example:53"), nil, ""},
		"a later field": {
			slices.Concat(protowire.AppendString(protowire.AppendTag(nil, 9, protowire.BytesType), "new"), port(7)), []string{"7"}, "",
		},
		"cut off":  {port(3478)[:2], nil, "not a RelayInfo"},
		"garbage":  {[]byte{0}, nil, "not a protobuf"},
		"too long": {bytes.Repeat(port(1), 4<<10), nil, "more than 4096 bytes"},
		"endless":  {nil, nil, "deadline exceeded"},
	} {
		t.Run(name, func(t *testing.T) {
			rh, h := newHost(t), newHost(t)
			rh.SetStreamHandler(relay.InfoID, func(s network.Stream) {
				_, _ = s.Write(c.body)
				if name != "endless" {
					_ = s.Close()
				}
			})
			connect(t, h, rh)
			limit := 5 * time.Second
			if name == "endless" {
				limit = 50 * time.Millisecond
			}
			ctx, cancel := context.WithTimeout(t.Context(), limit)
			defer cancel()
			got, err := relay.FetchInfo(ctx, h, peer.AddrInfo{ID: rh.ID()})
			if c.says != "" {
				if err == nil || !strings.Contains(err.Error(), c.says) {
					t.Errorf("%v, %v, want %q", got, err, c.says)
				}
				return
			}
			var want []string
			for _, port := range c.ports {
				want = append(want, "stun:127.0.0.1:"+port)
			}
			if err != nil || !slices.Equal(got.STUN, want) {
				t.Errorf("%v, %v, want %v", got.STUN, err, want)
			}
		})
	}
}

func TestInfoBytes(t *testing.T) {
	stun := []netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:3478"), netip.MustParseAddrPort("[::]:3478")}
	if got, want := relay.MarshalInfo(stun), []byte{0x08, 0x96, 0x1b}; !bytes.Equal(got, want) {
		t.Errorf("%x, want %x", got, want)
	}
}

func FuzzInfo(f *testing.F) {
	f.Add(relay.MarshalInfo([]netip.AddrPort{netip.MustParseAddrPort("0.0.0.0:3478"), netip.MustParseAddrPort("[::]:3479")}))
	f.Fuzz(func(t *testing.T, body []byte) {
		if ports, err := relay.ParseInfo(body); len(ports) > 4 || slices.Contains(ports, 0) || err != nil && ports != nil {
			t.Errorf("%v, %v", ports, err)
		}
	})
}
