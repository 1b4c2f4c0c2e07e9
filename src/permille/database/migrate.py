"""Migrations: numbered SQL files, applied in order, each once and as a whole.

schema.sql is the truth of what the schema is; the files in migrations/ are the way there for a database with data.
A file that was applied anywhere is never edited: add another.
"""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any

import psycopg

from permille.clock import system_now
from permille.core.record import Record

MIGRATIONS = Path(__file__).parent / "migrations"
SERVER_VERSION_MIN = 150_000
_LOCK = 0x5045524D_494C4C45  # "PERMILLE" in ASCII
_ATTEMPTS_MAX = 10

log = logging.getLogger(__name__)


class UnableToMigrateError(Exception):
    """The database and the migrations don't fit together; the message says how."""


class Migration(Record, kw_only=True):
    """One file, named by its version and what it does."""

    version: int
    name: str
    statements: bytes

    @property
    def checksum(self) -> str:
        return hashlib.sha256(self.statements).hexdigest()

    def __str__(self) -> str:
        return f"{self.version:04}_{self.name}"


def available(folder: Path = MIGRATIONS) -> list[Migration]:
    """The migrations that this Permille has, in order. Raises UnableToMigrateError for a bad or doubled number."""
    found: dict[int, Migration] = {}
    for path in sorted(folder.glob("*.sql")):
        name = re.fullmatch(r"(\d{4})_(\w+)\.sql", path.name)
        if name is None:
            raise UnableToMigrateError(f"{path} is not named like 0001_what_it_does.sql.")
        migration = Migration(version=int(name[1]), name=name[2], statements=path.read_bytes())
        if migration.version in found:
            raise UnableToMigrateError(f"{folder} has two migrations with the number {migration.version}.")
        found[migration.version] = migration
    return [found[version] for version in sorted(found)]


def _applied(conn: psycopg.Connection[Any]) -> dict[int, tuple[str, str]]:
    """Version -> (name, checksum) of what the database has."""
    exists = conn.execute("select to_regclass('schema_migration') is not null").fetchone()
    if exists != (True,):
        return {}
    rows = conn.execute("select version, name, checksum from schema_migration").fetchall()
    return {version: (name, checksum) for version, name, checksum in rows}


def _missing(migrations: Sequence[Migration], applied: dict[int, tuple[str, str]]) -> list[Migration]:
    """What is to be applied. Raises UnableToMigrateError when the database has something else than we do."""
    ours = {migration.version: migration for migration in migrations}
    for version in sorted(applied):
        name, checksum = applied[version]
        migration = ours.get(version)
        if migration is None:
            raise UnableToMigrateError(
                f"The database has migration {version:04}_{name}, which this Permille doesn't know: it was used by a newer "
                "version. Start that version or a newer one."
            )
        if migration.checksum != checksum:
            raise UnableToMigrateError(
                f"Migration {migration} was edited after it was applied to this database (checksum {checksum[:12]} then, "
                f"{migration.checksum[:12]} now). Restore the file and put the change into a new migration."
            )
    last = max(applied, default=0)
    missing = [migration for migration in migrations if migration.version not in applied]
    if missing and missing[0].version < last:
        raise UnableToMigrateError(
            f"Migration {missing[0]} was added before {last:04}, which is already applied. Renumber it."
        )
    return missing


@cache
def _newest() -> int:
    return available()[-1].version


def check_not_newer(version: int) -> None:
    """A cheap look while a process runs: raises UnableToMigrateError when the database was migrated by a newer Permille."""
    if version > _newest():
        raise UnableToMigrateError(
            f"The database has migration {version:04}, which this Permille doesn't know ({_newest():04} is its newest): "
            "it was used by a newer version. Start that version or a newer one."
        )


@contextmanager
def _only_one(conn: psycopg.Connection[Any]) -> Iterator[None]:
    """Others wait here until we are done; the server drops the lock if we die."""
    conn.execute("select pg_advisory_lock(%s)", (_LOCK,))
    try:
        yield
    finally:
        if not conn.broken:
            conn.execute("select pg_advisory_unlock(%s)", (_LOCK,))


def _check_server(conn: psycopg.Connection[Any]) -> None:
    if conn.info.server_version < SERVER_VERSION_MIN:
        version = conn.info.server_version // 10_000
        raise UnableToMigrateError(f"The database is PostgreSQL {version}; Permille needs 15 or newer.")
    encoding = conn.execute("show server_encoding").fetchone()
    if encoding != ("UTF8",):
        raise UnableToMigrateError(f"The database's encoding is {encoding}; Permille needs UTF8.")


def _apply(conn: psycopg.Connection[Any], migration: Migration, now: datetime) -> None:
    """Once more if servers of the version before hold tables in another order: a file may lock several."""
    for attempts_left in reversed(range(_ATTEMPTS_MAX)):
        try:
            with conn.transaction():
                conn.execute(migration.statements)
                conn.execute(
                    "insert into schema_migration (version, name, checksum, applied_at) values (%s, %s, %s, %s)",
                    (migration.version, migration.name, migration.checksum, now),
                )
        except psycopg.errors.DeadlockDetected:
            if attempts_left == 0:
                raise
        else:
            return


def _connect(dsn: str) -> psycopg.Connection[Any]:
    return psycopg.connect(dsn, autocommit=True, application_name="permille migrate")


def pending(dsn: str, *, folder: Path = MIGRATIONS) -> list[Migration]:
    """What `migrate` would apply now; nothing is changed. Raises UnableToMigrateError as `migrate` does."""
    with _connect(dsn) as conn:
        _check_server(conn)
        return _missing(available(folder), _applied(conn))


def migrate(dsn: str, *, folder: Path = MIGRATIONS) -> list[Migration]:
    """Bring the database to the newest schema and return what was applied, each file in a transaction of its own.

    Any number of processes may call it at once: one works, the others wait and find nothing left. Raises
    UnableToMigrateError when the database has a migration that we don't know or that was edited since.
    """
    with _connect(dsn) as conn:
        _check_server(conn)
        with _only_one(conn):
            conn.execute(
                "create table if not exists schema_migration"
                " (version integer primary key, name text not null, checksum text not null, applied_at timestamptz not null)"
            )
            missing = _missing(available(folder), _applied(conn))
            for migration in missing:
                _apply(conn, migration, system_now())
                log.info("Applied migration %s", migration)
        return missing
