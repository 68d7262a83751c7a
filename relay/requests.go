package relay

import (
	"sync"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
)

const (
	// maxUnread is how many requests are read at once. Each takes a goroutine and
	// 4 KiB, for up to 15 s if its peer is slow.
	maxUnread = 2048
	// maxUnreadOfPeer is how many of them are one peer's. It asks for one
	// reservation, and for a circuit to each peer that it has just heard of.
	maxUnreadOfPeer = 16
)

// requests is the streams on which requests are being read or answered.
type requests struct {
	mu     sync.Mutex
	closed bool                        // guarded by mu, as all below
	live   map[network.Stream]struct{} // all, also those that became a circuit
	unread map[peer.ID]int             // of which nothing is zero
	total  int                         // of unread
}

func newRequests() *requests {
	return &requests{live: make(map[network.Stream]struct{}), unread: make(map[peer.ID]int)}
}

// begin takes a stream of which the request is to be read, unless there are
// too many. What was begun is to be read and to be ended.
func (r *requests) begin(s network.Stream) bool {
	p := s.Conn().RemotePeer()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed || r.total >= maxUnread || r.unread[p] >= maxUnreadOfPeer {
		return false
	}
	r.live[s] = struct{}{}
	r.unread[p]++
	r.total++
	return true
}

// read says that the request has been read.
func (r *requests) read(s network.Stream) {
	p := s.Conn().RemotePeer()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.total--
	if r.unread[p]--; r.unread[p] == 0 {
		delete(r.unread, p)
	}
}

func (r *requests) end(s network.Stream) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.live, s)
}

// close resets all streams and takes no more.
func (r *requests) close() {
	r.mu.Lock()
	r.closed = true
	live := r.live
	r.live = make(map[network.Stream]struct{})
	r.mu.Unlock()
	for s := range live {
		_ = s.ResetWithError(network.StreamShutdown)
	}
}
