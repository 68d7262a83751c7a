// Package exercise is the protocols with which tests try a connection out.
//
// js/exercise.ts is the same for js-libp2p; a change here is one there. Each
// exchange is on a stream of its own, over a connection that no relay limits:
//
//	/tango/test/echo/1       sends back what comes until the remote ends its
//	                         direction, then ends its own
//	/tango/test/sink/1       reads to the end, answers one line of JSON,
//	                         {"bytes":N,"sha256":"hex"}, and ends its direction
//	/tango/test/source/1     reads one line of JSON, {"bytes":N,"seed":S}, sends
//	                         that many bytes of [Random] and ends its direction
//	/tango/test/reset/1      reads one byte, then resets the stream
//	/tango/test/halfclose/1  sends [Greeting] and ends its direction, and only
//	                         then reads to the end; it answers nothing
//
// [Serve] keeps a record of what came on each stream, and how that ended: "eof",
// "reset", or the words of another error.
//
// The random bytes are xorshift32 (Marsaglia 2003, shifts 13, 17 and 5): each
// state after the seed, which is not 0, as four bytes, the least significant first.
package exercise
