#!/usr/bin/env bash
# The memory of a key, and how long a node with many keys takes to start.
#
# Creates keys in a demo of one node with many concurrent requests, first a few to measure the rate,
# then up to each mark. At a mark: resident memory above that of the empty node, per key; then an
# orderly stop and a start on the same data, until the node answers for a key.
#
#   scripts/bench/memory.sh [MARKS="100000 1000000"] [MINUTES=25] [DIR=target/bench] [PORT=27701]
#
# A mark that cannot be reached within MINUTES is left out with a message. Loopback only; needs no
# input and ends what it started.
set -euo pipefail
cd "$(dirname "$0")/../.."
source scripts/lib/demo.sh

read -ra MARKS <<<"${1:-100000 1000000}"
MINUTES=${2:-25}
DIR=${3:-${CARGO_TARGET_DIR:-target}/bench}
PORT=${4:-27701}
WRITERS=${WRITERS:-256}
export DEMO_SECONDS_MAX=${DEMO_SECONDS_MAX:-120}
((MINUTES <= 60)) || { echo "at most 60 minutes" >&2; exit 2; }
BIN=$(fluxgate_bin)

work_dir memory "$DIR"
END=$((SECONDS + MINUTES * 60))

kib() { # kib FIELD: of the node's memory, from /proc
  awk -v field="$1:" '$1 == field { print $2 }' "/proc/$DEMO_PID/status"
}

start() {
  demo_start "$BIN" --nodes 1 --port "$PORT" --data-dir "$WORK/demo"
  ADMIN=$(demo_field "d['nodes'][0]['admin']")
  TOKEN=$(demo_field "d['operator_token']")
}

create() { # create COUNT: adds keys, sets RATE
  local line
  line=$(python3 scripts/bench/load.py --url "$ADMIN" --token "$TOKEN" --writers "$WRITERS" \
    --count "$1" --first "$made" --seconds "$((END > SECONDS ? END - SECONDS : 1))")
  echo "  $line"
  made=$((made + $(python3 -c 'import json,sys; print(json.loads(sys.argv[1])["made"])' "$line")))
  RATE=$(python3 -c 'import json,sys; print(max(1, json.loads(sys.argv[1])["creates_per_s"]))' "$line")
}

keys_known() {
  curl -fsS --noproxy '*' --max-time 5 "$ADMIN/metrics" |
    awk '/^fluxgate_keys\{status="active"\}/ { print int($2) }'
}

made=0
start
empty=$(kib VmRSS)
echo "empty node: $((empty / 1024)) MiB resident"
create 2000
for mark in "${MARKS[@]}"; do
  need=$(((mark - made) / RATE))
  if ((SECONDS + need > END)); then
    echo "mark $mark left out: at $RATE creates/s it needs $need s more, and $((END - SECONDS)) s are left"
    continue
  fi
  create $((mark - made))
  full=$(kib VmRSS)
  echo "$made keys created: $((full / 1024)) MiB resident, peak $(($(kib VmHWM) / 1024)) MiB, $(((full - empty) * 1024 / made)) bytes per key"
  data=$(du -sk "$WORK/demo" | cut -f1)
  demo_stop
  begun=$(date +%s%N)
  start
  took=$((($(date +%s%N) - begun) / 1000000))
  known=$(keys_known)
  full=$(kib VmRSS)
  echo "restart with ${known:-?} active keys and $((data / 1024)) MiB of data: ready after $took ms, $((full / 1024)) MiB resident, $(((full - empty) * 1024 / made)) bytes per key"
  if ((${marked:-0} > 0 && made > marked)); then
    echo "from $marked to $made keys: $(((full - marked_kib) * 1024 / (made - marked))) bytes a key"
  fi
  marked=$made marked_kib=$full
  # The demo itself creates a few keys at each start.
  if ((${known:-0} < made)); then
    echo "only ${known:-no} keys of $made after the restart"
    exit 1
  fi
done
demo_stop
