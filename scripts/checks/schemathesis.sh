#!/usr/bin/env bash
# Does the admin listener conform to its OpenAPI document? schemathesis sends a demo cluster
# requests that the document allows and that it forbids. Last line: `N passed, N failed`, one for
# each part.
#
# Left out: changes of the cluster's members and leader, which would take the cluster apart, and the
# check that every valid request is accepted, because no schema can express "in the future" for
# `expires_at`.
set -euo pipefail
cd "$(dirname "$0")/../.."
source scripts/lib/demo.sh
source scripts/lib/verdicts.sh

BIN="${FLUXGATE_BIN:-${CARGO_TARGET_DIR:-target}/release/fluxgate}"
PORT="${FLUXGATE_CHECK_PORT:-28101}"
ST="$(realpath "${CARGO_TARGET_DIR:-target}")/tools/bin/st"

demo_start "$BIN" --nodes 3 --port "$PORT"
# JSON lines are text to schemathesis; its own files are in a folder that is deleted.
cat >"$DEMO_DIR/hooks.py" <<'PYTHON'
import json

import schemathesis


@schemathesis.serializer("application/x-ndjson")
def lines(context, value):
    return (value if isinstance(value, str) else json.dumps(value)).encode()
PYTHON

ask() { # ask NAME LISTENER TOKEN WORDS…
  local name=$1 url token=$3 status=0
  url=$(demo_field "d['nodes'][0]['$2']")
  shift 3
  (cd "$DEMO_DIR" && SCHEMATHESIS_HOOKS=hooks "$ST" run "$(demo_field "d['nodes'][0]['admin']")/openapi.json" \
    --url "$url" -H "Authorization: Bearer $token" --max-examples 20 --seed 1 --no-color \
    --phases examples,coverage,fuzzing "$@") || status=$?
  verdict "$name" "$status"
}

ask "the admin listener keeps to the document" admin "$(demo_field "d['operator_token']")" \
  --include-path-regex '^/(v1/(keys|owners|audit|whoami|cluster)|metrics|openapi|livez|readyz)' \
  --exclude-path-regex 'cluster/(nodes|leader|restore)|keys/import' \
  --exclude-checks positive_data_acceptance
# A body of lines is never rejected as a whole: the answer reports each wrong line.
ask "so it does where it takes lines" admin "$(demo_field "d['operator_token']")" \
  --include-path-regex 'cluster/restore|keys/import' \
  --exclude-checks positive_data_acceptance,negative_data_rejection
demo_stop || failed=$((failed + 1))
verdicts_end
