package webrtc

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/peerstore"
	netswarm "github.com/libp2p/go-libp2p/p2p/net/swarm"
	"github.com/libp2p/go-libp2p/p2p/protocol/holepunch"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/tangop2p/tango/signaling"
)

const (
	// inboundGrace is how long the side that was dialled through the relay leaves
	// it to the other to begin. js-libp2p that has dialled a plain circuit address
	// never does.
	inboundGrace = 3 * time.Second
	// identifyWait is how long we wait to learn what the peer speaks, if nothing
	// says that it speaks /webrtc.
	identifyWait = 5 * time.Second
	// holePunchWait is how long DCUtR may take. It begins only when a side knows
	// a public address of its own, so this may pass for nothing.
	holePunchWait = 4 * time.Second
	// glareWait is how long the attempt of the other side may take to show after
	// ours was refused.
	glareWait = time.Second
	// dialSettles is how long a dial takes to end that has made a connection.
	// A dial that joins it would find /webrtc put off by 1 s: the swarm takes it
	// for the last resort, but dials it at once if there is nothing else.
	dialSettles = 10 * time.Millisecond
	// Attempts are repeated after minBackoff, then after twice as long each time.
	minBackoff = 5 * time.Second
	maxBackoff = 5 * time.Minute
	// A lost path is rebuilt that often when there is nothing left to the peer.
	maxRebuilds    = 8
	minRebuildWait = 500 * time.Millisecond
	// Identify of another connection to the peer may end just when it is dialled.
	// It expires what has TempAddrTTL or one of the TTLs for connected peers, so
	// these are others. heldTTL is above RecentlyConnectedAddrTTL (15 min), as
	// AddAddrs replaces shorter TTLs only.
	pseudoTTL = time.Minute
	heldTTL   = 16 * time.Minute
)

// ladder makes the path to one peer direct. It runs while there is a relayed
// path, or one to rebuild.
type ladder struct {
	u        *upgrader
	peer     peer.ID
	outbound atomic.Bool // this side has dialled, so it begins
	rebuild  atomic.Bool // dial again through the relay if there is no path at all
	delay    time.Duration
	now      chan struct{}
	known    chan struct{} // the peer was identified
	retry    chan struct{} // the network has changed
}

type kickReason int

const (
	kickNow kickReason = iota // somebody waits
	kickIdentified
	kickNetwork
)

// climb starts the ladder of a peer, unless it runs.
func (u *upgrader) climb(p peer.ID, outbound bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if r := u.get(p); r != nil {
		u.launch(p, r, outbound, false, 0)
	}
}

// launch is climb with more to say. u.mu is held.
func (u *upgrader) launch(p peer.ID, r *record, outbound, rebuild bool, delay time.Duration) {
	if u.closed {
		return
	}
	l := r.ladder
	if l == nil {
		l = &ladder{
			u: u, peer: p, delay: delay,
			now: make(chan struct{}, 1), known: make(chan struct{}, 1), retry: make(chan struct{}, 1),
		}
	}
	if outbound {
		l.outbound.Store(true)
	}
	if rebuild {
		l.rebuild.Store(true)
	}
	if r.ladder == nil {
		r.ladder = l
		u.wg.Go(l.run)
	}
}

func (u *upgrader) kick(p peer.ID, why kickReason) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if r := u.records[p]; r != nil && r.ladder != nil {
		r.ladder.kick(why)
	}
}

func (u *upgrader) kickAll() {
	u.mu.Lock()
	defer u.mu.Unlock()
	for _, r := range u.records {
		if r.ladder != nil {
			r.ladder.kick(kickNetwork)
		}
	}
}

func (l *ladder) kick(why kickReason) {
	c := map[kickReason]chan struct{}{kickNow: l.now, kickIdentified: l.known, kickNetwork: l.retry}[why]
	select {
	case c <- struct{}{}:
	default: // it is told already
	}
}

// run climbs until the path is direct or there is nothing to climb from.
func (l *ladder) run() {
	ctx := l.u.t.ctx
	l.begin(ctx)
	for tries := 0; ctx.Err() == nil; tries++ {
		if l.finish(tries) {
			return
		}
		err := l.try(ctx)
		switch {
		case err == nil: // who has closed it already may be about to close all
			l.wait(ctx, closeGrace)
		case errors.Is(err, network.ErrNoConn) && !l.rebuild.Load(): // finish sees it
		default:
			wait := l.failed(err)
			l.wait(ctx, wait, l.now, l.retry)
		}
	}
	l.finish(0)
}

