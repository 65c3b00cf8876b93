#!/usr/bin/env bash
# What an answer costs, beside the other ways to get one: processor time of all servers per answer.
#
# First each server alone: a bare axum handler, a cluster of three nodes of Fluxgate (key, scope and
# an exact limit over all nodes) over HTTP/1.1 and HTTP/2, throttlecrab-server (one GCRA limit on one
# node, without keys), and Redis with the usual script that counts and expires, one command at a time
# and pipelined. Then the same through nginx, with one
# upstream behind it: nginx alone, with `auth_request` to Fluxgate, and with Lua that looks the key up
# and counts in Redis.
#
#   scripts/bench/peers.sh [ROUNDS=3] [SECONDS=4] [CONNECTIONS=32] [PORT=27601]
#
# Needs what scripts/setup-tests.sh installs. throttlecrab-server is left out with a message unless it
# is in the PATH or named by THROTTLECRAB. Loopback only; ends what it started, by itself, after
# ROUNDS x SECONDS x 10 and half a minute.
set -euo pipefail
cd "$(dirname "$0")/../.."
source scripts/lib/demo.sh

ROUNDS=${1:-3}
SPAN=${2:-4}
CONNECTIONS=${3:-32}
PORT=${4:-27601}
TARGET=${CARGO_TARGET_DIR:-target}
LUA=/usr/lib/nginx/modules/ngx_http_lua_module.so
((ROUNDS <= 10 && SPAN <= 8 && CONNECTIONS <= 256)) || { echo "at most 10 rounds, 8 s, 256 connections" >&2; exit 2; }
for tool in wrk curl python3 nginx redis-server redis-benchmark; do
  command -v "$tool" >/dev/null || { echo "$tool is missing: scripts/setup-tests.sh" >&2; exit 1; }
done
[[ -e $LUA ]] || { echo "nginx's Lua module is missing: scripts/setup-tests.sh" >&2; exit 1; }
CRAB=${THROTTLECRAB:-}
if [[ -z $CRAB ]] && command -v throttlecrab-server >/dev/null; then
  CRAB=throttlecrab-server
fi
[[ -n $CRAB ]] || echo "throttlecrab-server is left out: cargo install --locked throttlecrab-server (needs Debian's protobuf-compiler)"
cargo build -q --locked --release -p fluxgate-bench --bins
BIN=$(fluxgate_bin)

demo_start "$BIN" --nodes 3 --port "$PORT"
BARE="127.0.0.1:$((PORT + 50))"
server_start "$DEMO_DIR/bare.log" "$TARGET/release/bare-axum" "$BARE"
BARE_PID=$SERVER_PID
CRAB_PORT=$((PORT + 60)) CRAB_PID=0
if [[ -n $CRAB ]]; then
  server_start "$DEMO_DIR/crab.log" "$CRAB" --http --http-host 127.0.0.1 --http-port "$CRAB_PORT"
  CRAB_PID=$SERVER_PID
fi
REDIS_PORT=$((PORT + 61))
server_start "$DEMO_DIR/redis.log" redis-server --port "$REDIS_PORT" --bind 127.0.0.1 --save "" \
  --appendonly no --dir "$DEMO_DIR"
REDIS_PID=$SERVER_PID

GATEWAY=$(demo_field "d['nodes'][0]['gateway']")
NGINX_PORT=$((PORT + 62))
cat >"$DEMO_DIR/nginx.conf" <<CONF
load_module /usr/lib/nginx/modules/ndk_http_module.so;
load_module $LUA;
$([[ $(id -u) != 0 ]] || echo "user root;")
worker_processes 2;
daemon off;
pid $DEMO_DIR/nginx.pid;
error_log $DEMO_DIR/nginx.log;
events { worker_connections 1024; }
http {
  access_log off;
  client_body_temp_path $DEMO_DIR/body;
  proxy_temp_path $DEMO_DIR/proxy;
  fastcgi_temp_path $DEMO_DIR/fastcgi;
  uwsgi_temp_path $DEMO_DIR/uwsgi;
  scgi_temp_path $DEMO_DIR/scgi;
  keepalive_requests 1000000;
  lua_package_path "/usr/share/lua/5.1/?.lua;;";
  upstream application { server 127.0.0.1:$((NGINX_PORT + 3)); keepalive 64; keepalive_requests 1000000; }
  upstream fluxgate { server ${GATEWAY#http://}; keepalive 64; keepalive_requests 1000000; }
  proxy_http_version 1.1;
  proxy_set_header Connection "";
  server { listen 127.0.0.1:$((NGINX_PORT + 3)); location / { return 200 "{}\n"; } }
  server { listen 127.0.0.1:$NGINX_PORT; location / { proxy_pass http://application; } }
  server {
    listen 127.0.0.1:$((NGINX_PORT + 1));
    location / { auth_request /fluxgate; proxy_pass http://application; }
    location = /fluxgate {
      internal;
      proxy_pass http://fluxgate/v1/authorize/nginx/write;
      proxy_pass_request_body off;
      proxy_set_header Content-Length "";
      proxy_set_header Connection "";
    }
  }
  server {
    listen 127.0.0.1:$((NGINX_PORT + 2));
    location / {
      access_by_lua_file $DEMO_DIR/limit.lua;
      proxy_pass http://application;
    }
  }
}
CONF
python3 scripts/bench/peers.py --rounds "$ROUNDS" --seconds "$SPAN" --connections "$CONNECTIONS" \
  --gateway "$GATEWAY" --admin "$(demo_field "d['nodes'][0]['admin']")" --pid "$DEMO_PID" \
  --bare "http://$BARE" --bare-pid "$BARE_PID" --crab "http://127.0.0.1:$CRAB_PORT" \
  --crab-pid "$CRAB_PID" --redis-port "$REDIS_PORT" --redis-pid "$REDIS_PID" \
  --nginx-port "$NGINX_PORT" --nginx-conf "$DEMO_DIR/nginx.conf" --dir "$DEMO_DIR" \
  <<<"$(demo_field "d['operator_token']")"
