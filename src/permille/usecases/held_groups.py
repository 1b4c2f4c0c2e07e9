"""Usage that is kept aside is counted by groups: all of one key, team, user, customer or subscription at once."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.errors import Invalid, NotFound
from permille.core.llm.held import HeldGroup
from permille.store import held_groups
from permille.usecases.llm_usages import Attribution, attribute

AT_ONCE = 200


def attribute_group(
    conn: Connection[Any], organization_id: UUID, group: HeldGroup, said: Attribution, *, now: datetime
) -> int:
    """Count up to AT_ONCE usages of a group, the oldest first, and return how many those are.

    Raises NotFound where none waits, Invalid where none of them can be counted so.
    """
    if not group.is_attributable:
        raise NotFound("held_usage")
    waiting = held_groups.waiting_in(conn, organization_id, group, limit=AT_ONCE)
    if not waiting:
        raise NotFound("held_usage")
    counted, problem = 0, None
    for held_id in waiting:
        try:
            attribute(conn, organization_id, held_id, said, now=now)
            counted += 1
        except Invalid as error:
            problem = error
    if problem is not None and not counted:
        raise problem
    return counted
