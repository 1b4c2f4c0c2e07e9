"""The audit of an installation: what was billed holds together, and usage cells are what their events give."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.events.engine import upkeep
from permille.store import audit
from permille.store.audit import Finding

CELLS = "Usage cells are what a recomputation from the events gives"
SENTENCES = (*(check.sentence for check in audit.CHECKS), CELLS)


def findings(conn: Connection[Any], *, organization_id: UUID | None = None) -> Iterator[Finding]:
    """Rows that break a sentence, at most so many of each; usage cells are looked at for all organizations together."""
    yield from audit.findings(conn, organization_id=organization_id)
    if organization_id is None:
        yield from _wrong_cells(conn)


def _wrong_cells(conn: Connection[Any]) -> Iterator[Finding]:
    """Usage cells that are not what their events give; it reads all events."""
    for series_id, grain, start in upkeep.verify(conn, limit=audit.SHOWN_MAX):
        yield Finding(
            sentence=CELLS, organization_id=None, what=f"series {series_id}", detail=f"{grain} from {start}"
        )
