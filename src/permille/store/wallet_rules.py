"""Rules by which wallets are topped up by themselves."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.wallet_rule import WalletRule
from permille.database.bulk import columns_of
from permille.database.connections import exact_json
from permille.database.typed_rows import typed_row
from permille.store.billing_holds import NOT_HELD

_COLUMNS = columns_of(WalletRule)


def add(conn: Connection[Any], rule: WalletRule) -> None:
    """A new row."""
    conn.execute(
        f"insert into wallet_rule ({_COLUMNS})"
        f" select {_COLUMNS} from jsonb_populate_record(null::wallet_rule, %s::jsonb)",
        [exact_json(rule)],
    )


def change(conn: Connection[Any], rule: WalletRule) -> None:
    """The same row with what it says now."""
    conn.execute(
        f"update wallet_rule set ({_COLUMNS}) = (select {_COLUMNS} from jsonb_populate_record(null::wallet_rule, %s::jsonb))"
        " where id = %s",
        [exact_json(rule), rule.id],
    )


def active_of(conn: Connection[Any], wallet_ids: Collection[UUID]) -> dict[UUID, WalletRule]:
    """Wallet -> its active rule."""
    with conn.cursor(row_factory=typed_row(WalletRule)) as cursor:
        rows = cursor.execute(
            f"select {_COLUMNS} from wallet_rule where wallet_id = any(%s) and status = 'active'",
            [list(wallet_ids)],
        ).fetchall()
    return {row.wallet_id: row for row in rows}


def end(conn: Connection[Any], rule_ids: Collection[UUID], *, now: datetime) -> None:
    """They top up no more."""
    conn.execute(
        "update wallet_rule set status = 'terminated', terminated_at = %s, updated_at = %s, next_top_up_at = null"
        " where id = any(%s) and status = 'active'",
        [now, now, list(rule_ids)],
    )


def set_next(conn: Connection[Any], rule_id: UUID, next_top_up_at: datetime | None) -> None:
    """When it tops up next."""
    conn.execute("update wallet_rule set next_top_up_at = %s where id = %s", [next_top_up_at, rule_id])


def failed_since(conn: Connection[Any], wallet_id: UUID, *, after: datetime) -> bool:
    """Whether a payment of an automatic top-up has failed since then, and none was paid after it; a void is no such failure."""
    row = conn.execute(
        "select exists (select from wallet_transaction f where f.wallet_id = %(wallet)s and f.status = 'failed'"
        " and f.source <> 'manual' and f.failed_at > %(after)s"
        " and not exists (select from invoice i where i.id = f.invoice_id and i.status = 'voided')"
        " and not exists (select from wallet_transaction s"
        " where s.wallet_id = f.wallet_id and s.status = 'settled' and s.transaction_status = 'purchased'"
        " and s.settled_at >= f.failed_at))",
        {"wallet": wallet_id, "after": after},
    ).fetchone()
    return bool(row and row[0])


def _claim(
    conn: Connection[Any], column: str, organization_id: UUID, *, until: datetime, limit: int, wait: bool
) -> dict[UUID, UUID]:
    rows = conn.execute(
        "select r.id, c.id from wallet_rule r join wallet w on w.id = r.wallet_id join customer c on c.id = w.customer_id"
        f" where r.organization_id = %(organization)s and r.status = 'active' and r.{column} <= %(until)s"
        f" and w.{NOT_HELD} order by r.{column}, r.id limit %(limit)s for no key update of c, r {'' if wait else 'skip locked'}",
        {"organization": organization_id, "until": until, "limit": limit},
    ).fetchall()
    return dict(rows)


def claim_expired(
    conn: Connection[Any], organization_id: UUID, *, until: datetime, limit: int, wait: bool
) -> dict[UUID, UUID]:
    """Lock rules that have expired, with their customers: rule -> customer. Rows that another worker has locked are skipped unless `wait` is set."""
    return _claim(conn, "expiration_at", organization_id, until=until, limit=limit, wait=wait)


def claim_due(
    conn: Connection[Any], organization_id: UUID, *, until: datetime, limit: int, wait: bool
) -> list[WalletRule]:
    """As `claim_expired`, rules of which an interval is over."""
    ids = _claim(conn, "next_top_up_at", organization_id, until=until, limit=limit, wait=wait)
    with conn.cursor(row_factory=typed_row(WalletRule)) as cursor:
        return cursor.execute(
            f"select {_COLUMNS} from wallet_rule where id = any(%s) order by next_top_up_at, id", [list(ids)]
        ).fetchall()


def waiting_of_customers(conn: Connection[Any], customer_ids: Collection[UUID]) -> list[WalletRule]:
    """Lock the rules of customers that wait for the end of an interval, with the customers."""
    with conn.cursor(row_factory=typed_row(WalletRule)) as cursor:
        rows = conn.execute(
            "select r.id from wallet_rule r join wallet w on w.id = r.wallet_id join customer c on c.id = w.customer_id"
            " where c.id = any(%s) and r.status = 'active' and r.next_top_up_at is not null"
            " order by c.id, r.id for no key update of c, r",
            [list(customer_ids)],
        ).fetchall()
        return cursor.execute(
            f"select {_COLUMNS} from wallet_rule where id = any(%s)", [[rule_id for (rule_id,) in rows]]
        ).fetchall()
