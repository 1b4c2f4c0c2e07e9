"""What the background does with a history that is to be moved."""

from __future__ import annotations

from typing import Any

import psycopg

from permille.events.postgres import rebuilding


def rebuild_some(conn: psycopg.Connection[Any]) -> bool:
    """A chunk for each organization; whether there was any."""
    waiting = rebuilding.organizations_waiting(conn)
    for each in waiting:
        rebuilding.step(conn, each)
    return bool(waiting)
