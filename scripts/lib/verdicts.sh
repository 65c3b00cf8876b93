#!/usr/bin/env bash
# Counts what passed and what failed, for scripts that source this file and end with
# `N passed, N failed`.
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

try() { # try NAME COMMAND…: shows what it said where it failed
  local name=$1 said status=0
  shift
  said=$("$@" 2>&1) || status=$?
  ((status == 0)) || echo "$said"
  verdict "$name" "$status"
}

verdicts_end() { # the last line; fails if anything did
  echo "$passed passed, $failed failed"
  ((failed == 0))
}
