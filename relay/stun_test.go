package relay_test

import (
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p"
	ma "github.com/multiformats/go-multiaddr"
	"github.com/pion/stun/v4"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/tangop2p/tango/relay"
)

// askSTUN sends a packet, and another that is answered for sure, and returns the
// answers up to that to the second one.
func askSTUN(t *testing.T, to netip.AddrPort, packet []byte) (answers []*stun.Message, from netip.AddrPort) {
	t.Helper()
	conn, err := net.DialUDP("udp", nil, net.UDPAddrFromAddrPort(to))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	last := stun.MustBuild(stun.TransactionID, stun.BindingRequest)
	for _, p := range [][]byte{packet, last.Raw} {
		if _, err := conn.Write(p); err != nil {
			t.Fatal(err)
		}
	}
	local, _ := conn.LocalAddr().(*net.UDPAddr)
	_ = conn.SetReadDeadline(time.Now().Add(5 * time.Second))
	for {
		buf := make([]byte, 2000)
		n, err := conn.Read(buf)
		if err != nil {
			t.Fatal(err)
		}
		m := &stun.Message{Raw: buf[:n]}
		if err := m.Decode(); err != nil {
			t.Fatal(err)
		}
		if m.TransactionID == last.TransactionID {
			return answers, local.AddrPort()
		}
		answers = append(answers, m)
	}
}

func TestSTUN(t *testing.T) {
	reg := prometheus.NewRegistry()
	r, rh := newRelay(t, relay.WithSTUN(":0"), relay.WithRegisterer(reg))
	addrs := r.STUNAddrs()
	if len(addrs) != 2 || addrs[0].Port() != addrs[1].Port() {
		t.Fatalf("answers at %v, want one port in IPv4 and IPv6", addrs)
	}
	if urls, want := r.ICEServers(), "stun:127.0.0.1:"+addrs[0].String()[len("0.0.0.0:"):]; !slices.Equal(urls, []string{want}) {
		t.Errorf("%v, want %s of the addresses %v", urls, want, rh.Addrs())
	}
	request := stun.MustBuild(stun.TransactionID, stun.BindingRequest)
	signed := stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.Fingerprint)
	forged := slices.Clone(signed.Raw)
	forged[len(forged)-1] ^= 1
	long := stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.NewSoftware(strings.Repeat("x", 600)))
	for name, c := range map[string]struct {
		packet   []byte
		answered bool
	}{
		"bare":                  {request.Raw, true},
		"with a fingerprint":    {signed.Raw, true},
		"with a name":           {stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.NewSoftware("me")).Raw, true},
		"forged":                {forged, false},
		"an answer":             {stun.MustBuild(stun.TransactionID, stun.BindingSuccess).Raw, false},
		"an indication":         {stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodBinding, stun.ClassIndication)).Raw, false},
		"for somebody it knows": {stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.NewUsername("me")).Raw, false},
		"TURN":                  {stun.MustBuild(stun.TransactionID, stun.NewType(stun.MethodAllocate, stun.ClassRequest)).Raw, false},
		"cut off":               {signed.Raw[:len(signed.Raw)-1], false},
		"empty":                 {nil, false},
		"with more behind it":   {append(slices.Clone(request.Raw), make([]byte, 100)...), false},
		"not STUN":              {append([]byte{request.Raw[0] | 0x80}, request.Raw[1:]...), false},
		"too long":              {long.Raw, false},
	} {
		for i, ip := range []string{"127.0.0.1", "::1"} {
			answers, from := askSTUN(t, netip.AddrPortFrom(netip.MustParseAddr(ip), addrs[i].Port()), c.packet)
			if !c.answered {
				if len(answers) > 0 {
					t.Errorf("%s is answered: %v", name, answers[0])
				}
				continue
			}
			if len(answers) != 1 {
				t.Fatalf("%s: %d answers", name, len(answers))
			}
			var mapped stun.XORMappedAddress
			if err := mapped.GetFrom(answers[0]); err != nil || mapped.Port != int(from.Port()) || !mapped.IP.Equal(net.ParseIP(ip)) {
				t.Errorf("%s: %v, %v, want %v", name, mapped, err, from)
			}
			if more := len(answers[0].Raw) - len(c.packet); more > 24 {
				t.Errorf("%s: the answer is %d bytes longer", name, more)
			}
		}
	}
	if n := metric(t, reg, "libp2p_relaysvc_stun_requests_total", "malformed"); n != 20 {
		t.Errorf("%v malformed", n)
	}
}

