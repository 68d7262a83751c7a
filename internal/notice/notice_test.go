package notice

import (
	"fmt"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
)

const relayID = "12D3KooWQnwEGNqcM2nAcPtRR9rAX8Hrg4k9kJLCHoTR5chJfz6d"

func info(t testing.TB, addr string) peer.AddrInfo {
	t.Helper()
	i, err := ParseAddr(addr)
	if err != nil {
		t.Fatal(err)
	}
	return i
}

func TestRoundTrip(t *testing.T) {
	n := Notice{Leaves: 1500 * time.Millisecond, Alternatives: []peer.AddrInfo{info(t, "/dns4/relay.example/tcp/443/tls/ws/p2p/"+relayID)}}
	data, err := n.Marshal()
	const want = `{"leaves":2,"alternatives":["/dns4/relay.example/tcp/443/tls/ws/p2p/` + relayID + `"]}`
	if err != nil || string(data) != want {
		t.Fatalf("%s, %v", data, err)
	}
	got, err := Parse(data)
	n.Leaves = 2 * time.Second
	if err != nil || !reflect.DeepEqual(got, n) {
		t.Errorf("%+v, %v", got, err)
	}
}

func TestParse(t *testing.T) {
	direct := "/ip4/192.0.2.1/tcp/1/p2p/" + relayID
	list := func(addrs ...string) string {
		return fmt.Sprintf(`{"leaves":0,"alternatives":["%s"]}`, strings.Join(addrs, `","`))
	}
	many := make([]string, 20)
	for i := range many {
		many[i] = fmt.Sprintf("/ip4/192.0.2.%d/tcp/1/p2p/%s", i, relayID)
	}
	for name, c := range map[string]struct {
		data string
		n    int // alternatives, -1 for an error
	}{
		"nothing":           {"", -1},
		"no object":         {"[]", -1},
		"empty":             {"{}", 0},
		"members of others": {`{"why":"tired"}`, 0},
		"in the past":       {`{"leaves":-1}`, -1},
		"far off":           {`{"leaves":9223372036854775807}`, -1},
		"one":               {list(direct), 1},
		"no peer":           {list("/ip4/192.0.2.1/tcp/1", direct), 1},
		"no address":        {list("/p2p/" + relayID), 0},
		"through a relay":   {list("/ip4/192.0.2.1/tcp/1/p2p/" + relayID + "/p2p-circuit/p2p/" + relayID), 0},
		"long address":      {list("/dns4/" + strings.Repeat("a", 400) + "/tcp/1/p2p/" + relayID), 0},
		"too many":          {list(many...), MaxAlternatives},
		"too long":          {`{"x":"` + strings.Repeat("a", 4096) + `"}`, -1},
	} {
		n, err := Parse([]byte(c.data))
		if (err != nil) != (c.n < 0) || err == nil && len(n.Alternatives) != c.n {
			t.Errorf("%s: %+v, %v", name, n, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	data, _ := Notice{Leaves: time.Minute, Alternatives: []peer.AddrInfo{info(f, "/ip4/192.0.2.1/tcp/1/p2p/"+relayID)}}.Marshal()
	f.Add(data)
	f.Add([]byte(`{"leaves":86400,"alternatives":["","/p2p/x"]}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		n, err := Parse(data)
		if err != nil {
			return
		}
		if len(n.Alternatives) > MaxAlternatives || n.Leaves < 0 || n.Leaves > maxLeaves {
			t.Fatalf("%+v", n)
		}
		again, err := n.Marshal()
		if err != nil {
			t.Skip("its addresses are longer when written anew")
		}
		if m, err := Parse(again); err != nil || !reflect.DeepEqual(m, n) {
			t.Errorf("%+v, then %+v, %v", n, m, err)
		}
	})
}
