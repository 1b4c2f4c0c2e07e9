"""A real PostgreSQL for every test that asks for one: one server a test process, one fresh database a test."""

from __future__ import annotations

import gc
import itertools
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
from hypothesis import HealthCheck, settings

from permille.config import from_environment
from permille.database import connections
from permille.database.migrate import migrate
from permille.embedded.postgres import EmbeddedPostgres
from tests.live import PATIENCE_SECONDS

# Only for tests: nothing here outlives the machine, so nothing waits for the disk.
FAST = {
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "shared_buffers": "64MB",
    "min_wal_size": "64MB",
    "max_wal_size": "512MB",
    "autovacuum": "off",
}

MEMORY_MIN = 4 * 1024**3
"""Bytes that must be free: the databases of a few workers, and the logs of their servers."""

# Programs that tests start find what they import compiled, whatever the environment says.
os.environ.pop("PYTHONDONTWRITEBYTECODE", None)
sys.dont_write_bytecode = False

# A busy machine is no fault of a test.
connections.WAIT_SECONDS = PATIENCE_SECONDS
settings.register_profile("permille", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("quick", settings.get_profile("permille"), max_examples=10)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "permille"))

_numbers = itertools.count(1)


SLOW = (
    "tests/real_clients/",
    "tests/faults/",
    "tests/browser/",
    "tests/client/",
    "tests/test_backup",
    "tests/test_unprivileged",
    "tests/test_door",
)
"""What waits for real servers, in this order: it comes first, so that the end of a run is many short tests for all workers.

What shares a server is together: each worker that has some of it starts one of its own.
"""


def _turn(item: pytest.Item) -> int:
    """The place of a test's folder in SLOW; all the others come after them, as they are."""
    return next((turn for turn, place in enumerate(SLOW) if item.nodeid.startswith(place)), len(SLOW))


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=_turn)


def pytest_collection_finish() -> None:
    """What is there before the first test stays: it is not gone through again with every collection of garbage."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000)


def place_of_databases() -> str:
    """Memory where there is enough: a new database is a thousand files, which a disk takes five times as long for."""
    try:
        memory = os.statvfs("/dev/shm")
    except OSError:
        return "/tmp"
    is_roomy = memory.f_bavail * memory.f_frsize >= MEMORY_MIN
    return "/dev/shm" if is_roomy and not memory.f_flag & os.ST_NOEXEC else "/tmp"


def make_reachable_folder() -> Path:
    """A folder that every user may pass through; pytest's own are closed to the database's user."""
    folder = Path(tempfile.mkdtemp(prefix="permille-test-", dir=place_of_databases()))
    folder.chmod(0o711)
    return folder


@pytest.fixture(scope="session")
def reachable_session_path() -> Iterator[Path]:
    """One for the whole session."""
    folder = make_reachable_folder()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def reachable_path() -> Iterator[Path]:
    """Like tmp_path, for what the database's user must reach when the tests run as root."""
    folder = make_reachable_folder()
    yield folder
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def postgres(reachable_session_path: Path) -> Iterator[EmbeddedPostgres]:
    """A server with an empty, migrated database: the template of every test's own."""
    bin_dir = from_environment().pg_bin
    with EmbeddedPostgres(reachable_session_path / "postgres", settings=FAST, bin_dir=bin_dir) as server:
        migrate(server.dsn)
        with psycopg.connect(server.dsn) as conn:  # as if more than 32 bits had been used up
            conn.execute("alter table series alter column id restart with 5000000000")
        yield server


def _database_url(server: EmbeddedPostgres, name: str) -> str:
    return server.dsn.replace("@/permille?", f"@/{name}?", 1)


@contextmanager
def fresh_database(server: EmbeddedPostgres, name: str, template: str = "permille") -> Iterator[str]:
    """The URI of a database that is a copy of another one, dropped at the end."""
    name = f"{name}_{os.getpid()}_{next(_numbers)}"
    with psycopg.connect(server.superuser_dsn, autocommit=True) as conn:
        conn.execute(f"create database {name} template {template} strategy file_copy owner permille")
        yield _database_url(server, name)
        conn.execute(f"drop database {name} with (force)")


@pytest.fixture
def template() -> str:
    """The database that a test's own is a copy of; a module may have one with more in it."""
    return "permille"


@pytest.fixture
def dsn(postgres: EmbeddedPostgres, template: str) -> Iterator[str]:
    """The URI of a fresh migrated database, dropped after the test."""
    with fresh_database(postgres, "test", template) as url:
        yield url


@pytest.fixture
def empty_dsn(postgres: EmbeddedPostgres) -> Iterator[str]:
    """The URI of a fresh database without a schema."""
    with fresh_database(postgres, "empty", template="template0") as url:
        yield url


@pytest.fixture
def db(dsn: str) -> Iterator[psycopg.Connection[Any]]:
    """An open connection to the fresh database; the test commits what others are to see."""
    with psycopg.connect(dsn) as conn:
        conn.execute("set timezone to 'UTC'")
        conn.commit()
        yield conn
        conn.rollback()
