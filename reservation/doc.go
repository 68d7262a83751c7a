// Package reservation holds reservations on circuit v2 relays, so that a node
// behind a NAT stays reachable.
//
// go-libp2p's AutoRelay does so for a node of a large public network: it waits
// up to 3 min at the start, leaves a relay alone for an hour that refused once,
// and publishes no relay on a private address. This package is for a node that
// has its relays named and wants to be reachable now. A [Keeper]
//
//   - dials the relays side by side and reserves as soon as one is connected;
//   - renews at half of the time granted, and probes at once when this host's
//     network has changed or the machine has slept;
//   - dials again within 250 ms when a relay is lost that had held for 30 s, and
//     with pauses of 2 s at most for 90 s, past the swarm's own back-off;
//   - asks a relay again that refused, after seconds, never more than 5 min;
//   - reserves elsewhere when a tango relay says that it is about to leave, and
//     lets go of that only then;
//   - publishes what others can dial, what browsers can dial first.
//
// # Usage
//
//	k, err := reservation.New(h, []peer.AddrInfo{*relay})
//	...
//	defer k.Close()
//	if err := k.Wait(ctx); err != nil {
//		return err // says of each relay why not
//	}
//	fmt.Println(k.Addrs())
//
// The host has to accept circuits, as libp2p.New makes it unless told
// otherwise, and should run without AutoRelay: both announce addresses by
// event.EvtAutoRelayAddrsUpdated, of which the last counts. By that event
// go-libp2p shows the addresses while it takes itself for private (AutoNAT v1)
// or has none confirmed (AutoNAT v2). To show them always, put
// [Keeper.AppendAddrs] into the host's AddrsFactory; the event then tells the
// host to look again.
//
// A relay that serves members only gets an invite by [WithInvite], on
// /tango/invite/1.0.0, before each request; a refusal then says what became of
// it. No other relay sees it.
//
// # Lifecycle, concurrency, errors
//
// [New] checks its arguments and starts; it does not wait for any relay. A
// Keeper is safe for concurrent use. Its changes are emitted on the host's event
// bus as [EvtReservationChanged]. [Keeper.Close] withdraws the addresses and
// waits for all that was started; close it before the host. [Keeper.Wait] wraps
// one [*RelayError] for each relay, which in turn may wrap [*RefusedError],
// [ErrUnsupported], [ErrMalformed], [ErrLost], [ErrExpired], [ErrRateLimited] or
// go-libp2p's dial error.
//
// # Limits and security
//
// A relay can carry nothing but ciphertext, but sees who connects to whom and
// can stop at any time; that is why [WithDiscovered] is not the default. Nothing
// that a relay says is taken without bounds: an answer has at most 16 KiB and 10
// s, a reservation is renewed every 1 s to 10 min whatever its expiry says, and
// of a relay's addresses at most 10 are published, of all at most 32. An address
// that a relay names as its own is not checked; another peer that dials it talks
// to the relay's key or to nobody. A relay whose clock is ahead of ours by more
// than the time that it grants may let a reservation lapse for up to 10 min; no
// message tells.
//
// A relay that leaves may name up to 8 others. Only one that was given to [New] is
// heeded, once until it has left, and what it names is a candidate like a
// discovered relay: after the relays given, at most 64, none of them nearer to
// this host than the relay itself (a public relay names no address in a LAN,
// unless a DNS name leads there).
//
// The default resource manager of go-libp2p lets 16 dials to an IP address
// through, then one in 5 s, loopback excepted. A relay with several addresses
// that stays away for half a minute uses that up; the Keeper then goes slower
// where the swarm tells ([ErrRateLimited]), and a relay that only the address
// dialled last can reach is back later. Exempt the relays' IP addresses with
// rcmgr.WithConnRateLimiters to keep the fast pace.
//
// A connection on which a relay does not answer twice, or once after this host's
// network has changed, is closed, whoever else uses it. A relay given as
// /dnsaddr is dialled so, but published under its other addresses only.
//
// # Wire format
//
// libp2p specs, relay/circuit-v2.md §Hop Protocol: one RESERVE on a stream of
// /libp2p/circuit/relay/0.2.0/hop, over a direct connection. Notices arrive on
// /tango/relay-notice/1.0.0, see package relay.
package reservation
