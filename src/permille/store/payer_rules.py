"""Rules that say who pays for calls of language models with a certain name."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import dict_row

from permille.core.llm.payer import PayerName, PayerRule, PayerRules
from permille.core.record import names_of
from permille.database.bulk import text_array

_NAMES = names_of(PayerRule)
_COLUMNS = ", ".join(_NAMES)
_PLACES = ", ".join(f"%({name})s" for name in _NAMES)


def about(conn: Connection[Any], organization_id: UUID, names: Collection[tuple[str, str]]) -> PayerRules:
    """The rules about these kinds and names."""
    kinds, values = zip(*names, strict=True)
    found = _select(
        conn,
        "organization_id = %s and (field, value) in (select * from unnest(%s::text[], %s::text[]))",
        [organization_id, text_array(kinds), text_array(values)],
    )
    return {(rule.field, rule.value): rule for rule in found}


def by_id(conn: Connection[Any], organization_id: UUID, rule_id: UUID) -> PayerRule | None:
    """One of them, locked until the transaction ends."""
    found = _select(conn, "organization_id = %s and id = %s for update", [organization_id, rule_id])
    return found[0] if found else None


def listing(
    conn: Connection[Any], organization_id: UUID, *, limit: int, offset: int
) -> tuple[list[PayerRule], int]:
    """A page, newest first, and how many there are."""
    condition = "organization_id = %s"
    found = _select(
        conn,
        f"{condition} order by created_at desc, id desc limit %s offset %s",
        [organization_id, limit, offset],
    )
    row = conn.execute(f"select count(*) from payer_rule where {condition}", [organization_id]).fetchone()
    return found, row[0] if row else 0


def add(conn: Connection[Any], rule: PayerRule) -> bool:
    """Whether there was none about the same name."""
    added = conn.execute(
        f"insert into payer_rule ({_COLUMNS}, updated_at) values ({_PLACES}, %(created_at)s)"
        " on conflict (organization_id, field, value) do nothing",
        _values(rule),
    )
    return added.rowcount > 0


def replace(conn: Connection[Any], rule: PayerRule, *, now: datetime) -> None:
    """Write who pays by the rule."""
    conn.execute(
        "update payer_rule set external_subscription_id = %(external_subscription_id)s,"
        " external_customer_id = %(external_customer_id)s, overrides_request = %(overrides_request)s,"
        " position = %(position)s, updated_at = %(now)s where id = %(id)s",
        {**_values(rule), "now": now},
    )


def delete(conn: Connection[Any], rule_id: UUID) -> None:
    """The rule is gone; what was counted by it is not."""
    conn.execute("delete from payer_rule where id = %s", [rule_id])


def _values(rule: PayerRule) -> dict[str, Any]:
    return {name: getattr(rule, name) for name in _NAMES}


def _select(conn: Connection[Any], condition: str, values: Sequence[Any]) -> list[PayerRule]:
    with conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(f"select {_COLUMNS} from payer_rule where {condition}", values)
        return [PayerRule(**{**row, "field": PayerName(row["field"])}) for row in rows]
