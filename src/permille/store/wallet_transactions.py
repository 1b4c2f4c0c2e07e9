"""What fills and empties wallets, and how much of one that fills went into one that empties."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from permille.core.money import exact
from permille.core.record import Record, asdict, names_of
from permille.core.wallet import (
    LOWEST_PRIORITY,
    Direction,
    LotPart,
    Settlement,
    Source,
    TransactionStatus,
    credits_of_share,
)
from permille.core.wallet_rule import Pending
from permille.database.bulk import (
    columns_of,
    copy_lines,
    decimal_array,
    hex_array,
    hex_text,
    instant,
    instant_array,
    int_array,
    uuid_array,
)
from permille.database.connections import exact_json
from permille.database.typed_rows import typed_row
from permille.ids import new_id_texts


class WalletTransaction(Record, kw_only=True):
    """A row of wallet_transaction. Amounts are in the smallest unit of the wallet's currency."""

    id: UUID
    organization_id: UUID
    wallet_id: UUID
    transaction_type: Direction
    transaction_status: TransactionStatus
    status: Settlement
    source: Source = Source.MANUAL
    amount_cents: int
    credit_amount: Decimal
    remaining_amount_cents: int | None = None
    priority: int = LOWEST_PRIORITY
    name: str | None = None
    purchase_order_number: str | None = None
    invoice_requires_successful_payment: bool = False
    invoice_id: UUID | None = None
    voided_invoice_id: UUID | None = None
    credit_note_id: UUID | None = None
    metadata: Sequence[Mapping[str, Any]] = ()
    settled_at: datetime | None = None
    failed_at: datetime | None = None
    created_at: datetime


class Consumption(Record, kw_only=True):
    """How much of one transaction went into another."""

    id: UUID
    transaction_id: UUID
    """The other one."""
    amount_cents: int
    credit_amount: Decimal
    created_at: datetime


class TransactionSearch(Record, kw_only=True):
    """Every condition that is given must hold."""

    status: str | None = None
    transaction_status: str | None = None
    transaction_type: str | None = None


_COLUMNS = columns_of(WalletTransaction)
_NAMES = names_of(WalletTransaction)


def add(conn: Connection[Any], rows: Sequence[WalletTransaction]) -> None:
    """New rows; set-based."""
    conn.execute(
        f"insert into wallet_transaction ({_COLUMNS})"
        f" select {_COLUMNS} from jsonb_populate_recordset(null::wallet_transaction, %s::jsonb)",
        [exact_json([{name: getattr(row, name) for name in _NAMES} for row in rows])],
    )


_TAKEN = (
    "id, organization_id, wallet_id, transaction_type, transaction_status, status, source, amount_cents, credit_amount,"
    " priority, invoice_requires_successful_payment, invoice_id, metadata, settled_at, created_at"
)


def add_taken(conn: Connection[Any], rows: Sequence[WalletTransaction]) -> None:
    """As `add`, for what invoices take: an invoice run has as many as invoices, and JSON would cost it twice as much."""
    copy_lines(conn, "wallet_transaction", _TAKEN, map(_taken_line, rows))


def _taken_line(row: WalletTransaction) -> str:
    assert row.invoice_id is not None, "an invoice takes it"
    assert row.settled_at is not None, "what an invoice takes is settled"
    return (
        f"{hex_text(row.id)}\t{hex_text(row.organization_id)}\t{hex_text(row.wallet_id)}\t{row.transaction_type}\t{row.transaction_status}"
        f"\t{row.status}\t{row.source}\t{row.amount_cents}\t{row.credit_amount!s}\t{row.priority}"
        f"\t{row.invoice_requires_successful_payment}\t{hex_text(row.invoice_id)}\t[]"
        f"\t{instant(row.settled_at)}\t{instant(row.created_at)}\n"
    )


def consume(conn: Connection[Any], parts: Sequence[tuple[WalletTransaction, LotPart]]) -> None:
    """Write down what transactions took of lots, and lower these; set-based."""
    if not parts:
        return
    at = parts[0][0].created_at
    conn.execute(
        "insert into wallet_consumption (id, inbound_id, outbound_id, amount_cents, credit_amount, created_at)"
        " select * from unnest(%s::uuid[], %s::uuid[], %s::uuid[], %s::bigint[], %s::numeric[], %s::timestamptz[])",
        [
            hex_array(new_id_texts(at, len(parts))),
            uuid_array(part.lot.id for _, part in parts),
            uuid_array(taker.id for taker, _ in parts),
            int_array(part.amount_cents for _, part in parts),
            decimal_array(_shares(parts)),
            instant_array(taker.created_at for taker, _ in parts),
        ],
    )
    conn.execute(
        "update wallet_transaction t set remaining_amount_cents = t.remaining_amount_cents - p.cents from ("
        "   select id, sum(cents)::bigint as cents from unnest(%s::uuid[], %s::bigint[]) as e (id, cents) group by id"
        ") p where t.id = p.id",
        [uuid_array(part.lot.id for _, part in parts), int_array(part.amount_cents for _, part in parts)],
    )


def _shares(parts: Sequence[tuple[WalletTransaction, LotPart]]) -> list[Decimal]:
    """The credits that go with each part."""
    with exact():
        return [
            credits_of_share(taker.credit_amount, part.amount_cents, of_cents=taker.amount_cents)
            for taker, part in parts
        ]


