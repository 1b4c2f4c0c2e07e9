"""The embedded PostgreSQL: durable, private, recoverable, and it changes nothing that it did not make."""

from __future__ import annotations

import os
import shutil
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from permille.config import from_environment
from permille.embedded import postgres, settings
from permille.embedded.binaries import NoBinariesError, binaries_for, locate_binaries
from permille.embedded.postgres import EmbeddedPostgres, StartGivenUpError, UnableToStartError, dsn_of, erase
from permille.embedded.process import account_of

NOBODY = 65534
BIN = from_environment().pg_bin  # to run these tests on another PostgreSQL
SMALL = {"shared_buffers": "16MB", "min_wal_size": "32MB", "max_wal_size": "64MB"}
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become someone else")

Make = Callable[..., EmbeddedPostgres]


@pytest.fixture
def make(reachable_session_path: Path) -> Iterator[Make]:
    """A server on the cluster that these tests share (initdb is what takes time), or in a new place; stopped at the end."""
    made: list[EmbeddedPostgres] = []
    shared = reachable_session_path / "shared"

    def new(data_dir: Path = shared, **options: Any) -> EmbeddedPostgres:
        made.append(EmbeddedPostgres(data_dir, **{"settings": SMALL, "bin_dir": BIN, **options}))
        return made[-1]

    yield new
    for server in made:
        server.stop()


@pytest.fixture(scope="module")
def running(reachable_session_path: Path) -> Iterator[EmbeddedPostgres]:
    """A server with the default settings, for tests that only look."""
    with EmbeddedPostgres(reachable_session_path / "defaults", bin_dir=BIN) as server:
        yield server


@pytest.mark.parametrize(
    ("memory", "data", "buffers"),
    [
        (64 * 1024, 10 * 1024, "2048MB"),
        (64 * 1024, 400 * 1024, "16384MB"),
        (64 * 1024, 0, "1024MB"),
        (2 * 1024, 100 * 1024, "512MB"),
        (2 * 1024, 0, "256MB"),
        (100, 0, "32MB"),
    ],
)
def test_buffers_grow_with_the_data_up_to_a_quarter_of_the_memory(
    monkeypatch: pytest.MonkeyPatch, memory: int, data: int, buffers: str
) -> None:
    monkeypatch.setattr(settings, "_memory_bytes", lambda: memory * settings.MIB)
    tuned = settings.tuned_settings(disk_bytes=0, data_bytes=data * settings.MIB, wal_compression="off")
    assert tuned["shared_buffers"] == buffers


