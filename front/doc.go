// Package front is how TCP connections come in to a libp2p host: raw TCP, WebSocket
// and WebSocket over TLS on one port, each from its client's real address, also
// behind reverse proxies.
//
// # Usage
//
//	f, err := front.New(front.WithTrustedProxies("10.0.0.0/8"))
//	...
//	h, err := libp2p.New(
//		libp2p.Transport(f.TCP), libp2p.Transport(f.WebSocket), // in place of tcp.NewTCPTransport and websocket.New
//		libp2p.ListenAddrStrings("/ip4/0.0.0.0/tcp/4001", "/ip4/0.0.0.0/tcp/4001/ws"))
//	...
//	defer f.Close()
//	defer h.Close()
//
// tango.New does that by itself; tango.WithFront takes the options.
//
// # Proxies
//
// Behind a proxy all clients have the proxy's address, and share what one address
// may have. With [WithTrustedProxies] a connection's address is the client's, for
// the resource manager's limits, the connection gater, identify, logs, and whoever
// looks at RemoteMultiaddr, as relay policies do. Which header names it depends on
// what the proxy hands on:
//
//   - HTTP, TLS being the proxy's: X-Forwarded-For or Forwarded (RFC 7239). They are
//     read from right to left over trusted addresses; the first that is not trusted is
//     the client. Where both are there, they have to name the same client, for a proxy
//     that sets one may hand on the other as the client sent it.
//   - TCP, or TLS as it is: the PROXY protocol, version 1 or 2 (haproxy.org,
//     proxy-protocol.txt), with [WithProxyProtocol]. If the address that it names is a
//     trusted one, headers of HTTP are read too.
//
// The client's port is 0 where the header does not tell it.
//
// A header of somebody else counts for nothing: those of HTTP are ignored, and a
// connection that begins with a PROXY header is refused. A trusted proxy's that is
// malformed refuses the request. A trusted proxy that sends no header of HTTP counts
// itself, which is logged once, and plain raw TCP from one does too.
//
// nginx: proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for, or
// proxy_protocol on in a stream block. HAProxy: option forwardfor, or
// send-proxy or send-proxy-v2 at the server.
//
// # Restarts
//
// A proxy can keep browsers from noticing that the host behind it is started again,
// after a crash too. A page of js-libp2p that listens on /p2p-circuit dials its relay
// once when the connection ends, and if that fails it stays away; HAProxy holds the dial
// and tries the host once a second:
//
//	backend relay
//		mode http
//		option forwardfor
//		retries 10
//		retry-on conn-failure empty-response
//		server relay 127.0.0.1:4001
//
// js-libp2p waits 5 s, so that the host may be away for 3 s; away for 4.5 s was too
// long. It forgets the relay's addresses an hour after it has learnt them, and then
// does not dial, unless createLibp2p is given peerStore: { maxAddressAge: Infinity }.
// The server must have no check, as HAProxy does not wait for one that counts as
// down. nginx does not wait either: it answers 502. A page that listens on
// <relay>/p2p-circuit does not come back by itself, whatever the proxy does (js-libp2p
// issue 3601). Chromium 156, Firefox 153 and HAProxy 2.6 were tested.
//
// # TLS
//
// /tls/ws listeners show the [Certificate] of [WithCertificate], which follows its
// files. Browsers want one that they trust for the name dialled; [Front.Advertise]
// makes addresses of its names.
//
// # Lifecycle, concurrency, errors
//
// A Front is for one host and safe for concurrent use. The host's listeners start
// and end everything that runs; [Front.Close] takes the metrics off. What listening
// has against an address says so; what remotes do wrong is logged at debug and
// counted, by reason, in libp2p_front_refused_total.
//
// # Limits and security
//
// A connection is known to gater and resource manager before a byte of it is read.
// That of a trusted proxy counts as one from loopback until its headers tell whose
// it is, then as one of the client's address, for which the gater is asked once
// more. Plain HTTP requests stop there: the gater is asked about each client, the
// resource manager goes on counting the proxy's connection. [HeaderTimeout],
// [HandshakeTimeout], [MaxHeaderBytes] and [MaxHops] bound what comes before libp2p.
// A connection that is refused is closed a second later, unless 256 are waiting for
// that at its port: who dials again and again is kept busy.
//
// A trusted proxy must set or append to its header. One that hands on what the
// client sent lets clients choose their address.
//
// # Why an own listener
//
// go-libp2p v0.51.0 opens the resource manager's scope for a WebSocket, and asks the
// gater, when TCP is accepted (p2p/net/upgrader, gatedMaListener.Accept), before
// there is a request; the HTTP handler in between is not the caller's, and the
// connection's address is that of its socket (p2p/transport/websocket, newConn). A
// front process, or a front in this process that dials the stock listener, would
// leave all that as it is: one address for all, in gater, limits, policy and
// identify, and a table to look the real one up in, which go-libp2p's own parts do
// not know of. The exported upgrader takes any listener that brings its connections'
// scopes (transport.Upgrader, UpgradeGatedMaListener), so that an own one is all it
// needs. Dialling, and telling protocols on one port (p2p/transport/tcpreuse), stay
// go-libp2p's. Two faults of the latter do not occur behind this one: 64 silent
// connections hold up all others, and an accept that fails for want of file
// descriptors ends the listener.
//
// Specifications: libp2p specs, websockets/README.md; RFC 6455; RFC 7239;
// PROXY protocol 2.3.
package front
