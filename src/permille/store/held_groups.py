"""Usage of language models that is kept aside, by what it has in common."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.llm.held import GROUP_PROPERTIES, HeldGroup
from permille.database.bulk import text_array


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldSum:
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
where (%(codes)s::text[] is null or code = any(%(codes)s))
group by code, external_subscription_id, external_customer_id, named
order by count(*) desc, code, external_subscription_id, external_customer_id, named limit %(limit)s
"""


def groups(
    conn: Connection[Any], organization_id: UUID, *, codes: Collection[str] | None = None, limit: int
) -> list[HeldSum]:
    """The greatest groups of what waits, of these reasons or of all."""
    rows = conn.execute(
        _GROUPED,
        {
            "organization": organization_id,
            "codes": None if codes is None else text_array(codes),
            "limit": limit,
        },
    )
    return [
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


def counts(conn: Connection[Any], organization_id: UUID) -> dict[str, int]:
    """Reason -> how many wait for it."""
    return dict(
        conn.execute(
            "select code, count(*) from held_usage where organization_id = %s and counted_at is null group by code",
            [organization_id],
        )
    )


_SAME = " and ".join(f"properties ->> '{name}' is not distinct from %({name})s" for name in GROUP_PROPERTIES)


def waiting_in(conn: Connection[Any], organization_id: UUID, group: HeldGroup, *, limit: int) -> list[UUID]:
    """The oldest of a group, locked until the transaction ends."""
    rows = conn.execute(
        "select id from held_usage where organization_id = %(organization)s and counted_at is null"
        " and code = %(code)s and external_subscription_id is not distinct from %(subscription)s"
        f" and external_customer_id is not distinct from %(customer)s and {_SAME}"
        " order by id limit %(limit)s for update",
        {
            "organization": organization_id,
            "code": group.code,
            "subscription": group.external_subscription_id,
            "customer": group.external_customer_id,
            **{name: group.properties.get(name) for name in GROUP_PROPERTIES},
            "limit": limit,
        },
    )
    return [held_id for (held_id,) in rows]
