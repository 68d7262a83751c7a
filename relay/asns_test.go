package relay_test

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/tangop2p/tango/relay"
)

func asnFile(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "asns")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestASNs(t *testing.T) {
	path := asnFile(t, "# a comment\n\n"+
		"192.0.2.0\t192.0.2.255\t64500\tZZ\tNOBODY - Documentation\r\n"+
		"192.0.2.64/26 AS64501 # within the first\n"+
		"192.0.2.100\t192.0.2.101\t0\tNone\tNot routed\n"+
		"2001:db8::/32 64502\n"+
		"255.255.255.0/24 64503\n"+
		"255.255.255.255/32 64504\n"+
		"0.0.0.0 0.0.0.1 64505\n"+
		"::ffff:203.0.113.0/120 as64506\n")
	a, err := relay.LoadASNs(path)
	if err != nil {
		t.Fatal(err)
	}
	for addr, want := range map[string]uint32{
		"192.0.2.0": 64500, "192.0.2.63": 64500, "192.0.2.64": 64501, "192.0.2.99": 64501, "192.0.2.100": 0, "192.0.2.101": 0,
		"192.0.2.102": 64501, "192.0.2.127": 64501, "192.0.2.128": 64500, "192.0.2.255": 64500, "192.0.3.0": 0, "192.0.1.255": 0,
		"::ffff:192.0.2.1": 64500, "2001:db8::1": 64502, "2001:db9::": 0, "::1": 0, "255.255.255.254": 64503,
		"255.255.255.255": 64504, "0.0.0.0": 64505, "0.0.0.2": 0, "203.0.113.9": 64506,
	} {
		if got := a.Lookup(netip.MustParseAddr(addr)); got != want {
			t.Errorf("%s: %d, want %d", addr, got, want)
		}
	}
	if a.Lookup(netip.Addr{}) != 0 {
		t.Error("no address has a number")
	}
	before := a.Len()
	if err := os.WriteFile(path, []byte("192.0.2.0/24 1\noops\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := a.Reload(); err == nil || a.Len() != before {
		t.Errorf("%v, %d ranges: the table must stay", err, a.Len())
	}
	if err := os.WriteFile(path, []byte("192.0.2.0/24 1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := a.Reload(); err != nil || a.Lookup(netip.MustParseAddr("192.0.2.1")) != 1 {
		t.Error(err)
	}
}

func TestASNErrors(t *testing.T) {
	for text, want := range map[string]string{
		"192.0.2.0/24 1\n192.0.2.0/24":                    "line 2: no number",
		"192.0.2.0":                                       "line 1: no number",
		"192.0.2.0 5":                                     `line 1: "192.0.2.0" to "5"`,
		"192.0.2.9 192.0.2.1 5":                           "is no range",
		"192.0.2.9 2001:db8::1 5":                         "is no range",
		"fe80::1%eth0 fe80::2%eth0 5":                     "is no range",
		"192.0.2.1/24 5":                                  "192.0.2.0/24",
		"192.0.2.0/24 AS":                                 `"AS"`,
		"192.0.2.0/24 4294967296":                         `"4294967296"`,
		"\n192.0.2.0 192.0.2.9 1\n192.0.2.5 192.0.2.20 2": "line 3 overlaps with line 2",
		"# ok\n" + strings.Repeat("a", 1<<17):             "line 2: ",
	} {
		path := asnFile(t, text)
		if _, err := relay.LoadASNs(path); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), path) {
			t.Errorf("%.40q: %v, want %s in it", text, err, want)
		}
	}
	if _, err := relay.LoadASNs("/nowhere/asns"); err == nil || !strings.Contains(err.Error(), "/nowhere/asns") {
		t.Errorf("no file: %v", err)
	}
}

// Nested networks are found as one would by looking at all of them.
func TestASNsBeside(t *testing.T) {
	random := rand.New(rand.NewPCG(1, 2))
	type entry struct {
		network netip.Prefix
		asn     uint32
	}
	var entries []entry
	var text strings.Builder
	for i := range 300 {
		addr := netip.AddrFrom4([4]byte{10, byte(random.IntN(2)), byte(random.IntN(8)), byte(random.IntN(256))})
		network, err := addr.Prefix(8 + random.IntN(25))
		if err != nil {
			t.Fatal(err)
		}
		entries = append(entries, entry{network, uint32(i)}) // the first is 0
		fmt.Fprintln(&text, network, i)
	}
	a, err := relay.LoadASNs(asnFile(t, text.String()))
	if err != nil {
		t.Fatal(err)
	}
	for range 20_000 {
		addr := netip.AddrFrom4([4]byte{10, byte(random.IntN(3)), byte(random.IntN(9)), byte(random.IntN(256))})
		want, bits := uint32(0), -1
		for _, e := range entries {
			if e.network.Contains(addr) && e.network.Bits() >= bits {
				want, bits = e.asn, e.network.Bits()
			}
		}
		if got := a.Lookup(addr); got != want {
			t.Fatalf("%v: %d, want %d", addr, got, want)
		}
	}
}

// A look takes less than 1 µs in a table about as large as the Internet's.
func BenchmarkASNs(b *testing.B) {
	var text strings.Builder
	for i := range 400_000 {
		fmt.Fprintf(&text, "%v/24 %d\n", netip.AddrFrom4([4]byte{byte(1 + i>>16), byte(i >> 8), byte(i), 0}), i)
	}
	a, err := relay.LoadASNs(asnFile(b, text.String()))
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	i := uint32(0)
	for b.Loop() {
		i += 7919
		a.Lookup(netip.AddrFrom4([4]byte{1 + byte(i>>24)%6, byte(i >> 16), byte(i >> 8), byte(i)}))
	}
}

func FuzzParseASNs(f *testing.F) {
	f.Add("192.0.2.0\t192.0.2.255\t64500\tZZ\n192.0.2.64/26 AS64501 # more\n2001:db8::/32 1\n")
	f.Fuzz(func(t *testing.T, text string) {
		a, err := relay.LoadASNs(asnFile(t, text))
		if err != nil {
			return
		}
		if n := 2*strings.Count(text, "\n") + 2; a.Len() > n {
			t.Errorf("%d ranges of %d lines", a.Len(), n/2)
		}
	})
}
