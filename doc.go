// Package tango assembles a libp2p node that browsers can reach, and the third
// party that browsers need to reach each other, from go-libp2p and the blocks
// beside it: identity, relay, discovery, reservation and webrtc. Each block also
// works alone on a host that you have already.
//
//	id, err := identity.Load("node.key")
//	...
//	node, err := tango.New(
//		tango.WithIdentity(id),
//		tango.WithListen(tango.BrowserListeners(4001)...),
//		tango.WithRelay(relay.WithTopics(discovery.AppTopic("myapp"))),
//	)
//	...
//	defer node.Close()
//
// A node that is not a relay itself is reached through relays, and is direct from
// there on:
//
//	node, err := tango.New(tango.WithRelays(relayAddr))
//	...
//	path, err := node.Connect(ctx, peer)
//	fmt.Println(node.Explain(peer))
//
// [New] checks all options before it starts anything and undoes everything if
// it fails. A [Node] is safe for concurrent use; [Node.Close] stops its blocks
// in reverse order. Errors name the option, the value and what would be right.
//
// Logs go through github.com/ipfs/go-log/v2 as tango/relay, tango/discovery,
// tango/reservation, tango/signaling and tango/webrtc.
package tango
