package relay

import (
	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	"github.com/libp2p/go-libp2p/core/record"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/proto"
	ma "github.com/multiformats/go-multiaddr"
	protobuf "google.golang.org/protobuf/proto"
)

// reserve answers a RESERVE.
func (h *hop) reserve(s network.Stream) {
	h.restore(s.Conn().RemotePeer()) // so that this renews it
	r := h.request(Reserve, s.Conn(), "")
	d := h.decide(h.ctx, r)
	why, refused := d.Refused()
	if !refused {
		why = h.admit(r, d)
	}
	if why != "" {
		h.metrics.refused(Reserve, why)
		h.events.reservation(EvtReservation{Peer: r.Peer, Addr: r.Addr, Change: ReservationRefused, Reason: why})
		answer(s, &pbv2.HopMessage{Status: why.status(Reserve).Enum()})
		return
	}
	h.metrics.answered(Reserve)
	held := h.table.get(r.Peer, r.Time)
	if held == nil { // it has just left
		_ = s.Reset()
		return
	}
	answer(s, h.granted(&held.Reservation))
}

// admit puts a reservation that the policy has allowed into the table.
func (h *hop) admit(r *Request, d Decision) Reason {
	return h.hold(h.entry(r, d), ReservationMade)
}

func (h *hop) entry(r *Request, d Decision) *reservation {
	terms := d.within(h.limits, r.Time)
	return &reservation{
		Reservation: Reservation{Peer: r.Peer, Addr: r.Addr, Since: r.Time, Expires: r.Time.Add(terms.TTL), Terms: terms},
		release:     d.Release,
	}
}

// hold puts a reservation into the table, and tells of it as a change unless it
// renews another.
func (h *hop) hold(entry *reservation, change ReservationChange) Reason {
	renewed, evicted, why := h.table.put(entry)
	if why != "" {
		entry.release()
		return why
	}
	if evicted != nil {
		h.gone(evicted, ReasonCapacity)
	}
	if renewed != nil {
		renewed.release()
		change = ReservationRenewed
	} else {
		h.metrics.reservations.Inc()
		h.host.ConnManager().TagPeer(entry.Peer, tagReservation, weightReservation)
	}
	h.metrics.changed(change)
	h.events.reservation(EvtReservation{Peer: entry.Peer, Addr: entry.Addr, Change: change, Expires: entry.Expires})
	if h.direct(entry.Peer) == nil { // it has left meanwhile, which was told before
		h.release(entry.Peer, ReasonDisconnected)
	}
	return ""
}

// release ends a peer's reservation.
func (h *hop) release(p peer.ID, why Reason) bool {
	r := h.table.take(p)
	if r == nil {
		return false
	}
	h.gone(r, why)
	return true
}

// gone tidies up after a reservation that is no longer in the table.
func (h *hop) gone(r *reservation, why Reason) {
	r.release()
	h.host.ConnManager().UntagPeer(r.Peer, tagReservation)
	h.metrics.reservations.Dec()
	h.metrics.changed(ReservationEnded)
	h.events.reservation(EvtReservation{Peer: r.Peer, Addr: r.Addr, Change: ReservationEnded, Reason: why})
}

// granted is the answer with a reservation (libp2p specs,
// relay/circuit-v2.md §Reservation), with as many of the relay's addresses as
// the message may hold.
func (h *hop) granted(r *Reservation) *pbv2.HopMessage {
	self := h.host.ID()
	expire := uint64(r.Expires.Unix())
	held := &pbv2.Reservation{Expire: &expire}
	voucher := &proto.ReservationVoucher{Relay: self, Peer: r.Peer, Expiration: r.Expires}
	envelope, err := record.Seal(voucher, h.host.Peerstore().PrivKey(self))
	if err == nil {
		held.Voucher, err = envelope.Marshal()
	}
	if err != nil {
		log.Warnw("reservation without a voucher", "error", err)
	}
	msg := &pbv2.HopMessage{
		Type: pbv2.HopMessage_STATUS.Enum(), Status: pbv2.Status_OK.Enum(), Reservation: held, Limit: limitMessage(r.Terms),
	}
	suffix := ma.StringCast("/p2p/" + self.String())
	for _, a := range reservationAddrs(h.host.Addrs()) {
		if len(held.Addrs) == maxAddrs {
			break
		}
		held.Addrs = append(held.Addrs, a.Encapsulate(suffix).Bytes())
		if protobuf.Size(msg) > maxMessage {
			held.Addrs = held.Addrs[:len(held.Addrs)-1] // a shorter one may fit
		}
	}
	return msg
}

// maxAddrs is how many of the relay's addresses a reservation names, each of
// which a peer announces.
const maxAddrs = 32
