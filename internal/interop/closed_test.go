package interop

import (
	"context"
	"testing"
	"time"
)

// closedLimit is for a Go peer to notice that the page at the other end of a
// connection has closed. js-libp2p needs 16 to 30 s for it.
const closedLimit = time.Second

// TestClosedPage: a page that closes is gone for Go at once, though nobody has
// said goodbye.
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
			if err := p.b.Close(ctx); err != nil {
				t.Fatal(err)
			}
			closing := time.Since(start)
			p.a.Await(t, closedLimit, "notices that the page has closed", func(s State) bool {
				_, direct := s.Direct(p.b.ID)
				return !direct
			})
			t.Logf("noticed %v after the page began to close, which took %v", time.Since(start), closing)
		})
	}
}
