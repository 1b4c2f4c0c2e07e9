"""The load generator, a process of its own: keep-alive connections, requests built beforehand.

    python -m benchmarks.ingest.load PORT KEY CONNECTIONS BATCH EVENTS IDS PREFIX

Prints one JSON line: events acknowledged, seconds, latencies in ms.
"""

from __future__ import annotations

import asyncio
import json
import random
import sys
import time
import uuid
from typing import Any

import uvloop

MODELS = ("8K", "32K")
TYPES = ("input", "output")


class Connection(asyncio.Protocol):
    def __init__(self, load: Load) -> None:
        self.load = load
        self.buffer = b""
        self.sent_at = 0.0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport

    def send_next(self) -> None:
        request = self.load.next()
        if request is None:
            self.load.ended(self)
            return
        self.sent_at = time.perf_counter()
        self.transport.write(request)  # type: ignore[attr-defined]

    def data_received(self, data: bytes) -> None:
        self.buffer = self.buffer + data if self.buffer else data
        head = self.buffer.find(b"\r\n\r\n")
        if head < 0:
            return
        at = self.buffer.find(b"content-length: ", 0, head)
        length = int(self.buffer[at + 16 : self.buffer.find(b"\r\n", at)])
        if len(self.buffer) < head + 4 + length:
            return
        ok = self.buffer.startswith(b"HTTP/1.1 200")
        self.load.answered(time.perf_counter() - self.sent_at, ok, self.buffer)
        self.buffer = b""
        self.send_next()


class Load:
    def __init__(self, requests: list[bytes], batch: int) -> None:
        self.requests = iter(requests)
        self.batch = batch
        self.acknowledged = 0
        self.failed = 0
        self.latencies: list[float] = []
        self.open = 0
        self.done = asyncio.Event()

    def next(self) -> bytes | None:
        return next(self.requests, None)

    def answered(self, seconds: float, ok: bool, answer: bytes) -> None:
        self.latencies.append(seconds * 1_000)
        if ok:
            self.acknowledged += self.batch
        else:
            if not self.failed:
                print(answer[:500], file=sys.stderr)
            self.failed += 1

    def ended(self, connection: Connection) -> None:
        connection.transport.close()
        self.open -= 1
        if not self.open:
            self.done.set()


def build(count: int, batch: int, key: str, ids: str, prefix: str, subscriptions: int = 1_000) -> list[bytes]:
    chance = random.Random(prefix)
    head = (
        f"POST /api/v1/events{'' if batch == 1 else '/batch'} HTTP/1.1\r\nHost: localhost\r\n"
        f"Authorization: Bearer {key}\r\nContent-Type: application/json\r\nContent-Length: "
    )
    now = int(time.time())
    requests = []
    for first in range(0, count, batch):
        events = [
            {
                "transaction_id": f"{prefix}{first + i:012d}"
                if ids == "ordered"
                else uuid.UUID(int=chance.getrandbits(128)).hex,
                "external_subscription_id": f"sub-{chance.randrange(subscriptions)}",
                "code": "tokens",
                "timestamp": now - chance.randrange(3_600),
                "properties": {
                    "model": chance.choice(MODELS),
                    "type": chance.choice(TYPES),
                    "tokens": chance.randrange(1, 4_000),
                },
            }
            for i in range(batch)
        ]
        body = json.dumps({"event": events[0]} if batch == 1 else {"events": events}, separators=(",", ":"))
        requests.append(f"{head}{len(body)}\r\n\r\n{body}".encode())
    return requests


async def run(
    port: int, key: str, connections: int, batch: int, count: int, ids: str, prefix: str
) -> dict[str, Any]:
    load = Load(build(count, batch, key, ids, prefix), batch)
    loop = asyncio.get_running_loop()
    made = [
        await loop.create_connection(lambda: Connection(load), "127.0.0.1", port) for _ in range(connections)
    ]
    load.open = connections
    started = time.perf_counter()
    for _, protocol in made:
        protocol.send_next()
    await load.done.wait()
    seconds = time.perf_counter() - started
    latencies = sorted(load.latencies)
    return {
        "acknowledged": load.acknowledged,
        "failed": load.failed,
        "seconds": seconds,
        "p50": latencies[len(latencies) // 2],
        "p99": latencies[int(len(latencies) * 0.99)],
    }


if __name__ == "__main__":
    port, key, connections, batch, count, ids, prefix = sys.argv[1:]
    result = uvloop.run(run(int(port), key, int(connections), int(batch), int(count), ids, prefix))
    print(json.dumps(result))
