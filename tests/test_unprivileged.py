"""Started by root, whoever listens or works runs as the user that owns the database, PDFs too."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable
from pathlib import Path

import psycopg
import pytest

from permille.embedded import running, unprivileged
from permille.embedded.postgres import server_account
from tests.live import PATIENCE_SECONDS, LiveServer, is_healthy, live_server, wait_until
from tests.test_backup import a_month, move_clock

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="only root has anything to leave")


def users(pid: int) -> set[str]:
    """Real, effective, saved and file system user of a process."""
    status = Path(f"/proc/{pid}/status").read_text()
    found = re.search(r"^Uid:\s+(.*)$", status, re.MULTILINE)
    assert found is not None
    return set(found[1].split())


def rights_of_root(pid: int) -> list[str]:
    """Lines of its status that name root's group or a capability."""
    status = Path(f"/proc/{pid}/status").read_text()
    lines = re.findall(r"^(?:Gid|Groups|CapEff|CapPrm):.*$", status, re.MULTILINE)
    return [line for line in lines if not re.fullmatch(r"\w+:\s*(0{16}|([1-9]\d*\s*)*)", line)]


def watch_children(server: LiveServer, done: threading.Event, seen: dict[str, set[str]]) -> None:
    while not done.is_set():
        for pid, command in server.children().items():
            try:
                seen.setdefault(command, set()).update(users(pid))
            except (FileNotFoundError, ProcessLookupError):
                continue


def test_nothing_below_permille_up_is_root_not_even_what_makes_a_pdf(reachable_path: Path) -> None:
    with live_server(reachable_path) as server:
        key = server.organization(test_mode=True, now="2026-10-01T00:00:00Z")["api_key"]
        owner = str((reachable_path / "data" / "database" / "cluster").stat().st_uid)
        assert owner != "0"
        wait_until(lambda: all(users(pid) == {owner} for pid in server.children()))
        for pid, command in server.children().items():
            assert users(pid) == {owner}, command
            assert not rights_of_root(pid), command
        seen: dict[str, set[str]] = {}
        done = threading.Event()
        watcher = threading.Thread(target=watch_children, args=(server, done, seen))
        watcher.start()
        try:
            with server.client(key) as client:
                a_month(client)
                move_clock(client, "2026-11-05T00:00:00Z")
                invoice = client.get("/invoices").json()["invoices"][0]["lago_id"]
                assert client.get(f"/invoices/{invoice}/pdf").content.startswith(b"%PDF")
        finally:
            done.set()
            watcher.join()
        assert {command for command in seen if "typst_child" in command}, sorted(seen)
        assert all("0" not in found for command, found in seen.items() if "typst_child" in command), seen


def test_the_programs_end_with_a_killed_supervisor_although_the_user_changed(reachable_path: Path) -> None:
    with live_server(reachable_path) as server:
        children = server.children()
        assert server.process is not None
        server.process.kill()
        server.process.wait()
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children))


def test_serve_listens_on_a_port_of_root_and_is_not_root(dsn: str) -> None:
    port = next(port for port in range(1023, 600, -1) if running.why_taken("127.0.0.1", port) is None)
    process = subprocess.Popen(
        [sys.executable, "-m", "permille", "serve", "--port", str(port)],
        env={**os.environ, "PERMILLE_DATABASE_URL": dsn},
    )
    try:
        wait_until(lambda: is_healthy(f"http://127.0.0.1:{port}"))
        assert "0" not in users(process.pid)
    finally:
        process.terminate()
        process.wait(PATIENCE_SECONDS)


def test_work_is_not_root(dsn: str) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "permille", "work"], env={**os.environ, "PERMILLE_DATABASE_URL": dsn}
    )

    def works() -> bool:
        with psycopg.connect(dsn) as conn:
            row = conn.execute(
                "select count(*) from pg_stat_activity where application_name = 'permille-work'"
                " and datname = current_database()"
            ).fetchone()
            return row is not None and row[0] > 0

    try:
        wait_until(works)
        assert "0" not in users(process.pid)
    finally:
        process.terminate()
        assert process.wait(60) == 0


def test_an_installation_that_the_user_cannot_read_is_refused_and_root_only_on_request(
    monkeypatch: pytest.MonkeyPatch, reachable_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    account = server_account(None)
    closed = reachable_path / "packages"
    (closed / "permille").mkdir(parents=True)
    closed.chmod(0o700)
    monkeypatch.setattr(sysconfig, "get_path", closed_packages(closed))
    monkeypatch.setattr(sys, "executable", str(closed_python(closed)))
    shelf = reachable_path / "shelf"
    with pytest.raises(running.UnusableError, match="can't read"):
        unprivileged.python_for(account, allow_root=False, shelf=shelf)
    assert unprivileged.python_for(account, allow_root=True, shelf=shelf) is None
    assert "as root now" in caplog.text


def closed_packages(folder: Path) -> Callable[[str], str]:
    found = sysconfig.get_paths()
    return lambda name: str(folder) if name == "purelib" else found[name]


def closed_python(folder: Path) -> Path:
    python = folder / "python"
    python.symlink_to(Path(sys.executable).resolve())
    return python


def test_an_interpreter_that_only_root_reaches_is_copied_once(
    monkeypatch: pytest.MonkeyPatch, reachable_path: Path
) -> None:
    closed = reachable_path / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.setattr(sys, "executable", str(closed_python(closed)))
    shelf = reachable_path / "shelf"
    account = server_account(None)
    copied = unprivileged.python_for(account, allow_root=False, shelf=shelf)
    assert copied is not None
    assert copied.startswith(str(shelf))
    assert unprivileged.python_for(account, allow_root=False, shelf=shelf) == copied
    assert len(list(shelf.iterdir())) == 1
