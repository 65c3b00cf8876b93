"""Drives a cluster at half of its rate while keys come and go. Called by hour.sh, which says what for.

The requests are sent by `steady` (proof/bench), which measures them; this process is the
administrator. Exit code 1 if the hour was not as it has to be.
"""

import argparse
import collections
import json
import os
import subprocess
import sys
import threading
import time
import urllib.error
import urllib.request

import driving

# New keys each second, and for how long each is used, and kept once it is revoked, seconds.
CREATED_PER_S = 5
USED_S = 60
KEPT_S = 60
# How long requests may be under way with a key that is not used any more.
UNDER_WAY_S = 5
# A p99.9 above this is a fault, unless the machine took a thousandth of the interval, which delays so
# many requests: then, above this and what it took.
P999_US_MAX = 5_000
TAKEN_US_MIN = 10_000
# Requests of the first minute warm caches, and the history of the keys begins.
WARM_MINUTES = 1
# What a line of the client covers, and how long the watchers may be silent, seconds.
INTERVAL_S = 10
WATCHER_TIMEOUT_S = 15
# Real-time priorities: the watchers see what the machine takes from anything below them.
WATCHER_PRIORITY, CLIENT_PRIORITY = 50, 40
# Entries of the audit trail that are made before: it is full then (`caps::AUDIT_ENTRIES_MAX`), and what
# grows after that is not the trail.
AUDITED_BEFORE = 50_000
AUDIT_ROUNDS_MAX = 24
# Memory may differ by this much between the middle and the end: the kernel counts in pages, and
# allocators keep some.
GROWTH_MAX = 0.03
AMPLE = [{"name": "requests", "tokens": 1_000_000_000, "period": "60s"}]


class Admin:
    """The operator, at each node in turn."""

    def __init__(self, demo):
        self.nodes = demo["nodes"]
        self.token = demo["operator_token"]
        self.turn = 0

    def call(self, method, path, body=None):
        self.turn += 1
        url = self.nodes[self.turn % len(self.nodes)]["admin"] + path
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        data = json.dumps(body).encode() if body is not None else None
        request = urllib.request.Request(url, method=method, headers=headers, data=data)
        with urllib.request.urlopen(request, timeout=15) as answer:
            return json.load(answer)

    def accepting(self, key):
        """How many nodes take the key for a good one, with tokens left or without."""
        accepted = 0
        for node in self.nodes:
            url = node["gateway"] + "/v1/validate"
            request = urllib.request.Request(url, method="POST", headers={"X-API-Key": key})
            try:
                with urllib.request.urlopen(request, timeout=15):
                    accepted += 1
            except urllib.error.HTTPError as error:
                accepted += error.code == 429
        return accepted


class Churn(threading.Thread):
    """Creates, revokes and erases keys, and tells the client which of them to use."""

    def __init__(self, admin, client):
        super().__init__(daemon=True)
        self.admin, self.client = admin, client
        self.used, self.left, self.kept = (collections.deque() for _ in range(3))
        self.made = self.accepted_after = 0
        self.failed = None
        self.stop = threading.Event()

    def say(self, line):
        self.client.stdin.write(line + "\n")
        self.client.stdin.flush()

    def step(self, now):
        # Every other key has the default limit, which it uses up.
        limits = {"limits": AMPLE} if self.made % 2 else {}
        made = self.admin.call("POST", "/v1/keys", {"name": f"hour {self.made}", "scope": "read", **limits})
        self.made += 1
        self.used.append((now, made["key"], made["id"]))
        self.say("+" + made["key"])
        if now - self.used[0][0] > USED_S:
            _, key, id_ = self.used.popleft()
            self.say("-" + key)
            self.left.append((now, key, id_))
        if self.left and now - self.left[0][0] > UNDER_WAY_S:
            _, key, id_ = self.left.popleft()
            self.admin.call("DELETE", f"/v1/keys/{id_}")
            self.accepted_after += self.admin.accepting(key)
            self.kept.append((now, id_))
        if self.kept and now - self.kept[0][0] > KEPT_S:
            self.admin.call("DELETE", f"/v1/keys/{self.kept.popleft()[1]}?erase=true")

    def run(self):
        due = time.monotonic()
        try:
            while not self.stop.is_set():
                self.step(time.monotonic())
                due += 1 / CREATED_PER_S
                self.stop.wait(max(0, due - time.monotonic()))
        except (OSError, ValueError, KeyError) as error:
            self.failed = repr(error)


def above_others(priority):
    """The beginning of a command that runs above all ordinary programs; nothing without the right to.

    The client needs it: the administrator's calls have its processor for some milliseconds each, and
    a request that is sent late for that would count as a late answer.
    """
    above = ["chrt", "--fifo", str(priority)]
    refused = subprocess.run([*above, "true"], stderr=subprocess.DEVNULL, check=False).returncode
    return [] if refused else above


