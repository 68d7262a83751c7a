package webrtc

import (
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	// webrtc-direct sets deadlines on pion's streams, and pion 1.12.1 keeps a
	// goroutine for each until it passes, also if the stream has ended.
	goleak.VerifyTestMain(m, goleak.IgnoreTopFunction("github.com/pion/sctp.(*Stream).SetReadDeadline.func1"))
}
