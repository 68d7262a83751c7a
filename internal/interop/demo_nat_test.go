package interop

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"
)

// TestDemoNAT opens the demo page behind two NATs. With the relay's own STUN
// server, and no other in the whole network, the pages connect directly; without
// it they do not, and say why.
func TestDemoNAT(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name  string
		flags []string // of the relay
		mute  bool     // drop what is sent to the STUN server
		says  string   // the page; empty if it connects directly
	}{
		{"STUN", []string{"-stun", stunAddress}, false, ""},
		{"no STUN", nil, false, "this relay has no STUN server"},
		{"silent STUN", []string{"-stun", stunAddress}, true, "STUN server, which would help, does not answer"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			Need(t, Chromium)
			unavailable(t, demoMissing())
			lab := NewLab(t, [2]NAT{Cone, Cone})
			if c.mute {
				const rules = "table ip mute { chain stun { type filter hook input priority filter; udp dport 3478 drop; }\n}"
				if err := lab.Public.NFT(rules); err != nil {
					t.Fatal(err)
				}
			}
			flags := append([]string{"-web", demoDist, "-forward", "tango-demo-chat"}, c.flags...)
			relay := StartRelayIn(t, lab.Public, relayAddress, flags...)
			a := openDemoIn(t, lab.Hosts[0], Chromium, "first", relay)
			b := openDemoIn(t, lab.Hosts[1], Chromium, "second", relay)
			if c.says == "" {
				a.awaitDirect(t, b)
				b.awaitDirect(t, a)
				a.awaitMesh(t, b)
				b.awaitMesh(t, a)
				relay.Kill() // which would have a copy there first
				a.chat(t, b, "hello through two NATs", "direct")
				return
			}
			b.awaitWords(t, a, c.says)
		})
	}
}

// awaitWords: the page tells people why it is not connected directly to another.
func (p *demoPage) awaitWords(t *testing.T, other *demoPage, words string) {
	t.Helper()
	row := fmt.Sprintf(`document.querySelector('[data-testid="peer-row"][data-peer=%q]')?.textContent ?? ""`, other.id)
	Await(t, 90*time.Second, fmt.Sprintf("%s says %q", p.name, words), func(ctx context.Context) (bool, error) {
		var text string
		if err := p.Evaluate(ctx, row, &text); err != nil {
			return false, err
		}
		return strings.Contains(text, words), fmt.Errorf("it says %q", text)
	})
	if s := p.await(t, time.Second, "has a state", func(demoState) bool { return true }); s.direct(other.id) {
		t.Errorf("%s is connected directly, which theory rules out: is the NAT what it should be?", p.name)
	}
}
