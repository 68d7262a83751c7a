package interop

import (
	"context"
	"fmt"
	"testing"
	"time"
)

func TestTmpFirefoxGo(t *testing.T) {
	relay := StartRelay(t)
	a, b := openPeer(t, Firefox, "ff"), openPeer(t, Go, "go")
	startQuiet(t, a, Config{Relays: relay.Addrs})
	startQuiet(t, b, Config{Relays: relay.Addrs})
	addrs := webrtcAddrs(t, b)
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	for range 2 {
		took, err := a.Connect(ctx, b.ID, addrs)
		fmt.Println(took, err)
		s, _ := a.State(ctx)
		for _, c := range s.To(b.ID) {
			_ = a.Abort(ctx, c.ID)
		}
		<-time.After(time.Second)
	}
	s, _ := a.State(ctx)
	for _, e := range s.Events {
		fmt.Println(e.At.Time().Format("05.000"), e.Kind, e.Detail)
	}
}
