#!/usr/bin/env bash
# How long writes wait when the leader is killed.
#
# Three real nodes on loopback, each a process with its own log on this disk, and writers at each of
# them that create keys all the time. Each round kills the leader with SIGKILL, lets one more writer at
# each survivor begin, waits until the first of them is answered, starts the node again, and waits until
# every lease from before has ended. Prints each round, then medians and maxima: after how long that
# write was committed (its answer less its wait for the write barrier), and after how long it was
# answered.
#
#   scripts/bench/failover.sh [ROUNDS=7] [DIR=target/bench] [PORT=27901]
#
# FLUXGATE_BIN names another binary, to compare with. Loopback only; needs no input and ends what it
# started.
set -euo pipefail
cd "$(dirname "$0")/../.."
source scripts/lib/demo.sh

ROUNDS=${1:-7}
DIR=${2:-${CARGO_TARGET_DIR:-target}/bench}
PORT=${3:-27901}
((ROUNDS >= 1 && ROUNDS <= 50)) || { echo "1 to 50 rounds" >&2; exit 2; }
BIN=$(fluxgate_bin)

work_dir failover "$DIR"

python3 scripts/bench/failover.py "$BIN" "$WORK" --rounds "$ROUNDS" --port "$PORT"
