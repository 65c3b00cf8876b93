"""What the benches over HTTP share: processor time of servers, keys to drive them with, and wrk."""

import json
import os
import subprocess
import urllib.request

HZ = os.sysconf("SC_CLK_TCK")

SCRIPT = """
wrk.method = os.getenv("BENCH_METHOD")
for line in os.getenv("BENCH_HEADERS"):gmatch("[^\\n]+") do
  local name, value = line:match("^(.-): (.*)$")
  wrk.headers[name] = value
end
if os.getenv("BENCH_BODY") ~= "" then wrk.body = os.getenv("BENCH_BODY") end
done = function(summary, latency)
  local errors = summary.errors
  local broken = errors.connect + errors.read + errors.write + errors.timeout
  io.write(string.format("BENCH %d %d %d %d %.0f %.0f\\n", summary.requests, summary.duration, broken,
    errors.status, latency:percentile(50), latency:percentile(99)))
end
"""


def seconds_used(pids):
    """Processor time of these processes and of their children, seconds."""
    used = 0
    for pid in pids:
        with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as children:
            family = [pid, *children.read().split()]
        for member in family:
            with open(f"/proc/{member}/stat", encoding="utf-8") as stat:
                fields = stat.read().rsplit(")", 1)[1].split()
            used += int(fields[11]) + int(fields[12])
    return used / HZ


def resident_kib(pid):
    """Resident memory of a process."""
    with open(f"/proc/{pid}/status", encoding="utf-8") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS:"))


def create_key(admin, token, **fields):
    """Creates a key; returns it."""
    body = {"name": "Production Sync", "owner": "user_42", "scope": "write", **fields}
    request = urllib.request.Request(
        f"{admin}/v1/keys",
        method="POST",
        headers={"Authorization": f"Bearer {token}", "Content-Type": "application/json"},
        data=json.dumps(body).encode(),
    )
    with urllib.request.urlopen(request, timeout=15) as answer:
        return json.load(answer)["key"]


def wrk(url, folder, connections, seconds, method, headers, body=""):
    """Drives a server: requests, seconds, requests without an answer, answers above 399, p50 and p99
    in microseconds."""
    script = os.path.join(folder, "wrk.lua")
    with open(script, "w", encoding="utf-8") as file:
        file.write(SCRIPT)
    env = {
        **os.environ,
        "BENCH_METHOD": method,
        "BENCH_HEADERS": "\n".join(f"{name}: {value}" for name, value in headers.items()),
        "BENCH_BODY": body,
    }
    command = ["wrk", "-t", "1", "-c", str(connections), "-d", f"{seconds}s", "--latency"]
    out = subprocess.run(
        [*command, "-s", script, url], env=env, capture_output=True, text=True, check=True
    ).stdout
    line = next(line for line in out.splitlines() if line.startswith("BENCH "))
    requests, micros, broken, status, p50, p99 = (int(word) for word in line.split()[1:])
    return requests, micros / 1e6, broken, status, p50, p99


# Connections over HTTP/2, which share all requests at a time.
HTTP2_CONNECTIONS = 4


def h2load(url, folder, seconds, method, headers, status, *words):
    """Drives a server with h2load: requests, answers with another status, p50 and p99 in microseconds."""
    log = os.path.join(folder, "h2load.log")
    if os.path.exists(log):
        os.remove(log)
    command = ["h2load", "-t", "1", "-D", str(seconds), f"--log-file={log}", "-H", f":method: {method}"]
    for name, value in headers.items():
        command += ["-H", f"{name.lower()}: {value}"]
    subprocess.run([*command, *words, url], capture_output=True, text=True, check=True)
    with open(log, encoding="utf-8") as lines:
        rows = [line.split() for line in lines]
    took = sorted(int(row[2]) for row in rows)
    wrong = sum(int(row[1]) != status for row in rows)
    at = lambda part: took[min(len(took) - 1, int(len(took) * part))] if took else 0
    return len(took), wrong, at(0.5), at(0.99)


def http2_words(requests_at_a_time):
    """How h2load keeps so many requests at a time over HTTP/2."""
    streams = max(1, requests_at_a_time // HTTP2_CONNECTIONS)
    return ["-c", str(HTTP2_CONNECTIONS), "-m", str(streams)]
