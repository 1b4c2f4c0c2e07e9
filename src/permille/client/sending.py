"""Sends what is in the spool to Permille, in batches, from a thread of its own."""

import logging
import os
import threading
import time
from contextlib import closing
from http import HTTPStatus
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from urllib.parse import urlsplit

from permille.client.spool import Spool, SpoolFile, UnsentUsages

_LOG = logging.getLogger("permille.client")
_BATCH = 100
_PAUSE, _LONGEST_PAUSE = 0.5, 30.0
_TIMEOUT = 15.0
_REFUSED = frozenset([400, 413, 422])


class RefusedError(Exception):
    """Permille can't take these usages; the reason is its answer."""


class Server:
    """Raises ValueError for an address that is not http or https."""

    def __init__(self, url: str, api_key: str) -> None:
        address = urlsplit(url)
        if address.scheme not in {"http", "https"} or not address.hostname:
            raise ValueError(f"PERMILLE_URL must be like https://billing.example.com, not {url!r}")
        self._host, self._port, self._tls = address.hostname, address.port, address.scheme == "https"
        self._path = address.path.rstrip("/") + "/api/v1/llm/usage"
        self._headers = {
            "Authorization": f"Bearer {api_key}",
            "Content-Type": "application/json",
            "User-Agent": "permille.client",
        }

    def send(self, lines: list[bytes]) -> None:
        """Raises RefusedError for usages that can't be taken as they are, OSError where it may work later."""
        body = b'{"usages":[' + b",".join(line.strip() for line in lines) + b"]}"
        with closing(self._connection()) as connection:
            try:
                connection.request("POST", self._path, body, self._headers)
                answer = connection.getresponse()
                reason = answer.read().decode(errors="replace")[:4096]
            except HTTPException as problem:
                raise OSError(f"no answer of HTTP: {problem!r}") from problem
        if answer.status in _REFUSED:
            raise RefusedError(reason)
        if answer.status != HTTPStatus.OK:
            raise OSError(f"{answer.status} {reason}")

    def _connection(self) -> HTTPConnection:
        kind = HTTPSConnection if self._tls else HTTPConnection
        return kind(self._host, self._port, timeout=_TIMEOUT)


class Sender:
    """Empties a spool. Starts its thread with the first usage, in each process that has one."""

    def __init__(self, spool: Spool, server: Server) -> None:
        self._spool = spool
        self._server = server
        self._wake = threading.Event()
        self._stopped = threading.Event()
        self._turn = threading.Lock()
        self._thread: threading.Thread | None = None
        os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        self._turn = threading.Lock()
        self._thread = None

    def wake(self) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name="permille-sender", daemon=True)
            self._thread.start()
        self._wake.set()

    def flush(self, timeout: float) -> bool:
        """Send what waits now; False where some of it is still waiting when the time is over."""
        until = time.monotonic() + timeout
        while True:
            try:
                self._send_all()
            except OSError as problem:
                _LOG.warning("usage waits in the spool: %s", problem)
            else:
                return True
            if time.monotonic() >= until:
                return False
            time.sleep(min(_PAUSE, max(0.0, until - time.monotonic())))

    def stop(self) -> None:
        self._stopped.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(_TIMEOUT)

    def _run(self) -> None:
        pause = _PAUSE
        while not self._stopped.is_set():
            self._wake.wait(_LONGEST_PAUSE)
            self._wake.clear()
            try:
                self._send_all()
                pause = _PAUSE
            except Exception as problem:  # noqa: BLE001 - a thread that ends would leave usages unsent
                _LOG.warning("usage waits in the spool, next try in %.0f s: %s", pause, problem)
                self._stopped.wait(pause)
                pause = min(pause * 2, _LONGEST_PAUSE)
                self._wake.set()

    def _send_all(self) -> None:
        """Send until nothing waits. Raises OSError where that has to be tried again."""
        with self._turn:
            for file in list(self._spool.to_send()):
                while waiting := file.waiting(_BATCH):
                    self._send(file, waiting)
                self._spool.release(file)

    def _send(self, file: SpoolFile, waiting: UnsentUsages) -> None:
        """Send a batch; where Permille refuses it, each usage alone, so that one can't hold up the others."""
        try:
            self._server.send(waiting.lines)
        except RefusedError as refused:
            if len(waiting.lines) > 1:
                sent_to = waiting.sent_to - sum(map(len, waiting.lines))
                for line in waiting.lines:
                    sent_to += len(line)
                    self._send(file, UnsentUsages([line], sent_to))
                return
            _LOG.error("Permille refused a usage, see rejected.ndjson: %s", refused)
            self._spool.reject(waiting.lines[0], str(refused))
        file.mark_sent(waiting.sent_to)