def test_a_start_counts_the_data_that_is_there(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    with make() as server, psycopg.connect(server.dsn) as conn:
        row = conn.execute("select sum(pg_database_size(oid)) from pg_database").fetchone()
    assert row is not None
    counted: list[int] = []

    def tuned(**sizes: Any) -> dict[str, str]:
        counted.append(sizes["data_bytes"])
        return settings.tuned_settings(**sizes)

    monkeypatch.setattr(postgres, "tuned_settings", tuned)
    with make():
        assert counted[0] == pytest.approx(int(row[0]), rel=0.1)


def setting(server: EmbeddedPostgres, name: str) -> str:
    with psycopg.connect(server.dsn) as conn:
        row = conn.execute("select current_setting(%s)", (name,)).fetchone()
    assert row is not None
    return row[0]


def this_test() -> str:
    return os.environ["PYTEST_CURRENT_TEST"]


def put(server: EmbeddedPostgres, value: int) -> None:
    with psycopg.connect(server.dsn) as conn:
        conn.execute("create table if not exists kept (test text, n int)")
        conn.execute("insert into kept values (%s, %s)", (this_test(), value))


def kept(server: EmbeddedPostgres) -> list[int]:
    with psycopg.connect(server.dsn) as conn:
        return [
            row[0] for row in conn.execute("select n from kept where test = %s order by n", (this_test(),))
        ]


def mode(path: Path) -> int:
    return stat.S_IMODE(path.lstat().st_mode)


def is_gone(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] == "Z"
    except (FileNotFoundError, ProcessLookupError):
        return True


def wait_until(claim: Callable[[], bool], seconds: float = 20) -> None:
    until = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


# The life of a server


def test_data_outlive_a_stop_and_a_start(make: Make) -> None:
    server = make()
    server.start()
    put(server, 1)
    server.stop()
    server.start()
    put(server, 2)
    server.stop()
    with make() as another:
        assert kept(another) == [1, 2]


def test_a_second_start_of_a_running_server_does_nothing(make: Make) -> None:
    server = make()
    server.start()
    pid = server.pid
    server.start()
    assert server.pid == pid
    assert server.poll() is None


def test_a_killed_server_recovers_with_all_that_was_committed(make: Make) -> None:
    server = make()
    server.start()
    dsn = server.dsn
    put(server, 1)
    session = psycopg.connect(dsn)
    session.execute("insert into kept values (%s, 99)", (this_test(),))  # never committed
    os.kill(server.pid, signal.SIGKILL)
    wait_until(lambda: server.poll() is not None)
    server.start()
    session.close()
    assert server.dsn == dsn
    assert kept(server) == [1]


def test_processes_that_outlive_a_killed_server_do_not_block_the_next(make: Make) -> None:
    server = make()
    server.start()
    session = psycopg.connect(server.dsn, autocommit=True)
    session.pgconn.send_query(
        b"do $$ begin for i in 1..2000000000 loop end loop; end $$"
    )  # doesn't look up for minutes
    session.pgconn.flush()
    wait_until(lambda: backend_is_busy(server))
    os.kill(server.pid, signal.SIGKILL)
    wait_until(lambda: server.poll() is not None)
    server.start()
    session.close()
    assert setting(server, "fsync") == "on"


def test_a_server_that_ignores_an_orderly_end_does_not_block_the_next(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As PostgreSQL does where the crash of one of its processes is being recovered from."""
    server = make()
    server.start()
    put(server, 1)
    sent = []

    def deaf(pid: int, number: signal.Signals) -> None:
        sent.append(number)
        if number != signal.SIGINT:
            os.kill(pid, number)

    monkeypatch.setattr(postgres, "_signal", deaf)
    monkeypatch.setattr(postgres, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setattr(postgres, "ORDERLY_LEFTOVER_SECONDS", 0.25)
    postgres._stop_leftovers(server.home, lambda: False)
    assert sent[0] == signal.SIGINT
    assert set(sent) == {signal.SIGINT, signal.SIGQUIT}
    wait_until(lambda: server.poll() is not None)
    server.start()
    assert kept(server) == [1]


def backend_is_busy(server: EmbeddedPostgres) -> bool:
    with psycopg.connect(server.superuser_dsn) as conn:
        row = conn.execute(
            "select count(*) from pg_stat_activity where query like 'do %' and state = 'active'"
        ).fetchone()
    return row == (1,)


PARENT = """
import sys, time
from pathlib import Path
from permille.config import from_environment
from permille.embedded.postgres import EmbeddedPostgres
server = EmbeddedPostgres(Path(sys.argv[1]), bin_dir=from_environment().pg_bin)
server.start()
print(server.pid, flush=True)
time.sleep(600)
"""


def test_the_server_ends_when_its_parent_is_killed(reachable_session_path: Path, make: Make) -> None:
    command: list[Any] = [sys.executable, "-c", PARENT, reachable_session_path / "shared"]
    parent = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert parent.stdout is not None
    pid = int(parent.stdout.readline())
    assert not is_gone(pid)
    parent.kill()
    parent.wait()
    parent.stdout.close()
    with make() as server:  # at once: it waits for the other's end by itself
        put(server, 1)
        assert is_gone(pid)


def test_an_orphan_is_shut_down_before_the_next_start(make: Make) -> None:
    server = make()
    server.start()
    put(server, 1)
    orphan = server.pid
    assert server._lock is not None
    server._lock.close()  # as if the parent had died where the kernel doesn't tell
    with make() as another:
        assert kept(another) == [1]
        assert server.poll() == 0  # an orderly shutdown
        assert another.pid != orphan


def test_a_server_whose_command_line_is_gone_is_ending_and_nobody_elses(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    server = make()
    server.start()
    assert server._lock is not None
    server._lock.close()
    read, seen = Path.read_bytes, list[Path]()

    def gone_at_first(path: Path) -> bytes:
        if path != Path(f"/proc/{server.pid}/cmdline") or path in seen:
            return read(path)
        seen.append(path)
        return b""

    monkeypatch.setattr(Path, "read_bytes", gone_at_first)
    with make():
        assert len(seen) == 1
        assert server.poll() == 0


def test_a_stale_pid_file_that_names_a_living_stranger_does_not_block(make: Make) -> None:
    server = make()
    server.start()
    text = (server.home / "cluster" / "postmaster.pid").read_text()
    server.stop()
    stranger = text.replace(text.splitlines()[0], "1", 1)
    (server.home / "cluster" / "postmaster.pid").write_text(stranger)
    server.start()
    assert setting(server, "fsync") == "on"


# Refusals


def test_a_data_directory_in_use_is_refused(make: Make) -> None:
    with make() as server:
        with pytest.raises(UnableToStartError, match=f"Another Permille .process {os.getpid()}. uses"):
            make().start()
        with pytest.raises(UnableToStartError, match="Another Permille"):
            erase(server.home.parent)
        put(server, 1)


def test_a_server_that_someone_else_started_is_refused_and_left_alone(make: Make) -> None:
    server = make()
    server.start()
    server.stop()
    cluster = server.home / "cluster"
    owner = cluster.stat()
    identity: dict[str, Any] = (
        {}
        if owner.st_uid == os.geteuid()
        else {"user": owner.st_uid, "group": owner.st_gid, "extra_groups": []}
    )
    options = [f"-cunix_socket_directories={server.home / 'run'}", "-clisten_addresses="]
    by_hand = subprocess.Popen(
        [locate_binaries(BIN).program("postgres"), "-D", cluster, *options],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        **identity,
    )
    try:
        wait_until((cluster / "postmaster.pid").exists)
        with pytest.raises(UnableToStartError, match=f"Permille didn't start .process {by_hand.pid}"):
            server.start()
        assert by_hand.poll() is None
    finally:
        by_hand.send_signal(signal.SIGINT)
        by_hand.wait()


def test_another_major_version_is_refused(make: Make) -> None:
    server = make()
    server.start()
    server.stop()
    version = server.home / "cluster" / "PG_VERSION"
    right = version.read_text()
    version.write_text("14\n")
    try:
        with pytest.raises(UnableToStartError, match="was made by PostgreSQL 14"):
            server.start()
    finally:
        version.write_text(right)


def test_a_server_that_can_not_start_says_why(make: Make) -> None:
    with pytest.raises(UnableToStartError, match="shared_buffers"):
        make(settings={"shared_buffers": "lots"}).start()


class NeverReady:
    @staticmethod
    def ping(_: bytes) -> psycopg.pq.Ping:
        return psycopg.pq.Ping.NO_RESPONSE


def test_a_start_can_be_given_up(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    server = make()
    with monkeypatch.context() as patched:
        patched.setattr(psycopg.pq, "PGconn", NeverReady)  # else a quick server is ready when first asked
        with pytest.raises(StartGivenUpError):
            server.start(give_up=lambda: True)
    assert server.poll() == 0
    server.start()
    put(server, 1)


def test_a_start_is_given_up_also_where_the_signal_is_ignored_at_first(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it is in what a shell runs in the background: the first signals may come before PostgreSQL's handler."""
    monkeypatch.setattr(psycopg.pq, "PGconn", NeverReady)
    before = signal.signal(signal.SIGINT, signal.SIG_IGN)
    try:
        for _ in range(5):
            server = make()
            with pytest.raises(StartGivenUpError):
                server.start(give_up=lambda: True)
            assert server.poll() == 0
    finally:
        signal.signal(signal.SIGINT, before)


def test_the_programs_of_a_named_directory_or_none(tmp_path: Path, make: Make) -> None:
    with pytest.raises(NoBinariesError, match="no program initdb"):
        locate_binaries(tmp_path)
    with pytest.raises(UnableToStartError, match="no program initdb"):
        make(bin_dir=tmp_path).start()


# Settings


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("fsync", "on"),
        ("synchronous_commit", "on"),
        ("full_page_writes", "on"),
        ("data_checksums", "on"),
        ("listen_addresses", ""),
        ("server_encoding", "UTF8"),
        ("TimeZone", "UTC"),
        ("jit", "off"),
    ],
)
def test_the_defaults_are_durable_and_private(running: EmbeddedPostgres, name: str, value: str) -> None:
    assert setting(running, name) == value


