"""`permille up`: the database, the API and the background work as one tree of processes that run and end together.

Our own programs are forked from the supervisor, which loads what they need while the database starts; they share that memory.
Some are started only when another one asks for them, and end by themselves when they have had nothing to do. What crashes is started again, after a growing pause. SIGTERM, SIGINT and SIGHUP stop the tree in order: first who
takes requests, then who works, then the database. If the supervisor itself is killed, the kernel signals its
children (see process.spawn), so the next start finds the port and the data free.
"""

from __future__ import annotations

import errno
import gc
import importlib
import logging
import os
import runpy
import secrets
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import psycopg

from permille import logs
from permille.config import CALLS_SOCKET, READER_SOCKET, Config
from permille.core.record import Record, replace
from permille.database.migrate import UnableToMigrateError, migrate
from permille.embedded import running
from permille.embedded.calls import READING, READING_BEHIND, WORKING, Calls
from permille.embedded.postgres import EmbeddedPostgres, StartGivenUpError, UnableToStartError
from permille.embedded.process import Forked, fork, name_process, spawn
from permille.embedded.unprivileged import account_of_programs, checked, library_path, python_for
from permille.signals import Signals

STOP_SECONDS = 30.0  # for a program to finish what it is doing
PORT_SECONDS = 15.0  # for the programs of a killed supervisor to let go of the port
STEADY_SECONDS = 60.0  # a program that ran for so long has not failed to start
PAUSE_SECONDS_MIN = 0.25
PAUSE_SECONDS_MAX = 30.0

log = logging.getLogger(__name__)


class PortTakenError(Exception):
    """Another program listens on the port."""


CANNOT_START = (
    UnableToStartError,
    UnableToMigrateError,
    PortTakenError,
    running.UnusableError,
    psycopg.OperationalError,
)


class Program(Record, kw_only=True):
    """A command that is kept running."""

    name: str
    command: tuple[str, ...]
    needed_for: str | None = None
    """What the others ask for when they need it. None for a program that always runs."""

    @property
    def is_ours(self) -> bool:
        """Whether it is a command of this very installation and interpreter, which is forked.

        Only on Linux: elsewhere libraries of the system may not survive a fork.
        """
        return sys.platform == "linux" and self.command[: len(OURS)] == OURS

    def run_by(self, python: str | None) -> Program:
        """The same with another interpreter, if its command begins with ours."""
        if python is None or self.command[0] != sys.executable:
            return self
        return replace(self, command=(python, *self.command[1:]))


class Loading:
    """Our programs' modules are loaded by a thread of its own, while the database starts.

    The programs are forked then: they start at once and share what was loaded. Nearly all that loading makes stays, so
    searching it for cycles, again and again, would be a tenth of it.
    """

    def __init__(self, kept: Sequence[Program]) -> None:
        is_needed = any(program.is_ours for program in kept)
        self._thread = threading.Thread(target=self._load, name="loading") if is_needed else None
        if self._thread is not None:
            gc.disable()
            self._thread.start()

    @staticmethod
    def _load() -> None:
        for module in LOADED:
            importlib.import_module(module)

    def end(self) -> None:
        """Wait for it. No search for cycles copies what is shared from now on."""
        if self._thread is not None:
            self._thread.join()
            gc.freeze()
            gc.enable()


OURS = (sys.executable, "-m", "permille")
LOADED = (
    "permille.server",
    "permille.worker",
    "permille.reader",
    # What these would load once they run.
    "procrastinate.worker",
    "uvicorn.lifespan.on",
    "uvicorn.loops.uvloop",
)


def programs(config: Config) -> tuple[Program, ...]:
    """What `permille up` runs beside the database, in the order in which it is stopped."""
    permille = OURS
    return (
        Program(
            name="serve", command=(*permille, "serve", "--host", config.host, "--port", str(config.port))
        ),
        *(
            [
                Program(name="read", command=(*permille, "read"), needed_for=READING),
                Program(
                    name="read behind", command=(*permille, "read", "--behind"), needed_for=READING_BEHIND
                ),
            ]
            if has_reader(config)
            else []
        ),
        Program(name="work 1", command=(*permille, "work")),
        *(_further_worker(n) for n in range(2, config.workers + 1)),
    )


def _further_worker(number: int) -> Program:
    """A worker beside the first one: while there is much to do, or always where nobody can ask for it."""
    name, command = f"work {number}", (*OURS, "work")
    if not can_be_asked():
        return Program(name=name, command=command)
    return Program(name=name, command=(*command, "--until-idle"), needed_for=WORKING)


