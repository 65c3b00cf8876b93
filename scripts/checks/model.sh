#!/usr/bin/env bash
# The models at their small bounds, and every broken variant of them.
set -euo pipefail
cd "$(dirname "$0")/../.."
exec scripts/model.sh
