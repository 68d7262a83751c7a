package reservation

import (
	"context"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// heartbeat is how often the loop looks around though nothing is due.
	heartbeat = 15 * time.Second
	// asleep is the jump of the clock over the time that has passed that means that the machine slept.
	asleep = 10 * time.Second
	// barFor is how long a discovered relay that failed is left alone.
	barFor = 10 * time.Minute
)

// relay is one relay in the loop.
type relay struct {
	id         peer.ID
	own        bool           // given to New, not discovered
	addrs      []ma.Multiaddr // as given
	identified []ma.Multiaddr // as it says itself; nil: not heard yet
	m          *machine
	barred     time.Time // until when a discovered one is left alone
	suggested  bool      // by an own relay that leaves
	leaves     time.Time // until when it is left alone, for it said so; zero: it stays
	left       bool      // it has, and is not needed at once
	departure  *departure

	attempt int // counts attempts, to tell the current one's result from an older one's
	cancel  context.CancelFunc

	renewal bool // whether the current attempt is one
}

// result is how an attempt ended.
type result struct {
	relay   *relay
	attempt int
	incident
}

func (k *Keeper) add(info peer.AddrInfo, own bool) *relay {
	r := &relay{
		id:     info.ID,
		own:    own,
		addrs:  info.Addrs,
		m:      newMachine(k.cfg.backoff, k.random, time.Now()),
		cancel: func() {},
	}
	k.relays = append(k.relays, r)
	k.signals.know(r.id, true)
	return r
}

// run is the only place where machines make steps. All I/O happens in attempts
// of their own.
func (k *Keeper) run() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	last := time.Now()
	for {
		select {
		case <-k.ctx.Done():
			k.end()
			return
		case r := <-k.results:
			k.finished(r)
		case <-k.signals.wake:
			k.signalled()
		case <-timer.C:
		}
		now := time.Now()
		if slept(now.Round(0).Sub(last.Round(0)), now.Sub(last)) {
			k.everywhere(evNetwork)
		}
		last = now
		k.everywhere(evTick)
		k.back(now)
		k.choose(now)
		k.publish()
		k.show()
		k.announce()
		k.depart(now) // last: nobody shall be sent through a relay that has gone
		timer.Reset(time.Until(k.next(now)))
	}
}

// slept says whether the wall clock went further than the monotonic one, which
// stands still while the machine sleeps. Connections did not survive that, most
// likely, and reservations have run out.
func slept(wall, monotonic time.Duration) bool { return wall-monotonic > asleep }

// end stops all machines; Close waits for their attempts.
func (k *Keeper) end() {
	for _, r := range k.relays {
		r.cancel()
		if r.m.wanted() {
			k.links.protect(r.id, false)
		}
	}
	k.metrics.held.Set(0)
}

// step tells a relay's machine what happened and does what it wants.
func (k *Keeper) step(r *relay, e incident) {
	now := time.Now()
	state, wanted := r.m.state, r.m.wanted()
	e.conns = k.links.conns(r.id)
	c := r.m.step(now, e)
	if c.drop {
		r.end()
	}
	switch c.do {
	case doDial:
		k.attempt(r, c.timeout, func(ctx context.Context) incident {
			return incident{kind: evDialled, err: k.links.dial(ctx, r.id, r.addrs)}
		})
	case doReserve:
		r.renewal = r.m.grant != nil
		k.attempt(r, c.timeout, func(ctx context.Context) incident {
			g, err := k.links.reserve(ctx, r.id)
			return incident{kind: evAnswered, grant: g, err: err}
		})
	case doHangUp:
		log.Debug("gave up a connection without answers", "relay", r.id)
		k.wg.Go(func() {
			k.links.hangUp(r.id, c.conn)
			k.signals.tell(r.id, signal{})
		})
	case doNothing:
	}
	if wanted != r.m.wanted() {
		k.links.protect(r.id, r.m.wanted())
	}
	k.note(r, state)
}

