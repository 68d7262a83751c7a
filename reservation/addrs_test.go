package reservation

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	relayA   = "12D3KooWPjceQrSwdWXPyLLeABRXmuqt69Rg3sBYbU1Nft9HyQ6X"
	relayB   = "12D3KooWH3uVF6wv47WnArKHk5p6cvgCJEb74UTmxztmQDc298L3"
	certhash = "/certhash/uEiDDq4_xNyDorZBH3TlGazyJdOWSwvo4PUo5YHFMrvDE8g"
)

func idOf(t testing.TB, s string) peer.ID {
	t.Helper()
	id, err := peer.Decode(s)
	if err != nil {
		t.Fatal(err)
	}
	return id
}

func addrs(list ...string) []ma.Multiaddr {
	var all []ma.Multiaddr
	for _, a := range list {
		all = append(all, ma.StringCast(a))
	}
	return all
}

func TestKindOf(t *testing.T) {
	for a, want := range map[string]kind{
		"/ip4/1.2.3.4/tcp/4001":                                            kindTCP,
		"/ip6/2001::1/tcp/4001":                                            kindTCP,
		"/ip4/1.2.3.4/udp/4001/quic-v1":                                    kindQUIC,
		"/ip4/1.2.3.4/tcp/80/ws":                                           kindWS,
		"/dns4/r.example/tcp/443/wss":                                      kindWSS,
		"/dns/r.example/tcp/443/tls/ws":                                    kindWSS,
		"/ip4/1.2.3.4/tcp/443/tls/sni/r.example/ws":                        kindWSS,
		"/ip4/1.2.3.4/udp/4001/quic-v1/webtransport" + certhash:            kindWebTransport,
		"/ip4/1.2.3.4/udp/4001/quic-v1/webtransport" + certhash + certhash: kindWebTransport,
		"/ip4/1.2.3.4/udp/4001/quic-v1/webtransport":                       kindNone, // nobody can dial it
		"/ip4/1.2.3.4/udp/4001/webrtc-direct" + certhash:                   kindWebRTC,
		"/ip4/1.2.3.4/udp/4001/webrtc-direct":                              kindNone,
		"/ip4/1.2.3.4/udp/4001/quic":                                       kindNone, // draft 29
		"/ip4/1.2.3.4/udp/4001/quic-v1" + certhash:                         kindNone,
		"/ip4/1.2.3.4/tcp/4001/tls":                                        kindNone,
		"/ip4/1.2.3.4":                                                     kindNone,
		"/ip4/1.2.3.4/sctp/1":                                              kindNone,
		"/dnsaddr/r.example":                                               kindNone,
		"/dnsaddr/r.example/tcp/1":                                         kindNone,
		"/unix/tmp/x":                                                      kindNone,
		"/webrtc":                                                          kindNone,
		"/ip4/1.2.3.4/tcp/4001/p2p/" + relayB + "/p2p-circuit":             kindNone,
		"/ip4/1.2.3.4/tcp/4001/ws/p2p-circuit":                             kindNone,
	} {
		if got := kindOf(ma.StringCast(a)); got != want {
			t.Errorf("%s is %d, want %d", a, got, want)
		}
	}
}

