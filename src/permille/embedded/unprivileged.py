"""What listens or works is not root: started by root, it becomes the user that owns the database, or refuses.

Python itself often lies where only root may go, such as root's home. Then that user gets a copy of the interpreter, made
once, as it gets one of PostgreSQL's programs; the packages stay where they are.
"""

from __future__ import annotations

import ctypes
import hashlib
import logging
import os
import pwd
import shutil
import subprocess
import sys
import sysconfig
from functools import cache
from pathlib import Path

from permille.config import Config
from permille.embedded.binaries import made_once
from permille.embedded.postgres import REACHABLE, UnableToStartError, server_account
from permille.embedded.process import Account, identity
from permille.embedded.running import UnusableError

_PR_SET_PDEATHSIG, _PR_GET_PDEATHSIG, _PR_SET_NO_NEW_PRIVS = 1, 2, 38
CHECKED_PYTHON = "PERMILLE_CHECKED_PYTHON"
"""The variable in which a process says which interpreter it has found which ordinary user to be able to run."""
_NOT_NEEDED = (
    "site-packages",
    "test",
    "tests",
    "idlelib",
    "tkinter",
    "turtledemo",
    "ensurepip",
    "lib2to3",
    "config-*",
)

log = logging.getLogger(__name__)


def account_of_programs(config: Config) -> Account:
    """Who runs what listens or works, when root starts it. Raises UnusableError."""
    try:
        return server_account(config.pg_user)
    except UnableToStartError as error:
        raise UnusableError(str(error)) from error


def prepare(config: Config) -> None:
    """Before anything is loaded: go on with an interpreter that the ordinary user can run too. Raises UnusableError."""
    if os.geteuid() != 0:
        return
    account = account_of_programs(config)
    python = python_for(account, allow_root=config.allow_root)
    if python not in {None, sys.executable}:
        assert python is not None
        environment = {**os.environ, **library_path(python), **checked(python, account)}
        os.execve(python, [python, "-m", "permille", *sys.argv[1:]], environment)  # noqa: S606 our own arguments


def leave_root(config: Config) -> None:
    """Become the ordinary user, for good; nothing happens when we are one, or `prepare` has let us be root."""
    if os.geteuid() != 0:
        return
    account = account_of_programs(config)
    if _can_run(sys.executable, account):
        _become(account)


def python_for(account: Account, *, allow_root: bool, shelf: Path = REACHABLE) -> str | None:
    """An interpreter with which the account can run this installation: ours, or a copy of it.

    Raises UnusableError where there is none; with `allow_root` that is a warning, and None.
    """
    if _can_run(sys.executable, account):
        return sys.executable
    copied = str(_copy_of_python(shelf))
    if _can_run(copied, account):
        return copied
    said = (
        f"The user {account.name}, who is to run Permille instead of root, can't read {sys.prefix} or the packages in it. "
        "Install Permille where every user can read it (e.g. in /opt/permille), or start it as an ordinary user"
    )
    if not allow_root:
        raise UnusableError(f"{said}. PERMILLE_ALLOW_ROOT=true runs it as root all the same.")
    log.warning("%s. It runs as root now, as PERMILLE_ALLOW_ROOT says.", said)
    return None


def checked(python: str, account: Account) -> dict[str, str]:
    """The environment that spares a process to look again whether the account can run the interpreter."""
    return {CHECKED_PYTHON: f"{account.uid} {python}"}


def library_path(python: str) -> dict[str, str]:
    """The environment that a copied interpreter needs: where its own library is, if it has one."""
    library = Path(python).parent.parent.parent / "base" / "lib"
    return {"LD_LIBRARY_PATH": str(library)} if any(library.glob("libpython*")) else {}


@cache
def _can_run(python: str, account: Account) -> bool:
    """Asks the kernel, once in a tree of processes; from the root folder, since the account may have no way into ours."""
    if os.environ.get(CHECKED_PYTHON) == checked(python, account)[CHECKED_PYTHON]:
        return True
    try:
        subprocess.run(
            [python, "-I", "-c", "import permille, psycopg"],
            capture_output=True,
            check=True,
            cwd="/",
            env={**os.environ, **library_path(python)},
            **identity(account),
        )
    except (OSError, subprocess.CalledProcessError):
        return False
    return True


def _copy_of_python(shelf: Path) -> Path:
    """The interpreter and its standard library, with an environment of our packages around it; made once."""
    program = Path(sys.executable).resolve()
    packages = Path(sysconfig.get_path("purelib"))
    named = f"{program} {packages} {sys.version}".encode()
    target = shelf / f"python-{hashlib.sha256(named + program.read_bytes()).hexdigest()[:12]}"
    python = target / "venv" / "bin" / "python"
    if target.exists():
        return python
    log.warning("Only root can reach %s: copying Python to %s", program, target)
    shelf.mkdir(mode=0o755, parents=True, exist_ok=True)
    with made_once(target) as staging:
        _fill(staging, program, packages, home=target / "base" / "bin")
    return python


def _fill(folder: Path, program: Path, packages: Path, *, home: Path) -> None:
    library = Path(sysconfig.get_path("stdlib"))
    base, venv = folder / "base", folder / "venv"
    folder.chmod(0o755)
    shutil.copytree(library, base / "lib" / library.name, ignore=shutil.ignore_patterns(*_NOT_NEEDED))
    for shared in library.parent.glob("libpython*.so*"):
        shutil.copy(shared, base / "lib")
    for place in (base / "bin", venv / "bin", venv / "lib" / library.name):
        place.mkdir(parents=True)
    shutil.copy(program, base / "bin")
    (venv / "lib" / library.name / "site-packages").symlink_to(packages)
    (venv / "bin" / "python").symlink_to(Path("..", "..", "base", "bin", program.name))
    (venv / "pyvenv.cfg").write_text(f"home = {home}\ninclude-system-site-packages = false\n")


def _become(account: Account) -> None:
    libc = ctypes.CDLL(None)
    parent, last_signal = os.getppid(), ctypes.c_int()
    libc.prctl(_PR_GET_PDEATHSIG, ctypes.byref(last_signal), 0, 0, 0)
    os.initgroups(account.name, account.gid)
    os.setresgid(account.gid, account.gid, account.gid)
    os.setresuid(account.uid, account.uid, account.uid)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    os.chdir("/")
    os.environ.update(HOME=pwd.getpwuid(account.uid).pw_dir, USER=account.name, LOGNAME=account.name)
    if last_signal.value:  # the change of user has cleared it
        libc.prctl(_PR_SET_PDEATHSIG, last_signal.value, 0, 0, 0)
        if os.getppid() != parent:
            sys.exit(1)
    log.info("Running as the user %s", account.name)
