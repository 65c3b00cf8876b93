#!/usr/bin/env bash
# Waits for a condition, with a deadline, for scripts that source this file.
set -euo pipefail

# wait_for SECONDS WHAT COMMAND…: repeats the command until it succeeds.
wait_for() {
  local until=$((SECONDS + $1)) what=$2
  shift 2
  until "$@" >/dev/null 2>&1; do
    if ((SECONDS >= until)); then
      echo "waited without success for $what" >&2
      return 1
    fi
    sleep 0.1
  done
}
