package webrtc

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	ma "github.com/multiformats/go-multiaddr"
	manet "github.com/multiformats/go-multiaddr/net"
	"github.com/pion/ice/v4"
	"github.com/pion/sctp"
	"github.com/pion/stun/v4"
	pion "github.com/pion/webrtc/v4"

	"github.com/tangop2p/tango/signaling"
)

// This file holds all that pion's build for GOOS=js lacks: the SettingEngine,
// the SCTP transport's callbacks and the selected pair as a value. A browser
// sets by itself what is set here.

// peerConn is a PeerConnection and what its callbacks have said.
type peerConn struct {
	*pion.PeerConnection
	channels *channels
	trace    *trace
	offerer  bool
	tango    bool                     // the remote has a marker in its description
	given    chan signaling.Candidate // has the first one that ICE was given

	up   chan struct{} // closed when ICE and DTLS stand
	sctp chan struct{} // closed when the first data channel is open
	down chan struct{} // closed when the connection has ended

	mu      sync.Mutex
	downErr error       // guarded by mu; why down is closed
	conn    *conn       // guarded by mu; told when down is closed
	ended   func(error) // guarded by mu; told why conn has ended, unless this side has ended it

	closeOnce sync.Once
	closeErr  error
}

func (t *Transport) newPeerConn(ctx context.Context, via network.Conn, offerer bool, tr *trace) (*peerConn, error) {
	servers, err := t.cfg.iceServers(ctx)
	if err != nil {
		log.Warnw("going on without ICE servers", "error", err)
		servers = nil
	}
	tr.servers(len(servers))
	var conf pion.Configuration
	for _, s := range servers {
		conf.ICEServers = append(conf.ICEServers, pion.ICEServer{URLs: s.URLs, Username: s.Username, Credential: s.Credential})
	}
	p := &peerConn{
		trace:   tr,
		offerer: offerer,
		given:   make(chan signaling.Candidate, 1),
		up:      make(chan struct{}),
		sctp:    make(chan struct{}),
		down:    make(chan struct{}),
	}
	settings, told := t.settings(via), new(resets)
	settings.LoggerFactory = pionLoggers{told}
	settings.SetICEBindingRequestHandler(func(_ *stun.Message, _, remote ice.Candidate, _ *ice.CandidatePair) bool {
		p.give(signaling.Candidate{Candidate: "candidate:" + remote.Marshal(), SDPMid: new("0")})
		return false // it is for ICE to choose the pair
	})
	if p.PeerConnection, err = pion.NewAPI(pion.WithSettingEngine(settings)).NewPeerConnection(conf); err != nil {
		return nil, fmt.Errorf("make a PeerConnection: %w", err)
	}
	p.channels = newChannels(p.PeerConnection, offerer, told)
	p.watch()
	return p, nil
}

// checkInterval is pion's, between two requests to find out whether a pair works.
const checkInterval = 200 * time.Millisecond

// settings are those for a connection that is signaled over via.
func (t *Transport) settings(via network.Conn) pion.SettingEngine {
	var e pion.SettingEngine
	e.DetachDataChannels()
	// Waits for a better pair than the one that works. A browser behind an mDNS
	// name that does not resolve shows up as peer-reflexive, for which pion
	// would wait 1 s; the path is as good.
	e.SetPrflxAcceptanceMinWait(0)
	e.SetSrflxAcceptanceMinWait(0)
	e.SetICETimeouts(t.cfg.limits.DisconnectAfter, t.cfg.limits.LostAfter, keepAlive)
	// pion by itself gives a pair up after 1.6 s without an answer. A busy machine, or a
	// remote that is not ready, takes longer; STUN would go on for 39.5 s (RFC 8489 §6.2.1).
	e.SetICEMaxBindingRequests(uint16(t.cfg.limits.Timeout / checkInterval))
	// The cookie (RFC 6347 §4.2.1) proves an address that ICE has just proved
	// with a password; it would cost a round trip.
	e.SetDTLSInsecureSkipHelloVerify(true)
	e.SetSCTPMaxReceiveBufferSize(t.cfg.limits.ReceiveBuffer)
	e.SetIncludeLoopbackCandidate(onLoopback(via) && !onNetwork())
	e.SetICEMulticastDNSMode(ice.MulticastDNSModeDisabled) // see resolver
	e.SetRemoteIPFilter(func(ip net.IP) bool {
		addr, ok := netip.AddrFromSlice(ip)
		return ok && t.cfg.policy.Allows(via, addr.Unmap())
	})
	if t.cfg.ports[0] != 0 {
		_ = e.SetEphemeralUDPPortRange(t.cfg.ports[0], t.cfg.ports[1]) // the option has checked it
	}
	return e
}

