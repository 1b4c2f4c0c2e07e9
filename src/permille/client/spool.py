"""Usages on disk until Permille has them: a folder of append-only files, one a process.

A line is one usage. It is written before the application gets the provider's answer, by one `write` that
no crash of the process can take back. Each file is locked by the process that writes it; when that
process is gone, the next one that uses the folder sends what is left. Beside `NAME.jsonl`, `NAME.sent`
says how many bytes Permille has answered for; a file of which all was sent is deleted when its process ends.
"""

import errno
import fcntl
import itertools
import json
import os
import secrets
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_ROOM = 1 << 20
_FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class UsageNotKeptError(OSError):
    """The spool can't be written (a full disk, a folder without permission): make room, then call again."""


@dataclass(frozen=True)
class UnsentUsages:
    """Usages of one file that are to be sent next, and how far the file is sent once they are."""

    lines: list[bytes]
    sent_to: int


class SpoolFile:
    """One file of usages. `adopted` files are those of processes that are gone: nothing is added to them."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._sent_path = path.with_suffix(".sent")
        self._descriptor = descriptor
        self._write_lock = threading.Lock()

    @classmethod
    def make(cls, folder: Path) -> "SpoolFile":
        """Raises UsageNotKeptError."""
        path = folder / f"{os.getpid()}-{secrets.token_hex(8)}.jsonl"
        try:
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        except OSError as problem:
            raise _not_kept(folder, problem) from problem
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        return cls(path, descriptor)

    @classmethod
    def adopt(cls, path: Path) -> "SpoolFile | None":
        """The file of a process that is gone; None while its process is there."""
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(descriptor)
            return None
        if not path.exists():
            os.close(descriptor)
            return None
        return cls(path, descriptor)

    def append(self, usage: dict[str, Any]) -> None:
        """Raises UsageNotKeptError; a line that could only be written in part is taken out again."""
        line = json.dumps(usage, separators=(",", ":")).encode() + b"\n"
        with self._write_lock:
            end = os.fstat(self._descriptor).st_size
            try:
                written = os.write(self._descriptor, line)
            except OSError as problem:
                raise _not_kept(self.path, problem) from problem
            if written < len(line):
                os.ftruncate(self._descriptor, end)
                raise _not_kept(self.path, _FULL)

    def waiting(self, most: int) -> UnsentUsages | None:
        """Up to `most` usages that are not sent yet; None where there are none."""
        start = self._sent()
        with self.path.open("rb") as file:
            file.seek(start)
            lines = list(itertools.islice(file, most))
        if lines and not lines[-1].endswith(b"\n"):
            lines.pop()
        if not lines:
            return None
        return UnsentUsages(lines, start + sum(map(len, lines)))

    def mark_sent(self, sent_to: int) -> None:
        part = self._sent_path.with_suffix(".part")
        part.write_text(str(sent_to))
        part.replace(self._sent_path)

    def close(self) -> None:
        """Give the file up, and delete it when all of it was sent."""
        if self._sent() >= os.fstat(self._descriptor).st_size:
            self.path.unlink(missing_ok=True)
            self._sent_path.unlink(missing_ok=True)
        self.forget()

    def forget(self) -> None:
        """Give the file up as it is; another process that has it open keeps its lock."""
        os.close(self._descriptor)

    def _sent(self) -> int:
        try:
            return int(self._sent_path.read_text())
        except FileNotFoundError:
            return 0


class Spool:
    """A folder of usages: `append` to the file of this process, `to_send` from all whose process is gone too."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._own: SpoolFile | None = None
        self._lock = threading.Lock()
        self._adopted: dict[Path, SpoolFile] = {}
        os.register_at_fork(after_in_child=self._after_fork)

    def _after_fork(self) -> None:
        """The files of the parent are the parent's to write and to send."""
        for file in self._files():
            file.forget()
        self._lock, self._own, self._adopted = threading.Lock(), None, {}

    def ready(self) -> None:
        """Raises UsageNotKeptError where a usage could not be kept; asked before a call that costs money is made."""
        file = self._file()
        disk = os.statvfs(file.path.parent)
        if disk.f_bavail * disk.f_frsize < _ROOM:
            raise _not_kept(file.path, _FULL)

    def append(self, usage: dict[str, Any]) -> None:
        """Raises UsageNotKeptError."""
        self._file().append(usage)

    def to_send(self) -> Iterator[SpoolFile]:
        """The files that this process may send from: its own and those of processes that are gone."""
        own = self._file()
        yield own
        for path in sorted(self._folder.glob("*.jsonl")):
            if path == own.path:
                continue
            file = self._adopted.get(path) or SpoolFile.adopt(path)
            if file is not None:
                self._adopted[path] = file
                yield file

    def release(self, file: SpoolFile) -> None:
        """An adopted file of which all was sent."""
        if self._adopted.pop(file.path, None) is not None:
            file.close()

    def close(self) -> None:
        with self._lock:
            files = self._files()
            self._adopted, self._own = {}, None
        for file in files:
            file.close()

    def reject(self, line: bytes, reason: str) -> None:
        """Keep a usage that Permille refused, with its reason, in `rejected.ndjson`: it is not sent again."""
        refused = {"reason": reason, "usage": json.loads(line)}
        with (self._folder / "rejected.ndjson").open("ab") as file:
            file.write(json.dumps(refused).encode() + b"\n")

    def _file(self) -> SpoolFile:
        with self._lock:
            if self._own is None:
                self._own = SpoolFile.make(self._folder)
            return self._own

    def _files(self) -> list[SpoolFile]:
        return [*self._adopted.values(), *([self._own] if self._own else [])]


def _not_kept(path: Path, problem: OSError) -> UsageNotKeptError:
    return UsageNotKeptError(
        f"usage can't be kept in {path}: {problem}; make room or choose another folder (PERMILLE_SPOOL)"
    )
