"""How events are kept follows metrics and prices."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.llm.call import METRICS
from permille.events.engine import upkeep
from permille.store import metered


def refresh(conn: Connection[Any], *, organization_id: UUID, code: str) -> None:
    """Call it after a change of the code's metric or of the prices on it, in the same transaction.

    Calls of language models have events of several codes: where one is metered, all of them are, so that each has its cost.
    """
    for each in METRICS if code in METRICS else (code,):
        wanted = metered.wanted(conn, organization_id, each)
        upkeep.refresh(conn, organization_id=organization_id, code=each, wanted=wanted)
