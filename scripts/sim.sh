#!/usr/bin/env bash
# Simulates whole clusters by seed and judges them by the invariants of counters.md.
#
#   scripts/sim.sh [--seeds FROM..TO] [--threads N]    a range of seeds, on all cores
#   scripts/sim.sh --replay SEED                       one seed again, with its last lines
#   scripts/sim.sh --mutations [--seeds FROM..TO]      every broken variant must be noticed
#
# Exits 1 at a violation, and says which seed it was.
set -euo pipefail
cd "$(dirname "$0")/.."
features=()
for word in "$@"; do
  if [[ $word == --mutation* ]]; then
    features=(--features mutations)
  fi
done
exec cargo run -q --locked --release -p fluxgate-sim "${features[@]+"${features[@]}"}" -- "$@"
