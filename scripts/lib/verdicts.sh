#!/usr/bin/env bash
# Counts passed and failed checks, for scripts that source this file and end with `N passed, N
# failed`.
set -euo pipefail

passed=0
failed=0

verdict() { # verdict NAME STATUS
  if (($2 == 0)); then
    passed=$((passed + 1))
    echo "ok      $1"
  else
    failed=$((failed + 1))
    echo "FAILED  $1"
  fi
}

try() { # try NAME COMMAND…: shows the output of a failed command
  local name=$1 output status=0
  shift
  output=$("$@" 2>&1) || status=$?
  ((status == 0)) || echo "$output"
  verdict "$name" "$status"
}

verdicts_end() { # prints the last line; fails if a check failed
  echo "$passed passed, $failed failed"
  ((failed == 0))
}
