#!/usr/bin/env bash
# Measures a million keys in use: the longest hold of a lock by what it is held for, decisions against
# those of ten keys, and memory over the minutes.
#
#   scripts/bench/busy.sh [KEYS] [MINUTES]
#
# One thread and virtual time: about four seconds for each million keys and minute. 65 minutes show
# that memory is flat once the history of an hour is full.
set -euo pipefail
cd "$(dirname "$0")/../.."
exec cargo bench -q --locked -p fluxgate-engine --bench busy -- "${1:-1000000}" "${2:-4}"
