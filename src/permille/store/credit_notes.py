"""Credit notes, their items, and the balances that pay invoices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from permille.core.invoice.credit import CreditKind, InvoiceCredit
from permille.core.invoice.credit_note import CreditAmounts, coupons_in_cents
from permille.core.invoice.crediting import CreditSplit
from permille.core.invoice.draft import InvoiceDraft
from permille.core.record import Record, asdict, field, names_of
from permille.database.bulk import instant_array, int_array, uuid_array
from permille.database.connections import exact_json
from permille.ids import new_id, new_ids
from permille.store import page_sizes


class CreditNote(Record, kw_only=True):
    """A row of credit_note. Amounts are in the currency's smallest unit."""

    id: UUID
    organization_id: UUID
    billing_entity_id: UUID
    customer_id: UUID
    invoice_id: UUID
    sequential_id: int
    number: str
    issuing_date: date
    credit_status: str | None
    refund_status: str | None
    reason: str
    description: str | None
    currency: str
    total_amount_cents: int
    precise_total_amount_cents: Decimal
    credit_amount_cents: int
    refund_amount_cents: int
    offset_amount_cents: int
    balance_amount_cents: int
    sub_total_excluding_taxes_amount_cents: int
    taxes_amount_cents: int
    precise_taxes_amount_cents: Decimal
    taxes_rate: Decimal
    coupons_adjustment_amount_cents: Decimal
    applied_taxes: Sequence[Mapping[str, Any]]
    created_at: datetime
    updated_at: datetime
    metadata: Mapping[str, str | None]
    catalogue_version_id: UUID | None
    """The version of the price catalogue whose correction it gives back."""
    given_up_before_void_cents: int
    """What of the credit had been given up when its invoice was voided."""

    @property
    def coupons_cents(self) -> int:
        """The coupons in whole cents."""
        return coupons_in_cents(self.coupons_adjustment_amount_cents)


class CreditNoteItem(Record, kw_only=True):
    """What of a fee came back."""

    id: UUID
    credit_note_id: UUID
    fee_id: UUID
    amount_cents: int
    precise_amount_cents: Decimal


class CreditNoteSearch(Record, kw_only=True):
    """What a list is narrowed to; None narrows nothing."""

    external_customer_id: str | None = None
    credit_status: str | None = None
    refund_status: str | None = None
    reason: str | None = None
    currency: str | None = None
    invoice_number: str | None = None
    issuing_date_from: date | None = None
    issuing_date_to: date | None = None
    amount_from: int | None = None
    amount_to: int | None = None
    search_term: str | None = None
    """Text in the id, the number, or what names the customer."""
    billing_entity_codes: Sequence[str] | None = None
    self_billed: bool | None = None


_COLUMNS = ", ".join(names_of(CreditNote))


class NewCreditNote(Record, kw_only=True):
    """A note on one invoice."""

    organization_id: UUID
    billing_entity_id: UUID
    customer_id: UUID
    invoice_id: UUID
    invoice_number: str
    issuing_date: date
    reason: str
    currency: str
    amounts: CreditAmounts
    split: CreditSplit
    at: datetime
    description: str | None = None
    metadata: Mapping[str, str | None] = field(default_factory=dict)
    is_void: bool = False
    """Whether its credit is given up as it is made."""
    catalogue_version_id: UUID | None = None
    """The version of the price catalogue whose correction it gives back."""


def add(conn: Connection[Any], new: Sequence[NewCreditNote]) -> list[UUID]:
    """Insert notes with their items, numbered within their invoices, which are locked for it; set-based. Their ids."""
    last = _last_sequential_ids(conn, {note.invoice_id for note in new})
    rows: list[dict[str, Any]] = []
    items: list[dict[str, Any]] = []
    for note in new:
        last[note.invoice_id] += 1
        rows.append(_row(note, new_id(note.at), last[note.invoice_id]))
        items += _item_rows(note, rows[-1]["id"])
    for table, values in (("credit_note", rows), ("credit_note_item", items)):
        conn.execute(
            f"insert into {table} select * from jsonb_populate_recordset(null::{table}, %s::jsonb)",
            [exact_json(values)],
        )
    return [row["id"] for row in rows]