// note counts, logs and announces what a step changed.
func (k *Keeper) note(r *relay, before State) {
	if r.m.lost != nil {
		k.metrics.lost.WithLabelValues(lostReason(r.m.lost)).Inc()
		r.m.lost = nil
		r.identified = nil // it may come back with others
	}
	if r.m.state == before {
		return
	}
	log.Debug("relay changed state", "relay", r.id, "state", r.m.state, "err", r.m.err)
	k.news = append(k.news, EvtReservationChanged{Relay: r.id, State: r.m.state, Err: r.m.err, Addrs: k.addrsOf(r)})
}

// announce hands out the news, which is not done before [Keeper.Addrs] and
// [Keeper.Reservations] tell the same.
func (k *Keeper) announce() {
	for _, e := range k.news {
		k.outbox.add(e)
	}
	k.news = nil
}

// attempt runs one, in place of the relay's last.
func (k *Keeper) attempt(r *relay, timeout time.Duration, do func(context.Context) incident) {
	r.end()
	ctx, cancel := context.WithTimeout(k.ctx, timeout)
	r.cancel = cancel
	n := r.attempt
	k.wg.Go(func() {
		defer cancel()
		res := result{relay: r, attempt: n, incident: do(ctx)}
		select {
		case k.results <- res:
		case <-k.ctx.Done():
		}
	})
}

// end makes whatever comes of the relay's attempt meaningless.
func (r *relay) end() {
	r.cancel()
	r.attempt++
}

func (k *Keeper) finished(res result) {
	if res.attempt != res.relay.attempt {
		return
	}
	if res.grant != nil && res.relay.identified == nil {
		// identify was before our time, or its event is still on its way: the request waited for it
		res.relay.identified = k.links.known(res.relay.id)
	}
	switch {
	case res.kind == evAnswered:
		k.metrics.attempted(res.err, res.relay.renewal)
	case res.err != nil:
		k.metrics.attempts.WithLabelValues(outcomeUnreachable).Inc()
	}
	k.step(res.relay, res.incident)
}

// signalled takes up what the host told.
func (k *Keeper) signalled() {
	pending, network := k.signals.take()
	for p, s := range pending {
		r := k.find(p)
		if r == nil {
			k.offered(p, s)
			continue
		}
		if s.addrs != nil {
			r.identified = s.addrs
		}
		switch {
		case s.hopOn:
			k.step(r, incident{kind: evHopOn})
		case s.hopOff:
			k.step(r, incident{kind: evHopOff})
		}
		if s.leaves != nil {
			k.leave(r, s.leaves)
		}
	}
	if network {
		k.everywhere(evNetwork)
	}
}

func (k *Keeper) find(p peer.ID) *relay {
	at := slices.IndexFunc(k.relays, func(r *relay) bool { return r.id == p })
	if at < 0 {
		return nil
	}
	return k.relays[at]
}

// offered keeps a relay in mind that was discovered; if there are too many,
// instead of one that has gone, or not at all.
func (k *Keeper) offered(p peer.ID, s signal) {
	if !k.roomForOffer() {
		return
	}
	if r := k.add(peer.AddrInfo{ID: p}, false); s.addrs != nil {
		r.identified = s.addrs
	}
}

func (k *Keeper) roomForOffer() bool {
	var known int
	for _, r := range k.relays {
		if !r.own {
			known++
		}
	}
	return known < maxOffers || k.dropGone()
}

// dropGone forgets a discovered relay that is neither used nor connected.
func (k *Keeper) dropGone() bool {
	at := slices.IndexFunc(k.relays, func(r *relay) bool {
		return !r.own && !r.m.wanted() && len(k.links.conns(r.id)) == 0
	})
	if at < 0 {
		return false
	}
	k.signals.know(k.relays[at].id, false)
	k.relays = slices.Delete(k.relays, at, at+1)
	return true
}

func (k *Keeper) everywhere(kind eventKind) {
	for _, r := range k.relays {
		if r.m.wanted() {
			k.step(r, incident{kind: kind})
		}
	}
}

