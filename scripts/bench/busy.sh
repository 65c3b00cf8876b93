#!/usr/bin/env bash
# Measures a million keys in use.
#
# First in the engine, one thread and virtual time: the longest time that a lock is held, by purpose,
# and memory over the minutes, alone and with two other nodes that use the same keys; ends with two
# minutes in which all keys are used at once. Then over HTTP, a demo of one node: the latency of
# validates of all keys compared with those of ten, in turn.
#
#   scripts/bench/busy.sh [KEYS=1000000] [MINUTES=4] [ROUNDS=5] [SECONDS=5] [PORT=27901]
#
# About ten seconds for each million keys and minute, and two minutes for the rest. 65 minutes show
# that memory is flat once the history of an hour is full. Loopback only; ends what it started.
set -euo pipefail
cd "$(dirname "$0")/../.."
source scripts/lib/demo.sh

KEYS=${1:-1000000}
MINUTES=${2:-4}
ROUNDS=${3:-5}
SPAN=${4:-5}
PORT=${5:-27901}
((KEYS <= 10000000 && MINUTES <= 120 && ROUNDS <= 50 && SPAN <= 60)) ||
  { echo "at most 10000000 keys, 120 minutes, 50 rounds, 60 s" >&2; exit 2; }
export DEMO_SECONDS_MAX=${DEMO_SECONDS_MAX:-120}
command -v wrk >/dev/null || { echo "wrk is missing: scripts/setup-tests.sh" >&2; exit 1; }

cargo bench -q --locked -p fluxgate-engine --bench busy -- "$KEYS" "$MINUTES"

BIN=$(fluxgate_bin)
work_dir busy "${CARGO_TARGET_DIR:-target}/bench"
start() { demo_start "$BIN" --nodes 1 --port "$PORT" --data-dir "$WORK/demo"; }
start
FLUXGATE_URL=$(demo_field "d['nodes'][0]['admin']")
FLUXGATE_TOKEN=$(demo_field "d['operator_token']")
export FLUXGATE_URL FLUXGATE_TOKEN
python3 scripts/lib/digests.py "$KEYS" busy- '[{"name":"requests","tokens":1000000000,"period":"60s"}]' |
  "$BIN" keys import - | tail -n 1
# What the import freed would hide what the counters take.
demo_stop
start
python3 scripts/bench/busy.py --keys "$KEYS" --pid "$DEMO_PID" --rounds "$ROUNDS" --seconds "$SPAN" \
  --gateway "$(demo_field "d['nodes'][0]['gateway']")" --dir "$DEMO_DIR"
demo_stop
