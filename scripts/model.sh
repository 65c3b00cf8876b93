#!/usr/bin/env bash
# Checks the models of leases, share maps and counters in every state within their bounds, and that
# the checker notices each broken variant.
#
#   scripts/model.sh [--large] [--only MODEL] [--steps]
#
# About 8 GB of memory and minutes with --large. Its last line is `N passed, N failed`.
set -euo pipefail
cd "$(dirname "$0")/.."
exec cargo run -q --locked --release -p fluxgate-model --features mutations -- "$@"
