#!/usr/bin/env bash
# The long checks: the same as in check.sh, for hours, on all cores.
#
#   scripts/soak.sh [--from SEED]      everything once, at full length
#
# Each part prints its results; logs are kept in $TARGET/soak/. Its last line is `N passed, N
# failed`. Seeds that ran before prove nothing new: use `--from` to begin after them.
set -euo pipefail
cd "$(dirname "$0")/.."

from=1000000
while (($#)); do
  case $1 in
    --from) from=${2:?--from needs a seed}; shift 2 ;;
    *) echo "soak.sh: unknown word $1" >&2; exit 2 ;;
  esac
done

logs="${CARGO_TARGET_DIR:-$PWD/target}/soak"
mkdir -p "$logs"
passed=0 failed=0
part() {
  local name=$1
  shift
  echo "== $name: $*"
  if "$@" 2>&1 | tee "$logs/$name.log"; then passed=$((passed + 1)); else failed=$((failed + 1)); fi
}

# 103 000 simulated hours of the protocol, and every broken variant.
part protocol scripts/sim.sh --seeds "$from..$((from + 70000))"
part mutations scripts/sim.sh --mutations --seeds 0..400
# 600 simulated hours of whole clusters.
part clusters scripts/sim.sh --cluster --seeds "$from..$((from + 1000))"
# The models at their large bounds, an hour of real faults, each fuzz target 20 minutes.
part models scripts/model.sh --large
for terms in plain short mixed; do
  part "chaos-$terms" scripts/chaos.sh --seconds 1200 --terms "$terms"
done
part fuzz scripts/fuzz.sh --seconds 1260
# This version beside the first one, up and down node by node.
part versions scripts/side-by-side.sh
# Three containers with a real engine.
part docker scripts/checks/docker.sh
# Licences, sources and bans; advisories too if their database can be downloaded.
deny() {
  command -v cargo-deny >/dev/null || cargo install --locked cargo-deny
  cargo deny --offline check bans licenses sources
  if cargo deny fetch db 2>/dev/null; then cargo deny --offline check advisories; fi
}
part deny deny
echo "$passed passed, $failed failed"
((failed == 0))
