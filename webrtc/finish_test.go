package webrtc

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// lookedAt is a host that has a direct connection, and says when it is looked for.
type lookedAt struct {
	host.Host

	look func()
}

func (h lookedAt) Network() network.Network { return lookedNetwork{look: h.look} }

type lookedNetwork struct {
	network.Network

	look func()
}

func (n lookedNetwork) ConnsToPeer(peer.ID) []network.Conn {
	n.look()
	return []network.Conn{standing{}}
}

type standing struct{ network.Conn }

func (standing) IsClosed() bool                { return false }
func (standing) RemoteMultiaddr() ma.Multiaddr { return pseudoAddr }
func (standing) Stat() network.ConnStats       { return network.ConnStats{} }

// A path that is lost just when its ladder ends is rebuilt all the same.
func TestLadderEndsNotOverALostPath(t *testing.T) {
	const p = peer.ID("remote")
	ctx, cancel := context.WithCancel(t.Context())
	cancel() // the ladder that follows needs do no more than begin
	u := &upgrader{records: make(map[peer.ID]*record)}
	r := &record{changed: make(chan struct{})}
	l := &ladder{u: u, peer: p}
	r.ladder, u.records[p] = l, r
	var looks atomic.Int32
	fell := make(chan struct{})
	fall := func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		u.launch(p, r, true, true, time.Second)
		close(fell)
	}
	u.t = &Transport{ctx: ctx, host: lookedAt{look: func() {
		if looks.Add(1) > 1 {
			return
		}
		if u.mu.TryLock() {
			u.mu.Unlock()
			fall()
		} else {
			go fall()
		}
	}}}
	if !l.finish(0) {
		t.Error("the ladder goes on though the path is direct")
	}
	<-fell
	u.wg.Wait()
	if looks.Load() < 2 {
		t.Error("nobody climbs")
	}
}
