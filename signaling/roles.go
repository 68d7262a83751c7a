package signaling

import (
	"context"
	"fmt"
	"time"
)

// Outgoing is a session whose offer this side has made.
type Outgoing struct{ *Session }

// Answer waits for the remote's answer and returns it, without the candidates
// in it that the policy refuses. It may be called again.
func (o *Outgoing) Answer(ctx context.Context) (sdp string, err error) {
	var failed error
	waitErr := o.await(ctx, func() bool {
		sdp = o.m.remote
		if sdp == "" && o.m.phase == over {
			failed = o.m.err
		}
		return sdp != "" || o.m.phase == over
	})
	if waitErr != nil {
		return "", waitErr
	}
	return sdp, o.wrap(failed)
}

// Incoming is a session that the remote has begun, and whose offer is here.
type Incoming struct {
	*Session
	offer string
}

// Offer returns the remote's offer, without the candidates in it that the
// policy refuses.
func (i *Incoming) Offer() string { return i.offer }

// Answer sends this side's answer, and then the candidates that wait for it. It
// returns when the answer is written. A session is answered once; to decline,
// Abort it. If ctx ends first the session is aborted.
func (i *Incoming) Answer(ctx context.Context, sdp string) error {
	err := i.service.checkDescription(sdp)
	if err == nil {
		i.update(func(time.Time) { err = i.m.answer(sdp) })
	}
	if err != nil {
		return i.wrap(fmt.Errorf("send the answer: %w", err))
	}
	return i.flush(ctx)
}
