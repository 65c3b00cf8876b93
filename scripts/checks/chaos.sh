#!/usr/bin/env bash
# Five minutes of faults on three real nodes. Last line: `N passed, N failed`, one for each promise
# and one for having seen enough. Another length: FLUXGATE_CHAOS_SECONDS.
set -euo pipefail
cd "$(dirname "$0")/../.."
scripts/chaos.sh --lines --nodes 3 --seconds "${FLUXGATE_CHAOS_SECONDS:-300}"
