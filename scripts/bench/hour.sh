#!/usr/bin/env bash
# A cluster under load for an hour: half of the full rate, while keys are created, used, revoked and
# erased all the time.
#
# Prints a line for each minute: answers, the worst p99.9 of its six intervals, what the machine itself
# took in that interval (pauses and slower processors: a program on each that only sleeps and computes
# for a moment), and the resident memory of all nodes. Fails if a p99.9 is above 5 ms by more than the
# machine took, if an answer was neither 200 nor 429, if a revoked key was accepted, or if memory grew
# in the second half.
#
#   scripts/bench/hour.sh [MINUTES=60] [NODES=3] [CONNECTIONS=64] [PORT=28101]
#
# All nodes are in one process. The clients have the last processor for themselves and the nodes the
# others: together, the kernel puts the client and a worker of the server on one processor for up to
# 100 ms while another one is idle. Loopback only; needs no input and ends what it started.
set -euo pipefail
cd "$(dirname "$0")/../.."
source scripts/lib/demo.sh

MINUTES=${1:-60}
NODES=${2:-3}
CONNECTIONS=${3:-64}
PORT=${4:-28101}
TARGET=${CARGO_TARGET_DIR:-target}
((MINUTES >= 1 && MINUTES <= 1440 && CONNECTIONS <= 256)) || { echo "1 to 1440 minutes, at most 256 connections" >&2; exit 2; }
command -v wrk >/dev/null || { echo "wrk is missing: scripts/setup-tests.sh" >&2; exit 1; }
cargo build -q --locked --release -p fluxgate-bench --bins
BIN=$(fluxgate_bin)
demo_start "$BIN" --nodes "$NODES" --port "$PORT"
LAST=$(($(nproc) - 1))
CLIENTS=()
if ((LAST > 0)); then
  taskset --all-tasks --pid --cpu-list "0-$((LAST - 1))" "$DEMO_PID" >/dev/null
  CLIENTS=(taskset --cpu-list "$LAST")
fi
"${CLIENTS[@]+"${CLIENTS[@]}"}" python3 scripts/bench/hour.py --minutes "$MINUTES" --connections "$CONNECTIONS" --pid "$DEMO_PID" \
  --steady "$TARGET/release/steady" --machine "$TARGET/release/machine" --dir "$DEMO_DIR" --demo "$DEMO_DIR/ready"
demo_stop
