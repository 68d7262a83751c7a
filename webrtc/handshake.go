package webrtc

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"time"

	"github.com/libp2p/go-libp2p/core/network"
	msmux "github.com/multiformats/go-multistream"
	pion "github.com/pion/webrtc/v4"

	"github.com/tangop2p/tango/signaling"
)

// keepAlive is how often an idle connection is probed, which keeps the mapping
// in a NAT (RFC 8445 §11 says 15 s at most) and finds a dead one in time.
const keepAlive = 2 * time.Second

// offer makes a connection as the offerer: libp2p specs, webrtc/webrtc.md
// §Browser to browser connection establishment. What it costs in round trips
// through the relay: one for offer and answer, and half of one for the candidates,
// which come behind the answer. Then on the new path: one for ICE, two for DTLS,
// two for SCTP. The stream's protocol goes along with the offer, and "init" is
// closed in the background.
func (t *Transport) offer(ctx context.Context, via network.Conn, tr *trace) (_ *peerConn, err error) {
	stream, err := openSignaling(ctx, via)
	if err != nil {
		return nil, fmt.Errorf("open a stream for the offer: %w", err)
	}
	tr.reach(StageOffer)
	pc, err := t.newPeerConn(ctx, via, true, tr)
	if err != nil {
		_ = stream.Reset() // it has carried nothing
		return nil, err
	}
	defer discardOn(&err, pc)
	if err = pc.channels.createInit(); err != nil {
		_ = stream.Reset()
		return nil, fmt.Errorf("create the channel init: %w", err)
	}
	offer, err := pc.CreateOffer(nil)
	if err != nil {
		_ = stream.Reset()
		return nil, fmt.Errorf("create the offer: %w", err)
	}
	session, err := t.signaling.OfferOver(ctx, stream, offer.SDP+offerMarker)
	if err != nil {
		return nil, err
	}
	defer abortOn(&err, session.Session)
	tr.reach(StageAnswer)
	release := trickle(pc, session.Session, holdCandidates)
	defer release()
	if err = pc.SetLocalDescription(offer); err != nil {
		return nil, fmt.Errorf("set the local description: %w", err)
	}
	answer, err := session.Answer(ctx)
	if err != nil {
		return nil, err
	}
	if err = pc.SetRemoteDescription(pion.SessionDescription{Type: pion.SDPTypeAnswer, SDP: answer}); err != nil {
		return nil, fmt.Errorf("set the remote's answer: %w", err)
	}
	release()
	pc.tango = marked(answer, answerMarker)
	if err = t.stand(ctx, pc, session.Session, answer); err != nil {
		return nil, err
	}
	if err = pc.channels.awaitInit(ctx); err != nil {
		return nil, fmt.Errorf("open the channel init: %w", err)
	}
	tr.reach(StageConfirm)
	confirm(ctx, session.Session)
	return pc, pc.downReason()
}