def _last_sequential_ids(conn: Connection[Any], invoice_ids: Collection[UUID]) -> dict[UUID, int]:
    """Invoice -> the last number of its notes, 0 without any. The invoices are locked."""
    ids = list(invoice_ids)
    conn.execute("select from invoice where id = any(%s) order by id for no key update", [ids])
    rows = conn.execute(
        "select invoice_id, max(sequential_id) from credit_note where invoice_id = any(%s) group by invoice_id",
        [ids],
    ).fetchall()
    return {**dict.fromkeys(ids, 0), **dict(rows)}


def _row(new: NewCreditNote, note_id: UUID, sequential_id: int) -> dict[str, Any]:
    amounts, split = new.amounts, new.split
    balance = 0 if new.is_void else split.credit_cents
    return {
        "id": note_id,
        "organization_id": new.organization_id,
        "billing_entity_id": new.billing_entity_id,
        "customer_id": new.customer_id,
        "invoice_id": new.invoice_id,
        "sequential_id": sequential_id,
        "number": f"{new.invoice_number}-CN{sequential_id:03}",
        "issuing_date": new.issuing_date,
        "credit_status": ("voided" if new.is_void else "available") if split.credit_cents else None,
        "refund_status": "pending" if split.refund_cents else None,
        "reason": new.reason,
        "description": new.description,
        "currency": new.currency,
        "total_amount_cents": amounts.total_amount_cents,
        "precise_total_amount_cents": amounts.precise_total_amount_cents,
        "credit_amount_cents": split.credit_cents,
        "refund_amount_cents": split.refund_cents,
        "offset_amount_cents": split.offset_cents,
        "balance_amount_cents": balance,
        "voided_amount_cents": split.credit_cents - balance,
        "voided_at": new.at if new.is_void else None,
        "metadata": dict(new.metadata),
        "catalogue_version_id": new.catalogue_version_id,
        "given_up_before_void_cents": 0,
        "sub_total_excluding_taxes_amount_cents": amounts.sub_total_excluding_taxes_amount_cents,
        "taxes_amount_cents": amounts.taxes_amount_cents,
        "precise_taxes_amount_cents": amounts.precise_taxes_amount_cents,
        "taxes_rate": amounts.taxes_rate,
        "coupons_adjustment_amount_cents": amounts.coupons_adjustment_amount_cents,
        "applied_taxes": _applied(new, note_id),
        "created_at": new.at,
        "updated_at": new.at,
    }


def _item_rows(new: NewCreditNote, note_id: UUID) -> list[dict[str, Any]]:
    items = new.amounts.items
    return [
        {
            "id": item_id,
            "credit_note_id": note_id,
            "fee_id": item.fee.fee_id,
            "amount_cents": item.amount_cents,
            "precise_amount_cents": item.precise_amount_cents,
            "created_at": new.at,
        }
        for item_id, item in zip(new_ids(new.at, len(items)), items, strict=True)
    ]


