"""Processes that die: the server ends the session of whoever comes to the n-th statement, or a worker is killed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

import psycopg

from permille.api import organizations
from permille.database.connections import open_pool
from permille.usecases.due import due
from tests.api.conftest import Server

from .product import Product

AT_ONCE = {
    "subscribe",
    "end",
    "change",
    "wallet",
    "top_up",
    "void_credits",
    "buy",
    "pay",
    "pay_gate",
    "void",
    "note",
    "finalize",
    "drop_coupon",
    "amend",
}
"""Actions of one request: whoever got no answer sends it again."""


HOME = Path(__file__).parents[2]
DEATHS_MAX = 2
"""On the way of a clock."""


class Deaths:
    """Lets requests, and a worker that moves clocks, die now and then."""

    def __init__(self, server: Server, seed: int) -> None:
        self.random, self.server = Random(seed), server
        self.admin = psycopg.connect(server.dsn, autocommit=True)
        self.pool = open_pool(server.dsn, size=2, name="simulated-worker")
        self.left: int | None = None
        self.count = 0
        self.clock = datetime.now(UTC)
        self.spared: list[Any] = [self.admin, server.conn]

    def close(self) -> None:
        self.pool.close()
        self.admin.close()

    def do(self, product: Product, action: Any) -> None:
        """Do an action with a death on the way, and once more if that was in its way."""
        self.spared = [self.admin, self.server.conn, product.worker]
        if action["do"] == "move":
            self._move(product, action)
        elif action["do"] in AT_ONCE and self.random.random() < 0.5:
            if not self._survives(lambda: product.do(action), most=60):
                product.do(action)
        else:
            product.do(action)

    def _move(self, product: Product, action: Any) -> None:
        """The API only says where the clock goes; a worker moves it, in small steps, and dies on the way."""
        with patch.object(organizations, "MOVE_SECONDS", -1.0), patch.object(due, "STEP_SECONDS", 0.1):
            answer, before = product.start_moving(action), self.count
            while answer.status_code == 202 and self.count < before + DEATHS_MAX:
                self.clock += timedelta(days=1)  # a fence that a death has put up is over
                self._survives(lambda: due.move_clocks(self.pool, self.clock), most=400)
                answer = product.start_moving(action)
        while answer.status_code == 202:
            answer = product.start_moving(action)
        assert answer.status_code == 200, answer.text

    def _survives(self, work: Callable[[], Any], *, most: int) -> bool:
        with self._dying(int(most ** self.random.random())):
            try:
                work()
            except (psycopg.Error, AssertionError):
                if self.left is not None:
                    raise
                return False
        return True

    @contextmanager
    def _dying(self, statements: int) -> Iterator[None]:
        """Within this, the session that comes to the statement of this number is ended; `left` is None then."""
        execute = psycopg.Cursor.execute
        self.left = statements

        def counted(cursor: Any, *args: Any, **more: Any) -> Any:
            if self.left is not None and cursor.connection not in self.spared:
                self.left -= 1
                if self.left <= 0:
                    self.left, pid = None, cursor.connection.info.backend_pid
                    self.count += 1
                    self.admin.execute("select pg_terminate_backend(%s, 5000)", [pid])
            return execute(cursor, *args, **more)

        with patch.object(psycopg.Cursor, "execute", counted):
            yield


KILLS_MAX = 3
"""In a world: each needs a new process."""
WORKS_SECONDS = 0.4
"""How long a worker lives at most."""


class Kills(Deaths):
    """Lets a worker in a process of its own move clocks, and kills it (SIGKILL) after a while of chance."""

    def do(self, product: Product, action: Any) -> None:
        """Do an action; while a clock is on its way the worker is killed."""
        if action["do"] == "move" and self.count < KILLS_MAX:
            with patch.object(organizations, "MOVE_SECONDS", -1.0):
                product.start_moving(action)
            self._work_and_die()
        product.do(action)

    def _work_and_die(self) -> None:
        command = [sys.executable, "-m", "tests.simulation.worker", self.server.dsn]
        with subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=HOME, text=True
        ) as worker:
            assert worker.stdin is not None
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
            worker.stdin.write("go\n")
            worker.stdin.flush()
            time.sleep(self.random.random() * WORKS_SECONDS)
            assert worker.poll() is None, "it works until it is killed"
            worker.kill()
        self.count += 1
