package signaling

import (
	"fmt"
	"net/netip"
	"strings"
	"testing"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
)

const mdnsName = "3b1f5e0c-7a0e-4b8e-9d8a-2f6f1c1d2e3f.local"

func TestParseAttribute(t *testing.T) {
	tests := []struct {
		name, in string
		want     string // transport host port type, or empty
	}{
		{"shortest", "candidate:1 1 udp 1 1.2.3.4 5 typ host", "udp 1.2.3.4 5 host"},
		{
			"Chromium's",
			"candidate:1467250027 1 udp 2122260223 192.168.0.196 46243 typ host generation 0 ufrag x network-id 1 " +
				"network-cost 999",
			"udp 192.168.0.196 46243 host",
		},
		{"Firefox's", "candidate:0 1 UDP 2122252543 " + mdnsName + " 50325 typ host", "udp " + mdnsName + " 50325 host"},
		{"Firefox's TCP", "candidate:3 1 TCP 2105524479 10.0.0.1 9 typ host tcptype active", "tcp 10.0.0.1 9 host"},
		{"reflexive", "candidate:a/+ 1 udp 1 1.2.3.4 5 typ srflx raddr 10.0.0.1 rport 6 generation 0", "udp 1.2.3.4 5 srflx"},
		{"IPv6", "candidate:1 1 udp 1 2001:db8::1 5 typ relay raddr :: rport 0", "udp 2001:db8::1 5 relay"},
		{"highest numbers", "candidate:1 256 udp 2147483647 1.2.3.4 65535 typ prflx", "udp 1.2.3.4 65535 prflx"},
		{"no prefix", "1 1 udp 1 1.2.3.4 5 typ host", ""},
		{"two prefixes", "candidate:candidate:1 1 udp 1 1.2.3.4 5 typ host", ""},
		{"attribute line", "a=candidate:1 1 udp 1 1.2.3.4 5 typ host", ""},
		{"no foundation", "candidate: 1 udp 1 1.2.3.4 5 typ host", ""},
		{"long foundation", "candidate:" + strings.Repeat("1", 33) + " 1 udp 1 1.2.3.4 5 typ host", ""},
		{"odd foundation", "candidate:- 1 udp 1 1.2.3.4 5 typ host", ""},
		{"component", "candidate:1 257 udp 1 1.2.3.4 5 typ host", ""},
		{"priority", "candidate:1 1 udp 2147483648 1.2.3.4 5 typ host", ""},
		{"negative priority", "candidate:1 1 udp -1 1.2.3.4 5 typ host", ""},
		{"port", "candidate:1 1 udp 1 1.2.3.4 65536 typ host", ""},
		{"signed port", "candidate:1 1 udp 1 1.2.3.4 +5 typ host", ""},
		{"no typ", "candidate:1 1 udp 1 1.2.3.4 5 type host", ""},
		{"unknown type", "candidate:1 1 udp 1 1.2.3.4 5 typ other", ""},
		{"extension without a value", "candidate:1 1 udp 1 1.2.3.4 5 typ host generation", ""},
		{"two spaces", "candidate:1 1 udp 1  1.2.3.4 5 typ host x", ""},
		{"space at the end", "candidate:1 1 udp 1 1.2.3.4 5 typ host ", ""},
		{"tab", "candidate:1 1 udp 1\t1.2.3.4 5 typ host x y", ""},
		{"line break", "candidate:1 1 udp 1 1.2.3.4 5 typ host x y\r\na=candidate:1", ""},
		{"NUL", "candidate:1 1 udp 1 1.2.3.4\x00 5 typ host", ""},
		{"not ASCII", "candidate:1 1 udp 1 é 5 typ host", ""},
		{"many fields", "candidate:1 1 udp 1 1.2.3.4 5 typ host" + strings.Repeat(" a b", 100), ""},
		{"empty", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := ""
			if a, err := parseAttribute(tt.in); err == nil {
				got = fmt.Sprint(a.transport, " ", a.host, " ", a.port, " ", a.typ)
			}
			if got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func FuzzParseAttribute(f *testing.F) {
	f.Add(udpCandidate)
	f.Add("candidate:1 1 TCP 1 " + mdnsName + " 9 typ host tcptype active")
	f.Add("candidate:1 1 udp 1 2001:db8::1 5 typ relay raddr :: rport 0")
	f.Fuzz(func(t *testing.T, in string) {
		a, err := parseAttribute(in)
		if err != nil {
			return
		}
		if fields := strings.Fields(strings.TrimPrefix(in, "candidate:")); fields[4] != a.host || fields[7] != a.typ {
			t.Fatalf("%q has address %q and type %q", in, a.host, a.typ)
		}
		if a.addr.IsValid() && netip.MustParseAddr(a.host) != a.addr {
			t.Fatalf("%q has address %v", in, a.addr)
		}
		_ = DefaultCandidatePolicy().judge(classPublic, in)
	})
}

func TestClassOf(t *testing.T) {
	for class, addrs := range map[class][]string{
		classPublic: {
			"1.1.1.1", "172.32.0.1", "100.128.0.1", "192.0.2.1", "223.255.255.255",
			"2606:4700::1111", "2001:db8::1", "64:ff9b::1.1.1.1", "2002:101:101::1", "::ffff:1.1.1.1",
		},
		classPrivate: {
			"10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "198.18.0.1",
			"fd00::1", "fc00::1", "::ffff:10.0.0.1",
		},
		classLinkLocal: {"169.254.169.254", "fe80::1", "fe80::1%eth0", "febf::1"},
		classLoopback:  {"127.0.0.1", "127.255.0.1", "::1", "::ffff:127.0.0.1"},
		classForbidden: {
			"0.0.0.0", "0.1.2.3", "224.0.0.251", "239.255.255.250", "240.0.0.1", "255.255.255.255",
			"::", "::10.0.0.1", "ff02::1", "ff02::fb", "fec0::1", "2001::1",
			"64:ff9b::10.0.0.1", "64:ff9b::7f00:1", "2002:a00:1::1", "::ffff:0.0.0.0",
			"64:ff9b:1::1", "200::1",
		},
	} {
		for _, addr := range addrs {
			if got := classOf(netip.MustParseAddr(addr)); got != class {
				t.Errorf("%s is of class %d, want %d", addr, got, class)
			}
		}
	}
	if got := classOf(netip.Addr{}); got != classForbidden {
		t.Errorf("no address is of class %d", got)
	}
}

func TestJudge(t *testing.T) {
	udp := func(host string, port int) string {
		return fmt.Sprintf("candidate:1 1 udp 1 %s %d typ host", host, port)
	}
	def, guarded := DefaultCandidatePolicy(), GuardedCandidatePolicy()
	none := CandidatePolicy{Max: 1, MinPort: 1}
	tests := []struct {
		name      string
		policy    CandidatePolicy
		via       string
		candidate string
		want      refusal
	}{
		{"public", none, "1.1.1.1", udp("8.8.8.8", 1024), refusedNot},
		{"two in one LAN meet at a public relay", def, "1.1.1.1", udp("192.168.1.7", 5000), refusedNot},
		{"unique local", def, "1.1.1.1", udp("fd00::1", 5000), refusedNot},
		{"mDNS", def, "1.1.1.1", udp(mdnsName, 5000), refusedNot},
		{"mDNS in capitals", def, "1.1.1.1", udp(strings.ToUpper(mdnsName), 5000), refusedNot},
		{"loopback from afar", def, "1.1.1.1", udp("127.0.0.1", 5000), refusedAddress},
		{"loopback from the LAN", def, "192.168.1.1", udp("127.0.0.1", 5000), refusedAddress},
		{"loopback with the relay there", def, "127.0.0.1", udp("127.0.0.1", 5000), refusedNot},
		{"IPv6 loopback with the relay on IPv4's", def, "127.0.0.1", udp("::1", 5000), refusedNot},
		{"cloud metadata", def, "10.0.0.1", udp("169.254.169.254", 5000), refusedAddress},
		{"link-local with the relay there", def, "169.254.3.4", udp("169.254.1.2", 5000), refusedNot},
		{"LAN with the relay on loopback", guarded, "127.0.0.1", udp("10.99.0.1", 5000), refusedNot},
		{"server: private from afar", guarded, "1.1.1.1", udp("10.0.0.1", 5000), refusedAddress},
		{"server: mDNS from afar", guarded, "1.1.1.1", udp(mdnsName, 5000), refusedAddress},
		{"server: private with a private relay", guarded, "10.0.0.1", udp("192.168.0.1", 5000), refusedNot},
		{"server: where the relay is, is not known", guarded, "", udp("192.168.0.1", 5000), refusedAddress},
		{"strictest", none, "127.0.0.1", udp("127.0.0.1", 5000), refusedAddress},
		{"broadcast", def, "192.168.1.1", udp("192.168.1.255", 5000), refusedAddress},
		{"network", def, "192.168.1.1", udp("192.168.1.0", 5000), refusedAddress},
		{"multicast", def, "127.0.0.1", udp("224.0.0.251", 5353), refusedAddress},
		{"unspecified", def, "127.0.0.1", udp("0.0.0.0", 5000), refusedAddress},
		{"zone", def, "127.0.0.1", udp("fe80::1%eth0", 5000), refusedAddress},
		{"somebody's mDNS name", def, "127.0.0.1", udp("printer.local", 5000), refusedAddress},
		{"longer mDNS name", def, "127.0.0.1", udp("x."+mdnsName, 5000), refusedAddress},
		{"host name", def, "127.0.0.1", udp("example.com", 5000), refusedAddress},
		{"reflexive mDNS name", def, "1.1.1.1", strings.Replace(udp(mdnsName, 5000), "host", "srflx", 1), refusedAddress},
		{"decimal address", def, "127.0.0.1", udp("2130706433", 5000), refusedAddress},
		{"port 0", def, "1.1.1.1", udp("8.8.8.8", 0), refusedPort},
		{"port 0, whatever the policy", none, "1.1.1.1", udp("8.8.8.8", 0), refusedPort},
		{"DNS", def, "1.1.1.1", udp("8.8.8.8", 53), refusedPort},
		{"HTTPS", def, "1.1.1.1", udp("8.8.8.8", 443), refusedNot},
		{"TCP, active", def, "1.1.1.1", "candidate:1 1 tcp 1 8.8.8.8 9 typ host tcptype active", refusedTransport},
		{"TCP, passive", def, "1.1.1.1", "candidate:1 1 TCP 1 8.8.8.8 5000 typ host tcptype passive", refusedTransport},
		{"malformed", def, "1.1.1.1", "candidate:", refusedMalformed},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			via := classForbidden
			if tt.via != "" {
				via = classOf(netip.MustParseAddr(tt.via))
			}
			if got := tt.policy.judge(via, tt.candidate); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

// connTo is a connection that leads to an address.
type connTo struct {
	network.Conn
	addr string
}

func (c connTo) RemoteMultiaddr() ma.Multiaddr {
	if c.addr == "" {
		return nil
	}
	return ma.StringCast(c.addr)
}

func TestAllows(t *testing.T) {
	const relay = "/p2p/12D3KooWBtg3aaRMjxwedh83aGiUkwSxDwUZkzuJcfaqUmo7R3pq/p2p-circuit"
	loopback := netip.MustParseAddr("127.0.0.1")
	for addr, want := range map[string]bool{
		"/ip4/127.0.0.1/tcp/1":                   true,
		"/ip4/127.0.0.1/tcp/1/ws" + relay:        true,
		"/ip6/::1/udp/1/quic-v1" + relay:         true,
		"/ip4/192.168.1.1/tcp/1" + relay:         false,
		"/ip4/1.1.1.1/tcp/1" + relay:             false,
		"/dns4/localhost/tcp/1/ws" + relay:       false,
		"/webrtc":                                false,
		"/ip6zone/eth0/ip6/fe80::1/tcp/1/ws":     false,
		"":                                       false,
		"/ip4/1.1.1.1/tcp/1" + relay + "/webrtc": false,
	} {
		if got := DefaultCandidatePolicy().Allows(connTo{addr: addr}, loopback); got != want {
			t.Errorf("over %s loopback is allowed: %v, want %v", addr, got, want)
		}
	}
}

func TestFilterSDP(t *testing.T) {
	const good, bad = "a=candidate:1 1 udp 1 8.8.8.8 5000 typ host", "a=candidate:1 1 udp 1 127.0.0.1 5000 typ host"
	tests := []struct{ name, in, want string }{
		{"without candidates", "v=0\r\na=ice-ufrag:x\r\na=end-of-candidates\r\n", "v=0\r\na=ice-ufrag:x\r\na=end-of-candidates\r\n"},
		{"good", "v=0\r\n" + good + "\r\na=mid:0\r\n", "v=0\r\n" + good + "\r\na=mid:0\r\n"},
		{"bad", "v=0\r\n" + bad + "\r\na=mid:0\r\n", "v=0\r\na=mid:0\r\n"},
		{"line feeds only", "v=0\n" + bad + "\n" + good + "\na=mid:0\n", "v=0\n" + good + "\na=mid:0\n"},
		{"no end of line", "v=0\r\n" + bad, "v=0\r\n"},
		{"carriage returns only", "v=0\r" + bad + "\ra=mid:0\r\nt=0 0\r\n", "t=0 0\r\n"},
		{"hidden behind a carriage return", "v=0\r\na=x\r" + bad + "\r\nt=0 0\r\n", "v=0\r\nt=0 0\r\n"},
		{"two carriage returns", "v=0\r\n" + good + "\r\r\n", "v=0\r\n"},
		{"spaces", "v=0\r\n " + bad + "\r\na= candidate:1\r\n", "v=0\r\n"},
		{"capitals", "v=0\r\n" + strings.ToUpper(bad) + "\r\n", "v=0\r\n"},
		{"another line's type", "v=0\r\ni=candidate:1\r\n", "v=0\r\n"},
		{"malformed", "v=0\r\na=candidate:\r\n", "v=0\r\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := filterSDP(tt.in, func(c string) bool { return DefaultCandidatePolicy().judge(classPublic, c) == refusedNot })
			if got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func FuzzFilterSDP(f *testing.F) {
	f.Add("v=0\r\na=" + udpCandidate + "\r\na=mid:0\r\n")
	f.Add("v=0\na=candidate:1 1 udp 1 127.0.0.1 5000 typ host\ra=" + udpCandidate + "\n")
	f.Fuzz(func(t *testing.T, sdp string) {
		var judged []string
		got := filterSDP(sdp, func(c string) bool {
			judged = append(judged, c)
			return DefaultCandidatePolicy().judge(classPublic, c) == refusedNot
		})
		if !mentionsCandidate(sdp) && got != sdp {
			t.Fatalf("%q became %q", sdp, got)
		}
		if again := filterSDP(got, func(string) bool { return false }); mentionsCandidate(again) {
			t.Fatalf("%q brings a candidate that was not judged", got)
		}
	})
}
