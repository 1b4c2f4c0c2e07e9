"""`permille db backup`, `restore` and `upgrade`: on the database of a URL, or on the embedded one, whether it runs or not."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psycopg

from permille import logs
from permille.config import Config
from permille.database.migrate import pending
from permille.embedded import backup, running, upgrade
from permille.embedded.binaries import NoBinariesError
from permille.embedded.postgres import EmbeddedPostgres, UnableToStartError, dsn_of
from permille.usecases import audit


@contextmanager
def _database(config: Config, *, is_new: bool) -> Iterator[str]:
    """A connection string that works meanwhile: an embedded database that does not run is started for it."""
    if config.database_url is not None:
        yield config.database_url
        return
    if is_new:
        running.check_data_dir(config.data_dir, is_new=False)
    elif not running.is_data_dir(config.data_dir):
        raise running.no_database(config.data_dir)
    if running.running(config.data_dir) is not None:
        dsn = dsn_of(config.data_dir)
        assert dsn is not None, "what runs has a socket"
        yield dsn
        return
    with (
        _as_sentences(),
        EmbeddedPostgres(config.data_dir, bin_dir=config.pg_bin, os_user=config.pg_user) as server,
    ):
        yield server.dsn


@contextmanager
def _as_sentences() -> Iterator[None]:
    try:
        yield
    except (UnableToStartError, NoBinariesError) as error:
        raise running.UnusableError(str(error)) from error


def back_up(config: Config, file: Path) -> int:
    """Write a backup and say so. Raises UnusableError."""
    logs.configure(config.log_level, config.log_format)
    with _database(config, is_new=False) as dsn:
        size = backup.back_up(dsn, file.absolute(), bin_dir=config.pg_bin)
    print(
        f"Wrote {file} ({size:,} bytes). It holds customers' data and hashes of keys: keep it as safe as the database."
    )
    return 0


def restore(config: Config, file: Path, *, replace: bool) -> int:
    """Fill the database from a backup and say so. Raises UnusableError, and the database is as before then."""
    logs.configure(config.log_level, config.log_format)
    if not file.is_file():
        raise running.UnusableError(f"There is no file {file}.")
    if config.database_url is None:
        running.refuse_second(config.data_dir)
    with _database(config, is_new=True) as dsn:
        backup.restore(dsn, file.absolute(), replace=replace, bin_dir=config.pg_bin)
        missing = pending(dsn)
    todo = "Run `permille db migrate` next, or start `permille up`." if missing else "It is of this version."
    print(f"Restored {file}. {todo} `permille doctor --audit` checks all that was ever billed.")
    return 0


def upgrade_major(config: Config, *, old_bin: Path | None) -> int:
    """Bring the embedded database to our PostgreSQL and say so. Raises UnusableError."""
    logs.configure(config.log_level, config.log_format)
    if config.database_url is not None:
        raise running.UnusableError(
            "`permille db upgrade` is for the embedded database. Your own you upgrade by its provider's way, or by "
            "`permille db backup` and `permille db restore` into one of the new version."
        )
    with _as_sentences():
        print(
            upgrade.upgrade(
                config.data_dir.absolute(), check=_problems, bin_dir=config.pg_bin, old_bin=old_bin
            )
        )
    return 0


def _problems(dsn: str) -> list[str]:
    """What `permille doctor --audit` finds. An older schema is not looked at: its counts are all that is compared."""
    if pending(dsn):
        return []
    with psycopg.connect(dsn, application_name="permille audit") as conn:
        conn.execute("set transaction isolation level repeatable read, read only")
        return [f"{one.what}: {one.detail}" for one in audit.findings(conn)]