def test_text_sorts_by_code_point_whatever_the_systems_locale(running: EmbeddedPostgres) -> None:
    with psycopg.connect(running.dsn) as conn:
        rows = conn.execute(
            "select x from (values ('b'), ('a'), ('B'), ('é')) as v (x) order by x"
        ).fetchall()
        assert [row[0] for row in rows] == ["B", "a", "b", "é"]
        if conn.info.server_version >= 170_000:  # older ones have no locale of their own that knows letters
            assert conn.execute("select upper('é')").fetchone() == ("É",)


def test_permilles_role_is_no_superuser_and_owns_the_database(running: EmbeddedPostgres) -> None:
    with psycopg.connect(running.dsn) as conn:
        row = conn.execute("select rolname, rolsuper from pg_roles where rolname = current_user").fetchone()
        assert row == ("permille", False)
        conn.execute("create table mine (n int)")
        with pytest.raises(psycopg.errors.InsufficientPrivilege):
            conn.execute("copy mine from program 'true'")


def test_a_running_servers_uri_is_found_from_its_directory(running: EmbeddedPostgres, tmp_path: Path) -> None:
    assert dsn_of(running.home.parent) == running.dsn
    assert dsn_of(tmp_path) is None


# Who may come in


def test_the_cluster_and_the_socket_are_closed_to_others(running: EmbeddedPostgres) -> None:
    assert mode(running.home / "cluster") == 0o700
    assert mode(running.home / "run") == 0o700


