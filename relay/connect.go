package relay

import (
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	"github.com/libp2p/go-libp2p/core/peer"
	pbv2 "github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/pb"
	"github.com/libp2p/go-libp2p/p2p/protocol/circuitv2/util"
)

// connect answers a CONNECT.
func (h *hop) connect(s network.Stream, msg *pbv2.HopMessage) {
	c, why := h.open(s, msg)
	if why != "" {
		h.metrics.refused(ConnectFrom, why)
		h.events.circuit(EvtCircuit{Circuit: Circuit{Source: s.Conn().RemotePeer(), Destination: destination(msg)}, Reason: why})
		answer(s, &pbv2.HopMessage{Status: why.status(ConnectFrom).Enum()})
		return
	}
	defer c.release()
	h.metrics.answered(ConnectFrom)
	if err := writeHop(s, &pbv2.HopMessage{Status: pbv2.Status_OK.Enum(), Limit: limitMessage(c.terms)}); err != nil {
		c.end(CauseSource)
		return
	}
	h.metrics.opened()
	h.events.circuit(EvtCircuit{Circuit: c.public()})
	c.run(h.limits.BufferSize)
	c.release() // before its end is told, so that then its place is free
	h.metrics.closed(c)
	h.events.circuit(EvtCircuit{Circuit: c.public(), Cause: c.ended(), Duration: time.Since(c.since)})
}

func destination(msg *pbv2.HopMessage) peer.ID {
	info, err := util.PeerToPeerInfoV2(msg.GetPeer())
	if err != nil {
		return ""
	}
	return info.ID
}

// open makes a circuit that is ready to be told to its source.
func (h *hop) open(s network.Stream, msg *pbv2.HopMessage) (c *openCircuit, why Reason) {
	src, dst := s.Conn().RemotePeer(), destination(msg)
	if dst == "" {
		return nil, ReasonMalformed
	}
	from := h.decide(h.ctx, h.request(ConnectFrom, s.Conn(), dst))
	if why, refused := from.Refused(); refused {
		return nil, why
	}
	c = &openCircuit{circuit: newCircuit(h.ctx, src, dst)}
	c.group = groupOf(addrOf(s.Conn()))
	c.onRelease(from.Release)
	defer func() {
		if why != "" {
			c.release()
		}
	}()
	held := h.table.get(dst, c.since)
	if held == nil {
		held = h.restore(dst)
	}
	if held == nil {
		return c, ReasonNoReservation
	}
	conn := h.direct(dst)
	if conn == nil {
		return c, ReasonUnreachable
	}
	to := h.decide(h.ctx, h.request(ConnectTo, conn, src))
	if why, refused := to.Refused(); refused {
		return c, why
	}
	c.onRelease(to.Release)
	c.terms = circuitTerms(h.limits, from, to, held.Terms)
	return c, h.join(c, s, [2]int64{
		from.within(h.limits, c.since).Rate, smaller(to.within(h.limits, c.since).Rate, held.Terms.Rate),
	})
}

// join takes what the circuit needs and calls its destination.
func (h *hop) join(c *openCircuit, s network.Stream, rates [2]int64) Reason {
	span, err := h.scope.BeginSpan()
	if err == nil {
		c.onRelease(span.Done)
		err = span.ReserveMemory(2*h.limits.BufferSize, network.ReservationPriorityHigh)
	}
	if err != nil {
		log.Debugw("no resources for a circuit", "source", c.src, "destination", c.dst, "error", err)
		return ReasonResources
	}
	if why := h.enlist(c, rates); why != "" {
		return why
	}
	stop, err := h.callStop(c.circuit)
	if err != nil {
		log.Debugw("destination did not take a circuit", "source", c.src, "destination", c.dst, "error", err)
		return ReasonUnreachable
	}
	if !c.begin(s, stop) { // ended while its destination was asked
		_ = stop.Reset()
		return ReasonUnreachable
	}
	return ""
}
