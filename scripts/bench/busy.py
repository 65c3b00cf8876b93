"""Drives a node with all of its keys, and with ten of them, and compares the answers' latencies.

Called by busy.sh, which starts the node and imports the keys. First every key gets a request, so that
all are in use; then rounds in turn. Exit code 1 if an answer was not 200.
"""

import argparse
import os
import statistics
import subprocess
import sys

import driving

# Requests at a time: few, so that latencies show the node and not the queue in front of two cores.
CONNECTIONS = 4
# Seconds of one slice of the pass over all keys.
SLICE = 5

SCRIPT = """
local first, count, in_order = tonumber(os.getenv("BENCH_FIRST")), tonumber(os.getenv("BENCH_COUNT")), os.getenv("BENCH_ORDER") == "1"
local at = first - 1
math.randomseed(os.time())
request = function()
  at = in_order and at + 1 or first + math.random(0, count - 1)
  return wrk.format("POST", nil, {["Authorization"] = "Bearer busy-" .. at % count})
end
done = function(summary, latency)
  local errors = summary.errors
  io.write(string.format("BENCH %d %d %.0f %.0f\\n", summary.requests,
    errors.connect + errors.read + errors.write + errors.timeout + errors.status,
    latency:percentile(50), latency:percentile(99.9)))
end
"""


def drive(args, count, first=0, in_order=False, seconds=SLICE):
    """Requests, answers that were not 200, p50 and p99.9 in microseconds."""
    script = os.path.join(args.dir, "busy.lua")
    with open(script, "w", encoding="utf-8") as file:
        file.write(SCRIPT)
    env = {
        **os.environ,
        "BENCH_FIRST": str(first),
        "BENCH_COUNT": str(count),
        "BENCH_ORDER": "1" if in_order else "0",
    }
    command = ["wrk", "-t", "1", "-c", str(CONNECTIONS), "-d", f"{seconds}s", "--latency"]
    out = subprocess.run(
        [*command, "-s", script, f"{args.gateway}/v1/validate"],
        env=env,
        capture_output=True,
        text=True,
        check=True,
        timeout=seconds + 60,
    ).stdout
    line = next(line for line in out.splitlines() if line.startswith("BENCH "))
    return tuple(int(word) for word in line.split()[1:])


def main():
    parser = argparse.ArgumentParser()
    for name in ("keys", "pid", "rounds", "seconds"):
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in ("gateway", "dir"):
        parser.add_argument(f"--{name}", required=True)
    args = parser.parse_args()
    at_rest = driving.resident_kib(args.pid)
    wrong, asked = 0, 0
    while asked < args.keys:
        requests, missed, _, _ = drive(args, args.keys, first=asked, in_order=True)
        if not requests:
            sys.exit("the node answers nothing")
        asked, wrong = asked + requests, wrong + missed
    in_use = driving.resident_kib(args.pid)
    print(
        f"{args.keys} keys over HTTP: {at_rest // 1024} MiB resident before their first use, "
        f"{in_use // 1024} after, {(in_use - at_rest) * 1024 // args.keys} bytes a key more"
    )
    rows = {10: [], args.keys: []}
    for round_ in range(args.rounds):
        order = list(rows) if round_ % 2 else list(rows)[::-1]
        for count in order:
            requests, missed, p50, p999 = drive(args, count, seconds=args.seconds)
            wrong += missed
            rows[count].append((p50, p999, requests / args.seconds))
    medians = {n: [statistics.median(c) for c in zip(*row)] for n, row in rows.items()}
    for count, (p50, p999, rate) in medians.items():
        print(f"{count:>8} keys: p50 {p50:.0f} us, p99.9 {p999:.0f} us, {rate:.0f} answers/s")
    ratio = medians[args.keys][1] / medians[10][1]
    print(f"median of {args.rounds} rounds of {args.seconds} s, {CONNECTIONS} requests at a time; "
          f"p99.9 of all keys against ten: {ratio:.2f}")
    if wrong:
        sys.exit(f"{wrong} answers were not 200")


if __name__ == "__main__":
    main()
