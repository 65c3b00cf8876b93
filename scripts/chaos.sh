#!/usr/bin/env bash
# Real nodes under faults, and a judge of what their clients saw. Needs root, for namespaces.
#
#   scripts/chaos.sh [--seconds S] [--nodes 3|5] [--seed N] [--out DIR] [--judge HISTORY]
#                    [--terms plain|short|mixed] [--only KIND]
#
# Builds what it runs. Exit codes: 0 all promises kept, 1 one was broken, 2 the run saw too little
# to say, 3 the harness failed. FLUXGATE_BIN names another server.
set -euo pipefail
cd "$(dirname "$0")/.."
target="${CARGO_TARGET_DIR:-target}"
# One after the other: together they would share features, and every other build of the server
# would be for nothing.
cargo build -q --locked --release -p fluxgate >&2
cargo build -q --locked --release -p fluxgate-chaos >&2
out=(--out "$target/chaos")
for word in "$@"; do
  case $word in --out | --out=*) out=() ;; esac
done
# Its own process and nothing between: a signal to this script is a signal to it.
exec "$target/release/fluxgate-chaos" \
  --binary "${FLUXGATE_BIN:-$target/release/fluxgate}" "${out[@]+"${out[@]}"}" "$@"
