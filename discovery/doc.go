// Package discovery finds peers that announce themselves on GossipSub topics.
//
// It is wire-compatible with js-libp2p's @libp2p/pubsub-peer-discovery 12: Go
// nodes and browsers on the same topic find each other. Beyond that module it
//
//   - believes a record only if its key and addresses are the message signer's
//     own ([ParseRecord]); stock js-libp2p compares neither;
//   - announces this node as soon as a neighbour joins the topic or its own
//     addresses change, not only every interval;
//   - forgets peers: after three intervals without an announcement, or when
//     they say that they leave.
//
// # Usage
//
//	ps, err := pubsub.NewGossipSub(ctx, h, discovery.LeafOptions()...)
//	...
//	d, err := discovery.New(h, ps, discovery.WithTopics(discovery.AppTopic("myapp")))
//	...
//	defer d.Close()
//	for e := range d.Events(ctx) {
//		fmt.Println(e.Type, e.Peer)
//	}
//
// A [Service] is also a go-libp2p discovery.Discovery, whose namespaces are the
// topics. It does not dial: addresses are handed out, not put into the
// peerstore, since a record is only its author's claim.
//
// # Lifecycle, concurrency, errors
//
// [New] validates its options, then joins the topics. A Service is safe for
// concurrent use. Close it before the router and the host; calls after Close
// return [ErrClosed]. A record that is refused yields a [*RecordError], which
// wraps one of the ErrRecord sentinels.
//
// # Limits and security
//
// A record has at most [MaxRecordSize] bytes and [MaxRecordAddrs] addresses,
// checked before it is decoded; the table holds [DefaultMaxPeers] peers unless
// told otherwise; of one peer two updates a second are taken. The router must
// run with GossipSub's StrictSign policy, its default: the signature is what
// binds a record to a peer. That an address is its peer's own statement does
// not mean that it leads to the peer, or that dialling it is harmless.
//
// # Wire format
//
// A record is the data of a GossipSub message (libp2p specs,
// pubsub/README.md §The Message), a protobuf:
//
//	message Peer {
//	  bytes publicKey = 1;       // libp2p PublicKey protobuf
//	  repeated bytes addrs = 2;  // binary multiaddrs, each ending in /p2p/<peer>
//	  uint64 time = 101;         // Unix time in ms when sent
//	  uint32 interval = 102;     // s until the next announcement
//	  uint32 flags = 103;        // 1: the peer leaves, addrs is empty
//	}
//
// Fields 1 and 2 are js-libp2p's, the others tango's, which js, rust and .NET
// peers skip.
package discovery
