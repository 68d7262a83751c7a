#!/usr/bin/env bash
# Measures the relay beside go-libp2p's and js-libp2p's with their limits raised,
# in one run: memory for each peer with a reservation, reservations and circuits
# per second, bytes relayed per second, and the ratios. TANGO_INTEROP_CROWD is how
# many peers, 1,000 by default. With TANGO_INTEROP_PROFILE=DIR processor profiles of
# ours are put there, for go tool pprof. For figures that mean something nothing else
# may run on the machine.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

test_tools
ulimit -n "$(ulimit -Hn)"
say "about three minutes with 1,000 peers"
cd internal/interop && go test -run '^$' -bench 'Relay$' -timeout 60m .
