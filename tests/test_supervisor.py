"""`permille up` as a tree of processes: it starts, mends, stops in order, and leaves nothing behind when it is killed.

Stand-ins for serve and work write down what happens to them; the database is the real one.
"""

from __future__ import annotations

import functools
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from permille.config import CALLS_SOCKET, Config, from_environment
from permille.embedded.calls import READING, READING_BEHIND, WORKING, Calls, ask_for
from permille.embedded.postgres import dsn_of
from permille.embedded.process import Forked, fork
from permille.embedded.supervisor import Program, environment_of_programs, programs
from tests.live import PATIENCE_SECONDS

STAND_IN = """
import os, signal, sys, time
import psycopg
name, journal = sys.argv[1].replace(" ", "_"), sys.argv[2]
dsn = os.environ["PERMILLE_DATABASE_URL"]
def write(what):
    with open(journal, "a") as file:
        file.write(f"{name} {what} {os.getpid()}\\n")
def stop(*_):
    with psycopg.connect(dsn) as conn:
        conn.execute("select 1")
    write("stopped")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
def ask(*_):
    from permille.embedded.calls import ask_for
    ask_for("help")
signal.signal(signal.SIGUSR1, ask)
signal.signal(signal.SIGUSR2, lambda *_: os._exit(0))
with psycopg.connect(dsn) as conn:
    conn.execute("select count(*) from organization")
write("started")
while True:
    time.sleep(0.05)
"""

UP = """
import sys
from pathlib import Path
from permille.config import Config
from permille.embedded.supervisor import Program, up
data_dir, journal, port, url, *names = sys.argv[1:]
config = Config(data_dir=Path(data_dir), port=int(port), database_url=url or None)
kept = [
    Program(
        name=name,
        command=(sys.executable, "-c", STAND_IN, name, journal),
        needed_for=name.partition(" for ")[2] or None,
    )
    for name in names
]
sys.exit(up(config, kept=kept))
""".replace("STAND_IN", repr(STAND_IN))


class Tree:
    """A supervisor and its journal."""

    def __init__(self, folder: Path) -> None:
        self.data_dir = folder / "data"
        self.journal = folder / "journal"
        self.log = folder / "log"
        self.process: subprocess.Popen[bytes] | None = None

    def up(
        self, *, port: int = 0, url: str = "", names: tuple[str, ...] = ("serve", "work")
    ) -> subprocess.Popen[bytes]:
        self.journal.unlink(missing_ok=True)
        with self.log.open("ab") as log:
            command: list[Any] = [
                sys.executable,
                "-c",
                UP,
                self.data_dir,
                self.journal,
                str(port),
                url,
                *names,
            ]
            self.process = subprocess.Popen(command, stdout=log, stderr=log)
        return self.process

    def entries(self, what: str) -> list[tuple[str, int]]:
        if not self.journal.exists():
            return []
        lines = [line.split() for line in self.journal.read_text().splitlines()]
        return [(line[0], int(line[2])) for line in lines if line[1] == what]

    def await_started(self, count: int = 2) -> dict[str, int]:
        """Program -> pid, newest start of each."""
        process = self.process
        assert process is not None
        wait_until(lambda: len(self.entries("started")) >= count or process.poll() is not None, self.log)
        assert process.poll() is None, self.log.read_text()
        return dict(self.entries("started"))

    def database_pid(self) -> int:
        text = (self.data_dir / "database" / "cluster" / "postmaster.pid").read_text()
        return int(text.splitlines()[0])

    def stop(self) -> int:
        assert self.process is not None
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE_SECONDS)


def wait_until(claim: Callable[[], bool], log: Path | None = None) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while not claim():
        assert time.monotonic() < until, log.read_text() if log else "waited in vain"
        time.sleep(0.02)


def leads_a_session(pid: int) -> bool:
    return os.getsid(pid) == pid


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


@pytest.fixture(scope="module")
def folder(reachable_session_path: Path) -> Path:
    """One data directory for all: initdb is what takes time."""
    folder = reachable_session_path / "supervisor"
    folder.mkdir(mode=0o711)
    return folder


