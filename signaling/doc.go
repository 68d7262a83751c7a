// Package signaling exchanges the offer, the answer and the candidates of a WebRTC connection over a libp2p stream.
//
// It speaks /webrtc-signaling/0.0.1, with which js-libp2p in browsers makes its /webrtc connections. It knows nothing
// of WebRTC itself: it is for those who bring a PeerConnection of their own. It builds
// for GOOS=js too.
//
// # Usage
//
// The side that offers creates a data channel labelled "init" before its offer, as the specs demand, and closes it when
// the connection stands:
//
//	s, err := signaling.New(h)
//	...
//	out, err := s.Offer(ctx, peer, offer.SDP) // on a connection that exists, through a relay mostly
//	pc.OnICECandidate(func(c *webrtc.ICECandidate) {
//		if c != nil {
//			_ = out.SendCandidate(signaling.Candidate(c.ToJSON()))
//		}
//	})
//	pc.SetLocalDescription(offer)              // candidates come from here on
//	answer, err := out.Answer(ctx)
//	pc.SetRemoteDescription(webrtc.SessionDescription{Type: webrtc.SDPTypeAnswer, SDP: answer})
//	for c, err := range out.Candidates(ctx) { // in a goroutine
//		pc.AddICECandidate(webrtc.ICECandidateInit(c))
//	}
//	... // the connection stands
//	err = out.Done(ctx)                       // or out.Abort(err)
//
// The other side takes sessions with [Service.Accept], and is the same but for [Incoming.Offer] and [Incoming.Answer]:
// it answers before it sets its local description.
//
// # Lifecycle
//
// [New] serves the protocol, which a node shall do also if it only dials: the specs let either side of the relayed
// connection begin. A session ends with [Session.Done] (the stream is closed, and read until the remote has closed it
// too), with [Session.Abort] or a failure (it is reset), and at the latest by [Limits.Timeout]. A remote that closes its
// end before this side is done says that it is connected; [Session.Candidates] then ends without an error. js-libp2p
// does so just before it takes streams on the new connection. [Service.Close] resets all sessions and returns when
// nothing runs any more. A session has two goroutines.
//
// # Concurrency
//
// A [Service] and its sessions are safe for concurrent use. [Session.SendCandidate] and [Session.Abort] do not wait for
// the remote, so they may be called from callbacks.
//
// # Errors
//
// What fails returns an [*Error] with the [Stage] that was reached, the peer and a reason that often wraps one of the
// Err sentinels; a context that ends returns its cause. There is no error for a candidate that is bad or refused: it is
// skipped, counted and logged at debug level.
//
// # Limits
//
// [Limits] bounds the size of a message (before it is read), candidates, sessions and time. What exceeds it is reset
// with a code that says so (resource limit exceeded, protocol violation), counted and logged at debug level. Each
// session reserves its memory, 240 KiB with the defaults, under [ServiceName] in the resource manager. Offers
// that nobody accepts are refused once [Limits.Backlog] of them wait.
//
// # Security
//
// The connection that carries the signaling must be authenticated, as every libp2p connection is; the fingerprints in
// the descriptions, which the DTLS handshake must check, then bind the new connection to the remote's identity. A relay
// on the way sees nothing.
//
// A remote, and that may be anybody, names addresses to which this node then sends STUN packets from inside its
// network. It does not see what comes back, so it cannot scan with them, unless it has an ICE agent of its own in
// there. It can hit a UDP service with bytes that it did not expect, or make many nodes send to a victim (RFC 8445
// §19.5.1). Therefore [CandidatePolicy] lets through a bounded number of UDP candidates with ports and addresses that
// make sense; refused ones are also taken out of descriptions. [DefaultCandidatePolicy] lets private addresses through:
// without them two peers in one LAN do not find each other. Servers use [GuardedCandidatePolicy]. What it lets through
// still does not lead to the remote for sure, and mDNS names must be asked again when they are resolved
// ([CandidatePolicy.Allows]). Addresses that the remote's ICE agent sends from are not candidates and pass without
// being asked: answering them goes where a packet came from.
//
// # Wire format
//
// Messages of a stream, each behind its length as a multiformats unsigned-varint (libp2p specs, webrtc/webrtc.md
// §Signaling Protocol):
//
//	message Message {
//	  enum Type {
//	    SDP_OFFER = 0;      // data is RTCSessionDescription.sdp
//	    SDP_ANSWER = 1;     // the same
//	    ICE_CANDIDATE = 2;  // data is RTCIceCandidate.toJSON() as JSON
//	  }
//	  optional Type type = 1; // js-libp2p wants it always, 0 too
//	  optional string data = 2;
//	}
//
// The offerer sends its offer and then candidates, without waiting, as js-libp2p does; the answerer sends its answer
// and then candidates. A candidate before the answer, a second description, or one from the wrong side violates the
// protocol. End-of-candidates is not sent; as data that is empty, null, "" or without a candidate it is ignored.
package signaling
