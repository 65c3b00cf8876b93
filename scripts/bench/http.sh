#!/usr/bin/env bash
# The cost of a validate, compared with an axum handler that decides nothing.
#
# Starts a cluster of one (`fluxgate demo --nodes 1`) and `bare-axum`, drives both in turn with wrk,
# and compares processor time per request (utime + stime of /proc/PID/stat), which a busy machine
# disturbs less than throughput. Prints one line per run, then medians and their ratio.
#
#   scripts/bench/http.sh [ROUNDS=5] [SECONDS=5] [CONNECTIONS=32] [PORT=27501]
#
# Loopback only; needs no input and ends what it started. NODES=3 measures a demo of three, whose
# processor time then includes gossip, heartbeats and leases of all three.
set -euo pipefail
cd "$(dirname "$0")/../.."
source scripts/lib/demo.sh

ROUNDS=${1:-5}
SPAN=${2:-5}
CONNECTIONS=${3:-32}
PORT=${4:-27501}
NODES=${NODES:-1}
TARGET=${CARGO_TARGET_DIR:-target}
((ROUNDS <= 50 && SPAN <= 60 && CONNECTIONS <= 256)) || { echo "at most 50 rounds, 60 s, 256 connections" >&2; exit 2; }
for tool in wrk curl python3; do
  command -v "$tool" >/dev/null || { echo "$tool is missing: scripts/setup-tests.sh" >&2; exit 1; }
done
cargo build -q --locked --release -p fluxgate-bench --bins
BIN=$(fluxgate_bin)

demo_start "$BIN" --nodes "$NODES" --port "$PORT"
GATEWAY=$(demo_field "d['nodes'][0]['gateway']")
ADMIN=$(demo_field "d['nodes'][0]['admin']")
TOKEN=$(demo_field "d['operator_token']")

# A key with a limit that no run exhausts, so that every answer is an admission.
made=$(curl -fsS --noproxy '*' --max-time 15 -X POST "$ADMIN/v1/keys" \
  -H "Authorization: Bearer $TOKEN" -H 'Content-Type: application/json' \
  -d '{"name":"Production Sync","scope":"write","owner":"user_42","limits":[{"name":"requests","tokens":1000000000,"period":"60s"}]}')
KEY=$(python3 -c 'import json,sys; print(json.loads(sys.argv[1])["key"])' "$made")

BARE="http://127.0.0.1:$((PORT + 50))"
server_start "$DEMO_DIR/bare.log" "$TARGET/release/bare-axum" "127.0.0.1:$((PORT + 50))"
BARE_PID=$SERVER_PID
wait_for 10 "bare-axum" curl -fsS --noproxy '*' --max-time 1 -X POST "$BARE/v1/validate"

# The script prints a line for programs; wrk's own report is for people.
cat >"$DEMO_DIR/wrk.lua" <<'LUA'
wrk.method = "POST"
wrk.headers["Authorization"] = "Bearer " .. os.getenv("BENCH_KEY")
done = function(summary, latency)
  io.write(string.format("BENCH %d %d %d %.0f %.0f %.0f\n", summary.requests, summary.duration,
    summary.errors.status + summary.errors.connect + summary.errors.read + summary.errors.write + summary.errors.timeout,
    latency:percentile(50), latency:percentile(99), latency:percentile(99.9)))
end
LUA
export BENCH_KEY=$KEY

ticks() { # processor time of a process: fields 14 and 15, after the name in brackets
  python3 -c 'import sys; f=open(f"/proc/{sys.argv[1]}/stat").read().rsplit(")",1)[1].split(); print(int(f[11])+int(f[12]))' "$1"
}

HZ=$(getconf CLK_TCK)
RESULTS="$DEMO_DIR/results"
: >"$RESULTS"
run() { # run NAME URL PID
  local before after line
  before=$(ticks "$3")
  line=$(wrk -t 1 -c "$CONNECTIONS" -d "${SPAN}s" --latency -s "$DEMO_DIR/wrk.lua" "$2/v1/validate" | grep '^BENCH ')
  after=$(ticks "$3")
  echo "$1 ${line#BENCH } $((after - before))" >>"$RESULTS"
}

# Once each without counting, to warm caches, connections and the counter's window.
SPAN_SAVED=$SPAN
SPAN=1
run warm "$GATEWAY" "$DEMO_PID"
run warm "$BARE" "$BARE_PID"
SPAN=$SPAN_SAVED
for ((round = 1; round <= ROUNDS; round++)); do
  # In alternating order, so that a drift of the machine affects both alike.
  if ((round % 2)); then
    run fluxgate "$GATEWAY" "$DEMO_PID"
    run bare "$BARE" "$BARE_PID"
  else
    run bare "$BARE" "$BARE_PID"
    run fluxgate "$GATEWAY" "$DEMO_PID"
  fi
done

python3 - "$RESULTS" "$HZ" "$CONNECTIONS" "$NODES" <<'PY'
import statistics, sys
path, hz, connections, nodes = sys.argv[1], int(sys.argv[2]), sys.argv[3], sys.argv[4]
runs = {}
print(f"{'server':10} {'requests/s':>10} {'cpu us/req':>10} {'p50 us':>8} {'p99 us':>8} {'p99.9 us':>8} {'errors':>7}")
for line in open(path):
    name, requests, micros, errors, p50, p99, p999, ticks = line.split()
    if name == "warm":
        continue
    rate, cpu = int(requests) * 1e6 / int(micros), int(ticks) * 1e6 / hz / max(1, int(requests))
    runs.setdefault(name, []).append((rate, cpu, float(p50), float(p99), float(p999), int(errors)))
    print(f"{name:10} {rate:10.0f} {cpu:10.2f} {p50:>8} {p99:>8} {p999:>8} {errors:>7}")
median = {name: [statistics.median(column) for column in zip(*rows)] for name, rows in runs.items()}
ours, bare = median["fluxgate"], median["bare"]
errors = sum(row[5] for rows in runs.values() for row in rows)
print(f"\nmedian of {len(runs['bare'])} rounds, {connections} connections, {nodes} node(s), client on the same machine:")
print(f"  fluxgate  {ours[0]:.0f} requests/s, {ours[1]:.2f} us of processor time each, p99 {ours[3]:.0f} us")
print(f"  bare axum {bare[0]:.0f} requests/s, {bare[1]:.2f} us of processor time each, p99 {bare[3]:.0f} us")
print(f"  ratio of processor time {ours[1] / bare[1]:.2f}, of throughput {ours[0] / bare[0]:.2f}")
if errors:
    print(f"  void: {errors} answers were not admissions")
    sys.exit(1)
PY
