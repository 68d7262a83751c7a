package reservation

import (
	"slices"
	"sync"

	"github.com/libp2p/go-libp2p/core/event"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	ma "github.com/multiformats/go-multiaddr"
)

// maxOffers bounds how many peers that say to be relays are kept in mind.
const maxOffers = 64

// signals collects what the host tells, for the loop to take up when it comes
// to it. Nothing that it is told can block: of one peer there is one signal,
// and of unknown peers there are maxOffers at most.
type signals struct {
	wake chan struct{} // capacity 1

	mu      sync.Mutex
	known   map[peer.ID]struct{} // the relays of the loop
	offers  bool                 // whether unknown peers are of interest
	pending map[peer.ID]signal
	network bool // this host's own addresses have changed
}

// signal is news of one peer. The zero value says that a connection came or went.
type signal struct {
	hopOn, hopOff bool
	addrs         []ma.Multiaddr // what it says in identify; nil: nothing new
	leaves        *departure     // nil: it does not say so
}

func newSignals(offers bool) *signals {
	return &signals{
		wake:    make(chan struct{}, 1),
		known:   make(map[peer.ID]struct{}),
		offers:  offers,
		pending: make(map[peer.ID]signal),
	}
}

func (s *signals) know(p peer.ID, on bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if on {
		s.known[p] = struct{}{}
	} else {
		delete(s.known, p)
	}
}

func (s *signals) knows(p peer.ID) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	_, known := s.known[p]
	return known
}

func (s *signals) tell(p peer.ID, news signal) {
	s.mu.Lock()
	defer s.mu.Unlock()
	old, waiting := s.pending[p]
	if _, known := s.known[p]; !known && (!s.offers || !news.hopOn || !waiting && len(s.pending) >= maxOffers) {
		return
	}
	s.pending[p] = old.add(news)
	s.wakeUp()
}

func (s signal) add(news signal) signal {
	if news.hopOn || news.hopOff {
		s.hopOn, s.hopOff = news.hopOn, news.hopOff // the later counts
	}
	if news.addrs != nil {
		s.addrs = news.addrs
	}
	if news.leaves != nil {
		s.leaves = news.leaves
	}
	return s
}

func (s *signals) networkChanged() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.network = true
	s.wakeUp()
}

func (s *signals) wakeUp() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

func (s *signals) take() (pending map[peer.ID]signal, network bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	pending, network = s.pending, s.network
	s.pending, s.network = make(map[peer.ID]signal), false
	return pending, network
}

// notifiee tells of every single connection, which the event bus does not:
// there, the second one to a peer is none.
func (s *signals) notifiee() network.Notifiee {
	touch := func(_ network.Network, c network.Conn) { s.tell(c.RemotePeer(), signal{}) }
	return &network.NotifyBundle{ConnectedF: touch, DisconnectedF: touch}
}

// hear takes up an event of the host's bus.
func (s *signals) hear(e any) {
	switch e := e.(type) {
	case event.EvtPeerIdentificationCompleted:
		if direct(e.Conn) {
			s.tell(e.Peer, signal{hopOn: hop(e.Protocols), addrs: identifiedAddrs(e)})
		}
	case event.EvtPeerProtocolsUpdated:
		s.tell(e.Peer, signal{hopOn: hop(e.Added), hopOff: hop(e.Removed)})
	case event.EvtLocalAddressesUpdated:
		if networkChange(e) {
			s.networkChanged()
		}
	}
}

func hop(protocols []protocol.ID) bool { return slices.Contains(protocols, proto.ProtoIDv2Hop) }

// identifiedAddrs prefers what the peer has signed.
func identifiedAddrs(e event.EvtPeerIdentificationCompleted) []ma.Multiaddr {
	addrs := e.ListenAddrs
	if e.SignedPeerRecord != nil {
		if r, err := e.SignedPeerRecord.Record(); err == nil {
			if signed, ok := r.(*peer.PeerRecord); ok && signed.PeerID == e.Peer {
				addrs = signed.Addrs
			}
		}
	}
	return slices.Clone(addrs[:min(len(addrs), maxRelayAddrs)])
}

// networkChange says whether addresses of this machine came or went, not only
// those that we publish ourselves.
func networkChange(e event.EvtLocalAddressesUpdated) bool {
	if !e.Diffs {
		return true
	}
	own := func(a event.UpdatedAddress) bool {
		_, err := a.Address.ValueForProtocol(ma.P_CIRCUIT)
		return err != nil && a.Action != event.Maintained
	}
	return slices.ContainsFunc(e.Current, own) || slices.ContainsFunc(e.Removed, own)
}
