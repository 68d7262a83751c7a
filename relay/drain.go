package relay

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/tangop2p/tango/internal/notice"
)

// tellTimeout is how long peers may take to find another relay. Longer than that
// none holds up the relay's end.
const tellTimeout = 30 * time.Second

// drain refuses what is new, tells those who hold a reservation where else to go
// and waits until they have gone there and no circuit is open.
func (h *hop) drain(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	stop := context.AfterFunc(h.ctx, func() { cancel(ErrClosed) }) //nolint:contextcheck // Close ends it too
	defer stop()
	h.mu.Lock()
	h.draining = true
	h.mu.Unlock()
	h.tell(ctx)
	return h.idle(ctx)
}

// tell gives all peers notice who hold a reservation and take notices.
func (h *hop) tell(ctx context.Context) {
	n := notice.Notice{Alternatives: h.alternatives}
	if deadline, ok := ctx.Deadline(); ok {
		n.Leaves = max(time.Until(deadline), 0)
	}
	data, err := n.Marshal()
	if err != nil { // which WithAlternatives has checked
		log.Warnw("peers are not told that the relay leaves", "error", err)
		return
	}
	ctx, cancel := context.WithTimeout(ctx, tellTimeout)
	defer cancel()
	var wg sync.WaitGroup
	for _, r := range h.table.list(time.Now()) {
		if !h.takesNotices(r.Peer) {
			continue
		}
		wg.Go(func() {
			if err := notice.Send(ctx, h.host, r.Peer, data); err != nil {
				log.Debugw("peer has not left", "peer", r.Peer, "error", err)
			}
		})
	}
	wg.Wait()
}

// takesNotices is true also of a peer of which identify has not told anything yet.
func (h *hop) takesNotices(p peer.ID) bool {
	ids, err := h.host.Peerstore().GetProtocols(p)
	return err == nil && (len(ids) == 0 || slices.Contains(ids, notice.ID))
}
