"""The `permille up` of a data directory: where it answers, how to start it in the background, and how to stop it."""

from __future__ import annotations

import errno
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import msgspec

from permille.config import Config

STATE = "server.json"
LOG = "server.log"
READY_SECONDS = 120.0
STOP_SECONDS = 120.0
ASK_SECONDS = 0.1
LOG_TAIL_LINES = 15
EVERY_ADDRESS = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - recognized here, not listened on


class UnusableError(Exception):
    """A command can't do what it is asked for; the message says why and what to do next."""


class Running(msgspec.Struct, frozen=True, kw_only=True):
    """A `permille up` that runs. `started` is its start in the kernel's ticks, so that a reused number is noticed."""

    pid: int
    started: int
    host: str
    port: int

    @property
    def url(self) -> str:
        """Where this machine reaches it."""
        host = EVERY_ADDRESS.get(self.host, self.host)
        return f"http://[{host}]:{self.port}" if ":" in host else f"http://{host}:{self.port}"


def _started(pid: int) -> int | None:
    """When the process started, in the kernel's ticks; None when it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return None if fields[0] == "Z" else int(fields[19])


def record(config: Config) -> None:
    """Write down that this process runs on the data directory, if there is one."""
    started = _started(os.getpid())
    if started is None or not config.data_dir.is_dir():
        return
    state = Running(pid=os.getpid(), started=started, host=config.host, port=config.port)
    fresh = config.data_dir / f".{STATE}.new"
    fresh.write_bytes(msgspec.json.encode(state))
    fresh.replace(config.data_dir / STATE)


def forget(data_dir: Path) -> None:
    """Take back what `record` wrote, if this process wrote it."""
    state = _recorded(data_dir)
    if state is not None and state.pid == os.getpid():
        (data_dir / STATE).unlink(missing_ok=True)


def _recorded(data_dir: Path) -> Running | None:
    try:
        return msgspec.json.decode((data_dir / STATE).read_bytes(), type=Running)
    except (OSError, msgspec.DecodeError):
        return None


def running(data_dir: Path) -> Running | None:
    """The `permille up` that runs on the data directory."""
    state = _recorded(data_dir)
    return state if state is not None and _started(state.pid) == state.started else None


def was_recorded(config: Config) -> bool:
    """Whether a `permille up` on the same data and port has ended without taking its record back: it was killed."""
    state = _recorded(config.data_dir)
    return state is not None and state.port == config.port and _started(state.pid) != state.started


def refuse_second(data_dir: Path) -> None:
    """Raises UnusableError while a `permille up` runs on the data directory."""
    found = running(data_dir)
    if found is not None:
        folder = data_dir.absolute()
        raise UnusableError(
            f"Another Permille (process {found.pid}) uses {folder} and serves {found.url}. "
            f"Stop it with: permille stop --data-dir {folder}"
        )


def is_data_dir(folder: Path) -> bool:
    """Whether a `permille up` has kept an embedded database there."""
    return (folder / "database" / "cluster").exists()


def _near(folder: Path) -> list[Path]:
    """Data directories one level above or below: what a mistyped --data-dir probably means."""
    try:
        below = sorted(child for child in folder.iterdir() if child.is_dir()) if folder.is_dir() else []
    except PermissionError:
        below = []
    return [path for path in (folder.parent, *below) if is_data_dir(path)]


def check_data_dir(data_dir: Path, *, is_new: bool) -> None:
    """Refuse to make a second database beside one that was probably meant. Raises UnusableError."""
    folder = data_dir.absolute()
    if is_data_dir(folder) or is_new:
        return
    for path in _near(folder):
        raise UnusableError(
            f"There is no database in {folder}, but there is one in {path}. Use it with --data-dir {path}, "
            "or pass --new to make another one here."
        )


def no_database(data_dir: Path) -> UnusableError:
    """The error for a command that needs the embedded database of a folder without one."""
    folder = data_dir.absolute()
    near = next(iter(_near(folder)), None)
    todo = (
        f"There is one in {near}: pass --data-dir {near}."
        if near
        else "Pass the --data-dir of your `permille up`, or set PERMILLE_DATABASE_URL."
    )
    return UnusableError(f"There is no Permille database in {folder}. {todo}")


def why_taken(host: str, port: int) -> OSError | None:
    """None when the port can be listened on, else the system's error."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            return error
    return None


