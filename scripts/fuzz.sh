#!/usr/bin/env bash
# Fuzzes the targets of proof/fuzz/targets with libFuzzer, on the toolchain that builds the product.
#
#   scripts/fuzz.sh [--seconds S] [--target T]... [--jobs N] [--minimise]
#
# Each target runs for S seconds (60), N of them at a time (one for each core, at most). It starts
# with the inputs of proof/fuzz/libfuzzer/corpus/T.tar.gz. New inputs are kept in
# $CARGO_TARGET_DIR/fuzz/corpus; `--minimise` merges them into the archive. A finding is kept in
# findings/T beside the archives, where `cargo nextest run -p fluxgate-fuzz-targets` replays it.
# Prints a table, and last `N passed, N failed`.
set -euo pipefail
cd "$(dirname "$0")/.."

# Bounds of one process: resident memory and address space (a reader that trusts a length field
# would allocate more), bytes and seconds of one input.
readonly RSS_MB_MAX=1024 ADDRESS_MB_MAX=4096 INPUT_BYTES_MAX=4096 INPUT_S_MAX=20
# Bounds of a committed corpus.
readonly CORPUS_FILES_MAX=200 CORPUS_BYTES_MAX=300000
# The files in Git: corpora, findings, dictionaries, and the binaries' package.
readonly kept=proof/fuzz/libfuzzer
readonly ALL=(commands configuration credential http_bodies peer_messages records)

seconds=60 minimise=0 jobs=$(nproc) targets=()
while (($#)); do
  case $1 in
    --seconds) seconds=${2:?--seconds needs a number}; shift 2 ;;
    --target) targets+=("${2:?--target needs a name}"); shift 2 ;;
    --jobs) jobs=${2:?--jobs needs a number}; shift 2 ;;
    --minimise) minimise=1; shift ;;
    *) echo "fuzz.sh: unknown word $1" >&2; exit 2 ;;
  esac
