"""`permille doctor`: looks at this machine, the settings and the database, and says what to do about what is wrong."""

from __future__ import annotations

import os
import shutil
import sys
from datetime import date, timedelta
from typing import Any

import psycopg

from permille import accelerator
from permille.clock import system_now
from permille.config import Config, unknown_variables
from permille.core.record import Record
from permille.database.migrate import UnableToMigrateError, pending
from permille.embedded import running
from permille.embedded.binaries import NoBinariesError, locate_binaries
from permille.embedded.postgres import dsn_of
from permille.out.pdf import fonts
from permille.usecases import audit, watch

PYTHON_MIN = (3, 11)
DISK_FREE_MIN = 2 * 1024**3
SKEW_MAX = timedelta(seconds=1)
# The newest minor release of each major version known when this was written, and its date.
NEWEST_MINOR = {
    15: (18, date(2026, 5, 14)),
    16: (14, date(2026, 5, 14)),
    17: (10, date(2026, 5, 14)),
    18: (6, date(2026, 8, 13)),
}
MINOR_AGE_MAX = timedelta(days=100)  # minor releases come every three months
DURABLE = ("fsync", "synchronous_commit", "full_page_writes")


class Check(Record, kw_only=True):
    """One finding. `todo` says what to do; beside `ok` it is advice only."""

    name: str
    ok: bool
    detail: str
    todo: str = ""


def _python() -> Check:
    version = ".".join(str(part) for part in sys.version_info[:3])
    ok = sys.version_info >= PYTHON_MIN
    wanted = ".".join(str(part) for part in PYTHON_MIN)
    return Check(name="python", ok=ok, detail=version, todo="" if ok else f"Use Python {wanted} or newer.")


def _settings(config: Config) -> Check:
    unknown = unknown_variables(os.environ)
    if unknown:
        detail = f"not known: {', '.join(unknown)}"
        return Check(
            name="settings", ok=False, detail=detail, todo="Correct or remove these environment variables."
        )
    admin = "on" if config.admin_key else "off (PERMILLE_ADMIN_KEY is not set)"
    return Check(name="settings", ok=True, detail=f"{config.base_url}, admin API {admin}")


def _fonts() -> Check:
    """Missing fonts stop nothing: it is advice."""
    lacking = [name for name, has_font in fonts.scripts().items() if not has_font]
    if not lacking:
        return Check(name="fonts", ok=True, detail=f"invoices print {', '.join(fonts.SCRIPTS)} and more")
    detail = f"invoices print boxes for {', '.join(lacking)}, unless the machine has its own fonts"
    return Check(name="fonts", ok=True, detail=detail, todo=fonts.TO_INSTALL)


def _accelerator(config: Config) -> Check:
    """Without it everything works."""
    state = accelerator.state(is_wanted=config.accelerator == "on")
    return Check(name="accelerator of events", ok=True, detail=state)


def _minor_todo(major: int, minor: int) -> tuple[bool, str]:
    newest, released_on = NEWEST_MINOR.get(major, (0, date.max))
    if minor < newest:
        return (
            False,
            f"Update to PostgreSQL {major}.{newest} or newer: minor releases fix security faults and data loss.",
        )
    if minor == newest and system_now().date() - released_on > MINOR_AGE_MAX:
        return True, f"{major}.{minor} was released on {released_on}; look for a newer minor release."
    return True, ""


def _programs(config: Config) -> Check:
    try:
        found = locate_binaries(config.pg_bin)
    except NoBinariesError as error:
        return Check(name="database programs", ok=False, detail="none", todo=str(error))
    ok, todo = _minor_todo(found.major, found.minor)
    return Check(
        name="database programs", ok=ok, detail=f"PostgreSQL {found.version} in {found.directory}", todo=todo
    )


def _data_dir(config: Config) -> Check:
    folder = config.data_dir.absolute()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    if not os.access(existing, os.W_OK | os.X_OK):
        todo = f"Give yourself write access to {existing}, or choose another --data-dir."
        return Check(name="data directory", ok=False, detail=f"{existing} is not writable", todo=todo)
    database = folder / "database"
    free = shutil.disk_usage(database if database.exists() else existing).free
    detail = f"{folder}, {free / 1024**3:.1f} GiB free"
    todo = "" if free >= DISK_FREE_MIN else "Make room: PostgreSQL stops when the disk is full."
    return Check(name="data directory", ok=free >= DISK_FREE_MIN, detail=detail, todo=todo)


