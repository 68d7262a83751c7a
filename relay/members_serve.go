package relay

import (
	"errors"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/tangop2p/tango/internal/invite"
)

const (
	// inviteService is the resource manager's name for what presents invites.
	inviteService = "tango.invite"
	// maxPresenting is how many streams may present invites at once, of a peer, of an IPv4 address or IPv6 /56 and
	// in all. The next are reset.
	maxPresentingPerPeer, maxPresentingPerPlace, maxPresenting = 2, 64, 256
)

// served is what of [Members] runs on a host.
type served struct {
	host    host.Host // nil before the first start; guarded by Members.mu, as all here but wg
	starts  int       // that were not stopped
	stop    func()
	streams map[network.Stream]struct{}
	wg      sync.WaitGroup
}

func newServed() served { return served{streams: make(map[network.Stream]struct{})} }

// Start implements [HostPolicy].
func (m *Members) Start(h host.Host) (stop func(), err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.starts > 0 && m.host != h {
		return nil, errors.New("members: they serve another relay already: make others for this one")
	}
	if m.starts++; m.starts == 1 {
		m.host = h
		leave := &network.NotifyBundle{DisconnectedF: func(_ network.Network, c network.Conn) {
			if p := c.RemotePeer(); !connected(h, p) {
				m.forget(p)
			}
		}}
		h.Network().Notify(leave)
		h.SetStreamHandler(InviteProtocol, m.handle)
		m.stop = func() {
			h.RemoveStreamHandler(InviteProtocol)
			h.Network().StopNotify(leave)
		}
	}
	return sync.OnceFunc(m.stopOne), nil
}

// stopOne ends what Start began, once all that were started are stopped.
func (m *Members) stopOne() {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.starts--; m.starts > 0 {
		return
	}
	m.stop()
	open := make([]network.Stream, 0, len(m.streams))
	for s := range m.streams {
		open = append(open, s)
	}
	for p, g := range m.guests {
		m.leave(g, "")
		m.tidy(p, g)
	}
	m.mu.Unlock() // what ends needs it
	for _, s := range open {
		_ = s.Reset()
	}
	m.wg.Wait()
	m.mu.Lock()
}

// enter counts a stream, unless there are too many.
func (m *Members) enter(s network.Stream) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.starts == 0 || len(m.streams) >= maxPresenting {
		return false
	}
	ofPeer, ofPlace := 0, 0
	place := groupOf(addrOf(s.Conn()))
	for other := range m.streams {
		if other.Conn().RemotePeer() == s.Conn().RemotePeer() {
			ofPeer++
		}
		if groupOf(addrOf(other.Conn())) == place {
			ofPlace++
		}
	}
	if ofPeer >= maxPresentingPerPeer || ofPlace >= maxPresentingPerPlace {
		return false
	}
	m.streams[s] = struct{}{}
	m.wg.Add(1)
	return true
}

func (m *Members) exit(s network.Stream) {
	m.mu.Lock()
	delete(m.streams, s)
	m.mu.Unlock()
	m.wg.Done()
}

func (m *Members) handle(s network.Stream) {
	if s.Conn().Stat().Limited || !m.enter(s) {
		_ = s.Reset()
		return
	}
	defer m.exit(s)
	if err := m.serve(s); err != nil {
		log.Debugw("an invite was not presented well", "peer", s.Conn().RemotePeer(), "error", err)
		_ = s.Reset()
		return
	}
	_ = s.Close()
}

func (m *Members) serve(s network.Stream) error {
	if err := s.Scope().SetService(inviteService); err != nil {
		return err
	}
	if err := s.Scope().ReserveMemory(invite.MaxToken, network.ReservationPriorityAlways); err != nil {
		return err
	}
	defer s.Scope().ReleaseMemory(invite.MaxToken)
	_ = s.SetDeadline(time.Now().Add(invite.Timeout))
	token, err := invite.ReadToken(s)
	if err != nil {
		return err
	}
	why := m.present(s.Conn().RemotePeer(), token)
	log.Debugw("invite presented", "peer", s.Conn().RemotePeer(), "refused", why)
	return invite.WriteAnswer(s, string(why))
}

// present judges a token that a peer has presented.
func (m *Members) present(p peer.ID, token string) Reason {
	now := time.Now()
	if !m.attempts.allow(string(p), now) {
		return ReasonRate
	}
	why := m.admit(m.host.ID(), p, token, now)
	if !connected(m.host, p) { // it has left meanwhile, which was told before
		m.forget(p)
	}
	return why
}
