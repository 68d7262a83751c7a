#!/usr/bin/env bash
# Measures the time from page load to the first direct connection; see
# BenchmarkTimeToDirect in internal/interop. For figures that mean something
# nothing else may run on the machine.
set -euo pipefail
cd "$(dirname "$0")/.."
. scripts/lib.sh

test_tools
page
say "ten loads a row, about 5 minutes"
cd internal/interop && go test -run '^$' -bench TimeToDirect -timeout 30m .