def can_be_asked() -> bool:
    """Whether programs can ask for others. Sockets without a file are Linux's."""
    return sys.platform == "linux"


def has_reader(config: Config) -> bool:
    """Whether heavy reads have a process of their own."""
    return config.reader == "on" and can_be_asked()


@dataclass(slots=True)
class Pause:
    """How long to wait before the next start: doubled after each failure, forgotten after a steady run."""

    seconds: float = PAUSE_SECONDS_MIN
    started_at: float = field(default_factory=time.monotonic)
    until: float | None = None

    def start(self) -> None:
        """It was started now."""
        self.started_at = time.monotonic()
        self.until = None

    def end(self) -> float:
        """It ended now; the pause that begins, in seconds."""
        now = time.monotonic()
        self.seconds = PAUSE_SECONDS_MIN if now - self.started_at > STEADY_SECONDS else self.seconds
        self.until = now + self.seconds
        pause = self.seconds
        self.seconds = min(PAUSE_SECONDS_MAX, self.seconds * 2)
        return pause

    def is_over(self) -> bool:
        """Whether it may be started again."""
        return self.until is not None and time.monotonic() >= self.until


class Child:
    """A program's process, kept running; that of one that is asked for, until it ends by itself.

    `leave` lets go, in a forked one, of what is the supervisor's.
    """

    def __init__(self, program: Program, environment: Mapping[str, str], leave: Callable[[], None]) -> None:
        self.program = program
        self._environment = dict(environment)
        self._leave = leave
        self._pause = Pause()
        self._process = self._spawn() if program.needed_for is None else None

    @property
    def waits(self) -> bool:
        """Whether it is to be asked for."""
        return self._process is None

    def start(self) -> None:
        """Start it, since it was asked for."""
        self._process = self._spawn()
        self._pause.start()

    def tend(self) -> None:
        """Notice that it ended; start it again when its pause is over."""
        if self._process is None:
            return
        if self._pause.until is None and self._process.poll() is not None:
            self._end_group(self._process)
            status = self._process.returncode
            if self.program.needed_for is not None and status == 0:
                self._process = None
                return
            log.error("%s ended with status %s; again in %s s", self.program.name, status, self._pause.end())
        if self._pause.is_over():
            self.start()

    def stop(self) -> None:
        """Ask it to end, wait, and kill what is left of it."""
        if self._process is None:
            return
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(timeout=STOP_SECONDS)
            except subprocess.TimeoutExpired:
                log.error("%s didn't stop within %s s: killing it", self.program.name, STOP_SECONDS)  # noqa: TRY400
                self._process.kill()
                self._process.wait()
        self._end_group(self._process)

    def _spawn(self) -> subprocess.Popen[bytes] | Forked:
        if self.program.is_ours:
            return fork(self._run, last_signal=signal.SIGTERM)
        return spawn(self.program.command, last_signal=signal.SIGTERM, env=self._environment)

    def _run(self) -> int:
        """In the forked process: what `python -m permille` does, with what the supervisor has loaded."""
        self._leave()
        os.environ.update(self._environment)
        sys.argv = ["permille", *self.program.command[len(OURS) :]]
        name_process(" ".join(sys.argv))
        try:
            runpy.run_module("permille", run_name="__main__")
        except SystemExit as end:
            return end.code if isinstance(end.code, int) else int(end.code is not None)
        return 0

    @staticmethod
    def _end_group(process: subprocess.Popen[bytes] | Forked) -> None:
        """Its own children may have outlived it, and would keep the port."""
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            return


def _await_port(config: Config, signals: Signals) -> None:
    """Wait until the port is free. Raises PortTakenError when it doesn't become so.

    Only the programs of an earlier start on the same data, killed a moment ago, are waited for.
    """
    deadline = time.monotonic() + (PORT_SECONDS if running.was_recorded(config) else 0.0)
    while not signals.stopping():
        error = running.why_taken(config.host, config.port)
        if error is None:
            return
        if error.errno != errno.EADDRINUSE or time.monotonic() >= deadline:
            raise PortTakenError(running.cannot_listen(config.host, config.port, error)) from error
        log.warning("Waiting for port %s: another program listens on it", config.port)
        signals.wait(1.0)


