#!/usr/bin/env bash
# Measures the /webrtc transport, each beside what it is compared with, in one
# run: connecting (stock js-libp2p in two Chromiums), bulk (a bare pion data
# channel, go-libp2p's webrtc-direct, two Chromiums). For figures that mean
# something nothing else may run on the machine.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

test_tools
say "bulk in Go, about a minute"
go test -run '^$' -bench 'BareChannel|StreamBulk|HostBulk' -benchtime 2000x -count 5 ./webrtc
say "twenty connects and five transfers a pair, about 4 minutes"
cd internal/interop && go test -run '^$' -bench 'Connect|Transfer' -timeout 30m .