@pytest.fixture
def tree(folder: Path) -> Iterator[Tree]:
    tree = Tree(folder)
    yield tree
    if tree.process is not None and tree.process.poll() is None:
        assert tree.stop() == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_stops_the_programs_in_order_and_the_database_last(
    tree: Tree, number: signal.Signals
) -> None:
    supervisor = tree.up()
    pids = tree.await_started()
    database = tree.database_pid()
    supervisor.send_signal(number)
    assert supervisor.wait(PATIENCE_SECONDS) == 0
    assert tree.entries("stopped") == [("serve", pids["serve"]), ("work", pids["work"])]
    assert all(is_gone(pid) for pid in (*pids.values(), database))


def test_a_killed_supervisor_leaves_nothing_that_blocks_the_next_on_the_same_port_and_data(
    tree: Tree,
) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    supervisor = tree.up(port=port)
    pids = tree.await_started()
    database = tree.database_pid()
    supervisor.kill()
    supervisor.wait()
    tree.up(port=port)
    again = tree.await_started()
    wait_until(lambda: all(is_gone(pid) for pid in (*pids.values(), database)))
    assert set(again) == {"serve", "work"}
    assert tree.stop() == 0


def test_a_crashed_program_is_started_again_and_the_other_left_alone(tree: Tree) -> None:
    tree.up()
    before = tree.await_started()
    os.kill(before["work"], signal.SIGKILL)
    after = tree.await_started(3)
    assert after["serve"] == before["serve"]
    assert after["work"] != before["work"]
    assert "work ended with status -9" in tree.log.read_text()


def test_a_program_that_is_asked_for_starts_then_ends_when_it_likes_and_is_stopped_with_the_others(
    tree: Tree,
) -> None:
    needed = ("first for help", "second for help")
    first, second = (name.replace(" ", "_") for name in needed)
    tree.up(names=("serve", *needed))
    asking = tree.await_started(1)["serve"]

    def ask(count: int) -> dict[str, int]:
        os.kill(asking, signal.SIGUSR1)
        return tree.await_started(count)

    assert ask(2).keys() == {"serve", first}
    assert ask(3).keys() == {"serve", first, second}
    ends = dict(tree.entries("started"))[first]
    os.kill(ends, signal.SIGUSR2)
    wait_until(lambda: not Path(f"/proc/{ends}").exists(), tree.log)  # the supervisor has seen it
    again = ask(4)
    assert again[first] != ends
    os.kill(again[second], signal.SIGKILL)
    crashed = tree.await_started(5)
    assert crashed[second] != again[second]
    assert tree.stop() == 0
    assert tree.entries("stopped") == [(name, crashed[name]) for name in ("serve", first, second)]


def test_a_crashed_database_is_started_again_at_the_same_address_and_the_programs_go_on(tree: Tree) -> None:
    tree.up()
    before = tree.await_started()
    dsn = dsn_of(tree.data_dir)
    assert dsn is not None
    with psycopg.connect(dsn) as conn:
        conn.execute("create table kept as select 1 as n")
    crashed = tree.database_pid()
    os.kill(crashed, signal.SIGKILL)

    def is_back() -> bool:
        try:
            with psycopg.connect(dsn) as conn:
                return conn.execute("select n from kept").fetchone() == (1,)
        except psycopg.OperationalError:
            return False

    wait_until(is_back, tree.log)
    assert tree.database_pid() != crashed
    assert dict(tree.entries("started")) == before
    assert tree.stop() == 0
    assert [name for name, _ in tree.entries("stopped")] == ["serve", "work"]


def test_a_stop_while_the_database_is_starting_is_clean(tree: Tree) -> None:
    supervisor = tree.up()
    wait_until(lambda: tree.data_dir.exists() or supervisor.poll() is not None)
    time.sleep(0.3)
    supervisor.terminate()
    assert supervisor.wait(PATIENCE_SECONDS) in {
        0,
        -signal.SIGTERM,
    }  # the latter before it listens to signals
    tree.up()
    tree.await_started()


def test_a_second_one_on_the_same_data_says_who_is_there(tree: Tree, folder: Path) -> None:
    first = tree.up()
    tree.await_started()
    second = Tree(folder)
    second.journal, second.log = folder / "journal-2", folder / "log-2"
    assert second.up().wait(PATIENCE_SECONDS) == 1
    assert f"Another Permille (process {first.pid}) uses" in second.log.read_text()
    assert first.poll() is None


