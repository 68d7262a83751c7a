#!/usr/bin/env bash
# Runs every check there is, one step after another, and sums up at the end.
# With CI=true a step that has to be left out is a failure.
set -uo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

# FUZZTIME is how many inputs each fuzz target gets. A time instead would at times
# fail with "context deadline exceeded": https://go.dev/issue/75804, mended in Go 1.27.
fuzz_time=${FUZZTIME:-10000x}
names=() results=() left_out=()

# step NAME COMMAND...: runs the command; its failure does not stop the others
step() {
	local name=$1 start=$SECONDS
	shift
	say "$name"
	if "$@"; then results+=("ok    "); else results+=("FAILED"); fi
	names+=("$name ($((SECONDS - start)) s)")
}

# leave_out NAME WHY: for what this machine cannot run
leave_out() {
	left_out+=("$1: $2")
	[ "${CI:-}" = true ] && { names+=("$1, left out"); results+=("FAILED"); }
}

modules=(. examples internal/interop)

in_modules() {
	local m ok=0
	for m in "${modules[@]}"; do (cd "$m" && "$@") || { echo "in module $m"; ok=1; }; done
	return $ok
}

format() {
	local bad
	bad=$(git ls-files -z '*.go' | xargs -0 gofmt -l) || return 1
	[ -z "$bad" ] || { echo "not formatted, run gofmt -w: $bad"; return 1; }
}

# lint: the linter is a tool of a module of its own; building it takes minutes the first time
lint() { in_modules go tool -modfile="$PWD/internal/tools/go.mod" golangci-lint run --config "$PWD/.golangci.yml" ./...; }

tidy() { in_modules go mod tidy -diff; }

# go_tests MODULE: in .ci/run and on most machines with the race detector, which needs a C compiler
go_tests() { (cd "$1" && go test $race -shuffle=on ./...); }

# wasm: what a page may be made of in Go; the rest imports libp2p.New, or what pion's browser build lacks
wasm() { GOOS=js GOARCH=wasm go build ./identity ./signaling ./discovery ./reservation; }

# browsers: without a package argument, with which go test shows the count of
# js-libp2p's faults also when all is well
browsers() { (cd internal/interop && go test $race -shuffle=on -timeout 25m); }

# fuzz: every fuzz target of the library for a short while
fuzz() {
	local file target ok=0
	while read -r file; do
		for target in $(sed -n 's/^func \(Fuzz[A-Za-z0-9_]*\)(.*/\1/p' "$file"); do
			echo "fuzzing $target of $(dirname "$file") for $fuzz_time"
			go test -run '^$' -fuzz "^$target\$" -fuzztime "$fuzz_time" "./$(dirname "$file")" || ok=1
		done
	done < <(git ls-files '*_test.go' ':!internal/interop' ':!examples')
	return $ok
}

scripts_of() { (cd "$1" && npm run --silent check); }

say "getting what the tests need"
race=-race
(test_tools && kubo) || die "set-up failed, nothing was tested"

if ! have gcc; then
	race=
	leave_out "race detector" "gcc is missing; as root type: apt-get install gcc libc6-dev"
fi

step "format" format
step "go.mod files are tidy" tidy
step "vet" in_modules go vet ./...
step "lint" lint
step "build for browsers" wasm
step "library tests" go_tests .
step "examples tests" go_tests examples
step "fuzz" fuzz
if have_node; then
	step "types of the demo page" scripts_of examples/browser
	step "demo page" page
	step "types of the browser rig" scripts_of internal/interop/js
else
	leave_out "demo page and browser rig" "$no_node"
fi
if have_node && have ip && have nft && have chromium && have firefox-esr && have_server nginx && have_server haproxy && have certutil; then
	step "real browsers" browsers
else
	leave_out "real browsers" "they need Node.js, chromium, firefox-esr, iproute2, nftables, nginx, haproxy and certutil; as root type: apt-get install nodejs npm chromium firefox-esr iproute2 nftables nginx haproxy libnss3-tools"
fi

say "summary"
failed=0
for i in "${!names[@]}"; do
	echo "${results[$i]} ${names[$i]}"
	[ "${results[$i]}" = FAILED ] && failed=$((failed + 1))
done
for l in "${left_out[@]+"${left_out[@]}"}"; do echo "left out: $l"; done
echo "steps: $((${#names[@]} - failed)) passed, $failed failed, ${#left_out[@]} skipped"
[ $failed = 0 ]
