"""Backups: whole or not there, restored whole or not at all, and what is restored bills on as the original does."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psycopg
import pytest

from permille.database.migrate import migrate
from permille.embedded import backup, upgrade
from permille.embedded.binaries import locate_binaries, locate_major
from permille.embedded.postgres import EmbeddedPostgres, UnableToStartError, erase
from tests.conftest import FAST
from tests.live import live_server, move_clock
from tests.test_cli import permille, refusal
from tests.usecases.world import World, fee_lines, make_world, move

OLD = locate_major(15)


def a_month(client: httpx2.Client) -> None:
    metric = {"name": "T", "code": "t", "aggregation_type": "sum_agg", "field_name": "n"}
    made = client.post("/billable_metrics", json={"billable_metric": metric}).json()["billable_metric"]
    charge = {
        "billable_metric_id": made["lago_id"],
        "charge_model": "standard",
        "properties": {"amount": "0.031"},
    }
    plan = {"name": "P", "code": "p", "interval": "monthly", "amount_cents": 990, "amount_currency": "USD"}
    for path, body in (
        ("/plans", {"plan": {**plan, "pay_in_advance": False, "charges": [charge]}}),
        ("/customers", {"customer": {"external_id": "c", "currency": "USD"}}),
        ("/subscriptions", {"subscription": {"external_customer_id": "c", "plan_code": "p", "external_id": "s"}}),
    ):  # fmt: skip
        answer = client.post(path, json=body)
        assert answer.status_code == 200, answer.text


def send(client: httpx2.Client, name: str, count: int, timestamp: str) -> None:
    events = [
        {"transaction_id": f"{name}-{n}", "code": "t", "external_subscription_id": "s", "timestamp": timestamp,
         "properties": {"n": n}}
        for n in range(count)
    ]  # fmt: skip
    assert client.post("/events/batch", json={"events": events}).status_code == 200


def invoices(client: httpx2.Client) -> list[Any]:
    """All that an invoice says, but for ids of what each installation made by itself, and addresses."""
    listed = client.get("/invoices").json()["invoices"]
    whole = [client.get(f"/invoices/{each['lago_id']}").json()["invoice"] for each in listed]

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {
                key: plain(inner)
                for key, inner in value.items()
                if not key.endswith(("lago_id", "_url", "created_at", "updated_at")) and "lago" not in key
            }
        return [plain(inner) for inner in value] if isinstance(value, list) else value

    return [plain(each) for each in whole]


@pytest.fixture
def folders(reachable_path: Path) -> Iterator[tuple[Path, Path]]:
    both = reachable_path / "original", reachable_path / "restored"
    for folder in both:
        folder.mkdir()
        folder.chmod(0o711)
    yield both
    for folder in both:
        erase(folder / "data")


def test_a_backup_of_a_running_installation_is_restored_and_bills_on_as_the_original(
    folders: tuple[Path, Path],
) -> None:
    original, restored = folders
    file = original / "permille.dump"
    with live_server(original) as first:
        key = first.organization(test_mode=True, now="2026-10-01T00:00:00Z")["api_key"]
        with first.client(key) as client:
            a_month(client)
            send(client, "october", 500, "2026-10-10T00:00:00Z")
            move_clock(client, "2026-11-05T00:00:00Z")
            send(client, "november", 300, "2026-11-03T00:00:00Z")
            done = permille(original, "db", "backup", file, "--data-dir", original / "data")
            assert done.returncode == 0, done.stderr
            assert stat.S_IMODE(file.stat().st_mode) == 0o600
            said = refusal(original, "db", "restore", file, "--data-dir", original / "data")
            assert "permille stop" in said, "not under a running one"
            move_clock(client, "2027-01-02T00:00:00Z")
            expected = invoices(client)
            assert len(expected) == 3
    done = permille(restored, "db", "restore", file, "--data-dir", restored / "data")
    assert done.returncode == 0, done.stderr
    done = permille(restored, "db", "backup", restored / "again.dump", "--data-dir", restored / "data")
    assert done.returncode == 0, "also one that does not run"
    with live_server(restored) as second, second.client(key) as client:
        assert len(invoices(client)) == 1, "as of the backup"
        move_clock(client, "2027-01-02T00:00:00Z")
        assert invoices(client) == expected


def test_a_database_of_ones_own_is_backed_up_and_restored(dsn: str, empty_dsn: str, tmp_path: Path) -> None:
    with psycopg.connect(dsn) as conn:
        world = make_world(conn)
        world.subscribe(world.customer(), world.plan(amount_cents=500))
        conn.commit()
    environment = {"PERMILLE_DATABASE_URL": dsn}
    file = tmp_path / "b.dump"
    assert permille(tmp_path, "db", "backup", file, **environment).returncode == 0
    assert "there already" in refusal(tmp_path, "db", "backup", file, **environment)
    done = permille(tmp_path, "db", "restore", file, PERMILLE_DATABASE_URL=empty_dsn)
    assert done.returncode == 0, done.stderr
    assert backup.counts(empty_dsn) == backup.counts(dsn)
    lines = []
    for each in (dsn, empty_dsn):
        with psycopg.connect(each) as conn:
            conn.execute("set timezone to 'UTC'")
            there = World(conn=conn, organization=world.organization)
            move(there, 2024, 6, 1)
            lines.append(fee_lines(there))
            conn.rollback()
    assert lines[0] == lines[1] != []
    assert "--replace" in refusal(tmp_path, "db", "restore", file, PERMILLE_DATABASE_URL=empty_dsn)
    done = permille(tmp_path, "db", "restore", file, "--replace", PERMILLE_DATABASE_URL=empty_dsn)
    assert done.returncode == 0, done.stderr


def test_a_database_with_the_tables_of_another_program_is_not_replaced(
    dsn: str, empty_dsn: str, tmp_path: Path
) -> None:
    file = tmp_path / "b.dump"
    backup.back_up(dsn, file)
    with psycopg.connect(empty_dsn) as conn:
        conn.execute("create table wordpress (id int)")
    with pytest.raises(backup.BackupError, match="has data"):
        backup.restore(empty_dsn, file)


def test_an_empty_schema_is_no_data_but_who_serves_it_must_stop(dsn: str, tmp_path: Path) -> None:
    file = tmp_path / "b.dump"
    backup.back_up(dsn, file)
    with (
        psycopg.connect(dsn, application_name="permille-serve"),
        pytest.raises(backup.BackupError, match="Stop them first"),
    ):
        backup.restore(dsn, file)
    backup.restore(dsn, file)
    assert migrate(dsn) == []


@pytest.mark.parametrize("kept", [0.3, 0.97])
def test_a_cut_off_backup_changes_nothing(dsn: str, tmp_path: Path, kept: float) -> None:
    file, cut = tmp_path / "b.dump", tmp_path / "cut.dump"
    with psycopg.connect(dsn) as conn:
        make_world(conn)
        conn.commit()
    backup.back_up(dsn, file)
    whole = file.read_bytes()
    cut.write_bytes(whole[: int(len(whole) * kept)])
    before = backup.counts(dsn)
    with pytest.raises(backup.BackupError):
        backup.restore(dsn, cut, replace=True)
    assert backup.counts(dsn) == before
    assert migrate(dsn) == []


def test_a_script_that_ends_early_changes_nothing(dsn: str, empty_dsn: str, tmp_path: Path) -> None:
    with psycopg.connect(dsn) as conn:
        make_world(conn)
        conn.commit()
    programs = backup.find_programs(backup.server_major(dsn))
    script = tmp_path / "script.sql"
    with script.open("wb") as output:
        command = programs.command("pg_dump", "--no-owner", "--no-privileges")
        subprocess.run(command, env=backup.connection_environment(dsn), stdout=output, check=True)
    text = script.read_bytes()
    in_rows = text.index(b"\tAcme\t") + 3
    for end in (in_rows, text.index(b"COPY public.organization"), len(text) // 2, len(text) - 200):
        script.write_bytes(text[:end])
        with pytest.raises(backup.BackupError, match="Nothing was restored"):
            backup.load(["cat", str(script)], {}, empty_dsn, programs)
        assert backup.counts(empty_dsn) == {}


def test_a_backup_that_is_killed_leaves_nothing_under_its_name(
    dsn: str, postgres: EmbeddedPostgres, tmp_path: Path
) -> None:
    file = tmp_path / "b.dump"
    with psycopg.connect(dsn) as conn:
        conn.execute("lock table organization in access exclusive mode")  # pg_dump waits for it
        process = subprocess.Popen(
            [sys.executable, "-m", "permille", "db", "backup", str(file)],
            env={**os.environ, "PERMILLE_DATABASE_URL": dsn},
            start_new_session=True,
        )
        until = time.monotonic() + 30
        while not any(tmp_path.glob(".b.dump.*")) and time.monotonic() < until:
            time.sleep(0.05)
        time.sleep(0.5)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert not file.exists()
    backup.back_up(dsn, file)


def test_a_failed_backup_leaves_nothing(dsn: str, tmp_path: Path) -> None:
    with psycopg.connect(dsn, autocommit=True) as conn:
        conn.execute("create table other (id int)")
        conn.execute("revoke all on other from current_user")
        conn.execute("alter table other enable row level security, force row level security")
    with pytest.raises(backup.BackupError, match="pg_dump failed"):
        backup.back_up(dsn, tmp_path / "b.dump")
    assert list(tmp_path.iterdir()) == []


def test_a_password_is_in_no_argument() -> None:
    environment = backup.connection_environment("postgresql://u:secret@db.example:6432/x?sslmode=require")
    assert environment["PGPASSWORD"] == "secret"
    assert (environment["PGHOST"], environment["PGPORT"], environment["PGDATABASE"]) == (
        "db.example",
        "6432",
        "x",
    )
    assert environment["PGSSLMODE"] == "require"


def test_programs_that_are_too_old_are_named() -> None:
    with pytest.raises(backup.BackupError, match="postgresql-client-99"):
        backup.find_programs(99)


@pytest.fixture
def old_data(reachable_path: Path) -> Iterator[Path]:
    """A data directory of PostgreSQL 15 with an organization in it."""
    if OLD is None:
        pytest.skip("this machine has no PostgreSQL 15")
    data = reachable_path / "data"
    with EmbeddedPostgres(data, settings=FAST, bin_dir=OLD.directory) as server:
        migrate(server.dsn)
        with psycopg.connect(server.dsn) as conn:
            make_world(conn, name="Old")
    yield data
    erase(data)


def content(data: Path) -> tuple[int, list[tuple[str]]]:
    with EmbeddedPostgres(data, settings=FAST) as server, psycopg.connect(server.dsn) as conn:
        names = conn.execute("select name from organization").fetchall()
        assert migrate(server.dsn) == []
        return conn.info.server_version // 10_000, names


def test_an_upgrade_over_major_versions_keeps_everything_and_the_old_cluster(old_data: Path) -> None:
    with pytest.raises(UnableToStartError, match="permille db upgrade"):
        EmbeddedPostgres(old_data, settings=FAST).start()
    done = permille(old_data.parent, "db", "upgrade", "--data-dir", old_data)
    assert done.returncode == 0, done.stderr
    assert content(old_data) == (locate_binaries().major, [("Old",)])
    assert upgrade.major_of((old_data / "database").resolve() / "cluster.old") == 15
    assert not (old_data / upgrade.WORKSHOP).exists()
    assert "nothing to do" in permille(old_data.parent, "db", "upgrade", "--data-dir", old_data).stdout


class CrashError(Exception):
    pass


@pytest.mark.parametrize("renames", [0, 1, 2])
def test_an_upgrade_that_crashed_is_repeated(
    old_data: Path, monkeypatch: pytest.MonkeyPatch, renames: int
) -> None:
    """After so many renames of clusters, the last of which are the steps that put the new one in place."""
    done: list[tuple[Path, Path]] = []

    def move(source: Path, target: Path) -> None:
        if len(done) == renames:
            raise CrashError
        done.append((source, target))
        source.rename(target)
        if len(done) == renames:
            raise CrashError

    with monkeypatch.context() as patch:
        patch.setattr(upgrade, "_move", move)
        with pytest.raises(CrashError):
            upgrade.upgrade(old_data, check=lambda _dsn: [])
    if renames == 1:
        with pytest.raises(UnableToStartError, match="interrupted"):
            EmbeddedPostgres(old_data, settings=FAST).start()
    upgrade.upgrade(old_data, check=lambda _dsn: [])
    assert content(old_data) == (locate_binaries().major, [("Old",)])


@pytest.mark.parametrize("what", ["rows", "books"])
def test_a_copy_that_differs_is_not_used(old_data: Path, monkeypatch: pytest.MonkeyPatch, what: str) -> None:
    found = iter([{"organization": 1}, {"organization": 0}])
    problems = iter([[], ["a total is wrong"]])
    if what == "rows":
        monkeypatch.setattr(upgrade, "counts", lambda _dsn: next(found))
    with pytest.raises(backup.BackupError, match="the old cluster stays in use"):
        upgrade.upgrade(old_data, check=lambda _dsn: next(problems))
    monkeypatch.undo()
    assert upgrade.major_of((old_data / "database").resolve() / "cluster") == 15
    upgrade.upgrade(old_data, check=lambda _dsn: [])
    assert content(old_data)[1] == [("Old",)]


def test_programs_of_the_old_version_are_asked_for_when_they_are_gone(
    old_data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upgrade, "locate_major", lambda _major: None)
    with pytest.raises(backup.BackupError, match="--old-bin"):
        upgrade.upgrade(old_data, check=lambda _dsn: [])


def test_a_backup_of_an_older_server_is_restored_on_it_and_on_a_newer_one(
    old_data: Path, empty_dsn: str, tmp_path: Path
) -> None:
    assert OLD is not None
    with EmbeddedPostgres(old_data, settings=FAST, bin_dir=OLD.directory) as server:
        backup.back_up(server.dsn, tmp_path / "b.dump")
        rows = backup.counts(server.dsn)
        backup.restore(server.dsn, tmp_path / "b.dump", replace=True)
        assert backup.counts(server.dsn) == rows
    backup.restore(empty_dsn, tmp_path / "b.dump")
    assert backup.counts(empty_dsn) == rows
