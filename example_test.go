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

// A relay through which the browsers of an application meet.
func Example() {
	dir, err := os.MkdirTemp("", "tango")
	if err != nil {
		log.Fatal(err)
	}
	defer os.RemoveAll(dir)

	id, err := identity.Load(filepath.Join(dir, "relay.key")) // made on first use
	if err != nil {
		log.Fatal(err)
	}
	topic := discovery.AppTopic("myapp")
	node, err := tango.New(
		tango.WithIdentity(id),
		tango.WithListen("/ip4/127.0.0.1/tcp/0/ws"), // BrowserListeners(4001)... for all transports on all interfaces
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
