"""The embedded PostgreSQL: made, started, stopped and recovered as a child of this process.

Everything lies in `DIR/database`: the cluster, its configuration, a lock and the socket's directory. The server
listens on that socket only and asks the kernel who is calling (peer), so there is no password to lose.
PostgreSQL refuses to run as root: started by root, the server runs as a system user of its own. Where that user
can't reach DIR, `DIR/database` is a link to a directory under /var/lib/permille that it can reach. Permissions and
owners of what we did not make are never touched.
"""

from __future__ import annotations

import fcntl
import logging
import os
import secrets
import shutil
import signal
import stat
import subprocess
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import IO, Self

import psycopg
from psycopg import sql

from permille.embedded.binaries import Binaries, NoBinariesError, binaries_for, locate_binaries
from permille.embedded.process import Account, account_named, account_of, identity, spawn
from permille.embedded.settings import (
    DATABASE,
    HBA_TEXT,
    ROLE,
    SUPERUSER,
    bytes_below,
    ident_text,
    settings_text,
    tuned_settings,
)

REACHABLE = Path("/var/lib/permille")
SYSTEM_USER = "permille"
PORT = 5432  # only a part of the socket's name
CONFIGURATION = ("postgresql.conf", "pg_hba.conf", "pg_ident.conf")
OUR_ENTRIES = frozenset(
    {"cluster", "cluster.new", "cluster.old", "lock", "origin", "run", "start.log", *CONFIGURATION}
    | {f".{name}.new" for name in CONFIGURATION}
)
"""All that Permille puts into DIR/database; a folder with anything else is not ours to use or to erase."""
SOCKET_PATH_MAX = 107  # bytes in sockaddr_un, without the closing zero
PATIENCE_SECONDS = 5.0  # between two log lines while waiting
ASK_AGAIN_SECONDS = 1.0
ORDERLY_LEFTOVER_SECONDS = 15.0  # for what a killed Permille left: it recovers at the next start anyway
ORDERLY_END_SECONDS = 60.0

log = logging.getLogger(__name__)


class UnableToStartError(Exception):
    """The embedded database can't be started; the message says why and what to do."""


class StartGivenUpError(Exception):
    """The caller no longer wants the database that was being started."""


def _never() -> bool:
    return False


def _make_directory(path: Path, mode: int, owner: Account | None = None) -> bool:
    """Make the directory with exactly this mode and owner; False, and nothing changed, if there is one already."""
    try:
        path.mkdir(parents=True)
    except FileExistsError:
        return False
    path.chmod(mode)
    if owner is not None and owner.uid != os.geteuid():
        os.chown(path, owner.uid, owner.gid)
    return True


def _write(path: Path, text: str) -> None:
    """Replace our own file as a whole; the server's user may read it."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.write_text(text)
    fresh.chmod(0o644)
    fresh.replace(path)


def _clean_environment() -> dict[str, str]:
    """Without the PG* variables and locales of the caller."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}


def _create_system_user() -> Account:
    command = ["useradd", "--system", "--no-create-home", "--home-dir", "/nonexistent",
               "--shell", "/usr/sbin/nologin", SYSTEM_USER]  # fmt: skip
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        reason = done.stderr.strip()
    except OSError as error:
        reason = str(error)
    account = account_named(SYSTEM_USER)
    if account is None:
        raise UnableToStartError(
            f"PostgreSQL refuses to run as root, and the system user {SYSTEM_USER} couldn't be made ({reason}). Start "
            "Permille as an ordinary user, name another user in PERMILLE_PG_USER, or set PERMILLE_DATABASE_URL."
        )
    log.warning("PostgreSQL refuses to run as root: made the system user %s for it", SYSTEM_USER)
    return account


def _own_account() -> Account:
    try:
        return account_of(os.geteuid())
    except KeyError:
        raise UnableToStartError(
            f"The user number {os.geteuid()} has no entry in /etc/passwd, which PostgreSQL needs. "
            "Add one, or set PERMILLE_DATABASE_URL."
        ) from None


def server_account(preferred: str | None) -> Account:
    """Whom a new cluster belongs to: ourselves, or for root an unprivileged user."""
    if os.geteuid() != 0:
        return _own_account()
    account = account_named(preferred or SYSTEM_USER)
    if account is None and preferred is not None:
        raise UnableToStartError(f"PERMILLE_PG_USER names {preferred}, and there is no such user.")
    if account is None:
        account = _create_system_user()
    if account.uid == 0:
        raise UnableToStartError("PERMILLE_PG_USER must not be root: PostgreSQL refuses to run as root.")
    return account