class Machine:
    """What the machine itself took, as seen by a program above all others on each processor."""

    def __init__(self, program):
        above = above_others(WATCHER_PRIORITY)
        self.taken = collections.Counter()
        # The last second that each watcher has told of.
        self.told = {}
        self.changed = threading.Condition()
        self.watchers = []
        if not above:
            print("no right to run above other programs (chrt): pauses of the machine count as faults")
            return
        for cpu in range(os.cpu_count()):
            command = [*above, "taskset", "--cpu-list", str(cpu), program]
            watcher = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
            self.watchers.append(watcher)
            self.told[cpu] = 0
            threading.Thread(target=self.follow, args=(cpu, watcher), daemon=True).start()

    def follow(self, cpu, watcher):
        for line in watcher.stdout:
            second, taken_us = map(int, line.split())
            with self.changed:
                # All processors of a machine that stands still lose the same time.
                self.taken[second] = max(self.taken[second], taken_us)
                self.told[cpu] = second
                self.changed.notify_all()

    def taken_us(self, begin, end):
        """What it took between two moments, microseconds."""
        with self.changed:
            told = lambda: all(second >= int(end) for second in self.told.values())
            if not self.changed.wait_for(told, WATCHER_TIMEOUT_S):
                sys.exit(f"the watchers of the machine are silent: {self.told}")
            return sum(self.taken[second] for second in range(int(begin), int(end) + 1))

    def stop(self):
        for watcher in self.watchers:
            watcher.kill()
            watcher.wait()


def full_rate(args, admin, gateways):
    key = admin.call("POST", "/v1/keys", {"name": "full rate", "scope": "read", "limits": AMPLE})["key"]
    headers = {"Authorization": f"Bearer {key}"}
    requests, took, *_ = driving.wrk(
        gateways[0] + "/v1/validate", args.dir, args.connections, 5, "POST", headers
    )
    return requests / took


def fill_audit(args, admin):
    """Fills the audit trail with changes of one key."""
    key = admin.call("POST", "/v1/keys", {"name": "audited", "scope": "read"})["id"]
    headers = {"Authorization": f"Bearer {admin.token}", "Content-Type": "application/json"}
    url = f"{admin.nodes[0]['admin']}/v1/keys/{key}"
    left, round_ = AUDITED_BEFORE, 0
    while left > 0:
        round_ += 1
        if round_ > AUDIT_ROUNDS_MAX:
            sys.exit(f"{left} entries of the audit trail are missing")
        body = json.dumps({"name": f"audited {round_}"})
        left -= driving.wrk(url, args.dir, args.connections, 5, "PATCH", headers, body)[0]


def main():
    parser = argparse.ArgumentParser()
    for name in ("minutes", "connections", "pid"):
        parser.add_argument(f"--{name}", type=int, required=True)
    for name in ("steady", "machine", "dir", "demo"):
        parser.add_argument(f"--{name}", required=True)
    args = parser.parse_args()
    with open(args.demo, encoding="utf-8") as demo:
        demo = json.loads(demo.readline())
    admin = Admin(demo)
    gateways = [node["gateway"] for node in demo["nodes"]]
    fill_audit(args, admin)
    rate = full_rate(args, admin, gateways) / 2
    print(f"{rate:.0f} requests a second, half of what wrk gets; {CREATED_PER_S} keys a second come and go")
    addresses = [gateway.removeprefix("http://") for gateway in gateways]
    client = subprocess.Popen(
        [*above_others(CLIENT_PRIORITY), args.steady, f"{rate:.0f}", str(args.connections), "/v1/validate", *addresses],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    machine = Machine(args.machine)
    churn = Churn(admin, client)
    churn.start()
    faults, memory, intervals = [], [], 0
    try:
        print(f"{'minute':>6} {'answers':>9} {'429':>8} {'p50 us':>7} {'p99.9 us':>8} {'machine us':>10} {'MiB':>5}")
        for minute in range(args.minutes):
            lines = []
            while len(lines) < 6 and (line := client.stdout.readline()):
                lines.append({**json.loads(line), "read_at": time.time()})
            if len(lines) < 6:
                faults.append(f"the client ended: {client.wait(30)}")
                break
            counts = collections.Counter()
            for line in lines:
                counts.update(line["statuses"])
                intervals += 1
                taken = line["taken_us"] = machine.taken_us(line["read_at"] - INTERVAL_S, line["read_at"])
                allowed = P999_US_MAX + (taken if taken >= TAKEN_US_MIN else 0)
                if minute >= WARM_MINUTES and line["p999_us"] > allowed:
                    faults.append(
                        f"minute {minute}: p99.9 {line['p999_us']} us, the machine took {taken} us"
                    )
                if line["broken"] or set(line["statuses"]) - {"200", "429"}:
                    faults.append(f"minute {minute}: {line}")
            memory.append(driving.resident_kib(args.pid) // 1024)
            worst = max(lines, key=lambda line: line["p999_us"])
            p50 = sorted(line["p50_us"] for line in lines)[3]
            print(
                f"{minute:6} {sum(counts.values()):9} {counts['429']:8} {p50:7} {worst['p999_us']:8} "
                f"{worst['taken_us']:10} {memory[-1]:5}",
                flush=True,
            )
    finally:
        machine.stop()
        churn.stop.set()
        churn.join(30)
        client.stdin.close()
        try:
            client.wait(30)
        except subprocess.TimeoutExpired:
            client.kill()
            client.wait()
    if not memory:
        sys.exit("\n".join(faults))
    if churn.failed:
        faults.append(f"the administrator stopped: {churn.failed}")
    if churn.accepted_after:
        faults.append(f"{churn.accepted_after} requests with a revoked key were accepted")
    middle, end = memory[len(memory) // 2], memory[-1]
    if end > middle * (1 + GROWTH_MAX) + 1:
        faults.append(f"memory grew from {middle} MiB in the middle to {end} MiB at the end")
    print(f"{intervals} intervals, {churn.made} keys created, {len(faults)} faults; memory {middle} MiB in the middle, {end} MiB at the end")
    for fault in faults[:20]:
        print(f"  {fault}")
    sys.exit(1 if faults else 0)


if __name__ == "__main__":
    main()