def test_a_given_database_is_used_and_left_running(tree: Tree, empty_dsn: str) -> None:
    tree.data_dir = tree.data_dir / "unused"
    tree.up(url=empty_dsn)
    tree.await_started()
    assert tree.stop() == 0
    assert not tree.data_dir.exists()
    with psycopg.connect(empty_dsn) as conn:
        assert conn.execute("select count(*) from schema_migration").fetchone() != (0,)


def test_a_database_that_does_not_answer_is_one_line_and_status_1(tree: Tree) -> None:
    assert tree.up(url="postgresql://127.0.0.1:1/none").wait(PATIENCE_SECONDS) == 1
    assert "Can't start: connection failed" in tree.log.read_text()
    assert tree.entries("started") == []


def test_a_forked_child_has_its_own_end_and_its_own_signals() -> None:
    def sleep() -> int:
        time.sleep(60)
        return 0

    asked: list[int] = []
    before = signal.signal(signal.SIGTERM, lambda number, _frame: asked.append(number))
    try:
        assert fork(lambda: 3, last_signal=signal.SIGTERM).wait(PATIENCE_SECONDS) == 3
        for end, status in ((Forked.terminate, -signal.SIGTERM), (Forked.kill, -signal.SIGKILL)):
            child = fork(sleep, last_signal=signal.SIGTERM)
            with pytest.raises(subprocess.TimeoutExpired):
                child.wait(0.05)
            wait_until(functools.partial(leads_a_session, child.pid))
            end(child)
            assert child.wait(PATIENCE_SECONDS) == child.returncode == status
    finally:
        signal.signal(signal.SIGTERM, before)
    assert asked == []


def test_a_process_shows_another_command_line() -> None:
    shown = "import sys; from permille.embedded.process import name_process; name_process('permille work'); print(open('/proc/self/cmdline').read())"
    done = subprocess.run([sys.executable, "-c", shown], capture_output=True, text=True, check=True)
    assert done.stdout.rstrip("\0\n") == "permille\0work"


def test_programs_run_by_the_interpreter_that_was_found_for_them() -> None:
    ours = Program(name="a", command=(sys.executable, "-m", "permille", "work"))
    assert ours.run_by("/elsewhere/python").command == ("/elsewhere/python", "-m", "permille", "work")
    for other, python in ((ours, None), (Program(name="b", command=("/bin/true",)), "/elsewhere/python")):
        assert other.run_by(python) == other


@pytest.mark.skipif(sys.platform != "linux", reason="programs are forked on Linux only")
def test_the_collector_rests_while_programs_are_loaded_and_no_longer() -> None:
    code = (
        "import gc; from permille.embedded.supervisor import OURS, Loading, Program\n"
        "loading = Loading([Program(name='work', command=(*OURS, 'work'))]); print(gc.isenabled())\n"
        "loading.end(); print(gc.isenabled(), gc.get_freeze_count() > 100_000)"
    )
    found = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert found.stdout.split() == ["False", "True", "True"]


@pytest.mark.skipif(sys.platform != "linux", reason="programs can be asked for on Linux only")
def test_one_worker_always_runs_and_the_others_and_the_readers_when_they_are_needed() -> None:
    found = {
        each.name: (each.command[3:4], each.command[4:], each.needed_for)
        for each in programs(Config(workers=3))
    }
    assert found.pop("serve")[2] is None
    assert found == {
        "read": (("read",), (), READING),
        "read behind": (("read",), ("--behind",), READING_BEHIND),
        "work 1": (("work",), (), None),
        "work 2": (("work",), ("--until-idle",), WORKING),
        "work 3": (("work",), ("--until-idle",), WORKING),
    }


def test_nobody_is_asked_without_a_supervisor(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(CALLS_SOCKET, raising=False)
    ask_for(READING)
    calls = Calls()
    monkeypatch.setenv(CALLS_SOCKET, calls.name)
    ask_for(READING)
    ask_for(WORKING)
    assert calls.take() == {READING, WORKING}
    assert calls.take() == set()
    calls.close()
    ask_for(READING)


def test_all_programs_know_the_address_that_was_given_on_the_command_line() -> None:
    config = Config(host="127.0.0.2", port=18_123, data_dir=Path("data"))
    assert from_environment(environment_of_programs(config, "dsn")).base_url == "http://127.0.0.2:18123"