def _durability(conn: psycopg.Connection[Any]) -> Check:
    rows = conn.execute(
        "select name, setting from pg_settings where name = any(%s)", (list(DURABLE),)
    ).fetchall()
    weak = sorted(f"{name}={setting}" for name, setting in rows if setting == "off")
    if not weak:
        return Check(name="durability", ok=True, detail=f"{', '.join(DURABLE)} are on")
    return Check(
        name="durability",
        ok=False,
        detail=", ".join(weak),
        todo="Turn it on: acknowledged events can be lost when the machine stops.",
    )


def _clock(conn: psycopg.Connection[Any]) -> Check:
    before = system_now()
    row = conn.execute("select clock_timestamp()").fetchone()
    after = system_now()
    assert row is not None
    skew = max(before - row[0], row[0] - after, timedelta(0))
    return Check(
        name="clock",
        ok=skew <= SKEW_MAX,
        detail=f"{skew.total_seconds():.3f} s between this machine and the database",
        todo="" if skew <= SKEW_MAX else "Synchronize both machines' clocks (NTP).",
    )


def _background_work(conn: psycopg.Connection[Any]) -> Check:
    conn.execute("set timezone to 'UTC'")
    problem = watch.trouble(conn, system_now())
    if problem is None:
        return Check(name="background work", ok=True, detail="the clock fits what the last worker has seen")
    detail, _, todo = problem.partition(watch.CONFIRM)
    return Check(name="background work", ok=False, detail=detail.strip(), todo=todo or watch.CONFIRM)


def _migrations(dsn: str) -> Check:
    try:
        missing = pending(dsn)
    except UnableToMigrateError as error:
        return Check(name="schema", ok=False, detail="doesn't fit this Permille", todo=str(error))
    if missing:
        detail = f"{len(missing)} migrations to apply"
        return Check(
            name="schema", ok=False, detail=detail, todo="Run `permille db migrate`, or start `permille up`."
        )
    return Check(name="schema", ok=True, detail="up to date")


def _server(conn: psycopg.Connection[Any]) -> Check:
    major, minor = divmod(conn.info.server_version, 10_000)
    ok, todo = _minor_todo(major, minor)
    return Check(name="database", ok=ok, detail=f"PostgreSQL {major}.{minor} answers", todo=todo)


def _database(dsn: str, *, todo: str) -> list[Check]:
    try:
        with psycopg.connect(
            dsn, autocommit=True, connect_timeout=5, application_name="permille doctor"
        ) as conn:
            schema = _migrations(dsn)
            seen = [_background_work(conn)] if schema.ok else []
            return [_server(conn), _durability(conn), _clock(conn), schema, *seen]
    except psycopg.OperationalError as error:
        return [Check(name="database", ok=False, detail=str(error).splitlines()[0], todo=todo)]


def _embedded(config: Config) -> list[Check]:
    machine = [_programs(config), _data_dir(config)]
    dsn = dsn_of(config.data_dir)
    if dsn is None:
        return [*machine, _no_database(config)]
    return [*machine, *_database(dsn, todo="Start it with `permille up` and the same --data-dir.")]


def _no_database(config: Config) -> Check:
    try:
        running.check_data_dir(config.data_dir, is_new=False)
    except running.UnusableError as error:
        return Check(name="database", ok=False, detail="none in this data directory", todo=str(error))
    return Check(name="database", ok=True, detail="`permille up` will make it at its first start")


def checks(config: Config) -> list[Check]:
    """All findings, the most basic first. Nothing is changed or started."""
    basic = [_python(), _settings(config), _fonts(), _accelerator(config)]
    if config.database_url is None:
        return [*basic, *_embedded(config)]
    return [
        *basic,
        *_database(config.database_url, todo="Check PERMILLE_DATABASE_URL and that the server runs."),
    ]


def audit_report(config: Config) -> int:
    """Print what is wrong with what was billed and counted; 0 when nothing is, else 1."""
    assert config.database_url is not None, "the command line gives one"
    with psycopg.connect(config.database_url, application_name="permille audit") as conn:
        conn.execute("set transaction isolation level repeatable read, read only")
        found = list(audit.findings(conn))
    for sentence in audit.SENTENCES:
        broken = [one for one in found if one.sentence == sentence]
        print(f"{'FAIL' if broken else 'ok  '}  {sentence}.")
        for one in broken:
            print(f"        {one.what}: {one.detail} (organization {one.organization_id})")
    return 1 if found else 0


def _lines(check: Check) -> list[str]:
    mark = "ok  " if check.ok else "FAIL"
    todo = f"        -> {check.todo}"
    return [f"{mark}  {check.name}: {check.detail}", *([todo] if check.todo else [])]


def report(config: Config) -> int:
    """Print the findings with what to do next; 0 when all is well, else 1."""
    found = checks(config)
    sys.stdout.write("".join(f"{line}\n" for check in found for line in _lines(check)))
    return 0 if all(check.ok for check in found) else 1
