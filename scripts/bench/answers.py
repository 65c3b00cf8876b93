"""Drives a gateway listener and a bare server in turn, and compares processor time per request.

Called by http.sh, which starts both. Reads the operator token from standard input. Exit code 1 if any
answer was not the one that its line is about.
"""

import argparse
import json
import shutil
import statistics
import sys

import driving


class Case:
    """One kind of answer: the same bytes from both servers."""

    def __init__(self, name, path, bare, status, key, method="POST", body="", http2=False):
        self.name, self.path, self.bare, self.status = name, path, bare, status
        self.key, self.method, self.body, self.http2 = key, method, body, http2


def wrk(case, url, seconds, args):
    """Requests, seconds, requests without the expected answer, p50 and p99 in microseconds."""
    headers = {"Authorization": f"Bearer {case.key}"}
    if case.body:
        headers["Content-Type"] = "application/json"
    requests, took, broken, status, p50, p99 = driving.wrk(
        url, args.dir, args.connections, seconds, case.method, headers, case.body
    )
    # wrk counts every status above 399 as an error.
    expected = requests if case.status > 399 else 0
    return requests, took, broken + abs(status - expected), p50, p99


def h2load(case, url, seconds, args, rate=0):
    """As `wrk`, over HTTP/2, or at a fixed rate over HTTP/1.1."""
    if rate:
        each = max(1, round(rate / args.connections))
        words = ["--h1", "-c", str(args.connections), "--rps", str(each)]
    else:
        words = driving.http2_words(args.connections)
    headers = {"Authorization": f"Bearer {case.key}"}
    requests, wrong, p50, p99 = driving.h2load(
        url, args.dir, seconds, case.method, headers, case.status, *words
    )
    return requests, seconds, wrong, p50, p99


def cases(args, token):
    # A limit that no run exhausts, one that is exhausted at once, and a key that does not exist.
    key = lambda tokens, period: driving.create_key(
        args.admin, token, limits=[{"name": "requests", "tokens": tokens, "period": period}]
    )
    ample = key(10**9, "60s")
    spent = key(1, "600s")
    unknown = ample[: ample.rindex("_")] + "_" + "x" * 49
    validate = "/v1/validate"
    admin = json.dumps({"scope": "admin"})
    batch = json.dumps({"requests": [{"key": ample}] * 100})
    yield Case("validate", validate, validate, 200, ample)
    yield Case("401", validate, "/401", 401, unknown)
    yield Case("403", validate, "/403", 403, ample, body=admin)
    yield Case("429", validate, "/429", 429, spent)
    yield Case("authorize", "/v1/authorize/write", "/v1/authorize/write", 200, ample, "GET")
    if shutil.which("h2load"):
        yield Case("http2", validate, validate, 200, ample, http2=True)
    yield Case("batch", "/v1/validate/batch", None, 200, ample, body=batch)


def measure(case, args):
    servers = [("fluxgate", args.gateway + case.path, args.pid)]
    if case.bare:
        servers.append(("bare", args.bare + case.bare, args.bare_pid))
    drive = h2load if case.http2 else wrk
    runs, wrong = {}, 0
    for round_ in range(args.rounds + 1):
        # In alternating order, so that a drift of the machine affects both alike. The first round
        # warms caches and connections.
        for name, url, pid in servers if round_ % 2 else servers[::-1]:
            before = driving.seconds_used([pid])
            requests, took, missed, p50, p99 = drive(case, url, args.seconds if round_ else 1, args)
            used = driving.seconds_used([pid]) - before
            # Requests that were under way when the run ended, or began a new window.
            allowed = args.connections + (1 if case.status == 429 else 0)
            if round_:
                wrong += max(0, missed - allowed)
                row = (used / max(1, requests) * 1e6, requests / took, p50, p99)
                runs.setdefault(name, []).append(row)
    medians = {name: [statistics.median(c) for c in zip(*rows)] for name, rows in runs.items()}
    return medians, wrong


def main():
    parser = argparse.ArgumentParser()
    for name in ("rounds", "seconds", "connections", "pid", "bare-pid", "nodes"):
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in ("gateway", "admin", "bare", "dir", "only"):
        parser.add_argument(f"--{name}", required=True)
    args = parser.parse_args()
    token = sys.stdin.read().strip()
    only = set(args.only.split(",")) - {""}
    print(
        f"median of {args.rounds} rounds of {args.seconds} s, {args.connections} requests at a time, "
        f"{args.nodes} node(s), client on the same machine"
    )
    print(f"{'answer':10} {'cpu us':>8} {'bare us':>8} {'ratio':>6} {'answers/s':>10} {'p99 us':>8}")
    admitted, void = None, 0
    for case in cases(args, token):
        if only and case.name not in only:
            continue
        medians, wrong = measure(case, args)
        (cpu, rate, _, p99), bare = medians["fluxgate"], medians.get("bare")
        if case.name == "batch":
            print(f"{'batch':10} {cpu / 100:8.2f} {'':8} {'':6} {rate * 100:10.0f} {'':8}  (each of 100)")
        else:
            ratio = cpu / bare[0]
            print(f"{case.name:10} {cpu:8.2f} {bare[0]:8.2f} {ratio:6.2f} {rate:10.0f} {p99:8.0f}")
        if wrong:
            void += 1
            print(f"  void: {wrong} answers were not {case.status}")
        if case.name == "validate":
            admitted = (cpu, bare, rate, p99, case)
    if admitted:
        cpu, bare, rate, p99, case = admitted
        if shutil.which("h2load"):
            half = h2load(case, args.gateway + case.path, args.seconds, args, rate=rate / 2)
            print(f"{'half rate':10} {'':8} {'':8} {'':6} {half[0] / half[1]:10.0f} {half[4]:8.0f}")
        print(f"\n  fluxgate  {rate:.0f} requests/s, {cpu:.2f} us of processor time each, p99 {p99:.0f} us")
        print(f"  bare axum {bare[1]:.0f} requests/s, {bare[0]:.2f} us of processor time each, p99 {bare[3]:.0f} us")
        print(f"  ratio of processor time {cpu / bare[0]:.2f}, of throughput {rate / bare[1]:.2f}")
    sys.exit(1 if void else 0)


main()
