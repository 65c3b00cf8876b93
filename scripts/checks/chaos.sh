#!/usr/bin/env bash
# Five minutes of faults on three real nodes. Last line: `N passed, N failed`, one for each promise
# and one for having seen enough. Another length: FLUXGATE_CHAOS_SECONDS.
set -euo pipefail
cd "$(dirname "$0")/../.."
# At a lease of a second, with elections of up to 0.6 s, a survivor may miss its lease when a leader is
# killed: that pace is for longer runs by hand.
scripts/chaos.sh --lines --nodes 3 --terms plain --seconds "${FLUXGATE_CHAOS_SECONDS:-300}"
