"""A real `permille up` in a folder of its own, for tests that speak to it as the world does."""

from __future__ import annotations

import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx2

from permille.embedded.postgres import erase

ADMIN_KEY = "test-admin"
PATIENCE_SECONDS = 300
"""For what happens as soon as the machine comes to it: no test is about how busy that is."""

PATIENT = {
    f"PERMILLE_{limit}_TIMEOUT_SECONDS": str(PATIENCE_SECONDS) for limit in ("STATEMENT", "LOCK", "IDLE")
}
"""Limits of a server that refuses nothing because the machine is busy."""

PLAIN = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
"""For clients that speak plain HTTP: a context of its own reads all certificates of the machine, for 20 ms."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(holds: Callable[[], bool], seconds: float = PATIENCE_SECONDS) -> None:
    """Wait until it holds; a server that doesn't answer yet is no failure."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        try:
            if holds():
                return
        except httpx2.TransportError:
            pass
        time.sleep(0.1)
    raise AssertionError(f"not within {seconds} s")


def is_healthy(url: str, path: str = "/health") -> bool:
    """Whether a server answers, for those who ask again and again."""
    try:
        return httpx2.get(f"{url}{path}", timeout=5, verify=PLAIN).status_code == 200
    except httpx2.TransportError:
        return False


def _tasks_of(pid: int) -> list[Path]:
    """Where each thread of a process lists its children; none of a process that is gone."""
    try:
        return list(Path(f"/proc/{pid}/task").glob("*/children"))
    except OSError:
        return []


def _of_process(file: Path) -> str:
    """What the file under /proc says; nothing when the process has ended."""
    try:
        return file.read_bytes().replace(b"\0", b" ").decode()
    except (FileNotFoundError, ProcessLookupError):
        return ""


class AsksAgain(httpx2.HTTPTransport):
    """Sends a GET again that is answered 503, as every client may."""

    def handle_request(self, request: httpx2.Request) -> httpx2.Response:
        until = time.monotonic() + PATIENCE_SECONDS
        while (answer := super().handle_request(request)).status_code == 503:
            if request.method != "GET" or time.monotonic() > until:
                break
            answer.close()
            time.sleep(0.2)
        return answer


class LiveServer:
    def __init__(self, folder: Path, limits: dict[str, str] = PATIENT) -> None:
        self.folder = folder
        self.limits = limits
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        command = [sys.executable, "-m", "permille", "up", "--port", str(self.port)]
        with (self.folder / "server.log").open("ab") as log:
            self.process = subprocess.Popen(
                [*command, "--data-dir", str(self.folder / "data")],
                env={
                    **os.environ,
                    "PERMILLE_ADMIN_KEY": ADMIN_KEY,
                    "PERMILLE_ALLOW_ROOT": "true",
                    **self.limits,
                },
                stdout=log,
                stderr=log,
            )

    def wait_ready(self, seconds: float = PATIENCE_SECONDS) -> None:
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if self.process is None or self.process.poll() is not None:
                raise AssertionError(f"the server ended: {self.log()}")
            if self.healthy():
                return
            time.sleep(0.1)
        raise AssertionError(f"the server was not ready in time: {self.log()}")

    def healthy(self) -> bool:
        return is_healthy(self.url)

    def log(self) -> str:
        return (self.folder / "server.log").read_text(errors="replace")[-3_000:]

    def children(self) -> dict[int, str]:
        """pid -> command line of every process below `permille up`."""
        assert self.process is not None
        found: dict[int, str] = {}
        parents = [self.process.pid]
        while parents:
            parent = parents.pop()
            for task in _tasks_of(parent):
                for pid in map(int, _of_process(task).split()):
                    if command := _of_process(Path(f"/proc/{pid}/cmdline")):
                        found[pid] = command
                        parents.append(pid)
        return found

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_SECONDS)

    def organization(self, **fields: Any) -> dict[str, Any]:
        body = {"organization": {"name": "Test AI", **fields}}
        headers = {"Authorization": f"Bearer {ADMIN_KEY}"}
        answer = httpx2.post(
            f"{self.url}/admin/v1/organizations",
            json=body,
            headers=headers,
            timeout=PATIENCE_SECONDS,
            verify=PLAIN,
        )
        assert answer.status_code == 200, answer.text
        return answer.json()["organization"]

    def client(self, key: str, *, asks_again: bool = False) -> httpx2.Client:
        """For a key. With `asks_again` a read is sent again while the database is not to be had."""
        return httpx2.Client(
            base_url=f"{self.url}/api/v1",
            headers={"Authorization": f"Bearer {key}"},
            timeout=PATIENCE_SECONDS,
            verify=PLAIN,
            transport=AsksAgain(verify=PLAIN) if asks_again else None,
        )


def move_clock(client: httpx2.Client, now: str) -> None:
    """Move a test clock, and again while it is on its way (202) or can't be moved at the moment (503)."""

    def has_arrived() -> bool:
        answer = client.put("/test_clock", json={"test_clock": {"now": now}})
        assert answer.status_code in {200, 202, 503}, answer.text
        return answer.status_code == 200

    wait_until(has_arrived)


@contextmanager
def live_server(folder: Path, limits: dict[str, str] = PATIENT) -> Iterator[LiveServer]:
    server = LiveServer(folder, limits)
    server.start()
    try:
        server.wait_ready()
        yield server
    finally:
        if server.process is not None and server.process.poll() is None:
            server.stop()
        erase(folder / "data")