def cannot_listen(host: str, port: int, error: OSError) -> str:
    """The sentence for a port that can't be listened on."""
    todo = (
        "Choose another with --port, or stop that program"
        if error.errno == errno.EADDRINUSE
        else "Choose another"
    )
    reason = "another program listens there" if error.errno == errno.EADDRINUSE else error.strerror
    return f"Can't listen on {host} port {port}: {reason}. {todo}."


def health(url: str) -> str | None:
    """The status that a server reports, e.g. ok; None when nobody answers."""
    import httpx2

    try:
        answer = httpx2.get(f"{url}/health", timeout=5)
        return str(answer.json()["status"])
    except (httpx2.TransportError, ValueError, KeyError, TypeError):
        return None


def _command(config: Config) -> Sequence[str]:
    return (
        sys.executable, "-m", "permille", "up", "--new",
        "--host", config.host, "--port", str(config.port), "--data-dir", str(config.data_dir.absolute()),
    )  # fmt: skip


def start_in_background(config: Config, *, environment: Mapping[str, str] | None = None) -> Running:
    """Start `permille up` and wait until it is ready. Raises UnusableError, which quotes its log.

    `environment` is added to this process's.
    """
    folder = config.data_dir.absolute()
    refuse_second(folder)
    if config.port == 0:
        raise UnusableError("In the background Permille needs a port of its own: pass --port.")
    busy = why_taken(config.host, config.port)
    if busy is not None:
        raise UnusableError(cannot_listen(config.host, config.port, busy))
    folder.mkdir(parents=True, exist_ok=True, mode=0o711)
    log = folder / LOG
    before = log.stat().st_size if log.exists() else 0
    with log.open("ab") as output:
        server = subprocess.Popen(
            _command(config),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env={**os.environ, **(environment or {})},
            start_new_session=True,
        )
    return _await_ready(server, folder, log, before)


def _await_ready(server: subprocess.Popen[bytes], folder: Path, log: Path, before: int) -> Running:
    until = time.monotonic() + READY_SECONDS
    while time.monotonic() < until:
        if server.poll() is not None:
            raise UnusableError(f"Permille did not start. Its log, {log}, ends with:\n{_tail(log, before)}")
        found = running(folder)
        if found is not None and health(found.url) == "ok":
            return found
        time.sleep(ASK_SECONDS)
    raise UnusableError(
        f"Permille is not ready after {READY_SECONDS:.0f} s and goes on starting. "
        f"Its log, {log}, ends with:\n{_tail(log, before)}"
    )


def _tail(log: Path, begin: int) -> str:
    with log.open("rb") as file:
        file.seek(begin)
        lines = file.read().decode(errors="replace").splitlines()
    return "\n".join(lines[-LOG_TAIL_LINES:])


def stop(data_dir: Path) -> Running | None:
    """Stop the `permille up` of the data directory and wait until it has ended; None when none runs.

    Raises UnusableError when it does not end in time.
    """
    found = running(data_dir)
    if found is None:
        return None
    os.kill(found.pid, signal.SIGTERM)
    until = time.monotonic() + STOP_SECONDS
    while _started(found.pid) == found.started:
        if time.monotonic() >= until:
            raise UnusableError(
                f"Permille (process {found.pid}) has not ended after {STOP_SECONDS:.0f} s. Look at its log in {data_dir}."
            )
        time.sleep(ASK_SECONDS)
    return found
