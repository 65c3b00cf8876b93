#!/usr/bin/env bash
# A few hundred seeds of the protocol, and every rule broken once: each must be noticed.
set -euo pipefail
cd "$(dirname "$0")/../.."
scripts/sim.sh --seeds 0..400
scripts/sim.sh --mutations --seeds 0..400