def test_no_password_lets_in_a_role_that_is_not_ours(running: EmbeddedPostgres) -> None:
    with psycopg.connect(running.superuser_dsn, autocommit=True) as conn:
        conn.execute("create role intruder login superuser password 'secret'")
    uri = running.dsn.replace("permille@", "intruder:secret@", 1)
    with pytest.raises(psycopg.OperationalError, match="Peer authentication failed"):
        psycopg.connect(uri)


CONNECT = """
import os, sys, psycopg
os.setgroups([]); os.setgid(65534); os.setuid(65534)
try:
    psycopg.connect(sys.argv[1])
except psycopg.OperationalError as error:
    print(error)
else:
    print("came in")
"""


@as_root
def test_another_user_of_the_machine_is_kept_out_by_the_directory_and_by_the_server(make: Make) -> None:
    server = make(settings={**SMALL, "unix_socket_permissions": "0777"})
    server.start()

    def attempt() -> str:
        command: list[Any] = [sys.executable, "-c", CONNECT, server.dsn]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    assert "Permission denied" in attempt()
    (server.home / "run").chmod(0o755)
    assert "Peer authentication failed" in attempt()


# Where it lies


def test_directories_that_were_there_keep_their_permissions(reachable_path: Path, make: Make) -> None:
    data = reachable_path / "deep" / "data"
    data.mkdir(parents=True)
    (data / "file").write_text("mine")
    modes = {reachable_path: 0o711, reachable_path / "deep": 0o755, data: 0o751, data / "file": 0o640}
    for path, wanted in modes.items():
        path.chmod(wanted)
    before = {path: (path.lstat().st_mode, path.lstat().st_uid, path.lstat().st_gid) for path in modes}
    with make(data) as server:
        put(server, 1)
        assert server.home == data / "database"
    assert {
        path: (path.lstat().st_mode, path.lstat().st_uid, path.lstat().st_gid) for path in modes
    } == before


