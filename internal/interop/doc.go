// Package interop proves tango against unmodified js-libp2p in Chromium, Firefox and Node.
//
// Its tests start the relay of examples/relay as a process of its own, start
// browsers, and drive the js-libp2p peer in each of them (js/peer.ts) through an
// agent (js/agent.ts); a Go peer (gopeer) is driven the same way. Everything runs in
// a network namespace that [Main] makes, or in those of a [Lab] or a [LossyLab] made
// from there: no packet leaves the machine, and no process outlives the run.
//
// README.md says how to run it and describes the agent's protocol.
package interop