def _account_for(cluster: Path, preferred: str | None) -> Account:
    """The owner of the cluster if there is one, whatever is preferred now."""
    if not cluster.exists():
        return server_account(preferred)
    uid = cluster.stat().st_uid
    if os.geteuid() not in {0, uid}:
        raise UnableToStartError(f"{cluster} belongs to the user number {uid}: start Permille as that user.")
    try:
        return account_of(uid)
    except KeyError:
        raise UnableToStartError(
            f"{cluster} belongs to the user number {uid}, who is not in /etc/passwd."
        ) from None


def _can_enter(account: Account, folder: Path) -> bool:
    """Asks the kernel as the account itself, so that ACLs count too."""
    if account.uid == os.geteuid():
        return os.access(folder, os.X_OK)
    try:
        done = subprocess.run(["test", "-x", str(folder)], check=False, cwd="/", **identity(account))
    except OSError as error:
        raise UnableToStartError(f"Can't run programs as the user {account.name}: {error}") from error
    return done.returncode == 0


def sync_directory(folder: Path) -> None:
    """Make what was renamed or linked in the directory outlive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _open_home(data_dir: Path, account: Account, reachable: Path) -> Path:
    """The directory that holds the cluster, made if need be: `data_dir/database` or what it links to."""
    home = data_dir / "database"
    mode = 0o700 if account.uid == os.geteuid() else 0o711  # the server's user must pass through
    _make_directory(data_dir, mode)
    if not home.is_symlink() and not home.exists():
        if _can_enter(account, data_dir):
            _make_directory(home, mode)
        else:
            _make_directory(reachable, 0o755)
            elsewhere = reachable / f"database-{secrets.token_hex(6)}"
            _make_directory(elsewhere, mode)
            (elsewhere / "origin").write_text(f"{home}\n")
            home.symlink_to(elsewhere)
            sync_directory(reachable)
            log.warning(
                "The user %s can't reach %s: the database is in %s", account.name, data_dir, elsewhere
            )
    sync_directory(data_dir)
    if home.lstat().st_uid != os.geteuid():
        raise UnableToStartError(f"{home} belongs to another user: start Permille as that user.")
    try:
        home = home.resolve(strict=True)
    except OSError as error:
        raise UnableToStartError(f"{home} leads nowhere: {error}") from error
    if not _can_enter(account, home):
        raise UnableToStartError(f"The user {account.name}, who owns the database, can't reach {home}.")
    _refuse_foreign(home)
    return home


def _refuse_foreign(home: Path) -> None:
    """Raises UnableToStartError for a folder that holds what Permille did not make."""
    foreign = sorted({entry.name for entry in home.iterdir()} - OUR_ENTRIES)
    if foreign:
        raise UnableToStartError(
            f"{home} is not a database of Permille: it holds {foreign[0]}. Choose another folder."
        )


def _hold_lock(home: Path) -> IO[str]:
    """The lock that makes us the only one; the kernel releases it when we die. Raises UnableToStartError."""
    file = (home / "lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        file.seek(0)
        holder = file.read().strip() or "unknown"
        file.close()
        raise UnableToStartError(f"Another Permille (process {holder}) uses {home}. Stop it first.") from None
    file.truncate(0)
    file.write(f"{os.getpid()}\n")
    file.flush()
    return file


def _servers_in(cluster: Path) -> Iterator[tuple[int, str]]:
    """The processes of PostgreSQL which work in the cluster, with their command lines. Empty where there is no /proc."""
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            ours = (entry / "cwd").readlink() == cluster and (entry / "exe").readlink().name.startswith(
                "postgres"
            )
            if ours:
                yield (
                    int(entry.name),
                    (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"),
                )
        except OSError:  # it has just ended, or is another user's
            continue


def _signal(pid: int, number: signal.Signals) -> None:
    try:
        os.kill(pid, number)
    except ProcessLookupError:
        return


def _stop_leftovers(home: Path, give_up: Callable[[], bool]) -> None:
    """End what an earlier, killed Permille left running on this cluster, and wait until it is gone.

    We hold the lock, so its supervisor is dead. A server shuts down in an orderly way (SIGINT); processes that
    outlived their killed server are asked to finish (SIGTERM), for the new one can't start beside them. A server that
    was recovering from a crash may ignore that for good: then it ends at once (SIGQUIT), and the next start recovers.
    """
    cluster = home / "cluster"
    quiet_until = 0.0
    orderly_until = time.monotonic() + ORDERLY_LEFTOVER_SECONDS
    while found := dict(_servers_in(cluster)):
        servers = {pid: line for pid, line in found.items() if not line.startswith("postgres:")}
        # Without a command line it is just ending.
        foreign = [pid for pid, line in servers.items() if line and str(home / "postgresql.conf") not in line]
        if foreign:
            raise UnableToStartError(
                f"A PostgreSQL that Permille didn't start (process {foreign[0]}) runs on {cluster}."
            )
        if give_up():
            raise StartGivenUpError
        if time.monotonic() >= quiet_until:
            log.warning(
                "Stopping what an earlier start left running on %s: processes %s", cluster, sorted(found)
            )
            orderly = signal.SIGINT if servers else signal.SIGTERM
            for pid in servers or found:
                _signal(pid, orderly if time.monotonic() < orderly_until else signal.SIGQUIT)
            quiet_until = time.monotonic() + PATIENCE_SECONDS
        time.sleep(0.02)
    if Path("/proc/self").exists():
        # Nobody runs here. The number in the file may belong to someone else by now, as often in containers.
        (cluster / "postmaster.pid").unlink(missing_ok=True)


def _create_cluster(home: Path, binaries: Binaries, account: Account) -> None:
    """Make the cluster aside and move it in place when it is whole, so that a crash leaves none or all of it."""
    fresh = home / "cluster.new"
    if fresh.exists():
        shutil.rmtree(fresh)
    _make_directory(fresh, 0o700, account)
    # C.UTF-8 sorts by code point and is built in: no update of the system's locales can break an index.
    locale = ["--locale-provider=builtin", "--builtin-locale=C.UTF-8"] if binaries.major >= 17 else []
    command: list[str | Path] = [binaries.program("initdb"), "-D", fresh, "-U", SUPERUSER, "--encoding=UTF8", "--locale=C", *locale,
               "--data-checksums", "--auth=peer", "--no-instructions"]  # fmt: skip
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        check=False,
        cwd="/",
        env=_clean_environment(),
        **identity(account),
    )
    if done.returncode != 0:
        raise UnableToStartError(f"initdb failed: {done.stderr.strip() or done.stdout.strip()}")
    fresh.rename(home / "cluster")
    sync_directory(home)
    log.info("Made a database cluster of PostgreSQL %s in %s", binaries.version, home)


def _check_major(home: Path, binaries: Binaries) -> None:
    found = (home / "cluster" / "PG_VERSION").read_text().strip()
    if found != str(binaries.major):
        raise UnableToStartError(
            f"The cluster in {home} was made by PostgreSQL {found}, and {binaries.directory} is {binaries.version}. Run "
            f"`permille db upgrade`, or set PERMILLE_PG_BIN to the programs of PostgreSQL {found}."
        )


def _supports_lz4(home: Path, binaries: Binaries, account: Account) -> bool:
    command: list[str | Path] = [
        binaries.program("postgres"),
        "-D",
        home / "cluster",
        "-C",
        "wal_compression",
        "-c",
        "wal_compression=lz4",
    ]
    done = subprocess.run(command, capture_output=True, check=False, cwd="/", **identity(account))
    return done.returncode == 0


def _socket_fits(folder: Path) -> bool:
    return len(os.fsencode(folder / f".s.PGSQL.{PORT}")) <= SOCKET_PATH_MAX


def _is_private(folder: Path, account: Account) -> bool:
    """Whether it is still the directory that we made: /tmp may have been emptied and the name taken by someone else."""
    if folder.is_symlink() or not folder.is_dir():
        return False
    status = folder.stat()
    return status.st_uid == account.uid and stat.S_IMODE(status.st_mode) == 0o700


def _socket_directory(home: Path, account: Account) -> Path:
    """`home/run`, private to the server's user; a link to a short directory under /tmp if its own path is too long.

    The same at every start, so that clients of a crashed server find the next one.
    """
    run = home / "run"
    if _socket_fits(run):
        _make_directory(run, 0o700, account)
        return run
    if run.is_symlink():
        if _is_private(run.readlink(), account):
            return run.readlink()
        run.unlink()
    short = Path(tempfile.mkdtemp(prefix="permille-", dir="/tmp"))
    if account.uid != os.geteuid():
        os.chown(short, account.uid, account.gid)
    run.symlink_to(short)
    return short


def _uri(role: str, database: str, socket_dir: Path) -> str:
    query = urllib.parse.urlencode({"host": str(socket_dir), "port": PORT}, quote_via=urllib.parse.quote)
    return f"postgresql://{role}@/{database}?{query}"


def dsn_of(data_dir: Path) -> str | None:
    """The URI of the embedded database in `data_dir` if there is one; whether it runs is for the caller to try."""
    run = data_dir / "database" / "run"
    return _uri(ROLE, DATABASE, run.resolve()) if run.exists() else None


def erase(data_dir: Path) -> None:
    """Remove the embedded database of `data_dir` for good, wherever it lies.

    Raises UnableToStartError while it is used, and where the folder holds what Permille did not make.
    """
    link = data_dir / "database"
    if not link.exists():
        return
    home = link.resolve()
    _refuse_foreign(home)
    with _hold_lock(home):
        if (home / "run").is_symlink():
            shutil.rmtree((home / "run").readlink(), ignore_errors=True)
        shutil.rmtree(home)
    if link.is_symlink():
        link.unlink()


def _tail(path: Path) -> list[str]:
    return path.read_text(errors="replace").splitlines()[-12:] if path.exists() else []


class EmbeddedPostgres:
    """A server on the cluster in `data_dir`, made at the first start. Use it as a context manager or start and stop it.

    Start it from a thread that lives as long as the server should: on Linux the server shuts down when that
    thread dies, however it dies. `settings` overrides the tuned ones of embedded.settings.
    """

    def __init__(
        self,
        data_dir: Path,
        *,
        settings: Mapping[str, str] | None = None,
        bin_dir: Path | None = None,
        os_user: str | None = None,
        reachable: Path = REACHABLE,
    ) -> None:
        self._data_dir = data_dir.absolute()
        self._settings = dict(settings or {})
        self._bin_dir = bin_dir
        self._os_user = os_user
        self._reachable = reachable
        self._lock: IO[str] | None = None
        self._home: Path | None = None
        self._socket_dir: Path | None = None
        self._server: subprocess.Popen[bytes] | None = None

    @property
    def home(self) -> Path:
        """Where the database lies, once it was started."""
        assert self._home is not None, "start() comes first"
        return self._home

    @property
    def dsn(self) -> str:
        """The libpq URI of Permille's database, as its owner, who is no superuser."""
        assert self._socket_dir is not None, "start() comes first"
        return _uri(ROLE, DATABASE, self._socket_dir)

    @property
    def superuser_dsn(self) -> str:
        """The libpq URI for administration."""
        assert self._socket_dir is not None, "start() comes first"
        return _uri(SUPERUSER, "postgres", self._socket_dir)

    @property
    def owner(self) -> Account:
        """Whose the cluster is, once it was started."""
        return account_of((self.home / "cluster").stat().st_uid)

    @property
    def pid(self) -> int:
        """The number of the server's first process."""
        assert self._server is not None, "start() comes first"
        return self._server.pid

    def poll(self) -> int | None:
        """None while the server runs, its exit status when it has ended."""
        return 0 if self._server is None else self._server.poll()

    def start(self, *, give_up: Callable[[], bool] = _never) -> None:
        """Start the server, making the cluster if there is none, and wait until it takes connections.

        Crash recovery takes as long as it takes. Nothing happens if it runs already. Raises UnableToStartError, or
        StartGivenUpError as soon as `give_up` says so.
        """
        if self._server is not None and self._server.poll() is None:
            return
        try:
            self._launch(give_up)
            self._await_ready(give_up)
            self._ensure_database()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Shut down in an orderly way (sessions are cut, everything is written); never by force, however long it takes."""
        if self._server is not None:
            self._end(self._server)
            self._server = None
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    def leave_to_parent(self) -> None:
        """In a forked child: the lock is the parent's alone, so that it ends with the parent."""
        if self._lock is not None:
            self._lock.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def _launch(self, give_up: Callable[[], bool]) -> None:
        account = _account_for(self._data_dir / "database" / "cluster", self._os_user)
        self._home = home = _open_home(self._data_dir, account, self._reachable)
        if self._lock is None:
            self._lock = _hold_lock(home)
        binaries = self._binaries(account)
        if (home / "cluster").exists():
            _check_major(home, binaries)
            _stop_leftovers(home, give_up)
        elif (home / "cluster.old").exists():
            raise UnableToStartError(
                f"An upgrade of {home} was interrupted. Run `permille db upgrade` to finish it."
            )
        else:
            _create_cluster(home, binaries, account)
        self._socket_dir = _socket_directory(home, account)
        self._write_configuration(home, binaries, account)
        self._server = self._spawn(home, self._socket_dir, binaries, account)

    def _binaries(self, account: Account) -> Binaries:
        try:
            found = locate_binaries(self._bin_dir)
            if account.uid != os.geteuid():
                _make_directory(self._reachable, 0o755)
            return binaries_for(found, account, shelf=self._reachable)
        except NoBinariesError as error:
            raise UnableToStartError(str(error)) from error

    def _write_configuration(self, home: Path, binaries: Binaries, account: Account) -> None:
        # Never pglz: after a checkpoint it cut random inserts to a quarter (14-18k rows/s, against 58-69k without).
        compression = "lz4" if _supports_lz4(home, binaries, account) else "off"
        tuned = tuned_settings(
            disk_bytes=shutil.disk_usage(home).total,
            data_bytes=bytes_below(home / "cluster" / "base"),
            wal_compression=compression,
        )
        _write(home / "postgresql.conf", settings_text(tuned | self._settings))
        _write(home / "pg_hba.conf", HBA_TEXT)
        _write(home / "pg_ident.conf", ident_text([account.name, _own_account().name]))

    @staticmethod
    def _spawn(home: Path, socket_dir: Path, binaries: Binaries, account: Account) -> subprocess.Popen[bytes]:
        # On the command line: what no ALTER SYSTEM may change.
        fixed = {
            "config_file": home / "postgresql.conf",
            "hba_file": home / "pg_hba.conf",
            "ident_file": home / "pg_ident.conf",
            "listen_addresses": "",
            "unix_socket_directories": f'"{socket_dir}"',
            "port": PORT,
        }
        options = [part for name, value in fixed.items() for part in ("-c", f"{name}={value}")]
        with (home / "start.log").open("wb") as output:
            return spawn(
                [binaries.program("postgres"), "-D", home / "cluster", *options],
                last_signal=signal.SIGINT,
                account=account,
                env=_clean_environment(),
                output=output,
                folder=Path("/"),
            )

    def _await_ready(self, give_up: Callable[[], bool]) -> None:
        assert self._server is not None
        conninfo = self.superuser_dsn.encode()
        next_line_at = time.monotonic() + PATIENCE_SECONDS
        while psycopg.pq.PGconn.ping(conninfo) != psycopg.pq.Ping.OK:
            if self._server.poll() is not None:
                raise UnableToStartError(
                    f"PostgreSQL ended with status {self._server.returncode}:\n{self._last_words()}"
                )
            if give_up():
                raise StartGivenUpError
            if time.monotonic() >= next_line_at:
                log.warning("Waiting for PostgreSQL in %s: it is starting or recovering", self.home)
                next_line_at = time.monotonic() + PATIENCE_SECONDS
            time.sleep(0.02)

    def _last_words(self) -> str:
        logs = sorted((self.home / "cluster" / "log").glob("*.log"), key=lambda path: path.stat().st_mtime)
        lines = _tail(self.home / "start.log") + (_tail(logs[-1]) if logs else [])
        return "\n".join(lines)

    def _ensure_database(self) -> None:
        with psycopg.connect(self.superuser_dsn, autocommit=True) as conn:
            if conn.execute("select from pg_roles where rolname = %s", (ROLE,)).fetchone() is None:
                conn.execute(sql.SQL("create role {} login createdb").format(sql.Identifier(ROLE)))
            if conn.execute("select from pg_database where datname = %s", (DATABASE,)).fetchone() is None:
                statement = sql.SQL("create database {} owner {}")
                conn.execute(statement.format(sql.Identifier(DATABASE), sql.Identifier(ROLE)))

    def _end(self, server: subprocess.Popen[bytes]) -> None:
        """Ask until it has ended: who starts in the background ignores the signal until PostgreSQL's handler is installed.

        What an orderly end takes too long for ends at once: everything that was committed is recovered at the next start.
        """
        next_line_at = time.monotonic() + PATIENCE_SECONDS
        orderly_until = time.monotonic() + ORDERLY_END_SECONDS
        while server.poll() is None:
            server.send_signal(signal.SIGINT if time.monotonic() < orderly_until else signal.SIGQUIT)
            try:
                server.wait(timeout=ASK_AGAIN_SECONDS)
            except subprocess.TimeoutExpired:
                if time.monotonic() >= next_line_at:
                    log.warning("Waiting for PostgreSQL (process %s) to write everything and end", server.pid)
                    next_line_at = time.monotonic() + PATIENCE_SECONDS
