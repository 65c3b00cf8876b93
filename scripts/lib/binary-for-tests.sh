#!/usr/bin/env bash
# Builds the program that the black-box tests run. nextest calls this before the tests and passes
# FLUXGATE_BIN to each.
#
# Builds it as check.sh builds the tests: the same packages, and one test with it, so that features
# of dependencies are the same and nothing is compiled twice.
set -euo pipefail
cd "$(dirname "$0")/../.."
if [[ -z ${FLUXGATE_BIN:-} ]]; then
  messages=$(cargo build --locked --workspace --exclude fluxgate-store --bin fluxgate --test tidy \
    --message-format=json-render-diagnostics)
  FLUXGATE_BIN=$(grep '"name":"fluxgate"' <<<"$messages" |
    grep -o '"executable":"[^"]*"' | tail -n 1 | cut -d'"' -f4)
fi
echo "FLUXGATE_BIN=$FLUXGATE_BIN" >>"$NEXTEST_ENV"
