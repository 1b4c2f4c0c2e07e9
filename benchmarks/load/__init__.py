"""The load generator: requests written to a file beforehand, sent by a small C program that is never the limit."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from tests.live import free_port

SOURCE = Path(__file__).with_name("load.c")


@dataclass(frozen=True, slots=True)
class Answers:
    """What came back. Latencies are in ms; in an open loop they count from when a request was due."""

    requests: int
    refused: int
    seconds: float
    p50: float
    p99: float

    @property
    def rate(self) -> float:
        """Requests a second."""
        return self.requests / self.seconds


@cache
def program() -> Path:
    """The compiled generator, made once for each version of its source."""
    digest = hashlib.sha256(SOURCE.read_bytes()).hexdigest()[:16]
    made = Path(tempfile.gettempdir()) / f"permille-load-{os.getuid()}-{digest}"
    if not made.exists():
        compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
        if compiler is None:
            raise SystemExit("The load generator is written in C: install a compiler, such as gcc.")
        draft = made.with_suffix(f".{os.getpid()}")
        subprocess.run([compiler, "-O2", "-o", draft, SOURCE], check=True)
        draft.rename(made)
    return made


def write(requests: Iterable[bytes], path: Path) -> int:
    """Write requests for the generator; how many they are."""
    count = 0
    with path.open("wb") as file:
        for request in requests:
            file.write(len(request).to_bytes(4, "little") + request)
            count += 1
    return count


def send(port: int, path: Path, *, connections: int, rate: float = 0) -> Answers:
    """Send a file's requests, each once: as fast as answers come, or `rate` a second whatever comes back."""
    words = [str(program()), "run", str(port), str(connections), str(rate), str(path)]
    done = subprocess.run(words, stdout=subprocess.PIPE, text=True, check=True)
    said = json.loads(done.stdout)
    right = said["by_status"].get("200", 0)
    return Answers(
        said["requests"], said["requests"] - right, said["seconds"], p50=said["p50"], p99=said["p99"]
    )


@contextmanager
def answering_at_once() -> Iterator[int]:
    """The port of a server that answers each request as soon as it was read."""
    port = free_port()
    server = subprocess.Popen([program(), "serve", str(port)])
    time.sleep(0.2)
    try:
        yield port
    finally:
        server.kill()
        server.wait()