def _applied(new: NewCreditNote, note_id: UUID) -> list[dict[str, Any]]:
    applied = new.amounts.applied_taxes
    return [
        {
            "lago_id": str(applied_id),
            "lago_credit_note_id": str(note_id),
            "lago_tax_id": str(each.tax.id),
            "tax_name": each.tax.name,
            "tax_code": each.tax.code,
            "tax_rate": str(each.tax.rate),
            "tax_description": each.tax.description,
            "base_amount_cents": each.fees_amount_cents,
            "amount_cents": each.amount_cents,
            "amount_currency": new.currency,
            "created_at": new.at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        for applied_id, each in zip(new_ids(new.at, len(applied)), applied, strict=True)
    ]


def credited_of_fees(conn: Connection[Any], fee_ids: Collection[UUID]) -> dict[UUID, int]:
    """Fee -> what came back of it already, in cents before taxes, where anything did."""
    rows = conn.execute(
        "select fee_id, sum(amount_cents)::bigint from credit_note_item where fee_id = any(%s) group by fee_id",
        [list(fee_ids)],
    ).fetchall()
    return dict(rows)


def passed_of_fees(conn: Connection[Any], fee_ids: Collection[UUID]) -> dict[UUID, int]:
    """As credited_of_fees, for days that had passed before a plan took over."""
    rows = conn.execute(
        "select t.fee_id, sum(t.amount_cents)::bigint from credit_note_item t join credit_note n on n.id = t.credit_note_id"
        " where t.fee_id = any(%s) and n.reason = 'order_change' group by t.fee_id",
        [list(fee_ids)],
    ).fetchall()
    return dict(rows)


def available(
    conn: Connection[Any], customer_ids: Collection[UUID]
) -> dict[tuple[UUID, str], list[tuple[UUID, int]]]:
    """(customer, currency) -> the notes with a balance, the oldest first, locked: (id, balance in cents)."""
    rows = conn.execute(
        "select customer_id, currency, id, balance_amount_cents from credit_note"
        " where customer_id = any(%s) and balance_amount_cents > 0 order by created_at, id for no key update",
        [uuid_array(customer_ids)],
    ).fetchall()
    found: dict[tuple[UUID, str], list[tuple[UUID, int]]] = defaultdict(list)
    for customer_id, currency, note_id, balance in rows:
        found[customer_id, currency].append((note_id, balance))
    return found


def take(conn: Connection[Any], drafts: Iterable[InvoiceDraft]) -> None:
    """Save which notes paid which invoices, and lower their balances; set-based."""
    spent = [(draft, each) for draft in drafts for each in draft.credits]
    if not spent:
        return
    conn.execute(
        "insert into invoice_credit (id, invoice_id, credit_note_id, amount_cents, created_at)"
        " select * from unnest(%s::uuid[], %s::uuid[], %s::uuid[], %s::bigint[], %s::timestamptz[])",
        [
            uuid_array(new_id(draft.at) for draft, _ in spent),
            uuid_array(draft.id for draft, _ in spent),
            uuid_array(each.credit_note_id for _, each in spent),
            int_array(each.amount_cents for _, each in spent),
            instant_array(draft.at for draft, _ in spent),
        ],
    )
    totals: dict[UUID, int] = defaultdict(int)
    for _, each in spent:
        totals[each.credit_note_id] += each.amount_cents
    conn.execute(
        "update credit_note n set balance_amount_cents = n.balance_amount_cents - w.amount,"
        " credit_status = case when n.balance_amount_cents = w.amount then 'consumed' else n.credit_status end"
        " from unnest(%s::uuid[], %s::bigint[]) as w (id, amount) where n.id = w.id",
        [uuid_array(totals), int_array(totals.values())],
    )


def give_back(conn: Connection[Any], invoice_ids: Collection[UUID], now: datetime) -> dict[UUID, int]:
    """Give notes back what they have paid of these invoices, which will never be paid; set-based.

    Voided invoice that notes of these are on -> what was given up of the notes of the one that replaces it, 0 without
    one. Invoices whose void issued notes of its own are left out.
    """
    rows = conn.execute(
        "with gone as (update invoice_credit set given_back_at = %s where invoice_id = any(%s::uuid[])"
        "   and given_back_at is null returning credit_note_id, amount_cents),"
        " back as (update credit_note n set balance_amount_cents = n.balance_amount_cents + w.amount,"
        "   credit_status = 'available', updated_at = %s"
        "   from (select credit_note_id, sum(amount_cents)::bigint as amount from gone group by 1) w"
        "   where n.id = w.credit_note_id returning n.invoice_id)"
        " select distinct i.id, (select coalesce(sum(a.voided_amount_cents), 0) from credit_note a"
        "   join invoice r on r.id = a.invoice_id where r.voided_invoice_id = i.id)::bigint"
        " from back b join invoice i on i.id = b.invoice_id where i.status = 'voided'"
        "   and not exists (select from credit_note o where o.invoice_id = i.id and o.sequential_id > i.notes_before_void)",
        [now, uuid_array(invoice_ids), now],
    ).fetchall()
    return dict(rows)


class CreditedAmounts(Record, kw_only=True):
    """What the notes of an invoice come to, in cents."""

    credit_amount_cents: int = 0
    given_up_cents: int = 0
    """What of the credit was given up, unspent."""
    refund_amount_cents: int = 0
    rounded_up: Decimal = Decimal(0)
    """What their taxes were rounded up by, in all."""
    sub_totals_cents: int = 0
    """Before taxes, after coupons."""
    taxes_cents: int = 0


def credited_of_invoices(conn: Connection[Any], invoice_ids: Collection[UUID]) -> dict[UUID, CreditedAmounts]:
    """Invoice -> what its notes come to, where it has any."""
    rows = conn.execute(
        "select invoice_id, sum(credit_amount_cents)::bigint, sum(voided_amount_cents)::bigint, sum(refund_amount_cents)::bigint,"
        " sum(taxes_amount_cents - precise_taxes_amount_cents),"
        " sum(sub_total_excluding_taxes_amount_cents)::bigint, sum(taxes_amount_cents)::bigint"
        " from credit_note where invoice_id = any(%s) group by invoice_id",
        [list(invoice_ids)],
    ).fetchall()
    return {
        invoice_id: CreditedAmounts(
            credit_amount_cents=credit,
            given_up_cents=given_up,
            refund_amount_cents=refund,
            rounded_up=rounded,
            sub_totals_cents=sub_totals,
            taxes_cents=taxes,
        )
        for invoice_id, credit, given_up, refund, rounded, sub_totals, taxes in rows
    }


def for_update(conn: Connection[Any], note_id: UUID) -> CreditNote:
    """The note, locked."""
    with conn.cursor(row_factory=class_row(CreditNote)) as cursor:
        row = cursor.execute(
            f"select {_COLUMNS} from credit_note where id = %s for no key update", [note_id]
        ).fetchone()
    assert row is not None, note_id
    return row


def give_up(conn: Connection[Any], cents: Mapping[UUID, int], *, now: datetime) -> None:
    """Give up so much of the balances of notes; one of which nothing is left is void. Set-based."""
    conn.execute(
        "update credit_note n set voided_amount_cents = n.voided_amount_cents + w.amount,"
        " balance_amount_cents = n.balance_amount_cents - w.amount, voided_at = %s, updated_at = %s,"
        " credit_status = case when n.balance_amount_cents = w.amount then 'voided' else n.credit_status end"
        " from unnest(%s::uuid[], %s::bigint[]) as w (id, amount) where n.id = w.id",
        [now, now, uuid_array(cents), int_array(cents.values())],
    )


def set_refund_status(conn: Connection[Any], note_id: UUID, status: str, *, now: datetime) -> None:
    """Say whether the refund was paid."""
    conn.execute(
        "update credit_note set refund_status = %(status)s, updated_at = %(now)s,"
        " refunded_at = case when %(status)s = 'succeeded' then coalesce(refunded_at, %(now)s) end where id = %(id)s",
        {"id": note_id, "status": status, "now": now},
    )


def set_metadata(
    conn: Connection[Any], note_id: UUID, metadata: Mapping[str, str | None], *, now: datetime
) -> None:
    """Replace what its owner keeps with a note."""
    conn.execute(
        "update credit_note set metadata = %s, updated_at = %s where id = %s",
        [Jsonb(dict(metadata)), now, note_id],
    )


def by_ids(conn: Connection[Any], ids: Collection[UUID]) -> dict[UUID, CreditNote]:
    with conn.cursor(row_factory=class_row(CreditNote)) as cursor:
        rows = cursor.execute(
            f"select {_COLUMNS} from credit_note where id = any(%s)", [list(ids)]
        ).fetchall()
    return {row.id: row for row in rows}


def of_invoice(conn: Connection[Any], invoice_id: UUID) -> list[CreditNote]:
    """The notes of an invoice, in the order of their numbers."""
    with conn.cursor(row_factory=class_row(CreditNote)) as cursor:
        return cursor.execute(
            f"select {_COLUMNS} from credit_note where invoice_id = %s order by sequential_id", [invoice_id]
        ).fetchall()


def before_void(conn: Connection[Any], invoice_id: UUID) -> list[CreditNote]:
    """The notes that a voided invoice had when it was voided."""
    with conn.cursor(row_factory=class_row(CreditNote)) as cursor:
        return cursor.execute(
            f"select {_COLUMNS} from credit_note n where invoice_id = %s and exists (select from invoice i"
            "   where i.id = n.invoice_id and n.sequential_id <= i.notes_before_void)"
            " order by sequential_id",
            [invoice_id],
        ).fetchall()


def items_of(conn: Connection[Any], note_ids: Collection[UUID]) -> dict[UUID, list[CreditNoteItem]]:
    """Note -> its items."""
    with conn.cursor(row_factory=class_row(CreditNoteItem)) as cursor:
        rows = cursor.execute(
            "select id, credit_note_id, fee_id, amount_cents, precise_amount_cents from credit_note_item"
            " where credit_note_id = any(%s) order by id",
            [list(note_ids)],
        ).fetchall()
    found: dict[UUID, list[CreditNoteItem]] = {note_id: [] for note_id in note_ids}
    for row in rows:
        found[row.credit_note_id].append(row)
    return found


def credits_of(conn: Connection[Any], invoice_ids: Collection[UUID]) -> dict[UUID, list[InvoiceCredit]]:
    """What paid each invoice, in the order of its taking; invoices without a credit note are missing."""
    rows = conn.execute(
        "select c.id, c.invoice_id, c.credit_note_id, n.number, c.amount_cents"
        " from invoice_credit c join credit_note n on n.id = c.credit_note_id"
        " where c.invoice_id = any(%s) order by n.created_at, n.id",
        [list(invoice_ids)],
    ).fetchall()
    found: dict[UUID, list[InvoiceCredit]] = defaultdict(list)
    for credit_id, invoice_id, note_id, number, amount_cents in rows:
        found[invoice_id].append(
            InvoiceCredit(
                id=credit_id,
                invoice_id=invoice_id,
                kind=CreditKind.CREDIT_NOTE,
                item_id=note_id,
                code=number,
                name=number,
                amount_cents=amount_cents,
            )
        )
    return found


_COUNT_ITEMS = (
    "select count(*) from (select from credit_note_item where credit_note_id = any(%(ids)s::uuid[])"
    " limit %(most)s) found"
)


def listing(
    conn: Connection[Any], organization_id: UUID, search: CreditNoteSearch, *, limit: int, offset: int
) -> tuple[list[CreditNote], int]:
    """Credit notes, newest first, and how many there are. Raises Invalid for a page too large."""
    conditions = {
        "customer_id in (select id from customer where organization_id = %(organization)s"
        " and external_id = %(external_customer_id)s)": search.external_customer_id,
        "credit_status = %(credit_status)s": search.credit_status,
        "refund_status = %(refund_status)s": search.refund_status,
        "reason = %(reason)s": search.reason,
        "currency = %(currency)s": search.currency,
        "invoice_id in (select id from invoice where organization_id = %(organization)s"
        " and number = %(invoice_number)s)": search.invoice_number,
        "issuing_date >= %(issuing_date_from)s": search.issuing_date_from,
        "issuing_date <= %(issuing_date_to)s": search.issuing_date_to,
        "total_amount_cents >= %(amount_from)s": search.amount_from,
        "total_amount_cents <= %(amount_to)s": search.amount_to,
        "strpos(lower(concat_ws(' ', number, id, (select concat_ws(' ', c.name, c.external_id, c.email)"
        " from customer c where c.id = credit_note.customer_id))), lower(%(search_term)s)) > 0": search.search_term,
        "billing_entity_id in (select id from billing_entity where organization_id = %(organization)s"
        " and code = any(%(billing_entity_codes)s))": search.billing_entity_codes,
        "exists (select from customer c where c.id = credit_note.customer_id and c.account_type = 'partner')"
        " = %(self_billed)s": search.self_billed,
    }
    chosen = [condition for condition, value in conditions.items() if value is not None]
    where = " and ".join(["organization_id = %(organization)s", *chosen])
    values = asdict(search) | {"organization": organization_id, "limit": limit, "offset": offset}
    with conn.cursor(row_factory=class_row(CreditNote)) as cursor:
        rows = cursor.execute(
            f"select {_COLUMNS} from credit_note where {where}"
            " order by created_at desc, id limit %(limit)s offset %(offset)s",
            values,
        ).fetchall()
    page_sizes.refuse_large(conn, _COUNT_ITEMS, [row.id for row in rows])
    row = conn.execute(f"select count(*) from credit_note where {where}", values).fetchone()
    return rows, row[0] if row else 0
