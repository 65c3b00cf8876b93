#!/usr/bin/env bash
# Measures a million keys in use: the longest time that a lock is held, by purpose; decisions
# compared with ten keys; and memory over the minutes, alone and with two other nodes that use the
# same keys. Ends with two minutes in which all keys are used at once.
#
#   scripts/bench/busy.sh [KEYS] [MINUTES]
#
# One thread and virtual time: about ten seconds for each million keys and minute. 65 minutes show
# that memory is flat once the history of an hour is full.
set -euo pipefail
cd "$(dirname "$0")/../.."
exec cargo bench -q --locked -p fluxgate-engine --bench busy -- "${1:-1000000}" "${2:-4}"
