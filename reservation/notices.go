package reservation

import (
	"context"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"

	"github.com/tangop2p/tango/internal/notice"
)

const (
	// leaveWait is how long a relay that leaves is kept waiting while another is
	// tried: a dial and an answer.
	leaveWait = 2 * attemptTimeout
	// leaveSlack is how long beyond the time that it named a relay that leaves is
	// left alone, and maxLeave what is believed of that time.
	leaveSlack = 30 * time.Second
	maxLeave   = time.Hour
	// backAfter is how long after it has left a relay is tried again at the latest.
	backAfter = 10 * time.Second
)

// departure is a relay's word that it leaves, until this is done with.
type departure struct {
	notice.Notice
	done chan struct{} // closed by the loop
}

// heed takes the notice of a relay that leaves, and keeps it waiting until there
// is a reservation elsewhere. Of each relay there is one at a time.
func (k *Keeper) heed(s network.Stream) {
	p := s.Conn().RemotePeer()
	if !direct(s.Conn()) || !k.signals.knows(p) || !k.begin(p) {
		_ = s.Reset()
		return
	}
	defer k.heeded(p)
	stop := context.AfterFunc(k.ctx, func() { _ = s.Reset() })
	defer stop()
	n, err := notice.Read(s)
	if err != nil {
		log.Debug("notice not understood", "relay", p, "err", err)
		_ = s.Reset()
		return
	}
	d := &departure{Notice: n, done: make(chan struct{})}
	k.signals.tell(p, signal{leaves: d})
	wait := time.NewTimer(leaveWait)
	defer wait.Stop()
	select {
	case <-d.done:
	case <-wait.C:
	case <-k.ctx.Done():
	}
	_ = s.Close()
}

// begin counts what Close has to wait for.
func (k *Keeper) begin(p peer.ID) bool {
	k.mu.Lock()
	defer k.mu.Unlock()
	if _, busy := k.heeding[p]; busy || k.ctx.Err() != nil {
		return false
	}
	k.heeding[p] = struct{}{}
	k.wg.Add(1)
	return true
}

func (k *Keeper) heeded(p peer.ID) {
	k.mu.Lock()
	delete(k.heeding, p)
	k.mu.Unlock()
	k.wg.Done()
}

// leave takes an own relay at its word that it leaves: others are tried, those
// that it names last, before it is let go. Discovered ones do not get so far as
// to name others.
func (k *Keeper) leave(r *relay, d *departure) {
	if !r.own || r.m.grant == nil || !r.leaves.IsZero() {
		close(d.done)
		return
	}
	log.Debug("relay leaves", "relay", r.id, "in", d.Leaves, "alternatives", d.Alternatives)
	r.leaves = time.Now().Add(min(d.Leaves, maxLeave) + leaveSlack)
	r.departure = d
	k.suggest(r, d.Alternatives)
}

// suggest keeps relays in mind that an own one names, within what holds for
// discovered ones. None is nearer than the relay itself: a public one does not
// make us dial into a LAN.
func (k *Keeper) suggest(by *relay, alternatives []peer.AddrInfo) {
	dialled, onLoopback := k.links.dialled(by.id)
	widest := public
	for _, a := range dialled {
		widest = max(widest, min(scopeOf(a), loopback))
	}
	if onLoopback {
		widest = loopback
	}
	for _, alt := range alternatives[:min(len(alternatives), notice.MaxAlternatives)] {
		a := alt.Addrs[0]
		if alt.ID == k.self || kindOf(a) == kindNone || scopeOf(a) > widest {
			continue
		}
		r := k.find(alt.ID)
		switch {
		case r != nil && r.suggested:
			r.addrs = append(r.addrs[:min(len(r.addrs), maxAddrsOfRelay-1)], a)
		case r == nil && k.roomForOffer():
			r = k.add(alt, false)
			r.suggested = true
		}
	}
}

// back lets relays that have left be tried again: at once one without which there
// is nothing, else after a while, and not all peers at the same time.
func (k *Keeper) back(now time.Time) {
	held := slices.ContainsFunc(k.relays, func(r *relay) bool { return r.m.grant != nil })
	for _, r := range k.relays {
		if r.leaves.IsZero() {
			continue
		}
		left := len(k.links.conns(r.id)) == 0
		// one that took its protocol back before its connection ended is wanted no more
		needed := r.m.wanted() || !held
		if left && !needed && !r.left {
			r.left = true
			if at := now.Add(time.Duration(k.random() * float64(backAfter))); at.Before(r.leaves) {
				r.leaves = at
			}
		}
		if left && needed || !now.Before(r.leaves) {
			r.leaves, r.left = time.Time{}, false
		}
	}
}

// depart lets relays go that need not wait for us any longer.
func (k *Keeper) depart(now time.Time) {
	hopeful := slices.ContainsFunc(k.relays, func(r *relay) bool { return r.leaves.IsZero() && r.m.hopeful(now) })
	for _, r := range k.relays {
		if r.departure != nil && (r.leaves.IsZero() || !r.m.wanted() || !hopeful) {
			close(r.departure.done)
			r.departure = nil
		}
	}
}
