package interop

import (
	"context"
	"testing"
	"time"
)

// closedLimit is for a Go peer to notice that the page at the other end of a
// connection has ended. js-libp2p needs 16 to 30 s for it.
const closedLimit = time.Second

// TestClosedPage: a page that ends, as when it is reloaded or left, is gone for
// Go at once: the browser closes SCTP and DTLS, though js-libp2p says nothing. A
// Chromium tab that is closed by its driver is killed and sends nothing; that, as
// any other death, is noticed by ICE, see the last column of the matrix.
func TestClosedPage(t *testing.T) {
	for _, kind := range []Kind{Chromium, Firefox} {
		t.Run(string(kind), func(t *testing.T) {
			p := &pairing{dialler: Go, listener: kind}
			Need(t, Go, kind)
			p.open(t, StartRelay(t))
			p.meet(t)
			ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
			defer cancel()
			start := time.Now()
			if err := p.b.tab.Goto(ctx, "about:blank"); err != nil {
				t.Fatal(err)
			}
			leaving := time.Since(start)
			p.a.Await(t, closedLimit, "notices that the page has ended", func(s State) bool {
				_, direct := s.Direct(p.b.ID)
				return !direct
			})
			t.Logf("noticed %v after the page began to leave, which took %v", time.Since(start), leaving)
		})
	}
}
