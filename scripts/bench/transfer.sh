#!/usr/bin/env bash
# How long many keys take in and out: import of digests, the same import again (as after an
# interruption), export, backup under load, and restore into a new cluster.
#
# Three nodes in one process each time, on one disk. Prints seconds, processor time per key of all
# nodes together, and the size of the files. Fails if a key is lost.
#
#   scripts/bench/transfer.sh [KEYS=1000000] [DIR=target/bench] [PORT=27801]
#
# Loopback only; ends what it started.
set -euo pipefail
cd "$(dirname "$0")/../.."
source scripts/lib/demo.sh

KEYS=${1:-1000000}
DIR=${2:-${CARGO_TARGET_DIR:-target}/bench}
PORT=${3:-27801}
export DEMO_SECONDS_MAX=${DEMO_SECONDS_MAX:-120}
BIN=$(fluxgate_bin)
work_dir transfer "$DIR"

start() { # start DATA
  demo_start "$BIN" --nodes 3 --port "$PORT" --data-dir "$WORK/$1"
  FLUXGATE_URL=$(demo_field "d['nodes'][1]['admin']")
  FLUXGATE_TOKEN=$(demo_field "d['operator_token']")
  GATEWAY=$(demo_field "d['nodes'][2]['gateway']")
  export FLUXGATE_URL FLUXGATE_TOKEN
}

ticks() { awk '{ print $14 + $15 }' "/proc/$DEMO_PID/stat"; }

timed() { # timed WHAT COMMAND…: its last line is shown
  local what=$1 begun before took
  shift
  begun=$(date +%s%N) before=$(ticks)
  "$@" >"$WORK/output" 2>"$WORK/complaints" || { tail -n 5 "$WORK/output" "$WORK/complaints"; return 1; }
  took=$((($(date +%s%N) - begun) / 1000000))
  awk -v what="$what" -v ms="$took" -v ticks="$(($(ticks) - before))" -v keys="$KEYS" \
    -v hz="$(getconf CLK_TCK)" 'BEGIN { printf "%s: %.1f s, %.0f keys/s, %.1f µs of processor a key\n",
      what, ms / 1000, keys * 1000 / ms, ticks * 1e6 / hz / keys }'
}

verdict_of() { # verdict_of SECRET: the status of a validate at the third node
  curl -sS --noproxy '*' --max-time 15 -o /dev/null -w '%{http_code}' -X POST \
    -H "Authorization: Bearer $1" "$GATEWAY/v1/validate"
}

python3 scripts/lib/digests.py "$KEYS" >"$WORK/keys.jsonl"

start first
timed "import" "$BIN" keys import "$WORK/keys.jsonl"
tail -n 1 "$WORK/output"
timed "the same import again" "$BIN" keys import "$WORK/keys.jsonl"
tail -n 1 "$WORK/output"
timed "export" "$BIN" keys export
exported=$(wc -l <"$WORK/output")
timed "backup" "$BIN" cluster backup --to "$WORK/backup"
echo "files: $(($(stat -c %s "$WORK/keys.jsonl") / 1000000)) MB of lines, $(($(stat -c %s "$WORK/backup") / 1000000)) MB of backup; $(awk '$1 == "VmHWM:" { print int($2 / 1024) }' "/proc/$DEMO_PID/status") MiB peak of three nodes"
before=$(verdict_of "moved-$((KEYS - 1))")
demo_stop

start second
# A demo creates a few keys of its own at its start.
timed "restore" "$BIN" cluster restore --resume --from "$WORK/backup"
tail -n 1 "$WORK/output"
after=$(verdict_of "moved-$((KEYS - 1))")
demo_stop
if [[ $before != 200 || $after != 200 ]] || ((exported < KEYS)); then
  echo "keys were lost: $exported of $KEYS exported, the last key answered $before and $after"
  exit 1
fi
