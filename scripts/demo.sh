#!/usr/bin/env bash
# Builds the demo page, starts a relay that serves it, and says what to do.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

listen=${LISTEN:-127.0.0.1:4001}

need_go
page
say "building the relay (the first time a minute or two)"
(cd examples && go build -o ../bin/relay ./relay)

cat <<TXT

Open the page below in two tabs, or in two browsers: they find each other
through the relay and connect directly. Then stop the relay with Ctrl-C and go
on chatting. (LISTEN=0.0.0.0:4001 make demo also serves your local network.)

TXT
mkdir -p .demo
exec bin/relay -listen "$listen" -identity .demo/relay.key -web examples/browser/dist \
	-topic tango-demo._peer-discovery._p2p._pubsub -forward tango-demo-chat
