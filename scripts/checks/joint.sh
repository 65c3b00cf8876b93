#!/usr/bin/env bash
# The rules of requests over several subjects, each broken once: the engine's own tests must notice.
set -euo pipefail
cd "$(dirname "$0")/../.."
cargo test -q --locked -p fluxgate-engine --features mutations --test joint
