#!/usr/bin/env bash
# Simulates whole clusters by seed and judges them by the invariants of docs/protocol.md.
#
#   scripts/sim.sh [--seeds FROM..TO] [--threads N]    a range of seeds, on all cores
#   scripts/sim.sh --replay SEED                       one seed again, with its last lines
#   scripts/sim.sh --mutations [--seeds FROM..TO]      every broken variant must be noticed
#   scripts/sim.sh --cluster …                         the same for whole clusters of real nodes
#
# Exits 1 at a violation, and prints its seed.
set -euo pipefail
cd "$(dirname "$0")/.."
package=fluxgate-sim features=() words=()
for word in "$@"; do
  case $word in
    --cluster) package=fluxgate-sim-cluster ;;
    --mutation*) features=(--features mutations) words+=("$word") ;;
    *) words+=("$word") ;;
  esac
done
exec cargo run -q --locked --release -p "$package" "${features[@]+"${features[@]}"}" -- \
  "${words[@]+"${words[@]}"}"
