#!/usr/bin/env bash
# Everything that must hold before a commit is merged. CI runs this script and nothing else.
#
# Runs every step even when one fails, then prints a table of steps and, as its last line,
# `N passed, N failed`. Exits 1 if anything failed. Each test counts once, each other step once.
# CARGO_TARGET_DIR is respected. Logs of the steps stay in $TARGET/check/.
set -euo pipefail
cd "$(dirname "$0")/.."

export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$PWD/target}"
export CARGO_TERM_COLOR="${CARGO_TERM_COLOR:-never}"
# The longest time of one step, so that a hanging test fails instead of hanging CI.
STEP_SECONDS_MAX="${STEP_SECONDS_MAX:-1200}"
LOGS="$CARGO_TARGET_DIR/check"
mkdir -p "$LOGS"

passed=0
failed=0
rows=()

# Counts the tests in a log of cargo test, nextest, or our own scripts, in the columns passed and
# failed. Prints nothing if the log mentions no tests.
count_in() {
  awk '
    # cargo test: test result: ok. 3 passed; 0 failed; 0 ignored; …
    /^test result:/ {
      for (i = 1; i <= NF; i++) {
        if ($i ~ /^passed;?$/) p += $(i - 1)
        if ($i ~ /^failed;?$/) f += $(i - 1)
      }
      seen = 1
    }
    # nextest: Summary [   1.2s] 9 tests run: 8 passed (1 slow), 1 failed, 0 skipped
    /^ *Summary \[/ {
      line = $0
      sub(/.*tests? run: /, "", line)
      n = split(line, parts, ",")
      for (i = 1; i <= n; i++) {
        split(parts[i], word, " ")
        if (word[2] == "passed") p += word[1]
        if (word[2] == "failed" || word[2] == "timed" || word[2] == "exec") f += word[1]
      }
      seen = 1
    }
    { if ($0 != "") last = $0 }
    END {
      # Our own scripts print it as their last line.
      if (!seen && last ~ /^[0-9]+ passed, [0-9]+ failed$/) {
        split(last, word, " "); p = word[1]; f = word[3]; seen = 1
      }
      if (seen) print p + 0, f + 0
    }
  ' "$1"
}

# step NAME COMMAND…: runs a step, counts it, and continues after a failure.
step() {
  local name=$1 log begun took status=0 counts p f result
  shift
  log="$LOGS/${name//[^a-z0-9]/-}.log"
  echo "== $name: $*"
  begun=$SECONDS
  timeout --kill-after=10 "$STEP_SECONDS_MAX" "$@" >"$log" 2>&1 </dev/null || status=$?
  took=$((SECONDS - begun))
  counts=$(count_in "$log")
  if [[ -n $counts ]]; then
    read -r p f <<<"$counts"
  else
    p=$((status == 0 ? 1 : 0))
    f=0
  fi
  # A step that failed without a failed test counts as failed itself.
  if ((status != 0 && f == 0)); then
    f=1
  fi
  passed=$((passed + p))
  failed=$((failed + f))
  result=ok
  if ((f > 0)); then
    result=FAILED
    tail -n 120 "$log"
    if ((status == 124)); then
      echo "== $name: ended after $STEP_SECONDS_MAX s"
    fi
    echo "== $name: FAILED (exit $status), whole log: $log"
  fi
  rows+=("$(printf '%-24s %-7s %6d %6d %6d s' "$name" "$result" "$p" "$f" "$took")")
}

# Only libraries have documentation examples; the tool prints how many it ran.
has_doctests() {
  grep -rqE '^ *//[/!] ```(rust|should_panic|no_run|compile_fail)?$' crates/*/src proof --include='*.rs'
}

# Clippy and the tests use a static binary, so that the container checks can use the same one.
source scripts/lib/static.sh

step "setup" ./scripts/setup-tests.sh
step "fmt" cargo fmt --all --check
step "clippy" "${STATIC[@]}" cargo clippy --locked --workspace --all-targets -- -D warnings
# Except the store's own tests: they watch its system calls with a preloaded library.
tests=(test --lib --bins --tests --examples)
if cargo nextest --version >/dev/null 2>&1; then
  tests=(nextest run)
else
  # nextest would build the program under test by itself.
  NEXTEST_ENV=$(mktemp)
  step "program" env NEXTEST_ENV="$NEXTEST_ENV" "${STATIC[@]}" scripts/lib/binary-for-tests.sh
  FLUXGATE_BIN=$(sed -n 's/^FLUXGATE_BIN=//p' "$NEXTEST_ENV")
  rm "$NEXTEST_ENV"
  export FLUXGATE_BIN
fi
step "tests" "${STATIC[@]}" cargo "${tests[@]}" --locked --no-fail-fast --workspace --exclude fluxgate-store
step "tests-store" cargo "${tests[@]}" --locked --no-fail-fast -p fluxgate-store
if has_doctests; then
  step "doctests" "${STATIC[@]}" cargo test --locked --workspace --doc --no-fail-fast
fi
# The other checks run the program that the tests ran: an optimized build takes ten minutes, and no
# check depends on it. `cargo run --release -- demo` and the image are release builds.
export FLUXGATE_BIN="${FLUXGATE_BIN:-$CARGO_TARGET_DIR/$STATIC_HOST/debug/fluxgate}"
for script in scripts/checks/*.sh; do
  if [[ -e $script ]]; then
    step "$(basename "$script" .sh)" env CHECK_QUICK=1 bash "$script"
  fi
done

echo
printf '%-24s %-7s %6s %6s %8s\n' step result passed failed time
printf '%s\n' "${rows[@]}"
echo
echo "$passed passed, $failed failed"
((failed == 0))