// answer makes a connection as the answerer. The session is left to confirm.
func (t *Transport) answer(ctx context.Context, in *signaling.Incoming, tr *trace) (_ *peerConn, err error) {
	defer abortOn(&err, in.Session)
	pc, err := t.newPeerConn(ctx, in.Conn(), false, tr)
	if err != nil {
		return nil, err
	}
	defer discardOn(&err, pc)
	pc.tango = marked(in.Offer(), offerMarker)
	if err = pc.SetRemoteDescription(pion.SessionDescription{Type: pion.SDPTypeOffer, SDP: in.Offer()}); err != nil {
		return nil, fmt.Errorf("set the remote's offer: %w", err)
	}
	answer, err := pc.CreateAnswer(nil)
	if err != nil {
		return nil, fmt.Errorf("create the answer: %w", err)
	}
	if err = in.Answer(ctx, answer.SDP+answerMarker); err != nil {
		return nil, err
	}
	trickle(pc, in.Session, 0)
	if err = pc.SetLocalDescription(answer); err != nil {
		return nil, fmt.Errorf("set the local description: %w", err)
	}
	if err = t.stand(ctx, pc, in.Session, in.Offer()); err != nil {
		return nil, err
	}
	// The first channel, "init" mostly, proves that packets get through both ways.
	select {
	case <-pc.sctp:
	case <-pc.down:
		return nil, pc.downReason()
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
	return pc, nil
}

func discardOn(err *error, pc *peerConn) {
	if *err != nil {
		pc.discard()
	}
}

func abortOn(err *error, s *signaling.Session) {
	if *err != nil {
		s.Abort(*err)
	}
}

// confirm closes this side's end of the stream, which tells the remote that the
// connection stands, and waits until the remote says so too: js-libp2p takes few
// streams before it does. One that does not say so may have its reasons.
func confirm(ctx context.Context, s *signaling.Session) {
	if err := s.Done(ctx); err != nil {
		log.Debugw("the remote did not close the signaling", "peer", s.Peer(), "error", err)
	}
}

// stand gives pion the remote's candidates until ICE and DTLS stand.
func (t *Transport) stand(ctx context.Context, pc *peerConn, s *signaling.Session, remote string) error {
	pc.trace.reach(StageCandidates)
	countCandidates(pc, remote)
	var taking sync.WaitGroup
	defer taking.Wait()
	takeCtx, cancel := context.WithCancel(ctx)
	defer cancel()
	ended := make(chan error, 1)
	taking.Go(func() { ended <- t.take(takeCtx, pc, s) })
	if pc.offerer {
		taking.Go(func() { nudge(takeCtx, pc) })
	}
	for {
		select {
		case <-pc.up:
			return nil
		case <-pc.down:
			return pc.downReason()
		case <-ctx.Done():
			return context.Cause(ctx)
		case err := <-ended:
			if err != nil {
				return err
			}
			ended = nil // the remote is connected, or has no more candidates
		}
	}
}

func (t *Transport) take(ctx context.Context, pc *peerConn, s *signaling.Session) error {
	var asking sync.WaitGroup // not more than CandidatePolicy.Max at once
	defer asking.Wait()
	for c, err := range s.Candidates(ctx) {
		switch {
		case ctx.Err() != nil:
			return nil
		case err != nil:
			return err
		}
		pc.trace.count(false, kindOf(c.Candidate))
		pc.trace.reach(StageICE)
		if name, hidden := mdnsName(c.Candidate); hidden {
			asking.Go(func() { t.takeHidden(ctx, pc, c, name) })
			continue
		}
		add(pc, c)
	}
	return nil
}

// takeHidden gives pion a candidate with the address that its name stands for.
// If nobody answers, the remote's packets may still come and tell.
func (t *Transport) takeHidden(ctx context.Context, pc *peerConn, c signaling.Candidate, name string) {
	addr, err := t.resolver.resolve(ctx, name)
	if err != nil {
		log.Debugw("name of a candidate not resolved", "name", name, "error", err)
		return
	}
	c.Candidate = withAddress(c.Candidate, addr)
	add(pc, c)
}

// add gives pion a candidate, which asks the policy about its address.
func add(pc *peerConn, c signaling.Candidate) {
	if err := pc.AddICECandidate(pion.ICECandidateInit(c)); err != nil {
		log.Debugw("candidate not taken", "error", err)
		return
	}
	pc.give(c)
}

// nudge makes pion nominate a pair as soon as there is one that works. By itself
// it looks for one every 200 ms, when a candidate comes, or when the remote checks
// the pair too, and most often the answer to the first check is here long
// before. A candidate of the same address but another type makes it look, at
// the price of a check more to that address; its priority is the lowest, so
// that it is not what is chosen.
func nudge(ctx context.Context, pc *peerConn) {
	var c signaling.Candidate
	select {
	case c = <-pc.given:
	case <-ctx.Done():
		return
	}
	for i, ms := range [...]int64{2, 3, 5, 10, 20, 40, 80} {
		timer := time.NewTimer(time.Duration(ms) * time.Millisecond)
		select {
		case <-timer.C:
		case <-ctx.Done():
			timer.Stop()
			return
		}
		same := c
		if same.Candidate = asReflexive(c.Candidate, i+1); same.Candidate == "" {
			return
		}
		if err := pc.AddICECandidate(pion.ICECandidateInit(same)); err != nil {
			log.Debugw("candidate not taken", "error", err)
		}
	}
}

// asReflexive returns the candidate as a peer-reflexive one with the lowest
// priority and a made-up base (RFC 8839 §5.1), which tells it from others; empty if
// there is no making sense of it.
func asReflexive(candidate string, n int) string {
	fields := strings.Fields(candidate)
	if len(fields) <= addressField+1 {
		return ""
	}
	foundation, component, transport, addr, port := fields[0], fields[1], fields[2], fields[addressField], fields[addressField+1]
	base := "0.0.0.0"
	if strings.Contains(addr, ":") {
		base = "::"
	}
	return fmt.Sprintf("%s %s %s 1 %s %s typ prflx raddr %s rport %d", foundation, component, transport, addr, port, base, n)
}

// holdCandidates is how long an offerer keeps its candidates back for the answer.
// A browser checks them at once; before the answer is here pion drops its
// check, for which there is no password yet, and the next one comes 50 ms later.
// Where the answer takes longer than that, it is the other way round.
const holdCandidates = 40 * time.Millisecond

// trickle sends the local candidates as they are found, the first ones after
// the time or when release is called.
func trickle(pc *peerConn, s *signaling.Session, hold time.Duration) (release func()) {
	var mu sync.Mutex
	var held []signaling.Candidate
	holding := hold > 0
	send := func(c signaling.Candidate) {
		if err := s.SendCandidate(c); err != nil {
			log.Debugw("candidate not sent", "peer", s.Peer(), "error", err)
		}
	}
	flush := func() {
		mu.Lock()
		defer mu.Unlock()
		for _, c := range held {
			send(c)
		}
		held, holding = nil, false
	}
	pc.OnICECandidate(func(c *pion.ICECandidate) {
		if c == nil {
			return
		}
		init := signaling.Candidate(c.ToJSON())
		pc.trace.count(true, kindOf(init.Candidate))
		mu.Lock()
		defer mu.Unlock()
		if holding {
			held = append(held, init)
		} else {
			send(init)
		}
	})
	if hold == 0 {
		return flush
	}
	timer := time.AfterFunc(hold, flush)
	return func() {
		timer.Stop()
		flush()
	}
}

func countCandidates(pc *peerConn, sdp string) {
	for line := range strings.Lines(sdp) {
		if c, ok := strings.CutPrefix(line, "a=candidate:"); ok {
			pc.trace.count(false, kindOf(c))
			pc.trace.reach(StageICE)
		}
	}
}

// kindOf returns the type of a candidate-attribute (RFC 8839 §5.1), "mdns" for
// a name and "" if there is none.
func kindOf(candidate string) string {
	fields := strings.Fields(candidate)
	for i, f := range fields[:max(0, len(fields)-1)] {
		if f != "typ" {
			continue
		}
		if _, hidden := mdnsName(candidate); hidden {
			return "mdns"
		}
		return fields[i+1]
	}
	return ""
}

// A marker tells another tango peer that it talks to one. SDP parsers pass over
// attributes that they do not know (RFC 8866 §5.13), as browsers do; but
// libdatachannel answers with what was offered, so the answer has one of its own.
const (
	offerMarker  = "a=x-tango:offer\r\n"
	answerMarker = "a=x-tango:answer\r\n"
)

func marked(sdp, marker string) bool { return strings.Contains(sdp, "\n"+marker) }

// openSignaling opens a stream for an offer on a connection. It does not wait
// for identify, as the host would, and its protocol goes out with the offer:
// two round trips through the relay less.
func openSignaling(ctx context.Context, via network.Conn) (network.Stream, error) {
	s, err := via.NewStream(network.WithAllowLimitedConn(ctx, "webrtc signaling"))
	if err != nil {
		return nil, err
	}
	if err := s.SetProtocol(signaling.ProtocolID); err != nil {
		_ = s.ResetWithError(network.StreamResourceLimitExceeded)
		return nil, err
	}
	return &lazyStream{Stream: s, rw: msmux.NewMSSelect(s, signaling.ProtocolID)}, nil
}

// lazyStream is a stream whose protocol is negotiated along with its first bytes.
type lazyStream struct {
	network.Stream
	rw io.ReadWriteCloser
}

func (s *lazyStream) Read(p []byte) (int, error)  { return s.rw.Read(p) }
func (s *lazyStream) Write(p []byte) (int, error) { return s.rw.Write(p) }

// Close bounds the wait for the rest of the negotiation.
func (s *lazyStream) Close() error {
	_ = s.SetReadDeadline(time.Now().Add(time.Second)) // Close says if the stream is broken
	return s.rw.Close()
}

// CloseWrite sends what is left of the negotiation first.
func (s *lazyStream) CloseWrite() error {
	if f, ok := s.rw.(interface{ Flush() error }); ok {
		if err := f.Flush(); err != nil {
			return errors.Join(err, s.Reset())
		}
	}
	return s.Stream.CloseWrite()
}
