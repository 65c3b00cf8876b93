#!/usr/bin/env bash
# Installs the Debian packages that the checks need and that are missing.
#
# Answers for: promtool (package prometheus), wrk, ps, curl, python3, and what chaos runs make their
# networks and their preloaded library with. Starts no service. Without
# root it names what to install and exits 1; on CI (CI=true) every failure is an error.
set -euo pipefail

# A command, and the package that brings it.
NEEDED=(
  "promtool prometheus"
  "wrk wrk"
  "ps procps"
  "curl curl"
  "python3 python3"
  "ip iproute2"
  "tc iproute2"
  "iptables iptables"
  "nsenter util-linux"
  "setpriv util-linux"
  "cc gcc"
)

missing=()
for line in "${NEEDED[@]}"; do
  read -r command package <<<"$line"
  if ! command -v "$command" >/dev/null 2>&1; then
    missing+=("$package")
  fi
done
if ((${#missing[@]} == 0)); then
  exit 0
fi

if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null 2>&1; then
  echo "setup-tests: missing; as root: apt-get install -y --no-install-recommends ${missing[*]}" >&2
  exit 1
fi

# The package prometheus comes with a service, which must not start: neither by a policy of this
# machine's own (kept where there is one) nor, without one, by the one that stands here meanwhile.
policy=/usr/sbin/policy-rc.d
if [[ ! -e $policy ]]; then
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod 755 "$policy"
  trap 'rm -f "$policy"' EXIT
fi

echo "setup-tests: installing ${missing[*]}" >&2
export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
install() {
  apt-get install -y -q --no-install-recommends "${missing[@]}" >&2
}
# The lists may be absent or older than what the archive still has.
if ! install; then
  apt-get update -q >&2
  install
fi
