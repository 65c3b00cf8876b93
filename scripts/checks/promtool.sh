#!/usr/bin/env bash
# Does Prometheus accept our metrics? Starts a demo cluster, scrapes each node, runs promtool.
#
# Last line: `N passed, N failed`, one for each node and one for the demo's orderly end.
# FLUXGATE_BIN, FLUXGATE_CHECK_PORT and FLUXGATE_CHECK_NODES set another binary, port or number of
# nodes.
set -euo pipefail
cd "$(dirname "$0")/../.."
source scripts/lib/demo.sh
source scripts/lib/verdicts.sh

BIN="${FLUXGATE_BIN:-${CARGO_TARGET_DIR:-target}/release/fluxgate}"
PORT="${FLUXGATE_CHECK_PORT:-27101}"
NODES="${FLUXGATE_CHECK_NODES:-3}"

# In these names `counter` means one limit of one key, not the type of the metric.
EXCUSED="^fluxgate_counter_(decisions_total|wait_seconds) metric name should not include type 'counter'$"

lint() { # lint FILE: prints promtool's remarks except the excused ones
  local output status=0
  output=$(promtool check metrics <"$1" 2>&1) || status=$?
  # 3: promtool could read everything and has remarks.
  if ((status != 0 && status != 3)); then
    echo "$output"
    return "$status"
  fi
  if grep -vE "$EXCUSED" <<<"$output" | grep .; then
    return 1
  fi
}

demo_start "$BIN" --nodes "$NODES" --port "$PORT"
for ((node = 1; node <= NODES; node++)); do
  admin=$(demo_field "d['nodes'][$node - 1]['admin']")
  status=0
  text="$DEMO_DIR/metrics-$node.txt"
  curl -fsS --noproxy '*' --max-time 10 -o "$text" "$admin/metrics" || status=$?
  if ((status == 0)); then
    lint "$text" || status=$?
  fi
  # promtool accepts an empty input.
  if ((status == 0)) && ! grep -q '^fluxgate_build_info' "$text"; then
    echo "no fluxgate_build_info at $admin/metrics"
    status=1
  fi
  verdict "promtool check metrics, node $node" "$status"
done
status=0
demo_stop || status=$?
verdict "the demo ends by SIGTERM with 0" "$status"
verdicts_end
