"""`permille read`: heavy reads of the API in a process of their own, for the server of the same `permille up`.

The server asks for them over a socket, with all that it has to say about a request said already: turns, budgets, bodies, metrics,
log. A read checks its key and its permissions in its own transaction, as in the server.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from collections.abc import Mapping

import psycopg

from permille import logs, niceness, request_ids
from permille.api.http import Engine, Reads
from permille.api.routes import reads_apart
from permille.app import HEAVY_POOL_SIZE, limits_of
from permille.busy import Patience
from permille.config import READER_SOCKET, Config
from permille.database.connections import open_pool
from permille.embedded.running import UnusableError
from permille.embedded.unprivileged import leave_root
from permille.http import reads
from permille.memory import calm_collector, quick_turns
from permille.signals import Signals
from permille.usecases.key_use import KeyUse

log = logging.getLogger(__name__)

NICENESS = 5
IDLE_SECONDS = 300.0
"""After so long without a read it ends; the server has it started again for the next one."""
LOOK_SECONDS = 10.0


def _serve(connection: socket.socket, engine: Engine, found: Mapping[str, Reads], patience: Patience) -> None:
    """Answer what the server asks for over a connection. One that fails is closed: the server reads by itself then."""
    with connection:
        try:
            while True:
                asked = reads.receive(connection, reads.Reading)
                request_ids.current.set(asked.request_id)
                reads.send(connection, found[asked.route](engine, asked))
                patience.begin_again()
        except (EOFError, OSError):
            pass
        except psycopg.Error as error:
            log.warning("A read failed, which the server does again: %s", error)
        except Exception:
            log.exception("A read failed, which the server does again")


def accept(listener: socket.socket, engine: Engine, patience: Patience) -> None:
    """Answer the servers of our own user that connect, each by a thread, until the listener is closed.

    `patience` begins again with each read.
    """
    found = reads_apart()
    while True:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        if reads.is_ours(connection):
            threading.Thread(target=_serve, args=(connection, engine, found, patience), daemon=True).start()
        else:
            connection.close()


def run(config: Config, *, is_behind: bool = False) -> None:
    """Read for the server until SIGTERM or SIGINT, or until no more reads come. Raises UnusableError where no server asks.

    One that `is_behind` makes documents, and reads for those who take most: it gives way to all others.
    A read that it is at as it ends is done by the server.
    """
    name = os.environ.get(READER_SOCKET)
    if config.database_url is None or name is None:
        raise UnusableError("`permille up` runs this by itself, for its server.")
    logs.configure(config.log_level, config.log_format)
    leave_root(config)
    if is_behind:
        niceness.lower(os.getpid())
    else:
        os.nice(NICENESS)
    limits = limits_of(config)
    pool = open_pool(config.database_url, size=reads.AT_ONCE, name="permille-read", limits=limits)
    heavy_pool = open_pool(
        config.database_url, size=HEAVY_POOL_SIZE, name="permille-read-heavy", limits=limits, gives_way=True
    )
    engine = Engine(config=config, pool=pool, heavy_pool=heavy_pool, key_use=KeyUse(pool))
    with Signals() as signals, socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(reads.address_of(name, is_behind=is_behind))
        listener.listen(2 * reads.AT_ONCE)
        patience = Patience(IDLE_SECONDS)
        threading.Thread(target=accept, args=(listener, engine, patience), daemon=True).start()
        calm_collector()
        quick_turns()
        while not signals.stopping() and not patience.is_over():
            signals.wait(LOOK_SECONDS)
    heavy_pool.close()
    pool.close()
