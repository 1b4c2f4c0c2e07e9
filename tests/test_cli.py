"""The command line in the wrong folder, on a busy port, without a server, with two: a sentence that says what to do."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path

import msgspec
import psycopg
import pytest

from permille import logs, server
from permille.config import Config, settings
from permille.database.migrate import UnableToMigrateError
from permille.embedded import own_folder, running
from tests.live import free_port

ROOT = Path(__file__).resolve().parent.parent


def permille(folder: Path, *arguments: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    """The command in the folder, with no settings but these."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("PERMILLE_")}
    return subprocess.run(
        [sys.executable, "-m", "permille", *map(str, arguments)],
        cwd=folder,
        env={**clean, "COLUMNS": "200", **variables},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


def refusal(folder: Path, *arguments: str | Path, **variables: str) -> str:
    """What a command says that can't do its work: no traceback, an exit code other than 0."""
    done = permille(folder, *arguments, **variables)
    assert done.returncode != 0, done.stdout
    assert "Traceback" not in done.stderr
    return done.stderr


def until_it_answers(url: str) -> None:
    end = time.monotonic() + 30
    while time.monotonic() < end:
        with suppress(OSError), urllib.request.urlopen(url):
            return
        time.sleep(0.1)
    raise AssertionError(url)


@contextmanager
def busy_port() -> Iterator[int]:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        yield taken.getsockname()[1]


def make_data_dir(folder: Path) -> Path:
    """A folder that looks like one with an embedded database that does not run."""
    (folder / "database" / "cluster").mkdir(parents=True)
    (folder / "database" / "run").mkdir()
    return folder


NEED_A_DATABASE = [("sign-in-link", "me@example.com"), ("templates", "apply", "openai-gpt-4")]
NEED_A_GIVEN_DATABASE = [("serve",), ("work",), ("db", "migrate")]
NEED_A_SERVER = [("stop",), ("status",)]


@pytest.mark.parametrize("command", [*NEED_A_DATABASE, *NEED_A_SERVER], ids=" ".join)
def test_a_folder_without_a_database_is_named_with_what_to_do(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    said = refusal(tmp_path, *command)
    assert f"no Permille database in {tmp_path}/permille-data" in said
    assert "--data-dir" in said
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("command", [*NEED_A_DATABASE, *NEED_A_SERVER], ids=" ".join)
def test_a_data_directory_one_level_off_is_found(tmp_path: Path, command: tuple[str, ...]) -> None:
    right = make_data_dir(tmp_path / "data")
    for wrong in (tmp_path, right / "database"):
        assert f"--data-dir {right}" in refusal(tmp_path, *command, "--data-dir", wrong)


@pytest.mark.parametrize("command", [*NEED_A_DATABASE, *NEED_A_SERVER], ids=" ".join)
def test_a_server_that_does_not_run_is_said_with_how_to_start_it(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    data = make_data_dir(tmp_path / "data")
    assert f"permille up --data-dir {data}" in refusal(tmp_path, *command, "--data-dir", data)


@pytest.mark.parametrize("command", NEED_A_GIVEN_DATABASE, ids=" ".join)
def test_a_command_for_a_database_of_your_own_names_the_variable(
    tmp_path: Path, command: tuple[str, ...]
) -> None:
    assert "PERMILLE_DATABASE_URL" in refusal(tmp_path, *command)


@pytest.mark.parametrize("detach", [(), ("--detach",)])
def test_up_on_a_busy_port_makes_no_database(tmp_path: Path, detach: tuple[str, ...]) -> None:
    with busy_port() as port:
        said = refusal(tmp_path, "up", "--port", str(port), *detach)
    assert f"127.0.0.1 port {port}: another program listens there" in said
    assert "--port" in said
    assert list(tmp_path.iterdir()) == []


def test_serve_on_a_busy_port_says_so(tmp_path: Path, dsn: str) -> None:
    with busy_port() as port:
        said = refusal(tmp_path, "serve", "--port", str(port), PERMILLE_DATABASE_URL=dsn)
    assert f"port {port}: another program listens there" in said


def test_serve_on_a_database_of_a_newer_version_says_so(tmp_path: Path, dsn: str) -> None:
    with psycopg.connect(dsn) as conn:
        conn.execute("insert into schema_migration values (9999, 'of_later', 'x', now())")
    said = refusal(tmp_path, "serve", "--port", str(free_port()), PERMILLE_DATABASE_URL=dsn)
    assert "9999_of_later, which this Permille doesn't know" in said


def test_work_on_a_database_of_a_newer_version_says_so(tmp_path: Path, dsn: str) -> None:
    with psycopg.connect(dsn) as conn:
        conn.execute("insert into schema_migration values (9999, 'of_later', 'x', now())")
    said = refusal(tmp_path, "work", PERMILLE_DATABASE_URL=dsn)
    assert "9999_of_later, which this Permille doesn't know" in said


def test_a_server_ends_when_its_database_was_migrated_by_a_newer_version(
    dsn: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "LOOK_SECONDS", 0.1)
    monkeypatch.setattr(logs, "configure", lambda *_: None)
    monkeypatch.setattr(server, "leave_root", lambda _config: None)  # these tests go on as who they are
    config = Config(database_url=dsn, port=free_port())

    def migrate() -> None:
        until_it_answers(f"http://127.0.0.1:{config.port}/health")
        with psycopg.connect(dsn) as conn:
            conn.execute("insert into schema_migration values (9999, 'of_later', 'x', now())")

    with ThreadPoolExecutor(1) as threads:
        migrated = threads.submit(migrate)
        with pytest.raises(UnableToMigrateError, match="9999"):
            server.serve(config)
        migrated.result()


def test_the_clock_is_confirmed(tmp_path: Path, dsn: str) -> None:
    with psycopg.connect(dsn) as conn:
        conn.execute("update clock_seen set at = now() + interval '3 years'")
    said = refusal(tmp_path, "work", PERMILLE_DATABASE_URL=dsn)
    assert "permille clock confirm" in said
    done = permille(tmp_path, "clock", "confirm", PERMILLE_DATABASE_URL=dsn)
    assert (done.returncode, "goes on from" in done.stdout) == (0, True)
    with psycopg.connect(dsn) as conn:
        assert conn.execute("select at <= now() from clock_seen").fetchone() == (True,)


def test_work_on_a_database_that_lacks_migrations_says_so(tmp_path: Path, dsn: str) -> None:
    with psycopg.connect(dsn) as conn:
        conn.execute(
            "delete from schema_migration where version = (select max(version) from schema_migration)"
        )
    said = refusal(tmp_path, "work", PERMILLE_DATABASE_URL=dsn)
    assert "The database lacks migrations: run `permille db migrate`" in said


def test_up_one_level_off_makes_no_second_database(tmp_path: Path) -> None:
    right = make_data_dir(tmp_path / "data")
    before = sorted(tmp_path.rglob("*"))
    for wrong in (tmp_path, right / "database", right / "elsewhere"):
        said = refusal(tmp_path, "up", "--port", str(free_port()), "--data-dir", wrong)
        assert f"--data-dir {right}" in said
        assert "--new" in said
    assert sorted(tmp_path.rglob("*")) == before


def test_up_refuses_a_folder_named_database_that_is_somebody_elses(reachable_path: Path) -> None:
    foreign = reachable_path / "database"
    foreign.mkdir()
    (foreign / "customers.csv").write_text("mine")
    said = refusal(reachable_path, "up", "--port", str(free_port()), "--data-dir", reachable_path)
    assert "customers.csv" in said
    assert [path.name for path in foreign.iterdir()] == ["customers.csv"]


@pytest.mark.parametrize(("option", "value"), [("--port", "99999"), ("--port", "-1")])
def test_an_option_out_of_range_is_named(tmp_path: Path, option: str, value: str) -> None:
    assert f"{option}={value}" in refusal(tmp_path, "up", f"{option}={value}")


def test_help_shows_defaults_and_variables(tmp_path: Path) -> None:
    text = re.sub(r"[\s│]+", " ", permille(tmp_path, "up", "--help").stdout)
    for name in ("host", "port", "data_dir"):
        setting = settings()[name]
        assert f"[default: {setting.default}] [env: {setting.variable}]" in text


def test_the_page_of_settings_lists_each_with_its_default_and_meaning() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    for setting in settings().values():
        default = f"`{setting.default}`" if setting.default else ""
        assert f"| `{setting.variable}` | {default} | {setting.description} |" in page


def test_every_variable_that_the_repository_names_is_on_the_page_of_settings() -> None:
    page = (ROOT / "docs" / "configuration.md").read_text()
    files = [path for name in ("src", "tools", "benchmarks") for path in (ROOT / name).rglob("*.py")]
    named = {found for path in files for found in re.findall(r"PERMILLE_[A-Z_]*[A-Z]", path.read_text())}
    assert {name for name in named if f"`{name}`" not in page} == set()


def test_a_server_in_the_background_is_ready_when_the_command_returns_and_ends_at_stop(
    reachable_path: Path,
) -> None:
    port, data = str(free_port()), reachable_path / "data"
    started = permille(reachable_path, "up", "--detach", "--port", port, "--data-dir", data)
    try:
        assert started.returncode == 0, started.stdout + started.stderr
        assert running.health(f"http://127.0.0.1:{port}") == "ok"
        status = permille(reachable_path, "status", "--data-dir", data)
        assert (status.returncode, f"http://127.0.0.1:{port}" in status.stdout) == (0, True)
        link = permille(reachable_path, "sign-in-link", "me@example.com", "--data-dir", data)
        assert link.stdout.startswith(f"http://127.0.0.1:{port}/app/link/")
        other = str(free_port())
        for again in ((), ("--detach",)):
            said = refusal(reachable_path, "up", "--port", other, "--data-dir", data, *again)
            assert f"serves http://127.0.0.1:{port}" in said
    finally:
        ended = permille(reachable_path, "stop", "--data-dir", data)
    assert ended.returncode == 0, ended.stderr
    assert running.health(f"http://127.0.0.1:{port}") is None
    assert "No Permille runs" in refusal(reachable_path, "status", "--data-dir", data)


def test_a_record_of_a_process_number_that_another_program_has_now_is_no_server(tmp_path: Path) -> None:
    data = make_data_dir(tmp_path / "data")
    state = running.Running(pid=os.getpid(), started=1, host="127.0.0.1", port=8080)
    (data / running.STATE).write_bytes(msgspec.json.encode(state))
    assert running.running(data) is None
    assert running.stop(data) is None


def test_the_demo_keeps_its_hands_off_a_folder_that_it_did_not_make(tmp_path: Path) -> None:
    mine = tmp_path / "thesis"
    mine.mkdir()
    (mine / "chapter-1.txt").write_text("years of work")
    done = permille(tmp_path, "demo", "--folder", mine, "--events", "10")
    assert done.returncode == 1
    assert "not empty" in re.sub(r"\s+", " ", done.stdout)
    assert (mine / "chapter-1.txt").read_text() == "years of work"
    assert [path.name for path in mine.iterdir()] == ["chapter-1.txt"]


def test_a_folder_is_emptied_by_the_purpose_that_made_it_and_by_no_other(tmp_path: Path) -> None:
    folder, outside = tmp_path / "demo", tmp_path / "outside"
    outside.mkdir()
    (outside / "kept").write_text("kept")
    own_folder.make_empty(folder, purpose="demo")
    (folder / "old").mkdir()
    (folder / "old" / "file").write_text("old")
    (folder / "link").symlink_to(outside)
    with pytest.raises(own_folder.NotOursError):
        own_folder.make_empty(folder, purpose="other")
    assert (folder / "old" / "file").exists()
    own_folder.make_empty(folder, purpose="demo")
    assert [path.name for path in folder.iterdir()] == [own_folder.MARK]
    assert (outside / "kept").read_text() == "kept"


def test_nothing_else_in_the_source_removes_a_folder() -> None:
    """A new place that removes a tree must be thought of here: it may remove only what we made."""
    known = {
        "src/permille/embedded/postgres.py",  # erase, a half-made cluster
        "src/permille/embedded/own_folder.py",
        "src/permille/embedded/binaries.py",  # its own temporary folder
        "benchmarks/stack.py",  # temporary folders
        "benchmarks/chunks/__main__.py",  # its own temporary folder
        "benchmarks/invoices/__main__.py",
        "tools/package.py",  # its own temporary folder, dist/
        "tools/screenshots.py",
    }
    files = [path for name in ("src", "tools", "benchmarks") for path in (ROOT / name).rglob("*.py")]
    found = {str(path.relative_to(ROOT)) for path in files if "rmtree(" in path.read_text()}
    assert found == known