@as_root
def test_root_gets_a_place_that_the_databases_user_can_reach(reachable_path: Path, make: Make) -> None:
    closed = reachable_path / "closed"
    closed.mkdir(mode=0o700)
    shelf = reachable_path / "shelf"
    with make(closed / "data", reachable=shelf) as server:
        put(server, 1)
        assert server.home.parent == shelf
    assert (closed / "data" / "database").readlink() == server.home
    assert mode(closed) == 0o700
    with make(closed / "data", reachable=shelf) as again:
        assert kept(again) == [1]
    erase(closed / "data")
    assert not server.home.exists()
    assert not (closed / "data" / "database").is_symlink()


@as_root
def test_root_gets_a_copy_of_programs_that_the_databases_user_can_not_reach(
    reachable_path: Path, make: Make
) -> None:
    found = locate_binaries().directory
    closed = reachable_path / "closed"
    closed.mkdir(mode=0o700)
    package = found.parents[1]
    shutil.copytree(package / "pginstall", closed / package.name / "pginstall", symlinks=True)
    libraries = package.with_name(f"{package.name}.libs")
    shutil.copytree(libraries, closed / libraries.name)
    bin_dir = closed / package.name / "pginstall" / "bin"
    with make(reachable_path / "data", bin_dir=bin_dir, reachable=reachable_path / "shelf") as server:
        put(server, 1)
        executable = Path(f"/proc/{server.pid}/exe").readlink()
    assert executable.is_relative_to(reachable_path / "shelf")
    assert mode(closed) == 0o700


@as_root
def test_root_never_runs_the_server_as_root(running: EmbeddedPostgres) -> None:
    assert Path(f"/proc/{running.pid}").stat().st_uid not in {0, NOBODY}


def test_a_path_too_long_for_a_socket_gets_a_short_one(reachable_path: Path, make: Make) -> None:
    server = make(reachable_path / ("d" * 120))
    server.start()
    run = (server.home / "run").readlink()
    dsn = server.dsn
    assert mode(run) == 0o700
    put(server, 1)
    server.stop()
    server.start()
    assert server.dsn == dsn
    server.stop()
    erase(server.home.parent)
    assert not run.exists()


def test_a_half_made_cluster_is_made_again(reachable_path: Path, make: Make) -> None:
    rest = reachable_path / "half" / "database" / "cluster.new"
    rest.mkdir(parents=True)
    (rest / "PG_VERSION").write_text("18\n")
    with make(reachable_path / "half") as server:
        put(server, 1)
    assert not rest.exists()


ORDINARY = """
import os, sys
from pathlib import Path
import psycopg
from permille.embedded.postgres import EmbeddedPostgres
os.setgroups([]); os.setgid(65534); os.setuid(65534)
for turn in (1, 2):
    with EmbeddedPostgres(Path(sys.argv[1]), bin_dir=Path(sys.argv[2])) as server:
        with psycopg.connect(server.dsn) as conn:
            conn.execute("create table if not exists kept (n int)")
            conn.execute("insert into kept values (1)")
            print(conn.execute("select count(*) from kept").fetchone()[0], Path(f"/proc/{server.pid}").stat().st_uid)
"""


@as_root
def test_an_ordinary_user_needs_no_root(reachable_path: Path) -> None:
    place = reachable_path / "nobodys"
    place.mkdir(mode=0o700)
    os.chown(place, NOBODY, NOBODY)
    programs = binaries_for(locate_binaries(BIN), account_of(NOBODY), shelf=reachable_path).directory
    command: list[Any] = [sys.executable, "-c", ORDINARY, place / "data", programs]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    assert done.stdout.split() == ["1", str(NOBODY), "2", str(NOBODY)]
    assert (place / "data" / "database" / "cluster").stat().st_uid == NOBODY


@as_root
def test_a_cluster_keeps_its_owner(reachable_path: Path, make: Make) -> None:
    place = reachable_path / "nobodys"
    with make(place, os_user="nobody") as server:
        put(server, 1)
    with make(place) as again:
        assert kept(again) == [1]
        assert Path(f"/proc/{again.pid}").stat().st_uid == NOBODY
