"""Usage of language models that is kept aside until it can be counted."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

import msgspec
from psycopg import Connection
from psycopg.rows import dict_row

from permille.core.llm import held as held_codes
from permille.core.llm.call import SentCall
from permille.core.llm.payer import PayerNames, PayerRule
from permille.core.llm.read import SentUsage
from permille.core.record import Record, names_of
from permille.database.bulk import text_array, uuid_array


class HeldUsage(Record, kw_only=True):
    """A call that is not counted, why not, and for whom it was counted in the end."""

    id: UUID
    organization_id: UUID
    identity: str | None
    provider: str
    model: str | None
    code: str
    message: str
    external_subscription_id: str | None
    external_customer_id: str | None
    at: datetime
    properties: Mapping[str, Any]
    sent: Mapping[str, Any]
    payer_names: PayerNames
    is_payer_requested: bool
    created_at: datetime
    counted_at: datetime | None = None
    counted_for: str | None = None

    @property
    def call(self) -> SentCall:
        """The call as it was sent, without content."""
        return SentCall(
            usage=SentUsage(provider=self.provider, **self.sent),
            external_subscription_id=self.external_subscription_id,
            external_customer_id=self.external_customer_id,
            at=self.at,
            properties=self.properties,
            payer_names=self.payer_names,
            is_payer_requested=self.is_payer_requested,
        )


_NAMES = names_of(HeldUsage)
_COLUMNS = ", ".join(_NAMES)
_SENT = ("response", "stream", "usage", "api", "model", "response_id", "tier", "cost")
_encode = msgspec.json.Encoder(decimal_format="number").encode

_KEEPS_REASON = (
    "held_usage.code = any(%(lacks_payer)s::text[]) and excluded.code <> all(%(lacks_payer)s::text[])"
)
"""What is there lacks only its payer, and what comes lacks more."""
_KEEPS_COUNTS = "held_usage.code = any(%(lacks_payer)s::text[]) and excluded.id <> all(%(finer)s::uuid[])"
_ADD = f"""
insert into held_usage ({_COLUMNS}) select {_COLUMNS} from jsonb_populate_recordset(null::held_usage, %(rows)s::jsonb)
on conflict (organization_id, identity) where identity is not null
do update set code = case when {_KEEPS_REASON} then held_usage.code else excluded.code end,
  message = case when {_KEEPS_REASON} then held_usage.message else excluded.message end,
  sent = case when {_KEEPS_COUNTS} then held_usage.sent else excluded.sent end,
  model = case when {_KEEPS_COUNTS} then held_usage.model else excluded.model end,
  payer_names = held_usage.payer_names || excluded.payer_names
