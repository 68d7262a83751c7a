package front_test

import (
	"bufio"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/tangop2p/tango/front"
)

const trustedNet = "10.0.0.0/8"

func TestForwarded(t *testing.T) {
	xff := func(lines ...string) http.Header { return header("X-Forwarded-For", lines...) }
	fwd := func(lines ...string) http.Header { return header("Forwarded", lines...) }
	for _, tc := range []struct {
		header http.Header
		want   string // empty for no header; "error" for a malformed one
	}{
		{nil, ""},
		{xff("192.0.2.1"), "192.0.2.1:0"},
		{xff(" 192.0.2.1\t"), "192.0.2.1:0"},
		{xff("192.0.2.1:80"), "192.0.2.1:80"},
		{xff("[2001:db8::1]:80"), "[2001:db8::1]:80"},
		{xff("[2001:db8::1]"), "[2001:db8::1]:0"},
		{xff("2001:db8::1"), "[2001:db8::1]:0"},
		{xff("::ffff:192.0.2.1"), "192.0.2.1:0"},
		{xff("evil, 192.0.2.9, 192.0.2.1, 10.0.0.1, 10.0.0.2"), "192.0.2.1:0"},
		{xff("10.0.0.3, 10.0.0.1"), "10.0.0.3:0"}, // all trusted: the first of them
		{xff("192.0.2.9", "192.0.2.1, 10.0.0.1"), "192.0.2.1:0"},
		{xff("192.0.2.1", "10.0.0.1"), "192.0.2.1:0"},
		{xff("192.0.2.1" + strings.Repeat(", 10.0.0.1", front.MaxHops-1)), "192.0.2.1:0"},
		{xff("192.0.2.1" + strings.Repeat(", 10.0.0.1", front.MaxHops)), "error"},
		{xff(""), "error"},
		{xff("192.0.2.1,"), "error"},
		{xff("192.0.2.1, unknown"), "error"},
		{xff("192.0.2.1:99999"), "error"},
		{xff("0.0.0.0"), "error"},
		{xff("224.0.0.1"), "error"},
		{xff("fe80::1%eth0"), "error"},
		{xff("[192.0.2.1]"), "error"},
		{fwd("for=192.0.2.1"), "192.0.2.1:0"},
		{fwd("For=192.0.2.1;Proto=https ; by=10.0.0.1"), "192.0.2.1:0"},
		{fwd(`by=10.0.0.1;for="192.0.2.1:80"`), "192.0.2.1:80"},
		{fwd("for=192.0.2.1:80"), "192.0.2.1:80"}, // without its quotes
		{fwd(`for="[2001:db8::1]:80", for=10.0.0.1`), "[2001:db8::1]:80"},
		{fwd(`for="[2001:db8::1]"`), "[2001:db8::1]:0"},
		{fwd(`host="a,b;c";for=192.0.2.1`), "192.0.2.1:0"},
		{fwd("for=192.0.2.9,for=192.0.2.1"), "192.0.2.1:0"},
		{fwd(`for=", for=192.0.2.1`), "error"}, // an open quote of the client's
		{fwd(`for="192.0.2.1`), "error"},
		{fwd(`for="192\.0.2.1"`), "error"},
		{fwd("for=192.0.2.1;for=192.0.2.2"), "error"},
		{fwd("proto=https"), "error"},
		{fwd("for=unknown"), "error"},
		{fwd("for=_hidden"), "error"},
		{fwd("for"), "error"},
		{fwd("for="), "error"},
		{fwd("=192.0.2.1"), "error"},
		{fwd("for=192.0.2.1 by=10.0.0.1"), "error"},
		{fwd("for=[2001:db8::1]"), "error"},
		{http.Header{"X-Forwarded-For": {"192.0.2.1"}, "Forwarded": {"for=192.0.2.1:80"}}, "192.0.2.1:0"},
		{http.Header{"X-Forwarded-For": {"192.0.2.1"}, "Forwarded": {"for=192.0.2.2"}}, "error"},
		{http.Header{"X-Forwarded-For": {"192.0.2.1"}, "Forwarded": {"for=unknown"}}, "error"},
		{header("X-Real-Ip", "192.0.2.1"), ""},
	} {
		got, err := front.ClientOf(tc.header, trustedNet)
		text := ""
		switch {
		case err != nil:
			text = "error"
		case got.IsValid():
			text = got.String()
		}
		if text != tc.want {
			t.Errorf("%q: %s %v, want %q", tc.header, text, err, tc.want)
		}
	}
}

// Whatever the client put before them, the lines that a trusted proxy appends tell.
func FuzzForwarded(f *testing.F) {
	for _, s := range []string{
		"192.0.2.1", "192.0.2.1:80, 10.0.0.1", "[2001:db8::1]:80", "", ",;,",
		`for=192.0.2.1;by=10.0.0.1`, `for="[2001:db8::1]:80", for=10.0.0.2`, `for="`,
	} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, claim string) {
		want := netip.MustParseAddrPort("192.0.2.200:0")
		for _, h := range []http.Header{
			header("X-Forwarded-For", claim, "192.0.2.200, 10.0.0.1"),
			header("X-Forwarded-For", claim+", 192.0.2.200, 10.0.0.1"),
			header("Forwarded", claim, "for=192.0.2.200, for=10.0.0.1"),
		} {
			if got, err := front.ClientOf(h, trustedNet); err != nil || got != want {
				t.Errorf("%q: %v, %v", h, got, err)
			}
		}
		// in one line with its own it may spoil everything, but not choose
		if got, err := front.ClientOf(header("Forwarded", claim+", for=192.0.2.200, for=10.0.0.1"), trustedNet); err == nil && got != want {
			t.Errorf("%q: %v", claim, got)
		}
		got, err := front.ClientOf(header("Forwarded", claim), trustedNet)
		if err == nil && (got.Addr().Zone() != "" || got.Addr().Is4In6()) {
			t.Errorf("%q: %v", claim, got)
		}
	})
}

func FuzzProxyHeader(f *testing.F) {
	f.Add([]byte("PROXY TCP4 192.0.2.7 192.0.2.1 4711 80\r\nGET"))
	f.Add([]byte("PROXY UNKNOWN\r\n"))
	f.Add([]byte("\r\n\r\n\x00\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\xc0\x00\x02\x01\x12\x67\x00\x50"))
	f.Add([]byte("\r\n\r\n\x00\r\nQUIT\n\x20\x00\x00\x00"))
	f.Fuzz(func(t *testing.T, data []byte) {
		got, err := front.ReadProxyHeader(bufio.NewReader(strings.NewReader(string(data))))
		if a := got.Addr(); err == nil && got.IsValid() && (a.IsUnspecified() || a.IsMulticast() || a.Zone() != "" || a.Is4In6()) {
			t.Errorf("%q: %v", data, got)
		}
	})
}
