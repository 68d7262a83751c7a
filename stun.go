package tango

import (
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	logging "github.com/ipfs/go-log/v2"
	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/p2p/host/eventbus"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/tangop2p/tango/relay"
	"github.com/tangop2p/tango/reservation"
	"github.com/tangop2p/tango/webrtc"
)

var log = logging.Logger("tango")

const (
	// stunWait is how long an attempt to connect waits for relays that have not yet
	// said whether they have a STUN server.
	stunWait = time.Second
	// maxSTUN is how many servers are asked: one answer is enough.
	maxSTUN = 4
)

// stunServers knows the STUN servers of the relays that hold a reservation.
type stunServers struct {
	host   host.Host
	given  map[peer.ID][]ma.Multiaddr       // the user's word on where relays are
	held   func() []reservation.Reservation // how relays stand
	sub    event.Subscription
	ctx    context.Context //nolint:containedctx // bounds what is asked
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	relays []*relaySTUN // guarded by mu; the oldest reservation first
}

type relaySTUN struct {
	relay  peer.ID
	since  time.Time // of the reservation: what the relay said does not outlive it
	cancel context.CancelFunc
	done   chan struct{} // closed when urls is known
	urls   []string
}

// newSTUNServers must be called before reservations are made.
func newSTUNServers(h host.Host, relays []peer.AddrInfo, held func() []reservation.Reservation) (*stunServers, error) {
	sub, err := h.EventBus().Subscribe(new(reservation.EvtReservationChanged), eventbus.Name("tango/stun"))
	if err != nil {
		return nil, fmt.Errorf("reservation events: %w", err)
	}
	s := &stunServers{host: h, held: held, sub: sub, given: make(map[peer.ID][]ma.Multiaddr)}
	for _, r := range relays {
		s.given[r.ID] = append(s.given[r.ID], r.Addrs...)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.wg.Go(s.listen)
	return s, nil
}

func (s *stunServers) close() error {
	err := s.sub.Close() // which ends listen
	s.mu.Lock()          // see update
	s.cancel()
	s.mu.Unlock()
	s.wg.Wait()
	return err
}

// listen has relays asked ahead of time.
func (s *stunServers) listen() {
	for range s.sub.Out() {
		s.update()
	}
}

// update asks relays that hold a new reservation, forgets those that hold it no
// longer, and returns those known. It asks the Keeper, not the event, which may
// come after others have seen the reservation and connect by it.
func (s *stunServers) update() []*relaySTUN {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ctx.Err() != nil {
		return nil
	}
	var relays []*relaySTUN
	for _, r := range s.held() {
		if r.State != reservation.Reserved {
			continue
		}
		at := slices.IndexFunc(s.relays, func(k *relaySTUN) bool { return k.relay == r.Relay && k.since.Equal(r.Since) })
		if at >= 0 {
			relays = append(relays, s.relays[at])
		} else {
			relays = append(relays, s.ask(r.Relay, r.Since))
		}
	}
	for _, r := range s.relays {
		if !slices.Contains(relays, r) {
			r.cancel()
		}
	}
	slices.SortStableFunc(relays, func(a, b *relaySTUN) int { return a.since.Compare(b.since) })
	s.relays = relays
	return slices.Clone(relays)
}

func (s *stunServers) ask(p peer.ID, since time.Time) *relaySTUN {
	ctx, cancel := context.WithCancel(s.ctx)
	r := &relaySTUN{relay: p, since: since, cancel: cancel, done: make(chan struct{})}
	s.wg.Go(func() {
		defer cancel()
		defer close(r.done)
		info, err := relay.FetchInfo(ctx, s.host, peer.AddrInfo{ID: p, Addrs: s.given[p]})
		if err != nil {
			log.Debugw("no STUN server of a relay", "relay", p, "error", err)
		}
		r.urls = info.STUN
	})
	return r
}

// known waits for the URLs until ctx ends.
func (r *relaySTUN) known(ctx context.Context) []string {
	select {
	case <-r.done:
	case <-ctx.Done():
	}
	select {
	case <-r.done:
		return r.urls
	default:
		return nil
	}
}

// list is for [webrtc.WithICEServersFunc].
func (s *stunServers) list(ctx context.Context) ([]webrtc.ICEServer, error) {
	ctx, cancel := context.WithTimeout(ctx, stunWait)
	defer cancel()
	var known [][]string
	for _, r := range s.update() { //nolint:contextcheck // what is asked outlives the attempt
		known = append(known, r.known(ctx))
	}
	var servers []webrtc.ICEServer
	for i := range maxSTUN { // the first of each, then the second
		for _, urls := range known {
			if i < len(urls) && len(servers) < maxSTUN {
				servers = append(servers, webrtc.ICEServer{URLs: urls[i : i+1]})
			}
		}
	}
	return servers, nil
}