// onNetwork says whether this machine has an address besides loopback, by which
// peers on it reach each other too. Firefox answers checks from loopback, but does
// not use such a pair.
func onNetwork() bool {
	addrs, err := net.InterfaceAddrs()
	return err == nil && slices.ContainsFunc(addrs, func(a net.Addr) bool {
		ip, ok := a.(*net.IPNet)
		return ok && ip.IP.IsGlobalUnicast()
	})
}

// onLoopback says whether a connection leads to this machine itself: peers that
// met there may have no other network in common.
func onLoopback(c network.Conn) bool {
	ip, err := manet.ToIP(c.RemoteMultiaddr())
	return err == nil && ip.IsLoopback()
}

// give notes a candidate that ICE has, for nudge.
func (p *peerConn) give(c signaling.Candidate) {
	select {
	case p.given <- c:
	default: // one suffices
	}
}

func (p *peerConn) watch() {
	upOnce, sctpOnce := sync.OnceFunc(func() { close(p.up) }), sync.OnceFunc(func() { close(p.sctp) })
	p.OnICEConnectionStateChange(func(s pion.ICEConnectionState) {
		if s == pion.ICEConnectionStateConnected {
			p.trace.reach(StageDTLS)
		}
	})
	p.OnConnectionStateChange(func(s pion.PeerConnectionState) {
		switch s {
		case pion.PeerConnectionStateConnected:
			p.trace.reach(StageSCTP)
			upOnce()
		case pion.PeerConnectionStateFailed:
			p.fell(p.failure())
		case pion.PeerConnectionStateClosed:
			p.fell(ErrRemoteClosed)
		default: // disconnected may pass, the others are on the way up
		}
	})
	p.SCTP().OnDataChannelOpened(func(*pion.DataChannel) { sctpOnce() })
	// A browser page that closes says so here and in DTLS; its ICE would fall silent only.
	p.SCTP().OnClose(func(err error) {
		if err != nil {
			p.fell(fmt.Errorf("%w: %w", ErrRemoteClosed, err))
			return
		}
		p.fell(ErrRemoteClosed)
	})
}

// failure says why the state is failed.
func (p *peerConn) failure() error {
	select {
	case <-p.up:
		return ErrLost
	default:
	}
	if p.trace.stage() == StageDTLS {
		return fmt.Errorf("the DTLS handshake failed, %v", p.SCTP().Transport().State())
	}
	return ErrNoCandidatePair
}

// fell notes the end of the connection; the first reason counts.
func (p *peerConn) fell(err error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.downErr != nil {
		return
	}
	p.downErr = err
	close(p.down)
	p.tell()
}

// tell hands the end on to the connection, if there are both. p.mu is held.
func (p *peerConn) tell() {
	if p.conn == nil || p.downErr == nil {
		return
	}
	if !p.conn.IsClosed() {
		p.ended(p.downErr)
	}
	p.conn.gone(p.downErr)
}

func (p *peerConn) downReason() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.downErr
}

// become hands the PeerConnection over to a connection. ended is called before
// the connection is gone, unless this side has closed it.
func (p *peerConn) become(c *conn, ended func(error)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.conn, p.ended = c, ended
	p.tell()
}

// Close ends the connection and returns when nothing of pion runs any more. Not
// from a callback of pion's.
func (p *peerConn) Close() error {
	p.closeOnce.Do(func() { p.closeErr = closed(p.GracefulClose()) })
	return p.closeErr
}

// closed is nil if pion says of the end of a PeerConnection that it closed a
// channel behind its association, as it does with one that opens meanwhile.
func closed(err error) error {
	if errors.Is(err, sctp.ErrResetPacketInStateNotExist) {
		log.Debugw("channel closed behind its association", "error", err)
		return nil
	}
	return err
}

// discard ends a connection that has not become one of libp2p's.
func (p *peerConn) discard() {
	if err := p.Close(); err != nil {
		log.Debugw("PeerConnection not closed cleanly", "error", err)
	}
	p.channels.close()
}

// addrs returns the selected pair as multiaddrs.
func (p *peerConn) addrs() (local, remote ma.Multiaddr) {
	pair, err := p.SCTP().Transport().ICETransport().GetSelectedCandidatePair()
	if err != nil || pair == nil {
		return pseudoAddr, pseudoAddr
	}
	return candidateAddr(pair.Local), candidateAddr(pair.Remote)
}

// candidateAddr returns /ip4/…/udp/…/webrtc, or /webrtc alone for a candidate
// without an IP address.
func candidateAddr(c *pion.ICECandidate) ma.Multiaddr {
	ip := net.ParseIP(c.Address)
	if ip == nil {
		return pseudoAddr
	}
	udp, err := manet.FromNetAddr(&net.UDPAddr{IP: ip, Port: int(c.Port)})
	if err != nil {
		return pseudoAddr
	}
	return udp.Encapsulate(pseudoAddr)
}
