"""Migrations: the same schema by both ways, each applied once, edits and unknown versions refused."""

from __future__ import annotations

import subprocess
import threading
from pathlib import Path
from typing import Any

import psycopg
import pytest

from permille.config import from_environment
from permille.database import migrate as runner
from permille.database.migrate import UnableToMigrateError, available, migrate, pending
from permille.embedded.binaries import locate_binaries
from tests.live import PATIENCE_SECONDS

SCHEMA = Path(runner.__file__).parent / "schema.sql"


def dump(dsn: str) -> list[str]:
    """The schema as pg_dump says it, without the runner's own table and the lines that differ at every call."""
    binaries = locate_binaries(from_environment().pg_bin)
    command: list[Any] = [
        binaries.program("pg_dump"),
        "--schema-only",
        "--no-owner",
        "--exclude-table=schema_migration",
        dsn,
    ]
    text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    return [line for line in text.splitlines() if line.strip() and not line.startswith(("--", "\\"))]


def write(folder: Path, name: str, statements: str) -> None:
    (folder / name).write_text(statements)


def tables(dsn: str) -> set[str]:
    with psycopg.connect(dsn) as conn:
        return {row[0] for row in conn.execute("select tablename from pg_tables where schemaname = 'public'")}


def test_the_schema_file_and_all_migrations_make_the_same_database(dsn: str, empty_dsn: str) -> None:
    with psycopg.connect(empty_dsn) as conn:
        conn.execute(SCHEMA.read_bytes())
    by_schema = dump(empty_dsn)
    assert any("organization" in line for line in by_schema)
    assert dump(dsn) == by_schema


def test_the_comparison_sees_a_difference(dsn: str, empty_dsn: str) -> None:
    with psycopg.connect(empty_dsn) as conn:
        conn.execute(SCHEMA.read_bytes())
        conn.execute("alter table organization alter column name drop not null")
    assert dump(dsn) != dump(empty_dsn)


def test_each_migration_is_applied_once_and_recorded_with_its_checksum(empty_dsn: str) -> None:
    assert pending(empty_dsn) == available()
    assert migrate(empty_dsn) == available()
    assert migrate(empty_dsn) == []
    assert pending(empty_dsn) == []
    with psycopg.connect(empty_dsn) as conn:
        rows = conn.execute(
            "select version, name, checksum from schema_migration order by version"
        ).fetchall()
    assert rows == [(found.version, found.name, found.checksum) for found in available()]


def test_pending_changes_nothing(empty_dsn: str) -> None:
    pending(empty_dsn)
    assert tables(empty_dsn) == set()


def test_an_edited_migration_is_refused(empty_dsn: str, tmp_path: Path) -> None:
    write(tmp_path, "0001_first.sql", "create table a (n int)")
    migrate(empty_dsn, folder=tmp_path)
    write(tmp_path, "0001_first.sql", "create table a (n bigint)")
    with pytest.raises(UnableToMigrateError, match="0001_first was edited"):
        migrate(empty_dsn, folder=tmp_path)
    with pytest.raises(UnableToMigrateError, match="0001_first was edited"):
        pending(empty_dsn, folder=tmp_path)


def test_a_database_of_a_newer_version_is_refused(empty_dsn: str, tmp_path: Path) -> None:
    write(tmp_path, "0001_first.sql", "create table a (n int)")
    write(tmp_path, "0002_second.sql", "create table b (n int)")
    migrate(empty_dsn, folder=tmp_path)
    (tmp_path / "0002_second.sql").unlink()
    with pytest.raises(UnableToMigrateError, match="0002_second, which this Permille doesn't know"):
        migrate(empty_dsn, folder=tmp_path)


def test_a_migration_that_was_slipped_in_before_an_applied_one_is_refused(
    empty_dsn: str, tmp_path: Path
) -> None:
    write(tmp_path, "0002_second.sql", "create table b (n int)")
    migrate(empty_dsn, folder=tmp_path)
    write(tmp_path, "0001_first.sql", "create table a (n int)")
    with pytest.raises(UnableToMigrateError, match="Renumber"):
        migrate(empty_dsn, folder=tmp_path)


