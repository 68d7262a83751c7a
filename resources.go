package tango

import (
	"fmt"

	"github.com/libp2p/go-libp2p"
	"github.com/libp2p/go-libp2p/core/network"
	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/p2p/net/connmgr"

	"github.com/tangop2p/tango/relay"
	"github.com/tangop2p/tango/webrtc"
)

// SpareConns is how many connections a relay keeps beside those that hold a
// reservation.
const SpareConns = 256

// size chooses the managers that the caller has not given, for a relay, for who
// is reached through one or for others: go-libp2p's own counts for nobody too.
func (c *config) size() (err error) {
	if c.relay != nil {
		return c.sizeFor(c.relay.limits)
	}
	if c.resources == nil {
		var opts []rcmgr.Option
		if c.relays != nil {
			opts = webrtc.ResourceManagerOptions(webrtc.DefaultPerRelay)
		}
		c.resources, err = c.resourceManager(func(*rcmgr.ScalingLimitConfig) {}, opts)
	}
	return err
}

func (c *config) sizeFor(l relay.Limits) (err error) {
	if c.resources == nil {
		if c.resources, err = c.resourceManager(l.Scale, l.ResourceManagerOptions()); err != nil {
			return err
		}
	}
	if c.conns == nil {
		keep := l.Reservations + SpareConns/2
		if c.conns, err = connmgr.NewConnManager(keep, l.Reservations+SpareConns); err != nil {
			return fmt.Errorf("connection manager: %w", err)
		}
	}
	return nil
}

func (c *config) resourceManager(scale func(*rcmgr.ScalingLimitConfig), opts []rcmgr.Option) (network.ResourceManager, error) {
	if c.registerer == nil {
		opts = append(opts, rcmgr.WithMetricsDisabled())
	}
	return resourceManager(scale, opts...)
}

// ResourceManager returns a go-libp2p resource manager with the default limits
// for this machine, in which a relay with limits l fits. [New] uses it with
// [WithRelay]; it is exported for those who call libp2p.New themselves.
func ResourceManager(l relay.Limits) (network.ResourceManager, error) {
	if err := l.Validate(); err != nil {
		return nil, fmt.Errorf("tango: %w", err)
	}
	return resourceManager(l.Scale, l.ResourceManagerOptions()...)
}

// resourceManager scales the default limits, to which scale adds.
func resourceManager(scale func(*rcmgr.ScalingLimitConfig), opts ...rcmgr.Option) (network.ResourceManager, error) {
	scaling := rcmgr.DefaultLimits
	libp2p.SetDefaultServiceLimits(&scaling)
	scale(&scaling)
	rm, err := rcmgr.NewResourceManager(rcmgr.NewFixedLimiter(scaling.AutoScale()), opts...)
	if err != nil {
		return nil, fmt.Errorf("tango: resource manager: %w", err)
	}
	return rm, nil
}
