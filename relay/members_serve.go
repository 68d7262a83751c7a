package relay

import (
	"errors"
	"maps"
	"slices"
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
	// turn is had by who starts or stops it. Both wait for what the host does at that time, which may be to tell of
	// a peer that has left, and that takes Members.mu.
	turn sync.Mutex
	stop func() // guarded by turn

	host    host.Host               // nil before the first start; guarded by Members.mu, as all below but wg
	starts  int                     // that were not stopped
	streams map[network.Stream]bool // whether it is being answered
	wg      sync.WaitGroup
}

// Start implements [HostPolicy].
func (m *Members) Start(h host.Host) (stop func(), err error) {
	m.turn.Lock()
	defer m.turn.Unlock()
	first, err := m.begin(h)
	if err != nil {
		return nil, err
	}
	if first {
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

// begin counts a start.
func (m *Members) begin(h host.Host) (first bool, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.starts > 0 && m.host != h {
		return false, errors.New("members: they serve another relay already: make others for this one")
	}
	m.host = h
	m.starts++
	return m.starts == 1, nil
}

// stopOne ends what Start began, once all that were started are stopped.
func (m *Members) stopOne() {
	m.turn.Lock()
	defer m.turn.Unlock()
	open, last := m.end()
	if !last {
		return
	}
	m.stop()
	for _, s := range open {
		_ = s.Reset()
	}
	m.wg.Wait()
	m.mu.Lock()
	defer m.mu.Unlock()
	for p, g := range m.guests {
		m.leave(g, "")
		m.tidy(p, g)
	}
}

// end counts a stop. After the last no stream enters; those that are open are returned.
func (m *Members) end() (open []network.Stream, last bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.starts--; m.starts > 0 {
		return nil, false
	}
	return slices.Collect(maps.Keys(m.streams)), true
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
	for other, answered := range m.streams {
		if !answered && other.Conn().RemotePeer() == s.Conn().RemotePeer() {
			ofPeer++
		}
		if groupOf(addrOf(other.Conn())) == place {
			ofPlace++
		}
	}
	if ofPeer >= maxPresentingPerPeer || ofPlace >= maxPresentingPerPlace {
		return false
	}
	m.streams[s] = false
	m.wg.Add(1)
	return true
}

// answers says that a stream's peer may present another: as soon as it has the
// answer, which is before exit.
func (m *Members) answers(s network.Stream) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.streams[s] = true
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
	m.answers(s)
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
