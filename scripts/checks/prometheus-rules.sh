#!/usr/bin/env bash
# Are the files for Prometheus valid, and does each alert fire when it should and only then?
#
# promtool checks the configuration, the rules and their unit tests. This script checks the rest:
# every alert has a test in which it fires and one in which it does not, every recording rule has a
# test, and each alert has a severity and a runbook, which must exist in docs/operations.md if that
# file exists. Last line: `N passed, N failed`.
set -euo pipefail
cd "$(dirname "$0")/../../config"
source ../scripts/lib/verdicts.sh

# What the unit tests expect, one per line: `fires NAME`, `silent NAME`, `records NAME`.
expectations() {
  awk '
    $1 == "-" && $2 == "alertname:" { alert = $3 }
    $1 == "exp_alerts:" && $2 == "[]" { print "silent", alert }
    $2 == "exp_labels:" { print "fires", alert }
    $2 == "expr:" { gsub("\047", "", $3); print "records", $3 }
  ' prometheus/tests/*.yml
}

# missing EXPECTED ACTUAL: the lines of the first that the second lacks.
missing() {
  local lines
  lines=$(comm -23 <(sort -u <<<"$1") <(sort -u <<<"$2"))
  if [[ -n $lines ]]; then
    sed 's/^/missing: /' <<<"$lines"
    return 1
  fi
}

named() { # named KIND FILE: the names of its rules
  awk -v kind="$1:" '$1 == "-" && $2 == kind { print $3 }' "$2"
}

# Three annotations and one of three severities for each alert, and a runbook of the alert's name.
described() {
  awk '
    function end() {
      if (alert == "") return
      if (!("severity" in seen) || !("summary" in seen) || !("description" in seen) || !("for" in seen)) {
        print alert ": for, severity, summary or description is missing"; bad = 1
      }
      if (seen["runbook"] != "docs/operations.md#" tolower(alert)) {
        print alert ": its runbook is not at docs/operations.md#" tolower(alert); bad = 1
      }
      if (seen["severity"] !~ /^(critical|warning|info)$/) { print alert ": severity " seen["severity"]; bad = 1 }
      delete seen
    }
    $1 == "-" && $2 == "alert:" { end(); alert = $3 }
    { key = $1; if (sub(/:$/, "", key)) seen[key] = $2 }
    END { end(); exit bad }
  ' prometheus/alerts.yml
}

# The headings of the operator's page, as GitHub turns them into anchors.
anchors() {
  awk '/^#+ / { sub(/^#+ +/, ""); gsub("`", ""); gsub(/ /, "-"); print tolower($0) }' ../docs/operations.md
}

alerts=$(named alert prometheus/alerts.yml)
records=$(named record prometheus/recording.yml)
expected=$(expectations)

try "promtool check config" promtool check config --lint=all --lint-fatal prometheus.yml
try "promtool check rules" promtool check rules --lint=all --lint-fatal prometheus/recording.yml prometheus/alerts.yml
for file in prometheus/tests/*.yml; do
  try "promtool test rules, $(basename "$file")" promtool test rules "$file"
done
try "every alert has a test in which it fires" missing "${alerts//Fluxgate/fires Fluxgate}" "$expected"
try "every alert has a test in which it does not" missing "${alerts//Fluxgate/silent Fluxgate}" "$expected"
try "every recording rule has a test" missing "$(sed 's/^/records /' <<<"$records")" "$expected"
try "every alert has a severity and a runbook" described
if [[ -e ../docs/operations.md ]]; then
  try "docs/operations.md has a runbook for every alert" missing "${alerts,,}" "$(anchors)"
fi
verdicts_end