done
((${#targets[@]})) || targets=("${ALL[@]}")

base="${CARGO_TARGET_DIR:-$PWD/target}/fuzz"
logs="$base/logs"
mkdir -p "$logs"
scratch=$(mktemp -d -p "$([[ -d /dev/shm ]] && echo /dev/shm || echo "${TMPDIR:-/tmp}")" fluxgate-fuzz-XXXXXX)
trap 'rm -rf "$scratch"' EXIT
export TMPDIR=$scratch
host=$(rustc -vV | sed -n 's/^host: //p')
binaries="$base/$host/release"

# Coverage for libFuzzer. Stable rustc accepts these flags; with a target triple they do not apply
# to build scripts and macros, which run on their own.
coverage=(--cfg tokio_unstable -Cpasses=sancov-module)
for part in level=4 inline-8bit-counters pc-table trace-compares; do
  coverage+=("-Cllvm-args=-sanitizer-coverage-$part")
done
echo "== building"
(cd "$kept" && CARGO_TARGET_DIR="$base" RUSTFLAGS="${coverage[*]}" \
  cargo build --quiet --locked --release --target "$host")

# unpack TARGET: the committed inputs, as files in $base/committed/TARGET.
unpack() {
  rm -rf "$base/committed/$1" && mkdir -p "$base/committed/$1"
  [[ ! -e $kept/corpus/$1.tar.gz ]] || tar -xzf "$kept/corpus/$1.tar.gz" -C "$base/committed/$1"
}

# pack TARGET: the reverse. The same inputs give the same bytes.
pack() {
  tar --sort=name --mtime=@0 --owner=0 --group=0 --numeric-owner --mode=0644 \
    -C "$base/committed/$1" -cf - $(ls "$base/committed/$1") | gzip -n9 >"$kept/corpus/$1.tar.gz"
}

# Runs one target; the log has the details.
fuzz() {
  local target=$1 new="$base/corpus/$1" artifacts="$base/artifacts/$1"
  mkdir -p "$new" "$artifacts" "$kept/findings/$target"
  rm -f "$artifacts"/*
  ulimit -v $((ADDRESS_MB_MAX * 1024))
  local TIMEFORMAT='stat::cpu_seconds: %0U'
  { time "$binaries/$target" "$new" "$base/committed/$target" "$kept/findings/$target" \
    -max_total_time="$seconds" -rss_limit_mb=$RSS_MB_MAX -max_len=$INPUT_BYTES_MAX \
    -timeout=$INPUT_S_MAX -artifact_prefix="$artifacts/" -print_final_stats=1 \
    -dict="$kept/$target.dict" >"$logs/$target.log" 2>&1; } 2>"$logs/$target.cpu"
}

# Keeps as few inputs as cover what all cover. If these are more than a corpus may have, keeps every
# n-th by size.
minimise() {
  local target=$1 all="$base/merged/$1" files=0 bytes=0 at=0 count step size input
  rm -rf "$all" && mkdir -p "$all"
  "$binaries/$target" -set_cover_merge=1 -max_len=$INPUT_BYTES_MAX "$all" \
    "$base/committed/$target" "$base/corpus/$target" >"$logs/$target.merge.log" 2>&1
  rm -f "$base/committed/$target"/*
  count=$(find "$all" -type f | wc -l)
  step=$(((count + CORPUS_FILES_MAX - 1) / CORPUS_FILES_MAX))
  while read -r size input; do
    at=$((at + 1))
    ((at % step == 0 && bytes + size <= CORPUS_BYTES_MAX)) || continue
    cp "$all/$input" "$base/committed/$target/$input"
    files=$((files + 1)) bytes=$((bytes + size))
  done < <(find "$all" -type f -printf '%s %f\n' | sort -n)
  pack "$target"
  echo "    corpus of $target: $files of $count inputs, $bytes bytes"
}

echo "== $seconds s for each of ${#targets[@]} targets, $jobs at a time"
declare -A status
running=() names=()
reap() {
  local code=0
  wait "${running[0]}" || code=$?
  status[${names[0]}]=$code
  running=("${running[@]:1}") names=("${names[@]:1}")
}
for target in "${targets[@]}"; do
  ((${#running[@]} < jobs)) || reap
  unpack "$target"
  fuzz "$target" &
  running+=($!) names+=("$target")
done
while ((${#running[@]})); do reap; done

passed=0 failed=0
printf '%-14s %12s %10s %8s %8s %10s %8s %9s\n' \
  target executions per_second cpu_s inputs covered new findings
for target in "${targets[@]}"; do
  log="$logs/$target.log"
  number() { sed -n "s/^stat::$1: *//p" "$log" | tail -1; }
  covered() { grep -o ' cov: [0-9]*' "$log" | grep -o '[0-9]*' | "$@" || true; }
  first=$(grep -m1 'INITED' "$log" | sed -n 's/.* cov: \([0-9]*\).*/\1/p' || true)
  last=$(covered tail -1)
  inputs=$(find "$base/corpus/$target" "$base/committed/$target" -type f | wc -l)
  findings=$(find "$base/artifacts/$target" -type f ! -name 'slow-unit-*' | wc -l)
  printf '%-14s %12s %10s %8s %8s %10s %8s %9s\n' "$target" "$(number number_of_executed_units)" \
    "$(number average_exec_per_sec)" "$(sed -n 's/^stat::cpu_seconds: //p' "$logs/$target.cpu")" "$inputs" "${last:-?}" \
    "$((${last:-0} - ${first:-0}))" "$findings"
  if ((status[$target] == 0 && findings == 0)); then
    passed=$((passed + 1))
    ((minimise == 0)) || minimise "$target"
    continue
  fi
  failed=$((failed + 1))
  grep -m3 -A2 "panicked at\|ERROR: libFuzzer\|memory allocation of" "$log" | sed 's/^/    /' || tail -5 "$log"
  while read -r artifact; do
    finding="$kept/findings/$target/$(basename "$artifact")"
    cp "$artifact" "$finding"
    echo "    kept as $finding; replay: $binaries/$target $finding"
  done < <(find "$base/artifacts/$target" -type f ! -name 'slow-unit-*')
  echo "    log: $log"
done
echo "$passed passed, $failed failed"
((failed == 0))
