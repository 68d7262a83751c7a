package front_test

import (
	"fmt"
	"net/http"

	"github.com/libp2p/go-libp2p"

	"github.com/tangop2p/tango/front"
)

// A host behind nginx on the same machine, with a page of its own on the port.
func ExampleNew() {
	f, err := front.New(
		front.WithTrustedProxies("127.0.0.1", "::1"),
		front.WithHTTPHandler(http.NotFoundHandler()),
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	h, err := libp2p.New(
		libp2p.Transport(f.TCP), libp2p.Transport(f.WebSocket),
		libp2p.ListenAddrStrings("/ip4/127.0.0.1/tcp/0", "/ip4/127.0.0.1/tcp/0/ws"),
	)
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("listens on", len(h.Addrs()), "addresses")
	if err := h.Close(); err != nil {
		fmt.Println(err)
	}
	if err := f.Close(); err != nil {
		fmt.Println(err)
	}
	// Output: listens on 2 addresses
}

// A certificate that its renewal replaces in place needs nothing more.
func ExampleLoadCertificate() {
	cert, err := front.LoadCertificate("fullchain.pem", "privkey.pem")
	if err != nil {
		fmt.Println(err)
		return
	}
	f, err := front.New(front.WithCertificate(cert))
	if err != nil {
		fmt.Println(err)
		return
	}
	fmt.Println("serves", f.Certificate().Status().Names)
	// Output: front: load certificate: open fullchain.pem: no such file or directory
}
