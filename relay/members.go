package relay

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/tangop2p/tango/internal/invite"
)

// Defaults of the options of [Members].
const (
	// DefaultInviteWait is how long a request waits for an invite by default.
	DefaultInviteWait = 3 * time.Second
	// DefaultClockSkew is how much the clocks of issuers may differ from ours by default.
	DefaultClockSkew = 30 * time.Second
)

const (
	maxInviteWait = 8 * time.Second // decideTimeout has to be longer
	maxClockSkew  = time.Hour
	// maxWaiting is how many requests wait for invites at once, of a peer, of an IPv4 address or IPv6 /56, which
	// makes as many peers as it likes, and in all. The next are answered at once.
	maxWaitingPerPeer, maxWaitingPerPlace, maxWaiting = 4, 64, 1024
	// presentations is how many tokens a peer may present in a minute; each may cost the check of a signature.
	presentations = 16
)

// MembersOption configures [Members].
type MembersOption func(*membersConfig) error

type membersConfig struct{ wait, skew time.Duration }

// WithInviteWait sets how long a request of a peer that has not presented an
// invite waits for one, up to 8 s; 0 answers at once. js-libp2p asks for its
// reservation as soon as it is connected, together with the page that presents
// the invite. Renewals do not wait. Of an IPv4 address or IPv6 /56 at most 64 wait
// at once; the next are told to come back (RESERVATION_REFUSED). The default is
// [DefaultInviteWait].
func WithInviteWait(d time.Duration) MembersOption {
	return func(c *membersConfig) error {
		if d < 0 || d > maxInviteWait {
			return fmt.Errorf("WithInviteWait(%v): use 0s to %v", d, maxInviteWait)
		}
		c.wait = d
		return nil
	}
}

// WithClockSkew sets by how much an invite counts too early and too late, up to
// 1 h. The default is [DefaultClockSkew].
func WithClockSkew(d time.Duration) MembersOption {
	return func(c *membersConfig) error {
		if d < 0 || d > maxClockSkew {
			return fmt.Errorf("WithClockSkew(%v): use 0s to %v", d, maxClockSkew)
		}
		c.skew = d
		return nil
	}
}

// Members is a policy that allows those who have presented an [Invite] of an
// issuer that it trusts, and refuses others. A reservation lasts no longer than
// the invite. With [On] it is asked about reservations only, with [Any] beside
// an [AllowList].
//
// It remembers an invite as long as its peer is connected, so that after a
// restart nothing is lost or counted twice: peers present theirs again. It
// serves one relay, and may be among the policies of several calls of
// [Relay.SetPolicy]. It is safe for concurrent use.
type Members struct {
	membersConfig

	attempts *rates

	mu      sync.Mutex
	issuers map[peer.ID]struct{} // guarded by mu, as all below
	revoked map[string]struct{}  // IDs
	guests  map[peer.ID]*guest
	uses    map[string]int // of each ID, by guests
	waiting int
	places  map[netip.Prefix]int // of waiting, by IPv4 address and IPv6 /56
	served
}

var _ HostPolicy = (*Members)(nil)

// guest is a peer that has presented something, or whose request waits for that.
type guest struct {
	invite  Invite        // without an ID: none
	why     Reason        // why the last invite does not count; empty before there was one
	waiting int           // requests
	heard   chan struct{} // closed and made anew when an invite was judged
}

// NewMembers trusts these issuers, one at least.
func NewMembers(issuers []peer.ID, opts ...MembersOption) (*Members, error) {
	m := &Members{
		membersConfig: membersConfig{wait: DefaultInviteWait, skew: DefaultClockSkew},

		attempts: newRates(presentations, time.Minute, ByPeer(), nil),
		revoked:  make(map[string]struct{}),
		guests:   make(map[peer.ID]*guest),
		uses:     make(map[string]int),
		places:   make(map[netip.Prefix]int),
		served:   served{streams: make(map[network.Stream]bool)},
	}
	var errs []error
	for _, opt := range opts {
		errs = append(errs, opt(&m.membersConfig))
	}
	if err := errors.Join(append(errs, m.SetIssuers(issuers...))...); err != nil {
		return nil, fmt.Errorf("relay: members: %w", err)
	}
	return m, nil
}

// SetIssuers changes who is trusted. Invites of others count no more; have the
// reservations judged anew with [Relay.SetPolicy].
func (m *Members) SetIssuers(issuers ...peer.ID) error {
	if len(issuers) == 0 {
		return errors.New("no issuer: name the peer ID of one at least")
	}
	set := make(map[peer.ID]struct{}, len(issuers))
	for i, p := range issuers {
		if err := p.Validate(); err != nil {
			return fmt.Errorf("issuer %d: %w: use its peer ID", i+1, err)
		}
		set[p] = struct{}{}
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	m.issuers = set
	m.review()
	return nil
}

// Revoke makes the invites with these IDs count no more, in addition to those
// revoked before. Reservations last until they are renewed, unless
// [Relay.SetPolicy] has them judged anew. A revoked ID can be forgotten once the
// invite has expired, see [Members.SetRevoked].
func (m *Members) Revoke(ids ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, id := range ids {
		m.revoked[id] = struct{}{}
	}
	m.review()
}

// SetRevoked is [Members.Revoke] in place of all that was revoked before.
func (m *Members) SetRevoked(ids ...string) {
	m.mu.Lock()
	clear(m.revoked)
	m.mu.Unlock()
	m.Revoke(ids...)
}

// review takes what guests have of invites that count no more.
func (m *Members) review() {
	for _, g := range m.guests {
		if g.invite.ID == "" {
			continue
		}
		if why := m.standing(&g.invite); why != "" {
			m.leave(g, why)
		}
	}
}

// standing says whether an invite may count at all.
func (m *Members) standing(i *Invite) Reason {
	if _, ok := m.revoked[i.ID]; ok {
		return ReasonInviteRevoked
	}
	if _, ok := m.issuers[i.Issuer]; !ok {
		return ReasonInviteIssuer
	}
	return ""
}

// leave takes a guest's invite away.
func (m *Members) leave(g *guest, why Reason) {
	if g.invite.ID != "" {
		if m.uses[g.invite.ID]--; m.uses[g.invite.ID] == 0 {
			delete(m.uses, g.invite.ID)
		}
	}
	g.invite, g.why = Invite{}, why
}

func (m *Members) trusts(issuer peer.ID) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	_, ok := m.issuers[issuer]
	return ok
}

