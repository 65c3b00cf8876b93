#!/usr/bin/env bash
# Nodes of this version and of an older one form one cluster: builds the older program and runs
# tests/versions.rs with both: upgrades node by node, downgrades one, and upgrades it again, under
# load.
#
#   scripts/side-by-side.sh [REVISION]     a Git revision; default: the first commit with
#                                          frozen formats
#
# Part of scripts/soak.sh, because it builds the program a second time. Its last line is `N passed,
# N failed`.
set -euo pipefail
cd "$(dirname "$0")/.."

revision=${1:-$(git log --reverse --format=%H -- tests/fixtures/v1/nodes.tar.gz | head -n 1)}
if ! commit=$(git rev-parse --quiet --verify "$revision^{commit}"); then
  echo "side-by-side.sh: no such revision: ${revision:-(this clone has no history)}" >&2
  exit 2
fi
target="${CARGO_TARGET_DIR:-$PWD/target}"
older="$target/older"
rm -rf "$older/source"
mkdir -p "$older/source"
git archive "$commit" | tar -x -C "$older/source"
echo "older: $commit"
(cd "$older/source" && CARGO_TARGET_DIR="$older/build" cargo build --locked -p fluxgate)

export FLUXGATE_OLDER="$older/build/debug/fluxgate"
if cargo nextest run --locked -p fluxgate-tests --test blackbox \
  -E 'test(=versions::nodes_of_two_versions_form_one_cluster)'; then
  echo "1 passed, 0 failed"
else
  echo "0 passed, 1 failed"
  exit 1
fi
