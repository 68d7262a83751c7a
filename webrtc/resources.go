package webrtc

import (
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"

	"github.com/tangop2p/tango/internal/perip"
)

// DefaultPerRelay is how many peers can come through one relay at once with
// the resource manager of package tango.
const DefaultPerRelay = 256

// ResourceManagerOptions returns the limits of a resource manager on connections
// from one IP address in which n peers can come through one relay: to the
// resource manager all of them come from the relay's address. The defaults
// admit 8, the relay itself included, and 16 new ones in 80 seconds. Once direct,
// peers count by their own addresses, with the same limits.
func ResourceManagerOptions(n int) []rcmgr.Option { return perip.Options(n) }
