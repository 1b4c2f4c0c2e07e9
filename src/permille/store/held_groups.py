"""Usage of language models that is kept aside, by what it has in common."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.llm.held import GROUP_PROPERTIES, HeldGroup
from permille.core.record import Record


class HeldSum(Record, kw_only=True):
    """How much of a group waits, and an example of why."""

    group: HeldGroup
    count: int
    first_at: datetime
    last_at: datetime
    message: str
    models: list[str]


_GROUPED = f"""
select code, external_subscription_id, external_customer_id, named, count(*), min(at), max(at), max(message),
    (array_agg(distinct provider || '/' || coalesce(model, '?')))[:5]
from (
    select h.*, jsonb_strip_nulls(jsonb_build_object({", ".join(f"'{name}', properties ->> '{name}'" for name in GROUP_PROPERTIES)})) as named
    from held_usage h where organization_id = %(organization)s and counted_at is null
) as held
group by code, external_subscription_id, external_customer_id, named
order by count(*) desc, code, external_subscription_id, external_customer_id, named
"""


def groups(
    conn: Connection[Any], organization_id: UUID, *, limit: int, offset: int
) -> tuple[list[HeldSum], int]:
    """A page of the groups of what waits, the greatest first, and how many there are."""
    values = {"organization": organization_id, "limit": limit, "offset": offset}
    rows = conn.execute(f"{_GROUPED} limit %(limit)s offset %(offset)s", values)
    found = [
        HeldSum(
            group=HeldGroup(
                code=code,
                external_subscription_id=subscription,
                external_customer_id=customer,
                properties=named,
            ),
            count=count,
            first_at=first_at,
            last_at=last_at,
            message=message,
            models=models,
        )
        for code, subscription, customer, named, count, first_at, last_at, message, models in rows
    ]
    row = conn.execute(f"select count(*) from ({_GROUPED}) as g", values).fetchone()
    return found, row[0] if row else 0


def count_in(conn: Connection[Any], organization_id: UUID, group: HeldGroup) -> int:
    """How many of a group wait."""
    row = conn.execute(f"select count(*) from held_usage where {_IN_GROUP}", _values(organization_id, group))
    found = row.fetchone()
    return found[0] if found else 0


def counts(conn: Connection[Any], organization_id: UUID) -> dict[str, int]:
    """Reason -> how many wait for it."""
    return dict(
        conn.execute(
            "select code, count(*) from held_usage where organization_id = %s and counted_at is null group by code",
            [organization_id],
        )
    )


def waiting_in(conn: Connection[Any], organization_id: UUID, group: HeldGroup, *, limit: int) -> list[UUID]:
    """The oldest of a group, locked until the transaction ends."""
    rows = conn.execute(
        f"select id from held_usage where {_IN_GROUP} order by id limit %(limit)s for update",
        {**_values(organization_id, group), "limit": limit},
    )
    return [held_id for (held_id,) in rows]


_SAME = " and ".join(f"properties ->> '{name}' is not distinct from %({name})s" for name in GROUP_PROPERTIES)
_IN_GROUP = f"""
organization_id = %(organization)s and counted_at is null and code = %(code)s
and external_subscription_id is not distinct from %(subscription)s
and external_customer_id is not distinct from %(customer)s and {_SAME}
"""


def _values(organization_id: UUID, group: HeldGroup) -> dict[str, Any]:
    return {
        "organization": organization_id,
        "code": group.code,
        "subscription": group.external_subscription_id,
        "customer": group.external_customer_id,
        **{name: group.properties.get(name) for name in GROUP_PROPERTIES},
    }
