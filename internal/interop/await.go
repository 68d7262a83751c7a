package interop

import (
	"context"
	"testing"
	"time"
)

// pollInterval is short against what is waited for, a network round trip or a
// timer of js-libp2p, and long against what a look costs, some milliseconds.
const pollInterval = 100 * time.Millisecond

// Await looks until done is true and ends the test if that takes longer than limit.
// An error from done does not end the wait; the last one is part of the failure.
func Await(t testing.TB, limit time.Duration, what string, done func(context.Context) (bool, error)) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	ticker := time.NewTicker(pollInterval)
	defer ticker.Stop()
	var last error
	for {
		ok, err := done(ctx)
		if ok {
			return
		}
		if ctx.Err() == nil { // else err only says that the time is over
			last = err
		}
		select {
		case <-ticker.C:
		case <-ctx.Done():
			t.Fatalf("not within %v: %s (last look: %v)", limit, what, last)
		}
	}
}
