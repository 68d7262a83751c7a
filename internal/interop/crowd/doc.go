// Command crowd is many light peers of a relay in one process, for
// benchmarks, chaos and floods: each has WebSocket, noise and yamux of its own,
// answers identify and ping, subscribes to a discovery topic, holds a reservation
// and takes circuits. A libp2p host each would weigh more than the relay.
//
//	crowd RELAY...
//
// has its peers use the addresses in turn. It reads requests on stdin, JSON objects
// one a line, and answers each with one on stdout:
//
//	{"op":"connect","n":1000}        connects so many more peers
//	{"op":"reserve"}                 each makes or renews its reservation
//	{"op":"circuits","n":2000}       opens circuits between them, with an exchange of 1 KiB each way
//	{"op":"bytes","n":16,"size":N}   sends N bytes through each of n circuits at once
//	{"op":"keep"}                    from now on each keeps its reservation and talks to the next
//	{"op":"mark"}                    forgets what "status" counts
//	{"op":"status"}                  how many hold a reservation and have talked since the mark, and what failed
//	{"op":"reach","peer":ID}         opens a circuit to another peer of the relay
//	{"op":"signal","n":3}            n signalings of each peer to the next, a second apart
//	{"op":"flood","kind":K,"n":3}    floods the relay for n seconds, see flood.go
//
// The answer has the seconds it took, and what succeeded and failed, counted by
// reason.
package main