// Where any port will do, it need not be the first that the system offers: others on
// this machine have ports in IPv6 only.
func TestSTUNTakesAnotherPort(t *testing.T) {
	offers := 0
	conns, err := relay.STUNSockets(":0", func(network, addr string) {
		if offers++; network != "udp6" || offers > 6 {
			return
		}
		at, err := net.ResolveUDPAddr(network, addr)
		if err != nil {
			t.Fatal(err)
		}
		other, err := net.ListenUDP(network, at)
		if err != nil {
			return // it is taken already
		}
		t.Cleanup(func() { _ = other.Close() })
	})
	if err != nil || len(conns) != 2 {
		t.Fatalf("%v, %v, want sockets in IPv4 and IPv6", conns, err)
	}
	for _, c := range conns {
		_ = c.Close()
	}
}

// One that asks again and again is not answered for long, others are.
func TestSTUNIsLimited(t *testing.T) {
	r, _ := newRelay(t, relay.WithSTUN("127.0.0.1:0"))
	to := net.UDPAddrFromAddrPort(r.STUNAddrs()[0])
	flood, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 2)}, to)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = flood.Close() }()
	const sent = 1000
	answered := 0
	buf := make([]byte, 100)
	for range sent {
		if _, err := flood.Write(stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw); err != nil {
			t.Fatal(err)
		}
		_ = flood.SetReadDeadline(time.Now().Add(time.Millisecond))
		if _, err := flood.Read(buf); err == nil {
			answered++
		}
	}
	if answered < 50 || answered > sent/2 {
		t.Errorf("%d of %d answered", answered, sent)
	}
	askSTUN(t, r.STUNAddrs()[0], nil)
}

// A NAT lets in only answers from where the request went.
func TestSTUNAnswersFromTheAddressAsked(t *testing.T) {
	r, _ := newRelay(t, relay.WithSTUN(":0"))
	port := r.STUNAddrs()[0].Port()
	if answers, _ := askSTUN(t, netip.AddrPortFrom(netip.MustParseAddr("127.0.0.9"), port), nil); answers != nil {
		t.Error(answers)
	}
}

// Addresses cost a flooder nothing; the limit's memory is what it is.
func TestSTUNLimitCountsAllSources(t *testing.T) {
	answer := relay.STUNAnswerer()
	packet := stun.MustBuild(stun.TransactionID, stun.BindingRequest).Raw
	answered := 0
	for i := range 20_000 {
		from := netip.AddrFrom4([4]byte{10, byte(i >> 16), byte(i >> 8), byte(i)})
		if answer(packet, netip.AddrPortFrom(from, 9)) != nil {
			answered++
		}
	}
	if answered < 2000 || answered > 10_000 {
		t.Errorf("%d answered", answered)
	}
}

func TestSTUNRefuses(t *testing.T) {
	for _, addr := range []string{"3478", "relay.example:3478", ":70000", "", "1.2.3.4"} {
		if _, err := relay.CheckOptions(relay.WithSTUN(addr)); err == nil || !strings.Contains(err.Error(), addr) {
			t.Errorf("%q: %v", addr, err)
		}
	}
	r, _ := newRelay(t, relay.WithSTUN("127.0.0.1:0"))
	h := newHost(t)
	taken := r.STUNAddrs()[0].String()
	if _, err := relay.New(h, relay.WithSTUN(taken)); err == nil || !strings.Contains(err.Error(), taken) {
		t.Errorf("%v", err)
	}
}

