// Command crowd is many light peers of a relay in one process, for
// benchmarks: each has WebSocket, noise and yamux of its own, answers identify
// and ping, subscribes to a discovery topic, holds a reservation and takes
// circuits. A libp2p host each would weigh more than the relay.
//
//	crowd RELAY
//
// reads requests on stdin, JSON objects one a line, and answers each with one
// on stdout:
//
//	{"op":"connect","n":1000}        connects so many more peers
//	{"op":"reserve"}                 each makes or renews its reservation
//	{"op":"circuits","n":2000}       opens circuits between them, with an exchange of 1 KiB each way
//	{"op":"bytes","n":16,"size":N}   sends N bytes through each of n circuits at once
//
// The answer has the seconds it took and what failed, counted by reason.
package main
