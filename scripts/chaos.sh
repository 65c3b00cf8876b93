#!/usr/bin/env bash
# Runs real nodes under faults and judges what their clients saw. Needs root, for namespaces.
#
#   scripts/chaos.sh [--seconds S] [--nodes 3|5] [--seed N] [--out DIR] [--judge HISTORY]
#                    [--terms plain|short|mixed] [--only KIND]
#
# Builds what it runs. Exit codes: 0 all promises kept, 1 a promise broken, 2 the run saw too little
# to judge, 3 the harness failed. FLUXGATE_BIN names another server, FLUXGATE_CHAOS another harness;
# what they name is not built.
set -euo pipefail
cd "$(dirname "$0")/.."
target="${CARGO_TARGET_DIR:-target}"
# One after the other: one build for both would unite their features, and would make every other
# build of the server useless.
[[ -n ${FLUXGATE_BIN:-} ]] || cargo build -q --locked --release -p fluxgate >&2
[[ -n ${FLUXGATE_CHAOS:-} ]] || cargo build -q --locked --release -p fluxgate-chaos >&2
out=(--out "$target/chaos")
for word in "$@"; do
  case $word in --out | --out=*) out=() ;; esac
done
# `exec`, so that a signal to this script reaches the program.
exec "${FLUXGATE_CHAOS:-$target/release/fluxgate-chaos}" \
  --binary "${FLUXGATE_BIN:-$target/release/fluxgate}" "${out[@]+"${out[@]}"}" "$@"
