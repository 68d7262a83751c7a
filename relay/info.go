package relay

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"slices"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/protocol"
	"google.golang.org/protobuf/encoding/protowire"
)

// InfoID is the protocol by which a relay tells peers about itself. Who opens a
// stream is sent one protobuf message of at most 4 KiB, then the end of the stream:
//
//	message RelayInfo {
//	  repeated uint32 stun_ports = 1 [packed = false]; // UDP ports that answer STUN at the relay's own addresses
//	}
//
// Unknown fields are skipped. There is no place for hosts: nobody is sent to a
// third party by a relay's word.
const InfoID protocol.ID = "/tango/relay-info/1.0.0"

const (
	infoService = "tango.relay-info" // for the resource manager
	infoTimeout = 5 * time.Second    // for either side, in all
	maxInfo     = 4 << 10            // bytes
	maxPorts    = 4                  // that are read

	fieldSTUNPorts = 1
)

// Info is what a relay tells about itself, see [FetchInfo].
type Info struct {
	// STUN are URLs (RFC 7064) of the relay's STUN server, at most 4; none if it has none.
	STUN []string
}

// FetchInfo asks a relay about itself, over a direct connection that is there,
// for at most 5 s. The relay names ports only: the hosts in what is returned are
// those of the addresses given, which must be the user's word and not the
// relay's, and before them the IP address at which the connection ends. A relay
// that is not tango's does not know the protocol, which is an error.
func FetchInfo(ctx context.Context, h host.Host, relay peer.AddrInfo) (Info, error) {
	ctx, cancel := context.WithTimeout(ctx, infoTimeout)
	defer cancel()
	s, err := h.NewStream(network.WithNoDial(ctx, "tango/relay-info"), relay.ID, InfoID)
	if err != nil {
		return Info{}, fmt.Errorf("relay: ask %v about itself: %w", relay.ID, err)
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	ports, err := readInfo(s)
	if err != nil {
		_ = s.Reset()
		return Info{}, fmt.Errorf("relay: what %v tells about itself: %w", relay.ID, errors.Join(context.Cause(ctx), err))
	}
	_ = s.Close()
	ip := addrOf(s.Conn())
	if !ip.IsValid() {
		return Info{}, fmt.Errorf("relay: the connection to %v is not a direct one", relay.ID)
	}
	hosts := []string{ip.String()}
	for _, a := range relay.Addrs {
		if name := hostOf(a); name != "" {
			hosts = append(hosts, name)
		}
	}
	var info Info
	for _, name := range hosts {
		for _, port := range ports {
			info.STUN = appendURL(info.STUN, name, port)
		}
	}
	return info, nil
}

func readInfo(s network.Stream) (ports []uint16, err error) {
	if err := s.Scope().SetService(infoService); err != nil {
		return nil, err
	}
	if err := s.Scope().ReserveMemory(maxInfo, network.ReservationPriorityAlways); err != nil {
		return nil, err
	}
	defer s.Scope().ReleaseMemory(maxInfo)
	_ = s.SetDeadline(time.Now().Add(infoTimeout))
	if err := s.CloseWrite(); err != nil {
		return nil, err
	}
	body, err := io.ReadAll(io.LimitReader(s, maxInfo+1))
	if err != nil {
		return nil, err
	}
	return parseInfo(body)
}

// parseInfo decodes a RelayInfo. What cannot be a port is skipped.
func parseInfo(body []byte) (ports []uint16, err error) {
	if len(body) > maxInfo {
		return nil, fmt.Errorf("more than %d bytes", maxInfo)
	}
	for len(body) > 0 {
		num, wire, n := protowire.ConsumeTag(body)
		if n < 0 {
			return nil, errors.New("not a protobuf")
		}
		body = body[n:]
		var port uint64
		if num == fieldSTUNPorts && wire == protowire.VarintType {
			port, n = protowire.ConsumeVarint(body)
		} else {
			n = protowire.ConsumeFieldValue(num, wire, body)
		}
		if n < 0 {
			return nil, errors.New("not a RelayInfo")
		}
		body = body[n:]
		if p := uint16(port); p != 0 && uint64(p) == port && len(ports) < maxPorts && !slices.Contains(ports, p) {
			ports = append(ports, p)
		}
	}
	return ports, nil
}

// marshalInfo encodes the ports of where STUN is answered.
func marshalInfo(stun []netip.AddrPort) []byte {
	var body []byte
	var told []uint16
	for _, a := range stun {
		if slices.Contains(told, a.Port()) {
			continue
		}
		told = append(told, a.Port())
		body = protowire.AppendTag(body, fieldSTUNPorts, protowire.VarintType)
		body = protowire.AppendVarint(body, uint64(a.Port()))
	}
	return body
}

// serveInfo tells who asks until stop is called; the hop waits for answers under way.
func serveInfo(h *hop, message []byte) (stop func()) {
	h.host.SetStreamHandler(InfoID, func(s network.Stream) {
		if !h.enter() {
			_ = s.Reset()
			return
		}
		defer h.wg.Done()
		err := s.Scope().SetService(infoService)
		if err == nil {
			_ = s.SetDeadline(time.Now().Add(infoTimeout))
			_, err = s.Write(message)
		}
		if err != nil {
			log.Debugw("info not told", "peer", s.Conn().RemotePeer(), "error", err)
			_ = s.Reset()
			return
		}
		_ = s.Close()
	})
	return func() { h.host.RemoveStreamHandler(InfoID) }
}
