#!/usr/bin/env bash
# A few hundred seeds of the protocol, and every rule broken once: each must be noticed. The rules of
# requests over several subjects are broken in the engine's own tests.
set -euo pipefail
cd "$(dirname "$0")/../.."
scripts/sim.sh --seeds 0..400
scripts/sim.sh --mutations --seeds 0..400
cargo test -q --locked -p fluxgate-engine --features mutations --test joint
