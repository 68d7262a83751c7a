// Package relay is the third party through which browsers meet: a circuit v2
// relay with limits that suit them, and a GossipSub router that forwards their
// announcements.
//
// Two browsers cannot connect by themselves. Each keeps a reservation at a
// relay, learns of the other on a discovery topic that the relay forwards,
// opens a limited circuit to it through the relay, and on that exchanges what
// WebRTC needs for a direct connection. The relay is not needed after that.
//
// # Usage
//
//	rm, err := tango.ResourceManager(relay.SignalingOnly())
//	...
//	h, err := libp2p.New(libp2p.ResourceManager(rm), libp2p.ListenAddrStrings("/ip4/0.0.0.0/tcp/4001/ws"))
//	...
//	r, err := relay.New(h, relay.WithTopics(discovery.AppTopic("myapp")))
//	...
//	defer r.Close()
//
// # Policy
//
// A [Policy] decides on each RESERVE and on both ends of each CONNECT: who is
// served, and on which [Terms]. There are lists ([DenyList], [OnlyList]), caps
// ([PerIP], [PerSubnet], [PerASN], [PerPeer]), a [Rate], and [All], [Any],
// [Chain], [When] and [On] to put them together. A refusal has a [Reason], which
// events and metrics give; the peer gets the status that circuit v2 has for it.
// [Relay.SetPolicy], [List.Reload], [ASNs.Reload] and [Members.SetIssuers] change
// the rules while the relay runs. No policy gives more than [Limits], but [Grant].
//
// [Callout] asks an HTTP server. [Members] serves those who have an [Invite]:
//
//	token, err := relay.NewInvite(issuer.PrivKey(), relay.Invite{
//		Audience: relayID, Expires: time.Now().Add(24 * time.Hour), Peers: 5,
//	})
//	members, err := relay.NewMembers([]peer.ID{issuer.ID()})
//	r, err := relay.New(h, relay.WithPolicy(relay.On(members, relay.Reserve)))
//
// Package reservation presents a token before it asks (reservation.WithInvite). A
// page of js-libp2p does so itself, before its node is started:
//
//	node.addEventListener('connection:open', async ({ detail: connection }) => {
//	  if (connection.remotePeer.toString() !== relayId) return
//	  const stream = await connection.newStream('/tango/invite/1.0.0')
//	  stream.send(new TextEncoder().encode(token + '\n'))
//	  await stream.close()
//	})
//
// js-libp2p asks for its reservation at the same time; the relay lets a request
// wait up to 3 s for the invite ([WithInviteWait]), js-libp2p waits 5 s for the
// answer. A page whose invite is refused is told PERMISSION_DENIED, or
// RESERVATION_REFUSED if as many as may use it do. A token counts for its relay
// only; one without a Subject is for whoever has it, so keep it secret.
//
// When all reservations are taken a newcomer gets the place of a peer in that
// IPv4 address or IPv6 /56 that holds the most, unless its own holds as many.
//
// # Beside a stock relay
//
// What it does that a stock go-libp2p relay does not:
//
//   - hands out its addresses on loopback and in a LAN too, and of these the
//     ones that browsers can dial;
//   - keeps every peer in its mesh of a topic, up to 400, where a default
//     router keeps 12 and leaves the others to gossip;
//   - uses js-libp2p's message ID;
//   - forwards a record only if it speaks of its signer ([discovery.Validate]);
//   - tells a newcomer who is there within milliseconds of its joining a topic,
//     by repeating the last announcement of each of the others, and forgets
//     who has gone;
//   - says why it refuses, and ends circuits when it is closed;
//   - when all circuits are taken lets one go that has carried more than
//     signaling needs, so that newcomers still meet;
//   - may keep its reservations in a file ([WithSavedTable]), and tells tango
//     peers where else to go before it leaves ([WithAlternatives]);
//   - always limits circuits: on an unlimited one GossipSub settles, in js and
//     in Go, and is lost with the relay.
//
// # STUN
//
// [WithSTUN] answers STUN binding requests beside the relay, so that peers behind
// NATs need no third party. [Relay.ICEServers] names it for pages. Peers in Go
// ask with [FetchInfo], on the protocol [InfoID]; tango.New does so for its relays.
//
// # Lifecycle, concurrency, errors
//
// [New] validates its options before it starts anything. A Relay is safe for
// concurrent use. Close it before its host. [Relay.Shutdown] waits for the
// circuits that are open, and up to 30 s for peers that look for another relay;
// [Relay.Close] resets all at once. [EvtReservation] and
// [EvtCircuit] on the host's event bus tell of everything, also of what was
// refused and why; a subscriber that does not read loses the relay's events
// beyond 1024, which are counted, and holds up Close.
//
// # Limits and security
//
// [Limits] bounds reservations and circuits, and its methods scale a resource
// manager to match. Of requests that have not been read yet there are at most 16
// of a peer and 2048 in all; further streams are reset. Circuits are end-to-end encrypted: the relay learns who
// talks to whom and how much, not what. Subscriptions to other topics than the
// relay's are ignored. What a relay remembers of announcements is bounded to
// 4096, and a newcomer is sent at most 32.
//
// Peers, and all peers of one IPv4 address or IPv6 /56 together, have a pace. A
// peer may make 64 requests at once and then 4 a second, an address 4 for each
// reservation that it may hold and then one a second for each. An address, and a
// peer, may pass on 2 announcements for each such reservation and then one a second for
// each. What comes faster is refused with RESOURCE_LIMIT_EXCEEDED, or not forwarded. A
// peer that was refused so 16 times, less one a second, loses its connection, and so
// does one that is as often faster with announcements of itself than 16 at once and then
// 2 a second; what is not a request counts four times, and so does a message with a
// false signature. A host's connections are paced by its resource manager, see
// [Limits.ResourceManagerOptions].
//
// # Wire format
//
// Circuit v2, and to tango peers /tango/relay-notice/1.0.0: a stream opened by the
// relay on which it writes {"leaves": seconds, "alternatives": [address, ...]} as
// JSON of at most 4096 bytes. The peer closes the stream when it holds a
// reservation elsewhere, or has found none.
//
// Specifications: libp2p specs, relay/circuit-v2.md and
// pubsub/gossipsub/gossipsub-v1.1.md; STUN, RFC 8489.
package relay
