package relay

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/golang-lru/v2/simplelru"
	"golang.org/x/time/rate"
)

// maxBuckets is how many groups a rate remembers. Beyond that the one is
// forgotten that was quiet for longest.
const maxBuckets = 1 << 14

// Rate refuses what comes more often than n times, 1 to 1048576, per duration,
// 1 ms to 24 h; n at once are all right. It counts what peers ask for, RESERVE
// and CONNECT, also if it is refused in the end, unless other operations are
// named.
func Rate(n int, per time.Duration, by By, ops ...Op) Policy { return newRates(n, per, by, ops) }

type rates struct {
	n   int
	per time.Duration
	by  By
	ops opSet

	mu      sync.Mutex
	buckets *simplelru.LRU[string, *rate.Limiter] // guarded by mu
}

func newRates(n int, per time.Duration, by By, ops []Op) *rates {
	if len(ops) == 0 {
		ops = []Op{Reserve, ConnectFrom}
	}
	buckets, _ := simplelru.NewLRU[string, *rate.Limiter](maxBuckets, nil) // fails without a size only
	return &rates{n: n, per: per, by: by, ops: opsOf(ops), buckets: buckets}
}

func (l *rates) Decide(_ context.Context, r *Request) Decision {
	if !l.ops.has(r.Op) {
		return Decision{}
	}
	group, why := l.by.group(r)
	if why != "" {
		return Refuse(why)
	}
	if !l.allow(group, r.Time) {
		return Refuse(ReasonRate)
	}
	return Decision{}
}

func (l *rates) allow(group string, now time.Time) bool { return l.allowN(group, now, 1) }

func (l *rates) allowN(group string, now time.Time, n int) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	bucket, ok := l.buckets.Get(group)
	if !ok {
		bucket = rate.NewLimiter(rate.Limit(float64(l.n)/l.per.Seconds()), l.n)
		l.buckets.Add(group, bucket)
	}
	return bucket.AllowN(now, n)
}

func (l *rates) about() opSet { return l.ops }

func (l *rates) check() error {
	if l.n < 1 || l.n > maxCount || l.per < time.Millisecond || l.per > 24*time.Hour {
		return fmt.Errorf("Rate(%d, %v): use 1 to %d requests per 1ms to 24h", l.n, l.per, maxCount)
	}
	return l.by.check()
}
