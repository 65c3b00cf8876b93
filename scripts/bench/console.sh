#!/usr/bin/env bash
# How soon the console's pages are painted when the cluster has many keys, and their size.
#
# Imports digests into a demo of three nodes, and loads each page in Chromium nine times with an
# empty cache: the first contentful paint as reported by the browser, and the node's part of it.
#
#   scripts/bench/console.sh [KEYS=1000000] [DIR=target/bench] [PORT=27901]
#
# Loopback only; ends what it started. scripts/setup-tests.sh installs Chromium and its driver.
set -euo pipefail
cd "$(dirname "$0")/../.."
source scripts/lib/demo.sh

KEYS=${1:-1000000}
DIR=${2:-${CARGO_TARGET_DIR:-target}/bench}
PORT=${3:-27901}
export DEMO_SECONDS_MAX=${DEMO_SECONDS_MAX:-120}
BIN=$(fluxgate_bin)
cargo test -q --locked -p fluxgate-tests --test blackbox --no-run
work_dir console "$DIR"

demo_start "$BIN" --nodes 3 --port "$PORT" --data-dir "$WORK/data"
FLUXGATE_URL=$(demo_field "d['nodes'][1]['admin']")
FLUXGATE_TOKEN=$(demo_field "d['operator_token']")
export FLUXGATE_URL FLUXGATE_TOKEN FLUXGATE_CONSOLE_AT=$FLUXGATE_URL
python3 scripts/lib/digests.py "$KEYS" >"$WORK/keys.jsonl"
"$BIN" keys import "$WORK/keys.jsonl" 2>/dev/null | tail -n 1
cargo test -q --locked -p fluxgate-tests --test blackbox -- --exact --nocapture \
  console::paint::every_page_reports_when_it_is_painted | grep -E '^(page|/|  )'
demo_stop
