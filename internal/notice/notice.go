// Package notice is how a relay tells those who hold a reservation that it is
// about to leave, and where else they may go.
//
// Protocol /tango/relay-notice/1.0.0: the relay opens a stream, writes one JSON
// object of at most 4096 bytes and closes its side. The peer answers nothing; it
// closes its side once it has a reservation elsewhere, or has found none.
//
//	{"leaves": 30, "alternatives": ["/dns4/relay.example/tcp/443/tls/ws/p2p/12D3KooW..."]}
//
// "leaves" is in how many seconds the relay is gone at the latest, 0 if it does
// not say; "alternatives" are at most 8 addresses of other relays, each with its
// peer ID. Unknown members are ignored.
package notice

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	ma "github.com/multiformats/go-multiaddr"
)

const (
	// ID is the protocol.
	ID protocol.ID = "/tango/relay-notice/1.0.0"
	// MaxAlternatives is how many addresses a notice names.
	MaxAlternatives = 8
	// MaxAddr is the most bytes of an address as text.
	MaxAddr = 400

	maxMessage = 4096
	maxLeaves  = 24 * time.Hour
	// timeout is how long either side takes.
	timeout = 5 * time.Second
)

// Notice is what a relay says.
type Notice struct {
	// Leaves is how long the relay stays at most, up to 24 h; 0 if it does not say.
	Leaves time.Duration
	// Alternatives are other relays, one address each.
	Alternatives []peer.AddrInfo
}

type message struct {
	Leaves       int64    `json:"leaves"` // seconds
	Alternatives []string `json:"alternatives"`
}

// Parse reads a notice. Alternatives that are not the direct address of a peer
// are left out, as are those beyond [MaxAlternatives].
func Parse(data []byte) (Notice, error) {
	if len(data) > maxMessage {
		return Notice{}, fmt.Errorf("more than %d bytes", maxMessage)
	}
	var m message
	if err := json.Unmarshal(data, &m); err != nil {
		return Notice{}, err
	}
	if m.Leaves < 0 || m.Leaves > int64(maxLeaves/time.Second) {
		return Notice{}, fmt.Errorf("leaves in %d seconds", m.Leaves)
	}
	n := Notice{Leaves: time.Duration(m.Leaves) * time.Second}
	for _, text := range m.Alternatives[:min(len(m.Alternatives), MaxAlternatives)] {
		if info, err := ParseAddr(text); err == nil {
			n.Alternatives = append(n.Alternatives, info)
		}
	}
	return n, nil
}

// ParseAddr reads the address of a relay.
func ParseAddr(text string) (peer.AddrInfo, error) {
	if len(text) > MaxAddr {
		return peer.AddrInfo{}, fmt.Errorf("more than %d bytes", MaxAddr)
	}
	info, err := peer.AddrInfoFromString(text)
	if err != nil {
		return peer.AddrInfo{}, err
	}
	if len(info.Addrs) == 0 {
		return peer.AddrInfo{}, errors.New("a peer without an address")
	}
	if _, err := info.Addrs[0].ValueForProtocol(ma.P_CIRCUIT); err == nil {
		return peer.AddrInfo{}, errors.New("a relay has to be reached directly")
	}
	return *info, nil
}

// Marshal is the opposite of [Parse]. It fails if the notice does not fit.
func (n Notice) Marshal() ([]byte, error) {
	m := message{Leaves: int64(math.Ceil(min(n.Leaves, maxLeaves).Seconds())), Alternatives: []string{}}
	for i := range n.Alternatives {
		addrs, err := peer.AddrInfoToP2pAddrs(&n.Alternatives[i])
		if err != nil {
			return nil, err
		}
		for _, a := range addrs {
			m.Alternatives = append(m.Alternatives, a.String())
		}
	}
	if len(m.Alternatives) > MaxAlternatives {
		return nil, fmt.Errorf("%d alternatives, %d at most", len(m.Alternatives), MaxAlternatives)
	}
	data, err := json.Marshal(m)
	if err == nil && len(data) > maxMessage {
		err = fmt.Errorf("%d bytes, %d at most", len(data), maxMessage)
	}
	return data, err
}

// Send gives a peer a notice, over a connection that is there, and waits until
// it has taken it to heart or ctx ends.
func Send(ctx context.Context, h host.Host, p peer.ID, data []byte) error {
	opening, cancel := context.WithTimeout(network.WithNoDial(ctx, string(ID)), timeout)
	defer cancel()
	s, err := h.NewStream(opening, p, ID)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	_ = s.SetWriteDeadline(time.Now().Add(timeout))
	if _, err = s.Write(data); err == nil {
		err = s.CloseWrite()
	}
	if err == nil {
		_, err = s.Read(make([]byte, 1))
	}
	if !errors.Is(err, io.EOF) {
		_ = s.Reset()
		return err
	}
	return s.Close()
}

// Read takes the notice that arrives on a stream. Who has done what it asks for
// closes the stream.
func Read(s network.Stream) (Notice, error) {
	if err := s.Scope().ReserveMemory(maxMessage, network.ReservationPriorityAlways); err != nil {
		return Notice{}, err
	}
	defer s.Scope().ReleaseMemory(maxMessage)
	_ = s.SetReadDeadline(time.Now().Add(timeout))
	data, err := io.ReadAll(io.LimitReader(s, maxMessage+1))
	if err != nil {
		return Notice{}, err
	}
	return Parse(data)
}
