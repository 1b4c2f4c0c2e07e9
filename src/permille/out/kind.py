"""What a kind of job is, and what its work has at hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg_pool import ConnectionPool

from permille.config import Config
from permille.core.record import Record, field

Renderer = Callable[[Connection[Any], Sequence[UUID]], Mapping[UUID, object]]
"""Objects as JSON by their ids; those that are no more are missing."""
Renderers = Mapping[str, Renderer]
"""By webhook_type where webhooks of a type show more than their object, else by object_type."""


class Context(Record, kw_only=True):
    """What a job has at hand; it ends soon once `is_stopping()`, and leaves the rest to the next one."""

    pool: ConnectionPool[Connection[Any]]
    config: Config
    renderers: Renderers
    is_stopping: Callable[[], bool]
    under_way: dict[str, object] = field(default_factory=dict)
    """The keys that this process is at, of a kind that has one job of each in a process."""


class Kind(Record, kw_only=True):
    """A kind of job by its name in the database; `run` does whatever is due at a key, and may do it again."""

    name: str
    run: Callable[[Context, str], object]
