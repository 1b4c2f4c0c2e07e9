"""A relay in front of the server whose first answer is lost: its sender gets a 503 for what was taken."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import httpx2

from tests.live import PATIENCE_SECONDS


class Relay(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, target: str) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.client = httpx2.Client(base_url=target, timeout=PATIENCE_SECONDS)
        self.statuses: list[int] = []
        """What the server answered, in the order in which it did."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Relay

    def do_POST(self) -> None:
        names = ("authorization", "content-type", "content-encoding")
        headers = {name: self.headers[name] for name in names if self.headers[name]}
        answer = self.server.client.post(self.path, content=self._body(), headers=headers)
        is_lost = not self.server.statuses
        self.server.statuses.append(answer.status_code)
        content = b"" if is_lost else answer.content
        self.send_response(503 if is_lost else answer.status_code)
        self.send_header("content-type", answer.headers["content-type"])
        self.send_header("content-length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def _body(self) -> bytes:
        if self.headers["content-length"]:
            return self.rfile.read(int(self.headers["content-length"]))
        chunks = []
        while size := int(self.rfile.readline(), 16):
            chunks.append(self.rfile.read(size))
            self.rfile.readline()
        self.rfile.readline()
        return b"".join(chunks)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def relay(target: str) -> Iterator[Relay]:
    server = Relay(target)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield server
    finally:
        server.shutdown()
        server.server_close()
        server.client.close()