func FuzzSTUN(f *testing.F) {
	f.Add(stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.Fingerprint).Raw)
	f.Add(stun.MustBuild(stun.TransactionID, stun.BindingRequest, stun.NewSoftware("me")).Raw)
	answer, from := relay.STUNAnswerer(), netip.MustParseAddrPort("[2001:db8::1]:9")
	f.Fuzz(func(t *testing.T, packet []byte) {
		if got := answer(packet, from); len(got) > 0 && len(got) > max(len(packet), 20)+24 {
			t.Errorf("%d bytes for %d", len(got), len(packet))
		}
	})
}

// It names only what answers: a socket on one address does not do so for the others.
func TestICEServersAnswer(t *testing.T) {
	h := newHost(t, libp2p.ListenAddrStrings("/ip4/127.0.0.2/tcp/0/ws"))
	r, err := relay.New(h, relay.WithSTUN("127.0.0.2:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Close() }()
	want := []string{"stun:" + r.STUNAddrs()[0].String()}
	if got := r.ICEServers(); len(h.Addrs()) < 2 || !slices.Equal(got, want) {
		t.Errorf("%v of %v, want %v", got, h.Addrs(), want)
	}
}

func TestICEServerOf(t *testing.T) {
	const v4, v6, both = "0.0.0.0:9", "[::]:9", "0.0.0.0:9 [::]:9"
	for _, c := range []struct{ bound, addrs, want string }{
		{both, "/ip4/192.0.2.1/tcp/1 /ip6/2001:db8::1/tcp/1", "stun:192.0.2.1:9 stun:[2001:db8::1]:9"},
		{v4, "/ip4/192.0.2.1/tcp/1 /ip6/2001:db8::1/tcp/1", "stun:192.0.2.1:9"},
		{v6, "/ip4/192.0.2.1/tcp/1 /ip6/2001:db8::1/tcp/1", "stun:[2001:db8::1]:9"},
		{"192.0.2.1:9", "/ip4/192.0.2.1/tcp/1 /ip4/192.0.2.2/tcp/1 /ip4/192.0.2.1/tcp/2", "stun:192.0.2.1:9"},
		{"[2001:db8::1]:9", "/ip6/2001:db8::2/tcp/1 /ip6/2001:db8::1/tcp/1", "stun:[2001:db8::1]:9"},
		// bound to what a NAT or a proxy maps the announced address to
		{"10.0.0.1:9", "/ip4/192.0.2.1/tcp/1 /ip6/2001:db8::1/tcp/1", "stun:192.0.2.1:9"},
		{"10.0.0.1:9", "/dns/a.example/tcp/1 /dns4/b.example/tcp/1 /dns6/c.example/tcp/1", "stun:a.example:9 stun:b.example:9"},
		{v6, "/dns/a.example/tcp/1 /dns4/b.example/tcp/1 /dns6/c.example/tcp/1", "stun:a.example:9 stun:c.example:9"},
		{"192.0.2.1:9", "/ip4/192.0.2.1/tcp/1 /dns4/a.example/tcp/443/tls/ws", "stun:192.0.2.1:9 stun:a.example:9"},
		{both, "/dns/a/tcp/1 /dns/b/tcp/1 /dns/c/tcp/1 /dns/d/tcp/1 /dns/e/tcp/1", "stun:a:9 stun:b:9 stun:c:9 stun:d:9"},
		{both, "/dnsaddr/a.example /p2p-circuit /unix/a", ""},
	} {
		var bound []netip.AddrPort
		for b := range strings.FieldsSeq(c.bound) {
			bound = append(bound, netip.MustParseAddrPort(b))
		}
		var addrs []ma.Multiaddr
		for a := range strings.FieldsSeq(c.addrs) {
			addrs = append(addrs, ma.StringCast(a))
		}
		if got := strings.Join(relay.STUNURLs(addrs, bound), " "); got != c.want {
			t.Errorf("at %s of %s: %s, want %s", c.bound, c.addrs, got, c.want)
		}
	}
}
