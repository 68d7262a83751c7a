package relay

// NoTracer is for tests that watch a router.
type NoTracer = noTracer
