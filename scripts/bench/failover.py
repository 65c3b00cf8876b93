"""Kills the leader of three nodes again and again while keys are created: for failover.sh.

Starts the nodes itself, each as a process, and ends them by process id. Bounded by --rounds and by
a deadline for every wait. Loopback only.
"""

import argparse
import http.client
import json
import os
import signal
import statistics
import subprocess
import sys
import threading
import time

TOKEN = "operator-token-of-the-bench"
SECRET = "cluster-secret-of-the-bench"
WAIT_S = 40
# Longer than a lease: whatever the last leader granted has ended.
CALM_S = 4


class Node:
    def __init__(self, binary, work, number, ports):
        self.binary, self.work, self.number, self.ports = binary, work, number, ports
        self.process = None
        members = ", ".join(
            f'{{ id = {id}, peer = "127.0.0.1:{at[2]}" }}' for id, at in enumerate(ports, 1)
        )
        gateway, admin, peer = ports[number - 1]
        self.admin = admin
        self.gateway = gateway
        self.config = os.path.join(work, f"node{number}.toml")
        with open(self.config, "w", encoding="utf-8") as file:
            file.write(
                f'[cluster]\nsecret = "{SECRET}"\nmembers = [{members}]\n'
                f'[node]\nid = {number}\ndata_dir = "{work}/node{number}"\n'
                f'[gateway]\nlisten = "127.0.0.1:{gateway}"\n'
                f'[admin]\nlisten = "127.0.0.1:{admin}"\noperator_token = "{TOKEN}"\n'
                f'[peer]\nlisten = "127.0.0.1:{peer}"\n'
            )

    def start(self):
        log = open(os.path.join(self.work, f"node{self.number}.log"), "ab")
        self.process = subprocess.Popen(
            [self.binary, "serve", "--config", self.config],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )
        log.close()

    def end(self, how):
        if self.process and self.process.poll() is None:
            self.process.send_signal(how)
            try:
                self.process.wait(15)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def call(self, method, path, body=None, port=None, timeout=15):
        connection = http.client.HTTPConnection("127.0.0.1", port or self.admin, timeout=timeout)
        try:
            headers = {"Authorization": f"Bearer {TOKEN}", "Content-Type": "application/json"}
            connection.request(method, path, body, headers)
            answer = connection.getresponse()
            return answer.status, answer.read()
        finally:
            connection.close()

    def is_ready(self):
        try:
            return self.call("GET", "/readyz", port=self.gateway, timeout=2)[0] == 200
        except (OSError, http.client.HTTPException):
            return False


class Writers:
    """Create keys at a node, one after another, and note every answer."""

    def __init__(self, nodes, each):
        self.stop = threading.Event()
        self.lock = threading.Lock()
        self.answers = []
        self.threads = [
            threading.Thread(target=self.run, args=(node,)) for node in nodes for _ in range(each)
        ]
        for thread in self.threads:
            thread.start()

    def run(self, node):
        while not self.stop.is_set():
            begun = time.monotonic()
            try:
                status, body = node.call("POST", "/v1/keys", '{"name":"bench","scope":"read"}')
            except (OSError, http.client.HTTPException):
                status = 0
            ended = time.monotonic()
            if status == 201:
                waited = json.loads(body).get("waited_ms", 0) / 1000
                with self.lock:
                    self.answers.append((begun, ended, waited))
            else:
                time.sleep(0.005)

    def after(self, moment):
        with self.lock:
            return [answer for answer in self.answers if answer[0] >= moment]

    def end(self):
        self.stop.set()
        for thread in self.threads:
            thread.join()


def wait(what, condition):
    until = time.monotonic() + WAIT_S
    while time.monotonic() < until:
        found = condition()
        if found:
            return found
        time.sleep(0.01)
    sys.exit(f"failover.py: waited {WAIT_S} s without success for {what}")


def leader_of(nodes):
    for node in nodes:
        try:
            status, body = node.call("GET", "/v1/cluster", timeout=2)
        except (OSError, http.client.HTTPException):
            continue
        leader = json.loads(body).get("leader") if status == 200 else None
        if leader:
            return nodes[leader - 1]
    return None


def one_round(nodes):
    wait("all nodes", lambda: all(node.is_ready() for node in nodes))
    time.sleep(CALM_S)
    victim = wait("a leader", lambda: leader_of(nodes))
    victim.process.send_signal(signal.SIGKILL)
    killed = time.monotonic()
    # Those that write all the time wait for writes that they began before.
    probes = Writers([node for node in nodes if node is not victim], 1)
    try:
        wait("a write", lambda: probes.after(killed))
    finally:
        probes.end()
    answers = probes.after(killed)
    committed = min(ended - waited for _, ended, waited in answers) - killed
    answered = min(ended for _, ended, _ in answers) - killed
    victim.process.wait()
    victim.start()
    return committed, answered


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("binary")
    parser.add_argument("work")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--port", type=int, default=27901)
    parser.add_argument("--writers", type=int, default=2, help="at each node")
    args = parser.parse_args()
    ports = [tuple(args.port + 3 * node + kind for kind in range(3)) for node in range(3)]
    nodes = [Node(args.binary, args.work, number, ports) for number in (1, 2, 3)]
    rounds = []
    writers = None
    try:
        for node in nodes:
            node.start()
        wait("all nodes", lambda: all(node.is_ready() for node in nodes))
        writers = Writers(nodes, args.writers)
        for number in range(1, args.rounds + 1):
            committed, answered = one_round(nodes)
            rounds.append((committed, answered))
            print(f"round {number}: committed {committed:.2f} s, answered {answered:.2f} s", flush=True)
    finally:
        if writers:
            writers.end()
        for node in nodes:
            node.end(signal.SIGTERM)
    print(f"\nleader killed under load, {len(rounds)} rounds:")
    for what, times in zip(("committed", "answered"), zip(*rounds)):
        print(f"  {what}: median {statistics.median(times):.2f} s, at most {max(times):.2f} s")


signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
main()
