#!/usr/bin/env bash
# Starts and ends processes, for scripts that source this file: a demo cluster that prints one line
# of JSON when ready, and servers that listen. Ends only what it started, by process id, also when
# the script fails or is interrupted.
set -euo pipefail
source "${BASH_SOURCE[0]%/*}/wait.sh"

DEMO_PID=
DEMO_DIR=
WORK=
STARTED=()

_end() { # _end PID SECONDS: SIGTERM, then SIGKILL; the exit status of the process
  local pid=$1 until=$((SECONDS + $2)) status=0
  kill -TERM "$pid" 2>/dev/null || true
  while kill -0 "$pid" 2>/dev/null && ((SECONDS < until)); do
    sleep 0.05
  done
  if kill -0 "$pid" 2>/dev/null; then
    echo "process $pid did not end within $2 s of SIGTERM" >&2
    kill -KILL "$pid" 2>/dev/null || true
  fi
  wait "$pid" || status=$?
  return "$status"
}

_cleanup() {
  local pid
  for pid in "${STARTED[@]}"; do
    _end "$pid" 5 >/dev/null 2>&1 || true
  done
  if [[ -n $DEMO_DIR ]]; then
    rm -rf "$DEMO_DIR"
  fi
  if [[ -n $WORK ]]; then
    rm -rf "$WORK"
  fi
}
trap _cleanup EXIT
trap 'exit 130' INT TERM

_forget() { # _forget PID: it has ended
  local pid left=()
  for pid in "${STARTED[@]}"; do
    [[ $pid == "$1" ]] || left+=("$pid")
  done
  STARTED=("${left[@]+"${left[@]}"}")
}

# work_dir NAME DIR: sets WORK to a new folder below DIR, on its file system, that is deleted with this
# script.
work_dir() {
  mkdir -p "$2"
  WORK=$(mktemp -d "$2/$1.XXXXXX")
}

# fluxgate_bin: prints the binary to run, built from this tree unless FLUXGATE_BIN names another.
fluxgate_bin() {
  if [[ -z ${FLUXGATE_BIN:-} ]]; then
    cargo build -q --locked --release -p fluxgate >&2
  fi
  echo "${FLUXGATE_BIN:-${CARGO_TARGET_DIR:-target}/release/fluxgate}"
}

# demo_start BIN ARGUMENT…: `BIN demo --json ARGUMENT…`; waits for its line, at most
# DEMO_SECONDS_MAX. Sets DEMO_PID, and DEMO_DIR: a folder that is deleted with this script.
demo_start() {
  local bin=$1 until
  shift
  if [[ ! -x $bin ]]; then
    echo "$bin does not exist: cargo build --release -p fluxgate" >&2
    return 1
  fi
  [[ -n $DEMO_DIR ]] || DEMO_DIR=$(mktemp -d)
  : >"$DEMO_DIR/ready"
  "$bin" demo --json "$@" >"$DEMO_DIR/ready" 2>"$DEMO_DIR/log" </dev/null &
  DEMO_PID=$!
  STARTED+=("$DEMO_PID")
  until=$((SECONDS + ${DEMO_SECONDS_MAX:-30}))
  while ! demo_field "d['nodes'][0]['admin']" >/dev/null 2>&1; do
    if ! kill -0 "$DEMO_PID" 2>/dev/null; then
      echo "the demo ended before it was ready; its output:" >&2
      tail -n 40 "$DEMO_DIR/log" >&2
      return 1
    fi
    if ((SECONDS >= until)); then
      echo "the demo was not ready within ${DEMO_SECONDS_MAX:-30} s; its output:" >&2
      tail -n 40 "$DEMO_DIR/log" >&2
      return 1
    fi
    sleep 0.1
  done
}

# demo_field EXPRESSION: a part of the demo's line; in the Python expression the line is `d`.
demo_field() {
  python3 -c 'import json,sys; d=json.loads(open(sys.argv[1]).readline()); print(eval(sys.argv[2]))' \
    "$DEMO_DIR/ready" "$1"
}

# demo_stop: ends the demo; fails unless it exits with 0.
demo_stop() {
  local status=0
  _end "$DEMO_PID" 20 || status=$?
  _forget "$DEMO_PID"
  if ((status != 0)); then
    echo "the demo ended with $status; its output:" >&2
    tail -n 40 "$DEMO_DIR/log" >&2
  fi
  return "$status"
}

# server_start LOG COMMAND…: starts a server in the background; its id is SERVER_PID.
server_start() {
  local log=$1
  shift
  "$@" >"$log" 2>&1 </dev/null &
  SERVER_PID=$!
  STARTED+=("$SERVER_PID")
}

server_stop() { # server_stop PID
  _end "$1" 15 >/dev/null 2>&1 || true
  _forget "$1"
}
