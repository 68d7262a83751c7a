.PHONY: help demo test page bench-direct bench-webrtc bench-relay clean

help: ## lists what can be made
	@grep -E '^[a-z-]+:.*##' Makefile | sed 's/:.*##/\t/' | expand -t 14

demo: ## starts a relay with its demo page; open it in two tabs
	@scripts/demo.sh

test: ## runs all tests, in real browsers too; installs what they need
	@scripts/test.sh

page: ## builds the demo page into examples/browser/dist
	@bash -c '. scripts/lib.sh && page'

bench-direct: ## measures page load to direct connection, beside a relay without tango
	@scripts/bench-direct.sh

bench-webrtc: ## measures the /webrtc transport, beside stock js, pion and webrtc-direct
	@scripts/bench-webrtc.sh

bench-relay: ## measures the relay, beside go-libp2p's and js-libp2p's
	@scripts/bench-relay.sh

clean: ## removes what was built and installed here
	rm -rf bin .demo examples/browser/dist examples/browser/node_modules internal/interop/js/node_modules
