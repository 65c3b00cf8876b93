#!/usr/bin/env bash
# Do systemd, Kubernetes and Compose accept our files? Nothing is started.
#
# Last line: `N passed, N failed`.
set -euo pipefail
cd "$(dirname "$0")/../.."

source scripts/lib/verdicts.sh
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT

# The unit, as an instance, with an existing program in place of ours; any output is a failure.
unit() {
  mkdir -p "$scratch/units"
  sed "s#^ExecStart=/usr/bin/fluxgate#ExecStart=$(command -v true)#" \
    'config/systemd/fluxgate@.service' >"$scratch/units/fluxgate@node1.service"
  local output
  output=$(SYSTEMD_UNIT_PATH="$scratch/units:" systemd-analyze verify "$scratch/units/fluxgate@node1.service" 2>&1)
  [[ -z $output ]] || { echo "$output"; return 1; }
}

# At most 2.0 of 10, where less is better.
exposure() {
  systemd-analyze security --offline=true --threshold=20 "$scratch/units/fluxgate@node1.service"
}

manifests() {
  "${CARGO_TARGET_DIR:-target}/tools/bin/python" - "$1" <<'PYTHON'
import sys
import kubernetes_validate
import yaml

kinds = []
for document in yaml.safe_load_all(open(sys.argv[1])):
    kubernetes_validate.validate(document, "1.31", strict=True)
    kinds.append(document["kind"])
wanted = {"ConfigMap", "Service", "PodDisruptionBudget", "StatefulSet"}
sys.exit(f"missing: {wanted - set(kinds)}" if wanted - set(kinds) else 0)
PYTHON
}

# The configuration in the manifest, as a node reads it.
manifest_configuration() {
  "${CARGO_TARGET_DIR:-target}/tools/bin/python" - "$1" "$scratch" <<'PYTHON'
import sys
import yaml

for document in yaml.safe_load_all(open(sys.argv[1])):
    if document["kind"] == "ConfigMap":
        text = document["data"]["node.toml"].replace("/etc/fluxgate/secrets", sys.argv[2])
        open(sys.argv[2] + "/node.toml", "w").write(text)
PYTHON
  secrets
  FLUXGATE__NODE__ID=1 "$BIN" check-config --config "$scratch/node.toml"
}

compose_configuration() {
  secrets
  sed -e "s#/run/secrets/cluster_secret#$scratch/cluster.secret#" \
    -e "s#/run/secrets/operator_token#$scratch/operator.token#" \
    config/compose/node.toml >"$scratch/compose.toml"
  FLUXGATE__NODE__ID=3 "$BIN" check-config --config "$scratch/compose.toml"
}

secrets() {
  echo "a secret of this check, and of nothing else" | tr -d ' ,' >"$scratch/cluster.secret"
  cp "$scratch/cluster.secret" "$scratch/operator.token"
}

BIN="${FLUXGATE_BIN:-${CARGO_TARGET_DIR:-target}/release/fluxgate}"
try "systemd takes the unit" unit
try "the unit is shut tight" exposure
try "Kubernetes 1.31 takes the manifests" manifests config/kubernetes/fluxgate.yaml
try "a node takes the configuration in the manifests" manifest_configuration config/kubernetes/fluxgate.yaml
try "a node takes the configuration of the containers" compose_configuration
try "Compose takes its file" docker-compose -f docker-compose.cluster.yml config --quiet
verdicts_end
