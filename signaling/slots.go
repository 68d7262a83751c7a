package signaling

import (
	"fmt"

	"github.com/libp2p/go-libp2p/core/peer"
)

// slots counts the sessions that are open.
type slots struct {
	limits             Limits
	closed             bool
	incoming, outgoing int
	perPeer            map[peer.ID]int // the incoming ones of each peer that has some
}

func (s *slots) take(r role, p peer.ID) error {
	switch {
	case s.closed:
		return ErrClosed
	case r == offerer && s.outgoing >= s.limits.Outgoing:
		return fmt.Errorf("%w: %d outgoing ones", ErrBusy, s.outgoing)
	case r == offerer:
		s.outgoing++
		return nil
	case s.incoming >= s.limits.Incoming:
		return fmt.Errorf("%w: %d incoming ones", ErrBusy, s.incoming)
	case s.perPeer[p] >= s.limits.IncomingPerPeer:
		return fmt.Errorf("%w: %d of this peer", ErrBusy, s.perPeer[p])
	}
	s.incoming++
	s.perPeer[p]++
	return nil
}

func (s *slots) give(r role, p peer.ID) {
	if r == offerer {
		s.outgoing--
		return
	}
	s.incoming--
	if s.perPeer[p]--; s.perPeer[p] == 0 {
		delete(s.perPeer, p)
	}
}
