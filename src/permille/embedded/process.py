"""Child processes that end with their parent, and the account that they run as."""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, Any, NoReturn

from permille.core.record import Record

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


class Account(Record, kw_only=True):
    """A user of the operating system."""

    name: str
    uid: int
    gid: int


def account_of(uid: int) -> Account:
    """The account with this number. Raises KeyError when the system's user database has none."""
    entry = pwd.getpwuid(uid)
    return Account(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid)


def account_named(name: str) -> Account | None:
    """The account with this name, or None."""
    try:
        entry = pwd.getpwnam(name)
    except KeyError:
        return None
    return Account(name=entry.pw_name, uid=entry.pw_uid, gid=entry.pw_gid)


def identity(account: Account) -> dict[str, Any]:
    """The arguments of subprocess that run a command as the account; nothing when we are that account already."""
    if account.uid == os.geteuid():
        return {}
    return {"user": account.uid, "group": account.gid, "extra_groups": []}


def _end_with_parent(last_signal: signal.Signals) -> Callable[[], None]:
    """What the child runs between fork and exec: ask Linux for `last_signal` when the parent dies, however it dies."""
    parent = os.getpid()

    def prepare() -> None:
        if _libc is None:
            return
        _libc.prctl(_PR_SET_PDEATHSIG, int(last_signal), 0, 0, 0)
        if os.getppid() != parent:  # it died before we asked
            os._exit(1)

    return prepare


class Forked:
    """A child that was forked, with what `spawn` returns of a Popen."""

    def __init__(self, pid: int) -> None:
        self.pid = pid
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """None while it runs, its exit status when it has ended: below 0 the signal that ended it."""
        if self.returncode is None:
            pid, status = os.waitpid(self.pid, os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Its exit status, once it has ended. Raises TimeoutExpired."""
        until = None if timeout is None else time.monotonic() + timeout
        while (status := self.poll()) is None:
            if timeout is not None and until is not None and time.monotonic() >= until:
                raise subprocess.TimeoutExpired(f"process {self.pid}", timeout)
            time.sleep(_LOOK_SECONDS)
        return status

    def terminate(self) -> None:
        """Ask it to end."""
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)


def fork(work: Callable[[], int], *, last_signal: signal.Signals) -> Forked:
    """Start a child that does `work` with all that this process has loaded, and ends with its result.

    As of `spawn`, it gets `last_signal` when the thread that called this dies and leads a session of its own, and no signal
    to this process is one to the child. This process has one thread, and has closed, or `work` closes, what is not the
    child's: connections, locks, files.
    """
    prepare = _end_with_parent(last_signal)
    sys.stdout.flush()
    sys.stderr.flush()
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, _TO_STOP)
    try:
        pid = os.fork()
        if pid == 0:
            _be_child(work, prepare)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, blocked)
    return Forked(pid)


def _be_child(work: Callable[[], int], prepare: Callable[[], None]) -> NoReturn:
    """Never return: what is above on the stack is the parent's to end."""
    status = 1
    try:
        os.setsid()
        prepare()
        signal.set_wakeup_fd(-1)
        for number in (*_TO_STOP, signal.SIGCHLD):
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _TO_STOP)
        null = os.open(os.devnull, os.O_RDONLY)
        os.dup2(null, 0)
        os.close(null)
        status = work()
    except BaseException:  # noqa: BLE001 whatever it is ends this process, with its trace
        traceback.print_exc()
    finally:
        with suppress(Exception):
            sys.stdout.flush()
            sys.stderr.flush()
        os._exit(status)


def name_process(command: str) -> None:
    """Show another command line to those who list processes, as far as there is room and /proc."""
    try:
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return
    begin, end = int(fields[_ARGUMENTS_BEGIN]), int(fields[_ARGUMENTS_END])
    room = end - begin - 1
    if begin and room > 0:
        text = command.encode()[:room].replace(b" ", b"\0")
        ctypes.memset(begin, 0, room + 1)
        ctypes.memmove(begin, text, len(text))


_ARGUMENTS_BEGIN, _ARGUMENTS_END = 45, 46
"""Places of the fields 48 and 49 of /proc/PID/stat after its name."""
_TO_STOP = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_LOOK_SECONDS = 0.02


def spawn(
    command: Sequence[str | Path],
    *,
    last_signal: signal.Signals,
    account: Account | None = None,
    env: Mapping[str, str] | None = None,
    output: IO[bytes] | int | None = None,
    folder: Path | None = None,
) -> subprocess.Popen[bytes]:
    """Start a child that gets `last_signal` when the thread that called this dies, kill -9 included (Linux only).

    It is the leader of a session and process group of its own, so that a Ctrl-C at the terminal reaches
    only the parent, which then stops its children in order.
    """
    return subprocess.Popen(
        [str(part) for part in command],
        stdin=subprocess.DEVNULL,
        stdout=output,
        stderr=output,
        cwd=folder,
        env=None if env is None else dict(env),
        start_new_session=True,
        # It runs after the change of user, which would clear the request, and only calls prctl and getppid.
        preexec_fn=_end_with_parent(last_signal),  # noqa: PLW1509
        **({} if account is None else identity(account)),
    )
