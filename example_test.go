package tango_test

import (
	"fmt"
	"log"
	"os"
	"path/filepath"

	"github.com/tangop2p/tango"
	"github.com/tangop2p/tango/discovery"
	"github.com/tangop2p/tango/identity"
	"github.com/tangop2p/tango/relay"
)

// The README's quick start: a relay through which the browsers of an
// application meet.
func Example() { //nolint:testableexamples // it takes a fixed port, as the README wants it
	id, err := identity.Load("relay.key") // made on first use, mode 0600
	if err != nil {
		log.Fatal(err)
	}
	node, err := tango.New(
		tango.WithIdentity(id),
		tango.WithListen(tango.BrowserListeners(4001)...), // TCP, WebSocket, QUIC, WebTransport, WebRTC-direct
		tango.WithRelay(relay.WithTopics(discovery.AppTopic("myapp"))),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()

	for _, addr := range node.BrowserAddrs() {
		fmt.Println("browsers dial", addr)
	}
}

// A relay that also takes part in the discovery of its topic.
func ExampleNew() {
	dir, err := os.MkdirTemp("", "tango")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	id, err := identity.Load(filepath.Join(dir, "relay.key"))
	if err != nil {
		log.Fatal(err)
	}
	topic := discovery.AppTopic("myapp")
	node, err := tango.New(
		tango.WithIdentity(id),
		tango.WithListen("/ip4/127.0.0.1/tcp/0/ws"),
		tango.WithRelay(relay.WithTopics(topic)),
		tango.WithDiscovery(discovery.WithTopics(topic)),
	)
	if err != nil {
		log.Fatal(err)
	}
	defer node.Close()

	for _, addr := range node.BrowserAddrs() {
		protocols := addr.Protocols()
		fmt.Println("browsers dial", protocols[2].Name, "on", protocols[0].Name, protocols[1].Name)
	}
	fmt.Println("own identity:", node.Host().ID() == id.ID())
	fmt.Println("peers known:", len(node.Discovery().Peers()))
	// Output:
	// browsers dial ws on ip4 tcp
	// own identity: true
	// peers known: 0
}