// admit judges a token that p presents to the relay self.
func (m *Members) admit(self, p peer.ID, token string, now time.Time) Reason {
	i, err := invite.Parse(token, m.trusts)
	why := Reason("")
	switch {
	case errors.Is(err, invite.ErrIssuer):
		why = ReasonInviteIssuer
	case err != nil:
		why = ReasonInviteMalformed
	case i.Audience != self:
		why = ReasonInviteAudience
	case i.Subject != "" && i.Subject != p:
		why = ReasonInviteSubject
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	g := m.guest(p)
	if why == "" {
		why = m.join(g, Invite(i), now)
	}
	if why != "" && g.invite.ID == "" { // else it keeps what it has
		g.why = why
	}
	close(g.heard)
	g.heard = make(chan struct{})
	return why
}

// join gives a guest an invite in place of the one that it has.
func (m *Members) join(g *guest, i Invite, now time.Time) Reason {
	why := m.standing(&i)
	switch {
	case why != "":
		return why
	case now.Add(m.skew).Before(i.NotBefore):
		return ReasonInviteNotYet
	case m.over(&i, now):
		return ReasonInviteExpired
	case g.invite.ID == i.ID:
		return ""
	case m.uses[i.ID] >= i.Peers:
		return ReasonInviteUsed
	}
	m.leave(g, "")
	g.invite = i
	m.uses[i.ID]++
	return ""
}

// ends returns when an invite counts no more.
func (m *Members) ends(i *Invite) time.Time { return i.Expires.Add(m.skew) }

// over says whether an invite has ended, or will within a second, the unit of
// times in circuit v2.
func (m *Members) over(i *Invite, now time.Time) bool {
	return !now.Add(time.Second).Before(m.ends(i))
}

func (m *Members) guest(p peer.ID) *guest {
	g := m.guests[p]
	if g == nil {
		g = &guest{heard: make(chan struct{})}
		m.guests[p] = g
	}
	return g
}

// forget forgets a peer that has left.
func (m *Members) forget(p peer.ID) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if g := m.guests[p]; g != nil {
		m.leave(g, "")
		m.tidy(p, g)
	}
}

// tidy removes a guest of whom nothing is known and who waits for nothing.
func (m *Members) tidy(p peer.ID, g *guest) {
	if g.invite.ID == "" && g.why == "" && g.waiting == 0 {
		delete(m.guests, p)
	}
}

// Decide implements [Policy].
func (m *Members) Decide(ctx context.Context, r *Request) Decision {
	d, waits := m.judge(r, r.Time, true)
	if waits == nil {
		return d
	}
	defer m.waited(r, waits)
	started := time.Now()
	timer := time.NewTimer(m.wait)
	defer timer.Stop()
	select {
	case <-waits.heard:
	case <-timer.C:
	case <-ctx.Done():
	}
	d, _ = m.judge(r, r.Time.Add(time.Since(started)), false)
	return d
}

// waiter is a request that waits for what its guest presents.
type waiter struct {
	*guest

	heard <-chan struct{} // the guest's when it began
}

// judge decides, or has the request wait.
func (m *Members) judge(r *Request, now time.Time, mayWait bool) (Decision, *waiter) {
	m.mu.Lock()
	defer m.mu.Unlock()
	g := m.guests[r.Peer]
	if g != nil && g.invite.ID != "" {
		if !m.over(&g.invite, now) {
			return Allow(Terms{}).Until(m.ends(&g.invite)), nil
		}
		m.leave(g, ReasonInviteExpired)
	}
	if g != nil && g.why != "" {
		return Refuse(g.why), nil
	}
	if !mayWait || m.wait == 0 || r.Renewal || g != nil && g.waiting >= maxWaitingPerPeer {
		return Refuse(ReasonNoInvite), nil
	}
	if why := m.crowded(r); why != "" { // not for want of an invite, which it may be about to present
		return Refuse(why), nil
	}
	g = m.guest(r.Peer)
	g.waiting++
	m.places[groupOf(r.Addr)]++
	m.waiting++
	return Decision{}, &waiter{g, g.heard}
}

// crowded says whether so many wait already that a request cannot.
func (m *Members) crowded(r *Request) Reason {
	switch {
	case m.places[groupOf(r.Addr)] >= maxWaitingPerPlace:
		return ReasonPerIP
	case m.waiting >= maxWaiting:
		return ReasonCapacity
	}
	return ""
}

// waited ends what judge began.
func (m *Members) waited(r *Request, w *waiter) {
	m.mu.Lock()
	defer m.mu.Unlock()
	place := groupOf(r.Addr)
	if m.places[place]--; m.places[place] == 0 {
		delete(m.places, place)
	}
	w.waiting--
	m.waiting--
	m.tidy(r.Peer, w.guest)
}

// connected says whether p is, in a way that can hold a reservation.
func connected(h host.Host, p peer.ID) bool {
	return h.Network().Connectedness(p) == network.Connected
}
