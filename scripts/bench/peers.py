"""Drives servers that answer "may this request pass" in turn, and compares what an answer costs.

Called by peers.sh, which starts all but nginx. Reads the operator token from standard input. Exit code
1 if any answer was not an admission.
"""

import argparse
import contextlib
import csv
import hashlib
import io
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import time

import driving

# The usual script: counts, and the first request begins the window.
COUNT = """
local used = redis.call('INCR', KEYS[1])
if used == 1 then redis.call('PEXPIRE', KEYS[1], ARGV[2]) end
return used <= tonumber(ARGV[1]) and 1 or 0
"""

# The same, with the look-up of a key before: -1 if it is unknown.
LOOK_UP = """
local limit = redis.call('HGET', KEYS[1], 'limit')
if not limit then return -1 end
local used = redis.call('INCR', KEYS[2])
if used == 1 then redis.call('PEXPIRE', KEYS[2], ARGV[1]) end
return used <= tonumber(limit) and 1 or 0
"""

LUA = """
local redis = require("nginx.redis"):new()
redis:set_timeout(1000)
if not redis:connect("127.0.0.1", {port}) then return ngx.exit(503) end
local key = ngx.var.http_authorization or ""
local passed = redis:evalsha("{sha}", 2, "key:" .. key, "count:" .. key, 60000)
redis:set_keepalive(10000, 64)
if passed == 1 then return end
if passed == -1 then return ngx.exit(401) end
if passed == 0 then return ngx.exit(429) end
return ngx.exit(503)
"""

class Server:
    """One way to an answer: what to drive, and the processes that work for it."""

    def __init__(self, name, decides, drive, pids, base=None):
        self.name, self.decides, self.drive, self.pids = name, decides, drive, pids
        # The server that its cost is compared with; the first of its table without one.
        self.base = base


def wrk(args, url, headers, method="POST", body=""):
    """A drive by wrk: answers, seconds, answers that were no admission, p50 and p99 in microseconds."""

    def drive(seconds):
        requests, took, broken, status, p50, p99 = driving.wrk(
            url, args.dir, args.connections, seconds, method, headers, body
        )
        return requests, took, broken + status, p50, p99

    return drive


def h2load(args, url, headers):
    """The same over HTTP/2."""

    def drive(seconds):
        words = driving.http2_words(args.connections)
        driven = driving.h2load(url, args.dir, seconds, "POST", headers, 200, *words)
        requests, wrong, p50, p99 = driven
        return requests, seconds, wrong, p50, p99

    return drive


def redis_benchmark(args, sha, *words):
    """The same by redis-benchmark, which takes a number of calls instead of a time."""
    state = {"rate": 20_000}

    def drive(seconds):
        calls = max(1_000, int(state["rate"] * seconds))
        command = ["redis-benchmark", "-h", "127.0.0.1", "-p", str(args.redis_port), "--csv"]
        command += ["-n", str(calls), *words, "EVALSHA", sha, "1", "count:bench"]
        begun = time.monotonic()
        out = subprocess.run(
            [*command, str(10**12), "60000"], capture_output=True, text=True, check=True, timeout=60
        ).stdout
        took = time.monotonic() - begun
        row = next(csv.DictReader(io.StringIO(out)))
        state["rate"] = calls / took
        micros = lambda name: float(row[name]) * 1_000
        return calls, took, 0, micros("p50_latency_ms"), micros("p99_latency_ms")

    return drive


def redis(args, *words):
    """One command; its answer as text, without the type."""
    command = f"*{len(words)}\r\n" + "".join(f"${len(word)}\r\n{word}\r\n" for word in words)
    with socket.create_connection(("127.0.0.1", args.redis_port), timeout=5) as link:
        link.sendall(command.encode())
        answer = link.makefile("rb")
        first = answer.readline().decode().strip()
        return answer.readline().decode().strip() if first.startswith("$") else first[1:]


@contextlib.contextmanager
def nginx(args, sha):
    with open(os.path.join(args.dir, "limit.lua"), "w", encoding="utf-8") as lua:
        lua.write(LUA.format(port=args.redis_port, sha=sha))
    log = os.path.join(args.dir, "nginx.log")
    process = subprocess.Popen(["nginx", "-p", args.dir, "-e", log, "-c", args.nginx_conf])
    try:
        until = time.monotonic() + 10
        while True:
            try:
                socket.create_connection(("127.0.0.1", args.nginx_port), timeout=1).close()
                break
            except OSError:
                if process.poll() is not None or time.monotonic() > until:
                    sys.exit("nginx does not listen:\n" + open(log, encoding="utf-8").read())
                time.sleep(0.05)
        yield process.pid
        with open(log, encoding="utf-8") as lines:
            sys.stderr.writelines(lines.readlines()[:3])
    finally:
        process.terminate()
        process.wait(timeout=10)