// choose starts and stops relays so that the target is met.
func (k *Keeper) choose(now time.Time) {
	relays := make([]standing, len(k.relays))
	for i, r := range k.relays {
		relays[i] = k.standing(r, now)
	}
	start, stop := choose(k.cfg.target, relays)
	for _, i := range stop {
		k.step(k.relays[i], incident{kind: evStop})
	}
	for _, i := range start {
		k.step(k.relays[i], incident{kind: evStart})
	}
}

// standing says how a relay stands. A discovered one that fails is barred, and
// one that is not connected is not worth a try.
func (k *Keeper) standing(r *relay, now time.Time) standing {
	s := standing{own: r.own, wanted: r.m.wanted(), held: r.m.grant != nil, hopeful: r.m.hopeful(now), leaves: !r.leaves.IsZero()}
	s.returning = s.hopeful && !r.m.held.IsZero()
	if r.own {
		return s
	}
	if s.wanted && !s.held && !s.hopeful {
		r.barred = now.Add(barFor)
	}
	s.barred = now.Before(r.barred) || !s.wanted && !k.offers(r) && len(k.links.conns(r.id)) == 0
	return s
}

// offers says whether a relay that is not connected may be dialled: one that was
// suggested, as long as one that leaves has not come back.
func (k *Keeper) offers(r *relay) bool {
	return r.suggested && slices.ContainsFunc(k.relays, func(o *relay) bool { return !o.leaves.IsZero() })
}

// next is when the loop has to look again at the latest.
func (k *Keeper) next(now time.Time) time.Time {
	next := now.Add(heartbeat)
	for _, r := range k.relays {
		if t := r.m.next(now); !t.IsZero() && t.Before(next) {
			next = t
		}
		if !r.leaves.IsZero() && r.leaves.Before(next) {
			next = r.leaves
		}
	}
	return next
}

func (k *Keeper) sourcesOf(r *relay) sources {
	s := sources{configured: r.addrs, identified: r.identified}
	s.dialled, s.onLoopback = k.links.dialled(r.id)
	if r.m.grant != nil {
		s.reserved = r.m.grant.addrs
	}
	return s
}

// addrsOf returns this node's addresses through one relay.
func (k *Keeper) addrsOf(r *relay) []ma.Multiaddr {
	if r.m.grant == nil {
		return nil
	}
	return circuits([]peer.ID{r.id}, map[peer.ID]sources{r.id: k.sourcesOf(r)})
}

// publish makes the addresses public if they have changed.
func (k *Keeper) publish() {
	var held []peer.ID
	of := make(map[peer.ID]sources)
	for _, r := range k.relays {
		if r.m.grant != nil {
			held = append(held, r.id)
			of[r.id] = k.sourcesOf(r)
		}
	}
	k.metrics.held.Set(float64(len(held)))
	addrs := circuits(held, of)
	if slices.EqualFunc(addrs, k.Addrs(), ma.Multiaddr.Equal) {
		return
	}
	log.Debug("circuit addresses changed", "addrs", addrs)
	k.addrs.Store(&addrs)
	select {
	case k.addrsWake <- struct{}{}:
	default:
	}
}

// show lets others see how the relays stand.
func (k *Keeper) show() {
	var shown []Reservation
	for _, r := range k.relays {
		if r.own || r.m.wanted() {
			shown = append(shown, k.reservation(r))
		}
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	k.shown = shown
	close(k.changed)
	k.changed = make(chan struct{})
}

func (k *Keeper) reservation(r *relay) Reservation {
	v := Reservation{Relay: r.id, State: r.m.state, Since: r.m.since, LastError: r.m.err, Addrs: k.addrsOf(r)}
	if r.m.busy == doNothing {
		v.NextTry = r.m.due
	}
	if g := r.m.grant; g != nil {
		v.Expires, v.LimitDuration, v.LimitData = g.expires, g.limitDuration, g.limitData
	}
	return v
}
