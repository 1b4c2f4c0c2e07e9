"""Child processes that end with their parent, and the account that they run as."""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

_PR_SET_PDEATHSIG = 1
_libc = ctypes.CDLL(None) if sys.platform == "linux" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
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
