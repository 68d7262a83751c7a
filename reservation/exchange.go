package reservation

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"github.com/libp2p/go-libp2p/core/host"
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"
	ma "github.com/multiformats/go-multiaddr"

	"github.com/tangop2p/tango/internal/invite"
)

const (
	// maxMessage bounds a relay's answer. go-libp2p's own client stops at 4 KiB, which a relay with many
	// WebTransport addresses comes near to.
	maxMessage = 16 << 10
	// maxRelayAddrs is how many of a relay's addresses are looked at, whoever names them.
	maxRelayAddrs = 64
	// maxLifetime bounds what a relay may say of the time that a reservation holds.
	maxLifetime = 24 * time.Hour
	// minLifetime is below what a relay grants; an answer with less, or with a time that is over, is a yes
	// of a relay whose clock is behind ours.
	minLifetime = time.Second
	// skewedLifetime is what such a reservation is taken for. It is renewed accordingly.
	skewedLifetime = time.Minute
)

// grant is what a relay grants.
type grant struct {
	conn          string // the connection on which it was granted
	expires       time.Time
	limitDuration time.Duration // of a circuit; 0: unlimited
	limitData     uint64        // bytes a circuit may carry in each direction; 0: unlimited
	addrs         []ma.Multiaddr
}

// reserve asks for a reservation over a direct connection that is there
// (circuit-v2.md §Hop Protocol, RESERVE). go-libp2p's client.Reserve does the
// same, but waits up to a minute for an answer, whatever happens to the
// context, and takes a relay whose clock is behind for a broken one.
func reserve(ctx context.Context, h host.Host, relay peer.ID) (*grant, error) {
	s, err := h.NewStream(network.WithNoDial(ctx, "tango/reservation"), relay, proto.ProtoIDv2Hop)
	if err != nil {
		return nil, fmt.Errorf("open stream: %w", timeoutOf(ctx, classify(err)))
	}
	if !direct(s.Conn()) {
		_ = s.Reset()
		return nil, errRelayed
	}
	stop := context.AfterFunc(ctx, func() { _ = s.Reset() })
	defer stop()
	answer, err := ask(s)
	if err != nil {
		_ = s.Reset()
		return nil, timeoutOf(ctx, classify(err))
	}
	_ = s.Close()
	g, err := parseAnswer(answer, h.ID(), relay, time.Now())
	if err != nil {
		return nil, err
	}
	g.conn = s.Conn().ID()
	return g, nil
}

// invited presents an invite and asks then, whatever came of it: the relay may
// serve us without.
func invited(ctx context.Context, h host.Host, relay peer.ID, token string) (*grant, error) {
	notTaken := invite.Present(network.WithNoDial(ctx, "tango/reservation"), h, relay, token)
	g, err := reserve(ctx, h, relay)
	if refused, ok := errors.AsType[*RefusedError](err); ok && notTaken != nil {
		return nil, &RefusedError{Status: refused.Status, Invite: notTaken}
	}
	return g, err
}

// ask sends the request and reads the answer.
func ask(s network.Stream) (*pbv2.HopMessage, error) {
	if err := s.Scope().ReserveMemory(maxMessage, network.ReservationPriorityAlways); err != nil {
		return nil, fmt.Errorf("reserve memory: %w", err)
	}
	defer s.Scope().ReleaseMemory(maxMessage)
	request := &pbv2.HopMessage{Type: pbv2.HopMessage_RESERVE.Enum()}
	if err := util.NewDelimitedWriter(s).WriteMsg(request); err != nil {
		return nil, fmt.Errorf("send request: %w", err)
	}
	r := util.NewDelimitedReader(s, maxMessage)
	defer r.Close()
	answer := new(pbv2.HopMessage)
	if err := r.ReadMsg(answer); err != nil {
		return nil, fmt.Errorf("read answer: %w", err)
	}
	return answer, nil
}

// timeoutOf makes a timeout of what broke off because the context's time was over.
func timeoutOf(ctx context.Context, err error) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		return fmt.Errorf("no answer in time (%w): %w", os.ErrDeadlineExceeded, err)
	}
	return err
}

// parseAnswer reads a relay's answer. Nothing in it is believed but the yes:
// times are bounded, addresses counted, the voucher has to be this relay's for
// this peer.
func parseAnswer(m *pbv2.HopMessage, self, relay peer.ID, now time.Time) (*grant, error) {
	if m.GetType() != pbv2.HopMessage_STATUS {
		return nil, fmt.Errorf("%w: %v instead of a status", ErrMalformed, m.GetType())
	}
	if status := m.GetStatus(); status != pbv2.Status_OK {
		return nil, &RefusedError{Status: status}
	}
	r := m.GetReservation()
	if r == nil {
		return nil, fmt.Errorf("%w: no reservation in it", ErrMalformed)
	}
	if err := checkVoucher(r.GetVoucher(), self, relay); err != nil {
		return nil, fmt.Errorf("%w: voucher: %w", ErrMalformed, err)
	}
	return &grant{
		expires:       expiry(r.GetExpire(), now),
		limitDuration: time.Duration(m.GetLimit().GetDuration()) * time.Second,
		limitData:     m.GetLimit().GetData(),
		addrs:         parseAddrs(r.GetAddrs()),
	}, nil
}

// expiry bounds a Unix time in seconds.
func expiry(unix uint64, now time.Time) time.Time {
	switch {
	case unix > uint64(now.Add(maxLifetime).Unix()):
		return now.Add(maxLifetime)
	case unix < uint64(now.Add(minLifetime).Unix()):
		return now.Add(skewedLifetime)
	default:
		return time.Unix(int64(unix), 0)
	}
}

func parseAddrs(encoded [][]byte) []ma.Multiaddr {
	var addrs []ma.Multiaddr
	for _, b := range encoded[:min(len(encoded), maxRelayAddrs)] {
		if a, err := ma.NewMultiaddrBytes(b); err == nil {
			addrs = append(addrs, a)
		}
	}
	return addrs
}

// checkVoucher checks a voucher if there is one (circuit-v2.md §Reservation Vouchers).
func checkVoucher(encoded []byte, self, relay peer.ID) error {
	if len(encoded) == 0 {
		return nil
	}
	var v proto.ReservationVoucher
	envelope, err := record.ConsumeTypedEnvelope(encoded, &v)
	if err != nil {
		return err
	}
	switch {
	case !relay.MatchesPublicKey(envelope.PublicKey):
		return errors.New("not signed by the relay")
	case v.Relay != relay:
		return errors.New("for another relay")
	case v.Peer != self:
		return errors.New("for another peer")
	}
	return nil
}

// direct says whether a connection is fit for a reservation: relays refuse
// those over another relay (circuit-v2.md §Reservation).
func direct(c network.Conn) bool {
	_, err := c.RemoteMultiaddr().ValueForProtocol(ma.P_CIRCUIT)
	return err != nil && !c.Stat().Limited && !c.IsClosed()
}
