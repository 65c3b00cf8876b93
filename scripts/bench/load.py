"""Creates keys over HTTP/1.1, many at a time, and prints the rate: for creates.sh and memory.sh.

Plain sockets and one event loop, so that the client's own cost stays small; each worker keeps one
connection and has one request in flight. Loopback only. Bounded by --count and --seconds, whichever
is first. Prints one line of JSON. Any answer but 201 is counted, and the first is shown.
"""

import argparse
import asyncio
import ipaddress
import itertools
import json
import sys
import time
from urllib.parse import urlsplit

BODY = b'{"name":"bench %d","scope":"read","owner":"bench"}'


class Load:
    def __init__(self, args):
        self.args = args
        self.numbers = itertools.count(args.first)
        self.end = time.monotonic() + args.seconds
        self.made = 0
        self.failed = 0
        self.shown = None
        self.micros = []

    def next(self):
        if time.monotonic() >= self.end:
            return None
        number = next(self.numbers)
        return number if number < self.args.first + self.args.count else None

    async def worker(self, url):
        reader = writer = None
        failures = 0
        while failures < 20 and (number := self.next()) is not None:
            try:
                if writer is None:
                    reader, writer = await asyncio.open_connection(url.hostname, url.port)
                status, body = await asyncio.wait_for(self.post(reader, writer, url, number), 20)
            except (OSError, EOFError, ValueError, asyncio.TimeoutError) as error:
                status, body = 0, repr(error).encode()
            if status == 201:
                self.made += 1
                failures = 0
                continue
            failures += 1
            self.failed += 1
            self.shown = self.shown or f"{status} {body[:300].decode(errors='replace')}"
            if writer is not None:
                writer.close()
            reader = writer = None
            # Pause before retrying a node that failed.
            await asyncio.sleep(0.05 * failures)

    async def post(self, reader, writer, url, number):
        body = BODY % number
        begun = time.perf_counter_ns()
        writer.write(
            b"POST /v1/keys HTTP/1.1\r\nHost: %b\r\nAuthorization: Bearer %b\r\n"
            b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n%b"
            % (url.netloc.encode(), self.args.token.encode(), len(body), body)
        )
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head.split(b" ", 2)[1])
        length = next(
            int(line.split(b":")[1])
            for line in head.split(b"\r\n")
            if line.lower().startswith(b"content-length:")
        )
        answer = await reader.readexactly(length)
        self.micros.append((time.perf_counter_ns() - begun) // 1000)
        return status, answer

    async def run(self):
        urls = [urlsplit(url) for url in self.args.url]
        for url in urls:
            if not ipaddress.ip_address(url.hostname).is_loopback:
                sys.exit("load.py: loopback addresses only")
        begun = time.monotonic()
        workers = [self.worker(urls[n % len(urls)]) for n in range(self.args.writers)]
        await asyncio.gather(*workers)
        return time.monotonic() - begun


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", action="append", required=True, help="an admin listener; may repeat")
    parser.add_argument("--token", required=True)
    parser.add_argument("--writers", type=int, default=1)
    parser.add_argument("--count", type=int, default=1_000_000)
    parser.add_argument("--first", type=int, default=0, help="number of the first key, for its name")
    parser.add_argument("--seconds", type=float, default=5)
    args = parser.parse_args()
    if not (1 <= args.writers <= 1024 and 1 <= args.count <= 2_000_000 and args.seconds <= 3600):
        sys.exit("load.py: at most 1024 writers, 2 000 000 keys, 3600 s")
    load = Load(args)
    took = asyncio.run(load.run())
    micros = sorted(load.micros)
    part = lambda p: micros[min(len(micros) - 1, int(len(micros) * p))] if micros else None
    print(
        json.dumps(
            {
                "writers": args.writers,
                "made": load.made,
                "failed": load.failed,
                "seconds": round(took, 3),
                "creates_per_s": round(load.made / took),
                "p50_us": part(0.5),
                "p99_us": part(0.99),
                "first_failure": load.shown,
            }
        )
    )


main()
