"""A kind of due work: rows with an instant at which something is to be done."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol
from uuid import UUID

from psycopg import Connection

from permille.core.record import Record


class Step(Protocol):
    """Does a batch of what is due of an organization at an instant."""

    def __call__(
        self,
        conn: Connection[Any],
        organization_id: UUID,
        *,
        at: datetime,
        limit: int,
        wait: bool,
        now: datetime,
    ) -> int:
        """How many things were done, about `limit` at most. Rows that another worker has locked are skipped unless `wait` is set.

        What cannot be done is held, by the organization's clock `now`.
        """


class DueKind(Record, kw_only=True):
    """`first(conn, organization, until)` is the first instant at which anything of it is due; `live(conn, until)` are the
    organizations without a test clock that have anything due, also what waits for another try.
    """

    first: Callable[[Connection[Any], UUID, datetime], datetime | None]
    live: Callable[[Connection[Any], datetime], list[UUID]]
    do: Step