def measure(servers, args):
    """Medians for each server: processor time of an answer, answers a second, p50, p99."""
    runs, wrong = {server.name: [] for server in servers}, 0
    for round_ in range(args.rounds + 1):
        # In alternating order, so that a drift of the machine affects all alike. The first round
        # warms caches and connections.
        for server in servers if round_ % 2 else servers[::-1]:
            before = driving.seconds_used(server.pids)
            answers, took, broken, p50, p99 = server.drive(args.seconds if round_ else 1)
            used = driving.seconds_used(server.pids) - before
            if round_:
                # Requests that were under way when the run ended.
                wrong += max(0, broken - args.connections)
                row = (used / max(1, answers) * 1e6, answers / took, p50, p99)
                runs[server.name].append(row)
    return {name: [statistics.median(c) for c in zip(*rows)] for name, rows in runs.items()}, wrong


def table(title, servers, args):
    medians, wrong = measure(servers, args)
    print(f"\n{title}")
    print(f"{'':26} {'cpu us':>8} {'ratio':>6} {'answers/s':>10} {'p50 us':>8} {'p99 us':>8}  decides")
    for server in servers:
        cpu, rate, p50, p99 = medians[server.name]
        base = medians[server.base or servers[0].name][0]
        line = f"{server.name:26} {cpu:8.2f} {cpu / base:6.2f} {rate:10.0f} {p50:8.0f} {p99:8.0f}"
        print(f"{line}  {server.decides}", flush=True)
    if wrong:
        print(f"  void: {wrong} answers were no admissions")
    return wrong


def main():
    parser = argparse.ArgumentParser()
    numbers = ("rounds", "seconds", "connections", "pid", "bare-pid", "crab-pid", "redis-pid")
    for name in (*numbers, "redis-port", "nginx-port"):
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in ("gateway", "admin", "bare", "crab", "nginx-conf", "dir"):
        parser.add_argument(f"--{name}", required=True)
    args = parser.parse_args()
    token = sys.stdin.read().strip()

    # Limits that no run exhausts: every answer is an admission.
    limits = [{"name": "requests", "tokens": 10**9, "period": "60s"}]
    key = driving.create_key(args.admin, token, limits=limits)
    bearer = {"Authorization": f"Bearer {key}"}
    redis(args, "SCRIPT", "LOAD", COUNT)
    redis(args, "SCRIPT", "LOAD", LOOK_UP)
    redis(args, "HSET", f"key:Bearer {key}", "limit", str(10**12))
    count, look_up = (hashlib.sha1(text.encode()).hexdigest() for text in (COUNT, LOOK_UP))

    print(
        f"median of {args.rounds} rounds of {args.seconds} s, {args.connections} requests at a time, "
        "clients on the same machine"
    )
    validate = "/v1/validate"
    alone = [
        Server("bare axum", "nothing", wrk(args, args.bare + validate, bearer), [args.bare_pid]),
        Server(
            "Fluxgate, three nodes",
            "key, scope, an exact limit over all nodes",
            wrk(args, args.gateway + validate, bearer),
            [args.pid],
        ),
    ]
    if shutil.which("h2load"):
        bare, few = "bare axum, HTTP/2", f"{driving.HTTP2_CONNECTIONS} connections"
        drive = h2load(args, args.bare + validate, bearer)
        alone.append(Server(bare, f"nothing; {few}", drive, [args.bare_pid], bare))
        drive = h2load(args, args.gateway + validate, bearer)
        alone.append(Server("Fluxgate, HTTP/2", f"the same; {few}", drive, [args.pid], bare))
    if args.crab_pid:
        bucket = {"max_burst": 10**9, "count_per_period": 10**9, "period": 60, "quantity": 1}
        body = json.dumps({"key": "bench", **bucket})
        kind = {"Content-Type": "application/json"}
        drive = wrk(args, f"{args.crab}/throttle", kind, body=body)
        alone.append(
            Server("throttlecrab-server", "one GCRA limit on one node", drive, [args.crab_pid])
        )
    drive = redis_benchmark(args, count, "-c", str(args.connections))
    alone.append(Server("Redis EVALSHA", "one count on one node, no HTTP", drive, [args.redis_pid]))
    few = driving.HTTP2_CONNECTIONS
    drive = redis_benchmark(
        args, count, "-c", str(few), "-P", str(max(1, args.connections // few))
    )
    alone.append(
        Server("Redis, pipelined", f"the same; {few} connections", drive, [args.redis_pid])
    )
    wrong = table("each server alone", alone, args)

    with nginx(args, look_up) as master:
        at = lambda place: f"http://127.0.0.1:{args.nginx_port + place}/"
        through = [
            Server("nginx", "nothing", wrk(args, at(0), bearer, "GET"), [master]),
            Server(
                "nginx, Fluxgate",
                "auth_request to one of three nodes",
                wrk(args, at(1), bearer, "GET"),
                [master, args.pid],
            ),
            Server(
                "nginx, Lua with Redis",
                "key and count in one script on one node",
                wrk(args, at(2), bearer, "GET"),
                [master, args.redis_pid],
            ),
        ]
        wrong += table("through nginx, all processes together", through, args)
    sys.exit(1 if wrong else 0)


main()