def _select(conn: Connection[Any], condition: str, values: Any) -> list[WalletTransaction]:
    with conn.cursor(row_factory=typed_row(WalletTransaction)) as cursor:
        return cursor.execute(
            f"select {_COLUMNS} from wallet_transaction where {condition}", values
        ).fetchall()


def by_ids(conn: Connection[Any], ids: Collection[UUID]) -> dict[UUID, WalletTransaction]:
    return {row.id: row for row in _select(conn, "id = any(%s)", [list(ids)])}


_FOUND = (
    "wallet_id = %(wallet)s and (%(status)s::text is null or status = %(status)s)"
    " and (%(transaction_status)s::text is null or transaction_status = %(transaction_status)s)"
    " and (%(transaction_type)s::text is null or transaction_type = %(transaction_type)s)"
)


def listing(
    conn: Connection[Any], wallet_id: UUID, search: TransactionSearch, *, limit: int, offset: int
) -> tuple[list[WalletTransaction], int]:
    """Newest first, and how many there are."""
    values = {**asdict(search), "wallet": wallet_id, "limit": limit, "offset": offset}
    rows = _select(
        conn, f"{_FOUND} order by created_at desc, id desc limit %(limit)s offset %(offset)s", values
    )
    row = conn.execute(f"select count(*) from wallet_transaction where {_FOUND}", values).fetchone()
    return rows, row[0] if row else 0


def purchases_of(conn: Connection[Any], invoice_ids: Collection[UUID]) -> list[WalletTransaction]:
    """What these invoices sell, that is not settled yet."""
    return _select(
        conn,
        "invoice_id = any(%s) and transaction_status = 'purchased' and status <> 'settled' order by id",
        [list(invoice_ids)],
    )


def spent_on(conn: Connection[Any], invoice_ids: Collection[UUID]) -> list[WalletTransaction]:
    """What paid these invoices, in the order of its making."""
    return _select(
        conn,
        "invoice_id = any(%s) and transaction_status = 'invoiced' order by created_at, id",
        [list(invoice_ids)],
    )


def given_back(conn: Connection[Any], invoice_ids: Collection[UUID]) -> dict[UUID, int]:
    """Invoice -> the cents that it has given back to wallets, where it has."""
    rows = conn.execute(
        "select voided_invoice_id, sum(amount_cents)::bigint from wallet_transaction"
        " where voided_invoice_id = any(%s) group by voided_invoice_id",
        [list(invoice_ids)],
    ).fetchall()
    return dict(rows)


def settle(conn: Connection[Any], ids: Collection[UUID], *, now: datetime) -> None:
    """They fill their wallets from now on."""
    conn.execute(
        "update wallet_transaction set status = 'settled', settled_at = %s, failed_at = null,"
        " remaining_amount_cents = amount_cents where id = any(%s)",
        [now, list(ids)],
    )


def fail(conn: Connection[Any], ids: Collection[UUID], *, now: datetime) -> None:
    """Their payment has failed; it may still succeed."""
    conn.execute(
        "update wallet_transaction set status = 'failed', failed_at = %s where id = any(%s)",
        [now, list(ids)],
    )


_DIRECTIONS = {"inbound_id": "outbound_id", "outbound_id": "inbound_id"}


def consumptions(
    conn: Connection[Any], transaction_id: UUID, *, limit: int, offset: int
) -> tuple[list[Consumption], int]:
    """What took of a transaction, the oldest first, and how many that were."""
    return _consumed(conn, "inbound_id", transaction_id, limit=limit, offset=offset)


def fundings(
    conn: Connection[Any], transaction_id: UUID, *, limit: int, offset: int
) -> tuple[list[Consumption], int]:
    """What a transaction took of, in that order, and how many that were."""
    return _consumed(conn, "outbound_id", transaction_id, limit=limit, offset=offset)


def _consumed(
    conn: Connection[Any], own: str, transaction_id: UUID, *, limit: int, offset: int
) -> tuple[list[Consumption], int]:
    with conn.cursor(row_factory=class_row(Consumption)) as cursor:
        rows = cursor.execute(
            f"select id, {_DIRECTIONS[own]} as transaction_id, amount_cents, credit_amount, created_at"
            f" from wallet_consumption where {own} = %s order by created_at, id limit %s offset %s",
            [transaction_id, limit, offset],
        ).fetchall()
    row = conn.execute(
        f"select count(*) from wallet_consumption where {own} = %s", [transaction_id]
    ).fetchone()
    return rows, row[0] if row else 0


def pending_credits(conn: Connection[Any], wallet_ids: Collection[UUID]) -> dict[UUID, Pending]:
    """Wallet -> credits that are bought and not paid yet."""
    rows = conn.execute(
        "select wallet_id, sum(credit_amount),"
        " coalesce(sum(credit_amount) filter (where source = 'threshold'), 0) from wallet_transaction"
        " where wallet_id = any(%s) and status = 'pending' group by wallet_id",
        [list(wallet_ids)],
    ).fetchall()
    return {wallet_id: Pending(*credits_) for wallet_id, *credits_ in rows}