func TestPublishable(t *testing.T) {
	const suffix = "/p2p/" + relayA
	for _, c := range []struct {
		name string
		from sources
		want []string
	}{
		{"nothing known", sources{}, nil},
		{
			"union, browsers first",
			sources{
				configured: addrs("/dns4/r.example/tcp/443/wss"),
				dialled:    addrs("/ip4/8.8.8.8/udp/4001/quic-v1"),
				reserved:   addrs("/ip4/8.8.8.8/tcp/4001"+suffix, "/ip4/8.8.8.8/udp/4001/webrtc-direct"+certhash+suffix),
				identified: addrs("/ip4/8.8.8.8/udp/4001/quic-v1/webtransport"+certhash, "/ip4/8.8.8.8/tcp/80/ws"),
			},
			[]string{
				"/dns4/r.example/tcp/443/wss", "/ip4/8.8.8.8/udp/4001/quic-v1/webtransport" + certhash,
				"/ip4/8.8.8.8/udp/4001/webrtc-direct" + certhash, "/ip4/8.8.8.8/tcp/80/ws",
				"/ip4/8.8.8.8/udp/4001/quic-v1", "/ip4/8.8.8.8/tcp/4001",
			},
		},
		{
			"on the LAN",
			sources{
				dialled:    addrs("/ip4/192.168.1.2/tcp/4001"),
				identified: addrs("/ip4/127.0.0.1/tcp/4001", "/ip4/192.168.1.2/tcp/4001", "/ip4/192.168.1.2/tcp/4001/ws"),
			},
			[]string{"/ip4/192.168.1.2/tcp/4001/ws", "/ip4/192.168.1.2/tcp/4001"},
		},
		{
			"private beside public",
			sources{
				dialled:    addrs("/ip4/10.0.0.2/tcp/4001"),
				reserved:   addrs("/ip4/8.8.8.8/tcp/4001"),
				identified: addrs("/ip4/172.16.0.1/tcp/4001", "/ip4/127.0.0.1/tcp/4001"),
			},
			[]string{"/ip4/8.8.8.8/tcp/4001", "/ip4/10.0.0.2/tcp/4001"}, // it works from here
		},
		{
			"on this machine",
			sources{
				onLoopback: true,
				dialled:    addrs("/ip4/127.0.0.1/tcp/4001"),
				identified: addrs("/ip4/127.0.0.1/tcp/4001/ws", "/dns4/localhost/tcp/4001/ws", "/ip4/10.0.0.1/tcp/4001/ws"),
			},
			[]string{
				"/ip4/10.0.0.1/tcp/4001/ws", "/ip4/127.0.0.1/tcp/4001/ws", "/dns4/localhost/tcp/4001/ws", "/ip4/127.0.0.1/tcp/4001",
			},
		},
		{
			"lead nowhere",
			sources{identified: addrs("/ip4/0.0.0.0/tcp/1", "/ip6/::/tcp/1", "/ip6/fe80::1/tcp/1", "/ip4/224.0.0.1/udp/1/quic-v1",
				"/ip4/169.254.1.1/tcp/1")},
			nil,
		},
		{
			"of others",
			sources{reserved: addrs("/ip4/8.8.8.8/tcp/1/p2p/"+relayB, "/ip4/8.8.8.8/tcp/1/p2p/"+relayB+suffix,
				"/ip4/8.8.8.8/tcp/1/p2p/"+relayB+"/p2p-circuit"+suffix, "/p2p/"+relayA)},
			nil,
		},
		{
			"doubled",
			sources{reserved: addrs("/ip4/8.8.8.8/tcp/1" + suffix + suffix), identified: addrs("/ip4/8.8.8.8/tcp/1")},
			[]string{"/ip4/8.8.8.8/tcp/1"},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			var got []string
			for _, a := range publishable(idOf(t, relayA), c.from, maxAddrsOfRelay) {
				got = append(got, a.addr.String())
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

func TestAddressesAreBounded(t *testing.T) {
	var flood sources
	for i := range 5000 {
		flood.reserved = append(flood.reserved, addrs(
			fmt.Sprintf("/ip4/8.8.8.8/tcp/%d", i+1), fmt.Sprintf("/ip4/8.8.8.8/tcp/%d/ws", i+1),
			fmt.Sprintf("/ip4/8.8.8.8/udp/%d/quic-v1", i+1),
			fmt.Sprintf("/dns4/r.example/tcp/%d/wss", i+1))...)
	}
	got := publishable(idOf(t, relayA), flood, maxAddrsOfRelay)
	if len(got) != maxAddrsOfRelay || got[0].kind != kindWSS || got[3].kind != kindWS {
		t.Errorf("%v", got)
	}
	var relays []peer.ID
	of := make(map[peer.ID]sources)
	for range MaxTarget {
		relays = append(relays, idOf(t, relayA))
		of[relays[0]] = flood
	}
	if n := len(circuits(relays, of)); n != maxAddrs {
		t.Errorf("%d addresses, want %d", n, maxAddrs)
	}
}

func TestCircuits(t *testing.T) {
	a, b := idOf(t, relayA), idOf(t, relayB)
	of := map[peer.ID]sources{
		a: {identified: addrs("/ip4/8.8.8.8/tcp/1", "/ip4/8.8.8.8/tcp/2/ws")},
		b: {identified: addrs("/ip4/9.9.9.9/tcp/1", "/ip4/9.9.9.9/tcp/2/ws")},
	}
	want := addrs(
		"/ip4/8.8.8.8/tcp/2/ws/p2p/"+relayA+"/p2p-circuit", "/ip4/9.9.9.9/tcp/2/ws/p2p/"+relayB+"/p2p-circuit",
		"/ip4/8.8.8.8/tcp/1/p2p/"+relayA+"/p2p-circuit", "/ip4/9.9.9.9/tcp/1/p2p/"+relayB+"/p2p-circuit",
	)
	if got := circuits([]peer.ID{a, b}, of); !slices.EqualFunc(got, want, ma.Multiaddr.Equal) {
		t.Errorf("got %v\nwant %v", got, want)
	}
	if circuits(nil, nil) != nil {
		t.Error("addresses without relays")
	}
}

func TestAppendAddrs(t *testing.T) {
	k := new(Keeper)
	own := addrs("/ip4/8.8.8.8/tcp/1/p2p/"+relayA+"/p2p-circuit", "/ip4/8.8.8.8/tcp/2/p2p/"+relayA+"/p2p-circuit")
	k.addrs.Store(&own)
	given := make([]ma.Multiaddr, 0, 8)
	given = append(given, ma.StringCast("/ip4/10.0.0.1/tcp/1"), own[1])
	got := k.AppendAddrs(given)
	if want := append(slices.Clone(given), own[0]); !slices.EqualFunc(got, want, ma.Multiaddr.Equal) {
		t.Errorf("%v, want %v", got, want)
	}
	if given[:3][2] != nil {
		t.Error("wrote to what the caller gave")
	}
	if got := (*Keeper)(nil).AppendAddrs(given); len(got) != 2 {
		t.Errorf("a nil Keeper made %v", got)
	}
}
