"""Backups of a database by PostgreSQL's own programs: into one file, and back from it in one transaction."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import IO, Any

import psycopg
from psycopg import sql

from permille.core.record import Record
from permille.embedded.binaries import program_directories
from permille.embedded.running import UnusableError

KNOWN_SINCE = {b"SET transaction_timeout = 0;\n": 17}
"""What newer programs write for a restore, with the major version of the oldest server that knows it."""
HEAD_LINES = 60
SERVING = "permille-%"
"""Names of the connections of servers and workers, which remember what a restore would replace."""


class BackupError(UnusableError):
    """A backup can't be made or restored; the message says why and what to do. The database is as before."""


class Programs(Record, kw_only=True):
    """pg_dump, pg_restore and psql of one version."""

    directory: Path
    major: int

    def command(self, name: str, *arguments: str) -> list[str]:
        return [str(self.directory / name), *arguments]


def find_programs(server_major: int, preferred: Path | None = None) -> Programs:
    """The newest that there are: they read servers and files of all older versions. Raises BackupError."""
    found = [
        Programs(directory=directory, major=major)
        for directory in program_directories(preferred)
        if (major := _major_of(directory)) is not None
    ]
    newest = max(found, key=lambda each: each.major, default=None)
    if newest is None or newest.major < server_major:
        has = "none were found" if newest is None else f"those found are of PostgreSQL {newest.major}"
        raise BackupError(
            f"The database is PostgreSQL {server_major}, and it needs pg_dump, pg_restore and psql of that version or a "
            f"newer one; {has}. Install them (Debian: postgresql-client-{server_major}), or set PERMILLE_PG_BIN to their folder."
        )
    return newest