returning identity, id
"""


def sent_of(usage: SentUsage) -> dict[str, Any]:
    """What is kept of a usage."""
    return {name: value for name in _SENT if (value := getattr(usage, name)) is not None}


def waiting(conn: Connection[Any], organization_id: UUID, identities: Collection[str]) -> list[HeldUsage]:
    """Those of these identities that wait, and lack nothing but their payer; locked until the transaction ends."""
    return _select(
        conn,
        "organization_id = %s and identity = any(%s::text[]) and counted_at is null and code = any(%s)"
        " order by identity for update",
        [organization_id, text_array(identities), sorted(held_codes.NOBODY_PAYS)],
    )


def add(
    conn: Connection[Any], held: Sequence[HeldUsage], *, finer: Collection[UUID] = ()
) -> dict[str | UUID, UUID]:
    """Keep them. Answers where each is, by its identity or else its own id: an identity is kept once.

    Of one that lacks only its payer the counts that came first stay, but for those of `finer`, which say more.
    """
    different = {
        each.identity or each.id: each for each in sorted(held, key=lambda each: each.identity or "")
    }
    rows = [{name: getattr(each, name) for name in _NAMES} for each in different.values()]
    values = {
        "rows": _encode(rows).decode(),
        "lacks_payer": text_array(sorted(held_codes.NOBODY_PAYS)),
        "finer": uuid_array(finer),
    }
    kept = conn.execute(_ADD, values).fetchall()
    return {identity or held_id: held_id for identity, held_id in kept}


def counted(
    conn: Connection[Any], organization_id: UUID, subscriptions: Mapping[str, str], *, now: datetime
) -> None:
    """Note that these identities, if they were kept, are counted for these subscriptions."""
    count = len(subscriptions)
    names, payers = text_array(list(subscriptions)), text_array(list(subscriptions.values()))
    conn.execute(
        "select note_counted(array_fill(%s::uuid, array[%s::int]), %s::text[], %s::text[],"
        " array_fill(%s::timestamptz, array[%s::int]))",
        [organization_id, count, names, payers, now, count],
    )


def count_these(conn: Connection[Any], payers: Mapping[UUID, str], *, now: datetime) -> None:
    """Note that these are counted, each for its subscription."""
    conn.execute(
        "update held_usage h set counted_at = %s, counted_for = c.external_id"
        " from unnest(%s::uuid[], %s::text[]) as c (id, external_id) where h.id = c.id",
        [now, uuid_array(payers), text_array(list(payers.values()))],
    )


NOBODY_PAYS = ("subscription_missing", "subscription_not_found", "customer_not_found")
"""Problems of usages that a rule about who pays may end."""


def waiting_for(conn: Connection[Any], rule: PayerRule, *, after: UUID | None, limit: int) -> list[HeldUsage]:
    """Those that wait for want of who pays and have the rule's name, from an id on, locked until the transaction ends."""
    found = _select(
        conn,
        "id = any(array(select id from held_usage where organization_id = %s and counted_at is null"
        " and code = any(%s) and payer_names @> %s::jsonb and id > %s order by id limit %s))"
        " and counted_at is null order by identity for update",
        [
            rule.organization_id,
            list(NOBODY_PAYS),
            _encode({rule.field: [rule.value]}).decode(),
            after or UUID(int=0),
            limit,
        ],
    )
    return sorted(found, key=lambda each: each.id)


def for_update(conn: Connection[Any], organization_id: UUID, held_id: UUID) -> HeldUsage | None:
    """One of them, locked until the transaction ends."""
    found = _select(conn, "organization_id = %s and id = %s for update", [organization_id, held_id])
    return found[0] if found else None


def by_id(conn: Connection[Any], organization_id: UUID, held_id: UUID) -> HeldUsage | None:
    """One of them."""
    found = _select(conn, "organization_id = %s and id = %s", [organization_id, held_id])
    return found[0] if found else None


def listing(
    conn: Connection[Any], organization_id: UUID, *, is_counted: bool, limit: int, offset: int
) -> tuple[list[HeldUsage], int]:
    """A page of those that wait, or of those that were counted since, newest first, and how many there are."""
    condition = f"organization_id = %s and counted_at is {'not null' if is_counted else 'null'}"
    found = _select(
        conn,
        f"{condition} order by created_at desc, id desc limit %s offset %s",
        [organization_id, limit, offset],
    )
    row = conn.execute(f"select count(*) from held_usage where {condition}", [organization_id]).fetchone()
    assert row is not None, "a count is always answered"
    return found, row[0]


def _select(conn: Connection[Any], condition: str, values: Sequence[Any]) -> list[HeldUsage]:
    with conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(f"select {_COLUMNS} from held_usage where {condition}", values)
        return [HeldUsage(**row) for row in rows]


_PAYERS = """
select c.external_id, s.external_id, exists (
    select from charge ch join billable_metric m on m.id = ch.billable_metric_id
    where ch.plan_id = s.plan_id and ch.deleted_at is null and m.code = any(%s))
from customer c join subscription s on s.customer_id = c.id
where c.organization_id = %s and c.external_id = any(%s) and c.deleted_at is null and s.status = 'active'
"""


def subscriptions_of_customers(
    conn: Connection[Any], organization_id: UUID, external_ids: Collection[str], codes: Sequence[str]
) -> dict[str, list[tuple[str, bool]]]:
    """External ids of customers -> their running subscriptions, and whether these price any of the metrics."""
    found: dict[str, list[tuple[str, bool]]] = {}
    rows = conn.execute(_PAYERS, [list(codes), organization_id, list(external_ids)])
    for customer, subscription, is_priced in rows:
        found.setdefault(customer, []).append((subscription, is_priced))
    return found
