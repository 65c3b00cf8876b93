#!/usr/bin/env bash
# Four minutes of faults on three real nodes. Last line: `N passed, N failed`, one for each promise
# and one for having seen enough. FLUXGATE_CHAOS_SECONDS sets another length.
set -euo pipefail
cd "$(dirname "$0")/../.."
if [[ -n ${CHECK_QUICK:-} ]]; then
  # With the features of the tests' build: another build takes minutes.
  source scripts/lib/static.sh
  "${STATIC[@]}" cargo build -q --locked --workspace --exclude fluxgate-store \
    --bin fluxgate-chaos --test tidy >&2
  export FLUXGATE_CHAOS="${CARGO_TARGET_DIR:-target}/$STATIC_HOST/debug/fluxgate-chaos"
fi
# Short and mixed leases need longer runs to see enough of each kind: `scripts/soak.sh` has them.
scripts/chaos.sh --lines --nodes 3 --terms plain --seconds "${FLUXGATE_CHAOS_SECONDS:-240}"