def _major_of(directory: Path) -> int | None:
    try:
        done = subprocess.run(
            [directory / "pg_dump", "--version"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    found = re.search(r"(\d+)(\.\d+|devel|beta\d|rc\d)", done.stdout)
    return int(found[1]) if found and (directory / "psql").exists() else None


def connection_environment(dsn: str) -> dict[str, str]:
    """The connection string as libpq's variables: a password is in no list of processes then."""
    given = {
        option.envvar.decode(): option.val.decode()
        for option in psycopg.pq.Conninfo.parse(dsn.encode())
        if option.envvar and option.val
    }
    ours = {name: value for name, value in os.environ.items() if not name.startswith("PG")}
    return {**ours, **given, "LC_ALL": "C"}


def server_major(dsn: str) -> int:
    with psycopg.connect(dsn, application_name="permille backup") as conn:
        return conn.info.server_version // 10_000


def back_up(dsn: str, file: Path, *, bin_dir: Path | None = None) -> int:
    """Write all of the database as of one instant to a new file that only its owner reads; its size.

    The file has its name once it is whole and on the disk. Raises BackupError.
    """
    if file.exists():
        raise BackupError(f"{file} is there already. Choose another name, or remove it yourself.")
    programs = find_programs(server_major(dsn), bin_dir)
    try:
        descriptor, name = tempfile.mkstemp(dir=file.parent, prefix=f".{file.name}.", suffix=".partial")
    except OSError as error:
        raise BackupError(f"Can't write into {file.parent}: {error.strerror}.") from error
    partial = Path(name)
    try:
        command = programs.command(
            "pg_dump", "--format=custom", "--no-owner", "--no-privileges", f"--file={partial}"
        )
        done = subprocess.run(command, env=connection_environment(dsn), stderr=subprocess.PIPE, check=False)
        if done.returncode != 0:
            raise BackupError(f"pg_dump failed: {_last(done.stderr)}")
        os.fsync(descriptor)
        _table_of_contents(programs, partial)
        os.link(partial, file)  # unlike a rename it replaces nothing
    except FileExistsError:
        raise BackupError(f"{file} was made by another meanwhile. Choose another name.") from None
    finally:
        os.close(descriptor)
        partial.unlink(missing_ok=True)
    _sync(file.parent)
    return file.stat().st_size


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _last(said: bytes) -> str:
    return "\n".join(said.decode(errors="replace").strip().splitlines()[-3:]) or "it gave no reason"


def _table_of_contents(programs: Programs, file: Path) -> str:
    """Raises BackupError when the file is no backup, or is cut off before its table of contents."""
    done = subprocess.run(
        programs.command("pg_restore", "--list", str(file)), capture_output=True, check=False
    )
    if done.returncode != 0:
        raise BackupError(f"{file} is no backup that can be read: {_last(done.stderr)}")
    return done.stdout.decode(errors="replace")


def has_data(conn: psycopg.Connection[Any]) -> bool:
    """Whether a restore would replace anything but an empty schema of Permille."""
    tables = {name for (name,) in conn.execute("select tablename from pg_tables where schemaname = 'public'")}
    if not tables:
        return False
    if not {"schema_migration", "organization", "app_user"} <= tables:
        return True
    row = conn.execute("select exists (select from organization) or exists (select from app_user)").fetchone()
    return row == (True,)


def _refuse_target(dsn: str, *, replace: bool) -> None:
    with psycopg.connect(dsn, application_name="permille restore") as conn:
        row = conn.execute(
            "select count(*) from pg_stat_activity where datname = current_database() and application_name like %s",
            [SERVING],
        ).fetchone()
        if row is not None and row[0]:
            raise BackupError(
                "`permille serve` or `permille work` is connected to this database. Stop them first: they remember what a "
                "restore replaces."
            )
        if has_data(conn) and not replace:
            raise BackupError(
                "This database has data. To lose it and have the backup's instead, pass --replace; to keep it, restore into "
                "a new data directory or a new database."
            )


def restore(dsn: str, file: Path, *, replace: bool = False, bin_dir: Path | None = None) -> None:
    """Make the database what the file holds, in one transaction.

    Raises BackupError, also when the database has data and `replace` is not set; then nothing has changed.
    """
    programs = find_programs(server_major(dsn), bin_dir)
    if "TABLE DATA public schema_migration" not in _table_of_contents(programs, file):
        raise BackupError(f"{file} is a backup of something else than Permille.")
    _refuse_target(dsn, replace=replace)
    command = programs.command(
        "pg_restore", "--exit-on-error", "--no-owner", "--no-privileges", "--file=-", str(file)
    )
    load(command, dict(os.environ), dsn, programs)


def copy(source: str, target: str, *, bin_dir: Path | None = None) -> None:
    """Make a database what another one is, by the programs of the newer version. Raises BackupError."""
    programs = find_programs(server_major(target), bin_dir)
    command = programs.command("pg_dump", "--no-owner", "--no-privileges")
    load(command, connection_environment(source), target, programs)


def load(command: list[str], environment: dict[str, str], dsn: str, programs: Programs) -> None:
    """Run the script that a command writes on the emptied database, in one transaction. Raises BackupError."""
    psql = programs.command("psql", "--no-psqlrc", "--quiet", "--tuples-only", "--set=ON_ERROR_STOP=1")
    with tempfile.TemporaryFile() as errors, tempfile.TemporaryFile() as said:
        target = subprocess.Popen(
            psql, stdin=subprocess.PIPE, stdout=said, stderr=errors, env=connection_environment(dsn)
        )
        source = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, env=environment)
        assert target.stdin is not None
        try:
            with contextlib.suppress(BrokenPipeError):  # psql has ended, and says why
                target.stdin.write(b"begin;\n" + _EMPTY)
                _feed(source, target.stdin, server_major(dsn))
                target.stdin.close()
        finally:
            source.kill()
            source.wait()
        target.wait()
        said.seek(0)
        errors.seek(0)
        if _DONE not in said.read().splitlines()[-3:]:
            raise BackupError(f"Nothing was restored: {_last(errors.read())}")


_EMPTY = b"set client_min_messages = warning;\ndrop schema public cascade;\ncreate schema public;\n"
_WHOLE = b"-- PostgreSQL database dump complete\n"
_DONE = b" committed"


def _feed(source: subprocess.Popen[bytes], target: IO[bytes], major: int) -> None:
    """The script without what this server doesn't know; its transaction is committed only if the script is whole."""
    script = source.stdout
    assert script is not None
    for _ in range(HEAD_LINES):
        line = script.readline()
        if KNOWN_SINCE.get(line, 0) <= major:
            target.write(line)
    tail = b""
    while chunk := script.read(1 << 20):
        target.write(chunk)
        tail = (tail + chunk)[-512:]
    if source.wait() == 0 and _WHOLE in tail:
        target.write(b"commit;\nselect 'committed';\n")
    else:
        target.write(b"\n\\.\nrollback;\ndo $$ begin raise exception 'the backup ends too early'; end $$;\n")


def counts(dsn: str) -> dict[str, int]:
    """How many rows each table has."""
    with psycopg.connect(dsn, application_name="permille backup") as conn:
        names = conn.execute(
            "select c.relname from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind = 'r'"
        ).fetchall()
        counted = sql.SQL(" union all ").join(
            sql.SQL("(select {}, count(*) from {})").format(sql.Literal(name), sql.Identifier("public", name))
            for (name,) in names
        )
        return dict(conn.execute(counted).fetchall()) if names else {}


def room_for(folder: Path, needed: int) -> None:
    """Raises BackupError where the folder's disk has less room."""
    free = shutil.disk_usage(folder).free
    if free < needed:
        raise BackupError(
            f"{folder} has {free / 1024**3:.1f} GiB free; about {needed / 1024**3:.1f} GiB are needed."
        )
