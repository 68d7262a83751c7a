package webrtc

import (
	"fmt"
	"net"
	"testing"

	"github.com/pion/sctp"
)

// TestClosedBehindTheAssociation is no error of Close: pion returns one for a
// channel that opens while the PeerConnection is closed (seen once in a Node.Close).
func TestClosedBehindTheAssociation(t *testing.T) {
	if err := closed(fmt.Errorf("%w: state=Closed", sctp.ErrResetPacketInStateNotExist)); err != nil {
		t.Error(err)
	}
	if closed(nil) != nil || closed(net.ErrClosed) == nil {
		t.Error("other outcomes are changed")
	}
}