// finish ends the ladder if there is no more to do, and says whether.
func (l *ladder) finish(tries int) bool {
	l.u.mu.Lock()
	defer l.u.mu.Unlock()
	// With the lock, or who loses the path just now leaves it to this ladder.
	path := pathTo(l.u.t.host, l.peer)
	more := path.Kind == PathRelayed || path.Kind == PathNone && l.rebuild.Load() && tries < maxRebuilds
	if more && l.u.t.ctx.Err() == nil {
		return false
	}
	if r := l.u.records[l.peer]; r != nil && r.ladder == l {
		r.ladder, r.next = nil, time.Time{}
		r.wake()
	}
	return true
}

// begin waits until it is this side's turn.
func (l *ladder) begin(ctx context.Context) {
	if !l.outbound.Load() {
		l.wait(ctx, max(inboundGrace, l.delay), l.now)
		return
	}
	if l.delay > 0 {
		l.wait(ctx, l.delay, l.now, l.retry)
		return
	}
	l.settle(ctx)
	if !l.speaksWebRTC() && relayed(l.u.t.host, l.peer) != nil {
		l.wait(ctx, identifyWait, l.known, l.now)
	}
}

// settle waits for the end of the dial that has made the relayed connection.
func (l *ladder) settle(ctx context.Context) {
	if !l.u.dialling(l.peer) { // somebody else's, or it has just ended
		l.wait(ctx, dialSettles, l.now)
		return
	}
	for l.u.dialling(l.peer) && ctx.Err() == nil {
		l.wait(ctx, l.u.t.cfg.limits.Timeout, l.now)
	}
}

func (u *upgrader) dialling(p peer.ID) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	r := u.records[p]
	return r != nil && r.dialling > 0
}

// wait waits for the time, one of the channels or a direct path.
func (l *ladder) wait(ctx context.Context, d time.Duration, wake ...<-chan struct{}) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	wake = append(wake, nil, nil) // two at most
	for {
		changed := l.u.changed(l.peer)
		if pathTo(l.u.t.host, l.peer).Kind == PathDirect || changed == nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
			return
		case <-wake[0]:
			return
		case <-wake[1]:
			return
		case <-changed:
		}
	}
}

// changed returns what is closed when anything changes about a peer; nil if
// nothing is known of it.
func (u *upgrader) changed(p peer.ID) <-chan struct{} {
	u.mu.Lock()
	defer u.mu.Unlock()
	if r := u.records[p]; r != nil {
		return r.changed
	}
	return nil
}

// failed tells of a failure and returns how long to wait before the next try.
func (l *ladder) failed(err error) time.Duration {
	path := pathTo(l.u.t.host, l.peer)
	l.u.mu.Lock()
	r := l.u.records[l.peer]
	if r == nil {
		l.u.mu.Unlock()
		return maxBackoff
	}
	wait := r.fail(path)
	if errors.Is(err, signaling.ErrUnsupported) {
		wait = maxBackoff
		r.next = time.Now().Add(wait)
	}
	r.failed = max(r.failed, r.dials)
	next, stage, hint := r.next, StageSignaling, ""
	if n := len(r.attempts); n > 0 {
		last := r.attempts[n-1]
		stage, hint = last.Reached(), last.Hint
		if last.Rung == RungRelay { // it did not come to a dial
			r.failed = r.dials + 1
		}
	}
	r.wake()
	l.u.mu.Unlock()
	l.u.tell(EvtUpgradeFailed{
		Peer: l.peer, Next: next,
		Err: &ConnectError{Peer: l.peer, Stage: stage, Path: path, Hint: hint, Err: err},
	})
	return wait
}

// try goes up the rungs once.
func (l *ladder) try(ctx context.Context) error {
	if l.u.t.host.Network().Connectedness(l.peer) == network.NotConnected {
		if !l.rebuild.Load() {
			return network.ErrNoConn // it was closed just now
		}
		if _, err := l.u.approach(ctx, l.peer); err != nil {
			return err
		}
	}
	if l.punches() && l.holePunch(ctx) {
		return nil
	}
	if pathTo(l.u.t.host, l.peer).Kind == PathDirect {
		return nil
	}
	err := l.u.direct(ctx, l.peer)
	if errors.Is(err, ErrGlare) || errors.Is(err, signaling.ErrRefused) {
		// The other side's attempt may be the one that counts.
		l.wait(ctx, glareWait)
		for l.u.t.answering(l.peer) && ctx.Err() == nil {
			l.wait(ctx, glareWait)
		}
	}
	if pathTo(l.u.t.host, l.peer).Kind == PathDirect {
		return nil
	}
	return err
}

// punches says whether both sides speak DCUtR.
func (l *ladder) punches() bool {
	h := l.u.t.host
	if !slices.Contains(h.Mux().Protocols(), holepunch.Protocol) {
		return false
	}
	theirs, err := h.Peerstore().SupportsProtocols(l.peer, holepunch.Protocol)
	return err == nil && len(theirs) > 0
}

