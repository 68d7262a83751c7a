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
	given  map[peer.ID][]ma.Multiaddr // the user's word on where relays are
	sub    event.Subscription
	ctx    context.Context //nolint:containedctx // bounds what is asked
	cancel context.CancelFunc
	wg     sync.WaitGroup

	mu     sync.Mutex
	relays []*relaySTUN // guarded by mu; the oldest reservation first
}

type relaySTUN struct {
	relay  peer.ID
	cancel context.CancelFunc
	done   chan struct{} // closed when urls is known
	urls   []string
}

// newSTUNServers must be called before reservations are made.
func newSTUNServers(h host.Host, relays []peer.AddrInfo) (*stunServers, error) {
	sub, err := h.EventBus().Subscribe(new(reservation.EvtReservationChanged), eventbus.Name("tango/stun"))
	if err != nil {
		return nil, fmt.Errorf("reservation events: %w", err)
	}
	s := &stunServers{host: h, sub: sub, given: make(map[peer.ID][]ma.Multiaddr)}
	for _, r := range relays {
		s.given[r.ID] = append(s.given[r.ID], r.Addrs...)
	}
	s.ctx, s.cancel = context.WithCancel(context.Background())
	s.wg.Go(s.listen)
	return s, nil
}

func (s *stunServers) close() error {
	err := s.sub.Close() // which ends listen
	s.cancel()
	s.wg.Wait()
	return err
}

func (s *stunServers) listen() {
	for e := range s.sub.Out() {
		change, ok := e.(reservation.EvtReservationChanged)
		if !ok {
			continue
		}
		s.forget(change.Relay)
		if change.State == reservation.Reserved {
			s.ask(change.Relay)
		}
	}
}

func (s *stunServers) forget(p peer.ID) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.relays = slices.DeleteFunc(s.relays, func(r *relaySTUN) bool {
		if r.relay == p {
			r.cancel()
		}
		return r.relay == p
	})
}

func (s *stunServers) ask(p peer.ID) {
	ctx, cancel := context.WithCancel(s.ctx)
	r := &relaySTUN{relay: p, cancel: cancel, done: make(chan struct{})}
	s.mu.Lock()
	s.relays = append(s.relays, r)
	s.mu.Unlock()
	s.wg.Go(func() {
		defer cancel()
		defer close(r.done)
		info, err := relay.FetchInfo(ctx, s.host, peer.AddrInfo{ID: p, Addrs: s.given[p]})
		if err != nil {
			log.Debugw("no STUN server of a relay", "relay", p, "error", err)
		}
		r.urls = info.STUN
	})
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
	s.mu.Lock()
	relays := slices.Clone(s.relays)
	s.mu.Unlock()
	var known [][]string
	for _, r := range relays {
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
