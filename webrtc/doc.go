// Package webrtc is the /webrtc transport: direct connections between peers
// that a relay introduces to each other, browsers among them.
//
// go-libp2p has webrtc-direct, with which a browser dials a server. This is the
// other one, for two peers of which neither can be dialled, with js-libp2p in
// browsers as well as between Go programs. It needs no fork: it adds itself to
// a host of libp2p.New.
//
// # Usage
//
//	h, err := libp2p.New(libp2p.EnableAutoRelayWithStaticRelays(relays))
//	...
//	w, err := webrtc.New(h)
//
// From there on the host is dialled over /webrtc through its relays, what comes
// in through a relay becomes direct in the background, and [Transport.Connect] dials:
//
//	path, err := w.Connect(ctx, peer, addr) // addr is <relay>/p2p-circuit/webrtc/p2p/<peer>
//	if failed, ok := errors.AsType[*webrtc.ConnectError](err); ok {
//		fmt.Println(failed.Stage, failed.Hint) // why it is not direct
//		fmt.Println(w.Explain(peer))           // all that was tried
//	}
//
// With streams opened by the host's NewStream nothing else changes: it waits for
// a direct connection by itself where a relay's limits forbid more.
//
// # The ladder
//
// A relayed path is kept until a direct one stands, and after it too: nothing that
// works is dropped. The side that has dialled through the relay begins at once,
// the other 3 s later if nothing has happened (js-libp2p never begins after
// having dialled a plain circuit address). The rungs are DCUtR if both sides
// speak it (libp2p.EnableHolePunching), which may take 4 s, then dialling the
// peer's own addresses and /webrtc at once. If both sides offer at once, the one
// with the lower peer ID goes on; with js-libp2p, which knows no such rule, two
// connections result, and both stay. A failed attempt is repeated after 5 s, then
// after twice as long each time up to 5 min, and at once when the host's addresses
// change or Connect is called. When a direct path falls silent, the peers
// go through the relay again and begin anew; one that is closed stays closed,
// unless the relayed connection outlasts it by 1 s.
//
// # Lifecycle
//
// [New] starts everything, [Transport.Close] or closing the host ends it: it
// closes the connections and returns when nothing runs any more. go-libp2p keeps
// a transport for good, so a host has one Transport in its life.
//
// # Events
//
// On the host's event bus: [EvtPathChanged] and [EvtUpgradeFailed]. Who subscribes
// has to read: the bus waits for slow readers, and Close with it.
//
// # Limits
//
// [Limits] bounds what remotes may take, [signaling.Limits] what the signaling
// may, and the resource manager each connection (by the address that ICE has found)
// and its streams. Stock limits count everybody behind one relay as one IP address:
// see [ResourceManagerOptions].
//
// # Security
//
// The relayed connection is encrypted and authenticated end to end. It carries
// the fingerprints that DTLS is checked against, so the direct connection needs
// no other handshake, and the relay can neither read nor replace it. What a remote
// may make this host send to addresses that it names is bounded by the candidate
// policy, see package signaling. ICE servers learn this host's address and when
// it connects; none is asked unless it is given. A private network's key does not
// protect WebRTC: do not add the transport to such a host.
//
// # Addresses
//
// A connection's remote address is the one that ICE has selected,
// /ip4/192.0.2.1/udp/4001/webrtc: resource manager, gater, GossipSub's IP
// colocation score and identify need an address of the peer, not the relay's.
// Dialled is <relay>/p2p-circuit/webrtc, which the swarm takes for a circuit; the
// upgrade then dials /webrtc alone.
package webrtc
