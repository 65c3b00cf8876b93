#!/usr/bin/env bash
# The cost of each answer over HTTP, compared with an axum handler that decides nothing.
#
# Starts a cluster of one (`fluxgate demo --nodes 1`) and `bare-axum`, drives both in turn, and
# compares processor time per request (utime + stime of /proc/PID/stat), which a busy machine disturbs
# less than throughput. Prints one line per answer, each a ratio of medians, and last the validate that
# is admitted.
#
#   scripts/bench/http.sh [ROUNDS=5] [SECONDS=5] [CONNECTIONS=32] [PORT=27501]
#
# HTTP/1.1 is driven by wrk, HTTP/2 and half of the full rate by h2load (Debian's nghttp2-client;
# without it these lines are missing). ONLY=validate,429 drives these alone. NODES=3 measures a demo of
# three, whose processor time then includes gossip, heartbeats and leases of all three. Loopback only;
# needs no input and ends what it started, at the latest after ROUNDS x (SECONDS + 2) x 2 x answers.
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
BARE="127.0.0.1:$((PORT + 50))"
server_start "$DEMO_DIR/bare.log" "$TARGET/release/bare-axum" "$BARE"
BARE_PID=$SERVER_PID
wait_for 10 "bare-axum" curl -fsS --noproxy '*' --max-time 1 -X POST "http://$BARE/v1/validate"

python3 scripts/bench/answers.py --rounds "$ROUNDS" --seconds "$SPAN" --connections "$CONNECTIONS" \
  --gateway "$(demo_field "d['nodes'][0]['gateway']")" --admin "$(demo_field "d['nodes'][0]['admin']")" \
  --pid "$DEMO_PID" --bare "http://$BARE" --bare-pid "$BARE_PID" --nodes "$NODES" \
  --dir "$DEMO_DIR" --only "${ONLY:-}" <<<"$(demo_field "d['operator_token']")"