def test_a_failing_migration_leaves_nothing_of_itself_and_all_before_it(
    empty_dsn: str, tmp_path: Path
) -> None:
    write(tmp_path, "0001_first.sql", "create table a (n int)")
    write(tmp_path, "0002_second.sql", "create table b (n int); create table a (n int)")
    with pytest.raises(psycopg.errors.DuplicateTable):
        migrate(empty_dsn, folder=tmp_path)
    assert tables(empty_dsn) == {"a", "schema_migration"}
    write(tmp_path, "0002_second.sql", "create table b (n int)")
    assert [str(done) for done in migrate(empty_dsn, folder=tmp_path)] == ["0002_second"]


@pytest.mark.parametrize("name", ["1_short.sql", "0001-dash.sql", "first.sql"])
def test_a_file_without_a_proper_number_is_refused(tmp_path: Path, name: str) -> None:
    write(tmp_path, name, "select 1")
    with pytest.raises(UnableToMigrateError, match="is not named like"):
        available(tmp_path)


def test_a_number_may_not_be_used_twice(tmp_path: Path) -> None:
    write(tmp_path, "0001_first.sql", "select 1")
    write(tmp_path, "0001_second.sql", "select 1")
    with pytest.raises(UnableToMigrateError, match="two migrations with the number 1"):
        available(tmp_path)


def test_processes_that_migrate_at_once_apply_each_migration_once(empty_dsn: str, tmp_path: Path) -> None:
    write(tmp_path, "0001_first.sql", "create table a (n int); select pg_sleep(0.1)")
    write(tmp_path, "0002_second.sql", "create table b (n int)")
    applied: list[int] = []
    barrier = threading.Barrier(4)

    def one() -> None:
        barrier.wait()
        applied.extend(done.version for done in migrate(empty_dsn, folder=tmp_path))

    threads = [threading.Thread(target=one) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(applied) == [1, 2]


def test_the_lock_of_a_migration_keeps_others_waiting(empty_dsn: str, tmp_path: Path) -> None:
    write(tmp_path, "0001_first.sql", "create table a (n int)")
    done = threading.Event()

    def migrate_then() -> None:
        migrate(empty_dsn, folder=tmp_path)
        done.set()

    with psycopg.connect(empty_dsn, autocommit=True) as conn:
        conn.execute("select pg_advisory_lock(%s)", (runner._LOCK,))
        thread = threading.Thread(target=migrate_then)
        thread.start()
        waiting = "select count(*) from pg_locks where locktype = 'advisory' and not granted"
        while conn.execute(waiting).fetchone() == (0,):
            pass
        assert not done.is_set()
        assert tables(empty_dsn) == set()
        conn.execute("select pg_advisory_unlock(%s)", (runner._LOCK,))
    thread.join(PATIENCE_SECONDS)
    assert done.is_set()


def test_a_migration_that_is_chosen_to_end_a_deadlock_is_applied_again(
    empty_dsn: str, tmp_path: Path
) -> None:
    """A sequence counts what is undone, too."""
    write(tmp_path, "0001_first.sql", "create sequence attempts")
    deadlock = "do $$ begin if nextval('attempts') < {} then raise exception using errcode = '40P01'; end if; end $$;"
    write(tmp_path, "0002_second.sql", deadlock.format(3) + "create table a (n int)")
    migrate(empty_dsn, folder=tmp_path)
    assert tables(empty_dsn) == {"a", "schema_migration"}
    write(tmp_path, "0003_third.sql", deadlock.format(1_000))
    with pytest.raises(psycopg.errors.DeadlockDetected):
        migrate(empty_dsn, folder=tmp_path)
    with psycopg.connect(empty_dsn) as conn:
        assert conn.execute("select last_value from attempts").fetchone() == (3 + runner._ATTEMPTS_MAX,)
