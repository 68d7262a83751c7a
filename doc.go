// Package tango assembles a libp2p node that browsers can reach, and the third
// party that browsers need to reach each other, from go-libp2p and the blocks
// beside it: identity, relay and discovery. Each block also works alone on a
// host that you have already.
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
// [New] checks all options before it starts anything and undoes everything if
// it fails. A [Node] is safe for concurrent use; [Node.Close] stops its blocks
// in reverse order. Errors name the option, the value and what would be right.
//
// Logs go through github.com/ipfs/go-log/v2 as tango/relay and
// tango/discovery.
package tango
