// Package perip makes the resource manager's limits on connections that come
// from one IP address.
package perip

import (
	"net/netip"
	"time"

	rcmgr "github.com/libp2p/go-libp2p/p2p/host/resource-manager"
	"github.com/libp2p/go-libp2p/x/rate"
)

// Options admits n connections from one IPv4 address or IPv6 /56, all at once
// and again within a minute: everybody comes back after a restart. The defaults
// admit 8, and 16 new ones in 80 seconds.
func Options(n int) []rcmgr.Option {
	return []rcmgr.Option{
		rcmgr.WithLimitPerSubnet(
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 32, ConnCount: n}},
			[]rcmgr.ConnLimitPerSubnet{{PrefixLength: 56, ConnCount: n}, {PrefixLength: 48, ConnCount: 8 * n}},
		),
		rcmgr.WithConnRateLimiters(rateLimiter(n)),
	}
}

func rateLimiter(n int) *rate.Limiter {
	limit := rate.Limit{RPS: float64(n) / 60, Burst: n}
	return &rate.Limiter{
		NetworkPrefixLimits: []rate.PrefixLimit{ // loopback is free, as in go-libp2p's defaults
			{Prefix: netip.MustParsePrefix("127.0.0.0/8")},
			{Prefix: netip.MustParsePrefix("::1/128")},
		},
		SubnetRateLimiter: rate.SubnetLimiter{
			IPv4SubnetLimits: []rate.SubnetLimit{{PrefixLength: 32, Limit: limit}},
			IPv6SubnetLimits: []rate.SubnetLimit{{PrefixLength: 56, Limit: limit}},
			GracePeriod:      time.Minute,
		},
	}
}
