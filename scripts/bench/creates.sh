#!/usr/bin/env bash
# How close creates come to the speed of the disk.
#
# Creates per second at 1 and at 64 writers against a demo of three nodes, each with its own log on
# this disk, in turn with plain append-and-fdatasync on the same file system. All three logs share
# one disk here; three machines would not.
#
#   scripts/bench/creates.sh [ROUNDS=3] [SECONDS=5] [DIR=target/bench] [PORT=27601]
#
# NODES=1 measures a cluster of one. Loopback only; needs no input and ends what it started.
set -euo pipefail
cd "$(dirname "$0")/../.."
source scripts/lib/demo.sh

ROUNDS=${1:-3}
SPAN=${2:-5}
DIR=${3:-${CARGO_TARGET_DIR:-target}/bench}
PORT=${4:-27601}
NODES=${NODES:-3}
TARGET=${CARGO_TARGET_DIR:-target}
((ROUNDS <= 20 && SPAN <= 60)) || { echo "at most 20 rounds of 60 s" >&2; exit 2; }
cargo build -q --locked --release -p fluxgate-bench --bins
BIN=$(fluxgate_bin)

work_dir creates "$DIR"

demo_start "$BIN" --nodes "$NODES" --port "$PORT" --data-dir "$WORK/demo"
TOKEN=$(demo_field "d['operator_token']")
read -ra URLS <<<"$(demo_field "' '.join('--url ' + n['admin'] for n in d['nodes'])")"
RESULTS="$WORK/results"
first=0
for ((round = 1; round <= ROUNDS; round++)); do
  "$TARGET/release/append-sync" "$WORK" 2 >>"$RESULTS"
  for writers in 1 64; do
    python3 scripts/bench/load.py "${URLS[@]}" --token "$TOKEN" --writers "$writers" \
      --seconds "$SPAN" --first "$first" >>"$RESULTS"
    first=$((first + 1000000))
  done
done
cat "$RESULTS"
python3 - "$RESULTS" "$NODES" <<'PY'
import json, statistics, sys
rows = [json.loads(line) for line in open(sys.argv[1])]
def median(field, **where):
    return statistics.median(r[field] for r in rows if all(r.get(k) == v for k, v in where.items()))
print(f"\nmedians, {sys.argv[2]} node(s) on one disk:")
for writers in (1, 64):
    ours, p99 = median("creates_per_s", writers=writers), median("p99_us", writers=writers)
    floor = median("records_per_s", records_per_sync=writers)
    print(f"  {writers:2} writer(s): {ours:.0f} creates/s, p99 {p99 / 1000:.1f} ms; "
          f"the disk alone {floor:.0f} records/s; ratio {ours / floor:.2f}")
bad = [r for r in rows if r.get("failed")]
if bad:
    print(f"  void: {sum(r['failed'] for r in bad)} creates failed; the first: {bad[0]['first_failure']}")
    sys.exit(1)
PY
