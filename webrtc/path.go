package webrtc

import (
	"fmt"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	ma "github.com/multiformats/go-multiaddr"
)

// PathKind says how a peer is reached.
type PathKind string

// The kinds of paths, the worst first.
const (
	PathNone    PathKind = "none"    // there is no connection
	PathRelayed PathKind = "relayed" // through a relay, which may limit it
	PathDirect  PathKind = "direct"  // with nothing in between, save a TURN server perhaps
)

// Path is how a peer is reached: the best of the connections to it.
type Path struct {
	Kind PathKind
	// Addr is the connection's remote address. That of /webrtc is the one that
	// ICE has selected.
	Addr ma.Multiaddr
	// Relay is the relay of a relayed path.
	Relay peer.ID
	// Limited says that the relay bounds the path's time or bytes.
	Limited bool
}

// String returns what a person wants to read.
func (p Path) String() string {
	switch p.Kind {
	case PathDirect:
		return fmt.Sprintf("direct at %v", p.Addr)
	case PathRelayed:
		if p.Limited {
			return fmt.Sprintf("relayed by %v, limited", p.Relay)
		}
		return fmt.Sprintf("relayed by %v", p.Relay)
	default:
		return "not connected"
	}
}

// pathOf returns the path that a connection is.
func pathOf(c network.Conn) Path {
	p := Path{Kind: PathDirect, Addr: c.RemoteMultiaddr(), Limited: c.Stat().Limited}
	if isRelayed(p.Addr) {
		p.Kind = PathRelayed
		if s, err := p.Addr.ValueForProtocol(ma.P_P2P); err == nil {
			p.Relay, _ = peer.Decode(s) // the multiaddr has parsed it
		}
	}
	return p
}

// pathTo returns the best path to a peer.
func pathTo(h host.Host, p peer.ID) Path {
	best := Path{Kind: PathNone}
	for _, c := range h.Network().ConnsToPeer(p) {
		if c.IsClosed() {
			continue
		}
		switch path := pathOf(c); {
		case path.Kind == PathDirect:
			return path
		case best.Kind == PathNone, best.Limited && !path.Limited:
			best = path
		}
	}
	return best
}

// relayed returns a connection to a peer through a relay, nil if there is none.
// A limited one does as well for signaling.
func relayed(h host.Host, p peer.ID) network.Conn {
	for _, c := range h.Network().ConnsToPeer(p) {
		if !c.IsClosed() && isRelayed(c.RemoteMultiaddr()) {
			return c
		}
	}
	return nil
}

func isRelayed(a ma.Multiaddr) bool {
	_, err := a.ValueForProtocol(ma.P_CIRCUIT)
	return err == nil
}