def _tend_database(database: EmbeddedPostgres, pause: Pause, signals: Signals) -> None:
    """Start the database again if it crashed: at once the first time, then after pauses."""
    if pause.until is None and database.poll() is not None:
        log.error("The database ended with status %s; again in %s s", database.poll(), pause.end())
    if not pause.is_over():
        return
    try:
        database.start(give_up=signals.stopping)
    except (UnableToStartError, psycopg.OperationalError):
        log.exception("The database can't be started again; next try in %s s", pause.end())
    else:
        log.warning("The database is back")
        pause.start()


def _watch(
    children: Sequence[Child], database: EmbeddedPostgres | None, calls: Calls | None, signals: Signals
) -> None:
    pause = Pause()
    while not signals.stopping():
        if database is not None:
            _tend_database(database, pause, signals)
        for child in children:
            child.tend()
        if calls is not None:
            _start_needed(children, calls.take())
        signals.wait(1.0 if pause.until is None else PAUSE_SECONDS_MIN, *([] if calls is None else [calls]))


def _start_needed(children: Sequence[Child], needed: Collection[str]) -> None:
    """Start the first of each kind that was asked for, if one waits."""
    for kind in needed:
        child = next((each for each in children if each.waits and each.program.needed_for == kind), None)
        if child is not None:
            log.info("Running %s too, until it has nothing to do", child.program.name)
            child.start()


def environment_of_programs(config: Config, dsn: str, calls: Calls | None = None) -> dict[str, str]:
    """What the programs need to know beyond what we know ourselves: the address too, which links in webhooks and mail begin with."""
    return {
        **os.environ,
        "PERMILLE_HOST": config.host,
        "PERMILLE_PORT": str(config.port),
        "PERMILLE_DATABASE_URL": dsn,
        "PERMILLE_DATA_DIR": str(Path(config.data_dir).absolute()),
        **({READER_SOCKET: f"permille-{secrets.token_hex(16)}"} if has_reader(config) else {}),
        **({} if calls is None else {CALLS_SOCKET: calls.name}),
    }


def _for_ordinary_user(
    config: Config, database: EmbeddedPostgres | None
) -> tuple[str | None, dict[str, str]]:
    """With which interpreter programs that root starts become the database's owner, and what else they need for that.

    It is looked for once, not by each of them. Raises UnusableError when there is none.
    """
    account = account_of_programs(config) if database is None else database.owner
    python = python_for(account, allow_root=config.allow_root)
    more = {} if python in {None, sys.executable} else library_path(str(python))
    known = {} if python is None else checked(python, account)
    return python, {"PERMILLE_PG_USER": account.name, **known, **more}


def _run(
    config: Config,
    *,
    database: EmbeddedPostgres | None,
    children: list[Child],
    kept: Sequence[Program],
    signals: Signals,
) -> None:
    if database is not None:
        running.refuse_second(config.data_dir)
    _await_port(config, signals)
    loading = Loading(kept)
    try:
        if database is not None:
            database.start(give_up=signals.stopping)
    finally:
        loading.end()
    dsn = config.database_url if database is None else database.dsn
    assert dsn is not None, "there is either a URL or an embedded database"
    migrate(dsn)
    running.record(config)
    calls = Calls() if can_be_asked() else None
    if not signals.stopping():
        environment, python = environment_of_programs(config, dsn, calls), None
        if os.geteuid() == 0:
            python, more = _for_ordinary_user(config, database)
            environment |= more

        def leave() -> None:
            signals.leave_to_parent()
            if calls is not None:
                calls.close()
            if database is not None:
                database.leave_to_parent()

        children.extend(Child(program.run_by(python), environment, leave) for program in kept)
        always = (program.name for program in kept if program.needed_for is None)
        log.info("Running %s and the database", ", ".join(always))
    _watch(children, database, calls, signals)


def up(config: Config, *, kept: Sequence[Program] | None = None) -> int:
    """Run everything until a signal to stop; 0 after a clean stop, 1 when it couldn't start. `kept`: what to run."""
    logs.configure(config.log_level, config.log_format)
    database = None
    if config.database_url is None:
        database = EmbeddedPostgres(config.data_dir, bin_dir=config.pg_bin, os_user=config.pg_user)
    children: list[Child] = []
    with Signals() as signals:
        try:
            _run(config, database=database, children=children, kept=kept or programs(config), signals=signals)
        except StartGivenUpError:
            log.info("Stopped while the database was starting")
        except CANNOT_START as error:
            log.error("Can't start: %s", error)  # noqa: TRY400 the user has no use for a trace
            return 1
        finally:
            for child in children:
                child.stop()
            if database is not None:
                database.stop()
            running.forget(config.data_dir)
    log.info("Stopped")
    return 0