// holePunch leaves it to DCUtR for a while.
func (l *ladder) holePunch(ctx context.Context) bool {
	tr := newTrace(RungDCUtR, StageHolePunch)
	l.wait(ctx, holePunchWait)
	if pathTo(l.u.t.host, l.peer).Kind == PathDirect {
		l.u.t.record(l.peer, tr, nil)
		return true
	}
	l.u.t.record(l.peer, tr, fmt.Errorf("no hole after %v", holePunchWait))
	return false
}

// speaksWebRTC says whether the peer is known to speak /webrtc, by its addresses
// or by identify.
func (l *ladder) speaksWebRTC() bool {
	ps := l.u.t.host.Peerstore()
	for _, a := range ps.Addrs(l.peer) {
		if _, err := a.ValueForProtocol(ma.P_WEBRTC); err == nil {
			return true
		}
	}
	speaks, err := ps.SupportsProtocols(l.peer, signaling.ProtocolID)
	return err == nil && len(speaks) > 0
}

// direct dials all of the peer's own addresses, and /webrtc over the relayed
// connection. The swarm asks its gater and dials by its own rules.
func (u *upgrader) direct(ctx context.Context, p peer.ID) error {
	h := u.t.host
	before, _ := u.lastDial(p)
	h.Peerstore().AddAddr(p, pseudoAddr, pseudoTTL)
	// It means nothing to others: it shall not leak into what they are told.
	defer h.Peerstore().SetAddr(p, pseudoAddr, 0)
	start := time.Now()
	_, err := h.Network().DialPeer(network.WithForceDirectDial(ctx, "webrtc upgrade"), p)
	after, last := u.lastDial(p)
	if after == before { // the dial did not come to /webrtc, or was sooner done
		tr := &trace{attempt: Attempt{Rung: RungDirect, Start: start, Steps: []Step{{Stage: StageSignaling}}}, last: start}
		u.t.record(p, tr, err)
	} else if err != nil && last != nil {
		return last
	}
	return err
}

// lastDial returns how often /webrtc was dialled, and why the last dial failed.
func (u *upgrader) lastDial(p peer.ID) (int, error) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if r := u.records[p]; r != nil {
		return r.dials, r.dialErr
	}
	return 0, nil
}

// approach dials a peer by whatever address is known; mostly that is one
// through a relay.
func (u *upgrader) approach(ctx context.Context, p peer.ID) (Stage, error) {
	tr := newTrace(RungRelay, StageDiscover)
	u.mu.Lock()
	r := u.get(p)
	if r == nil {
		u.mu.Unlock()
		return StageRelayDial, ErrClosed
	}
	r.dialling++
	var again []ma.Multiaddr
	if r.relayed != nil {
		again = append(again, r.relayed)
	}
	u.mu.Unlock()
	defer u.hold(p, again)()
	defer func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		r.dialling--
		r.wake()
	}()
	err := ErrNoAddress
	if len(u.t.host.Peerstore().Addrs(p)) > 0 {
		tr.reach(StageRelayDial)
		// The ladder has a back-off of its own, and Connect is an order.
		if b, ok := u.t.host.Network().(interface{ Backoff() *netswarm.DialBackoff }); ok {
			b.Backoff().Clear(p)
		}
		// Not the host's Connect, which waits for identify: a round trip or more.
		ctx := network.WithAllowLimitedConn(ctx, "webrtc upgrade")
		_, err = u.t.host.Network().DialPeer(ctx, p)
		if err != nil && noReservation(err) {
			tr.reach(StageReservation)
		}
	}
	u.t.record(p, tr, err)
	return tr.stage(), err
}

// hold keeps addresses of a peer in the peerstore, whatever identify says, until
// release is called.
func (u *upgrader) hold(p peer.ID, addrs []ma.Multiaddr) (release func()) {
	ps := u.t.host.Peerstore()
	u.mu.Lock()
	u.held[p]++
	u.mu.Unlock()
	ps.AddAddrs(p, addrs, heldTTL)
	return func() {
		u.mu.Lock()
		defer u.mu.Unlock()
		if u.held[p]--; u.held[p] > 0 {
			return
		}
		delete(u.held, p)
		ps.UpdateAddrs(p, heldTTL, peerstore.RecentlyConnectedAddrTTL)
	}
}

// noReservation says whether a relay has answered so. The circuit client keeps
// the status to itself but for this text; a test would see it change.
func noReservation(err error) bool { return strings.Contains(err.Error(), "NO_RESERVATION") }
