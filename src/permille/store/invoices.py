"""Invoices, the subscriptions on them and their fees: read by id, written many at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row
from psycopg.types.json import Jsonb

from permille.core.fee import Fee
from permille.core.subscription import Subscription
from permille.ids import new_id
from permille.store import subscriptions as subscription_store


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredInvoice:
    """A row of invoice. Amounts are in the currency's smallest unit."""

    id: UUID
    organization_id: UUID
    billing_entity_id: UUID
    customer_id: UUID
    sequential_id: int | None
    billing_entity_sequential_id: int | None
    number: str
    purchase_order_number: str | None
    invoice_type: str
    status: str
    payment_status: str
    payment_overdue: bool
    payment_dispute_lost_at: datetime | None
    currency: str
    timezone: str
    issuing_date: date
    payment_due_date: date
    expected_finalization_date: date
    net_payment_term: int
    fees_amount_cents: int
    taxes_amount_cents: int
    taxes_rate: Decimal
    progressive_billing_credit_amount_cents: int
    coupons_amount_cents: int
    credit_notes_amount_cents: int
    sub_total_excluding_taxes_amount_cents: int
    sub_total_including_taxes_amount_cents: int
    prepaid_credit_amount_cents: int
    total_amount_cents: int
    total_paid_amount_cents: int
    metadata: Sequence[Mapping[str, Any]]
    skip_charges: bool
    finalized_at: datetime | None
    voided_at: datetime | None
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class InvoiceSubscription:
    """A subscription on an invoice with the periods that it is billed for; ends are exclusive."""

    invoice_id: UUID
    subscription_id: UUID
    invoicing_reason: str
    recurring: bool
    billed_at: datetime
    """The instant that was due."""
    from_at: datetime | None
    to_at: datetime | None
    charges_from_at: datetime | None
    charges_to_at: datetime | None
    fixed_charges_from_at: datetime | None
    fixed_charges_to_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredFee:
    """A row of fee: one line of an invoice. `position` is its place there; the period's end is exclusive."""

    id: UUID
    organization_id: UUID
    invoice_id: UUID | None
    customer_id: UUID
    subscription_id: UUID | None
    fee_type: str
    charge_id: UUID | None
    charge_filter_id: UUID | None
    position: int
    pay_in_advance: bool
    invoice_display_name: str | None
    description: str | None
    units: Decimal
    total_aggregated_units: Decimal | None
    events_count: int | None
    amount_cents: int
    amount_currency: str
    precise_amount_cents: Decimal
    unit_amount_cents: int
    precise_unit_amount: Decimal
    taxes_amount_cents: int
    taxes_precise_amount_cents: Decimal
    taxes_rate: Decimal
    precise_coupons_amount_cents: Decimal
    amount_details: Mapping[str, Any]
    grouped_by: Mapping[str, str | None]
    payment_status: str
    from_at: datetime | None
    to_at: datetime | None
    event_transaction_id: str | None
    true_up_parent_fee_id: UUID | None
    succeeded_at: datetime | None
    failed_at: datetime | None
    refunded_at: datetime | None
    created_at: datetime


def _columns(record: type[Any]) -> str:
    return ", ".join(field.name for field in fields(record))


INVOICE_COLUMNS = _columns(StoredInvoice)
FEE_COLUMNS = _columns(StoredFee)
_SUBSCRIPTION_COLUMNS = _columns(InvoiceSubscription)


def invoices_by_ids(conn: Connection[Any], ids: Collection[UUID]) -> dict[UUID, StoredInvoice]:
    """Invoices of any status by id."""
    with conn.cursor(row_factory=class_row(StoredInvoice)) as cursor:
        rows = cursor.execute(
            f"select {INVOICE_COLUMNS} from invoice where id = any(%s)", [list(ids)]
        ).fetchall()
    return {row.id: row for row in rows}


def fees_of(conn: Connection[Any], invoice_ids: Collection[UUID]) -> dict[UUID, list[StoredFee]]:
    """The fees of each invoice in its own order; an invoice without fees has an empty list."""
    with conn.cursor(row_factory=class_row(StoredFee)) as cursor:
        rows = cursor.execute(
            f"select {FEE_COLUMNS} from fee where invoice_id = any(%s) order by invoice_id, position, id",
            [list(invoice_ids)],
        ).fetchall()
    found: dict[UUID, list[StoredFee]] = {invoice_id: [] for invoice_id in invoice_ids}
    for row in rows:
        assert row.invoice_id is not None, row.id
        found[row.invoice_id].append(row)
    return found


def subscriptions_of(
    conn: Connection[Any], invoice_ids: Collection[UUID]
) -> dict[UUID, list[InvoiceSubscription]]:
    """The subscriptions on each invoice, in the order of their ids."""
    with conn.cursor(row_factory=class_row(InvoiceSubscription)) as cursor:
        rows = cursor.execute(
            f"select {_SUBSCRIPTION_COLUMNS} from invoice_subscription where invoice_id = any(%s)"
            " order by invoice_id, subscription_id",
            [list(invoice_ids)],
        ).fetchall()
    found: dict[UUID, list[InvoiceSubscription]] = defaultdict(list)
    for row in rows:
        found[row.invoice_id].append(row)
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class NewInvoice:
    """A subscription invoice to be written, with what is on it. No taxes and credits yet: the fees are the total."""

    id: UUID
    organization_id: UUID
    billing_entity_id: UUID
    customer_id: UUID
    sequential_id: int | None
    billing_entity_sequential_id: int | None
    number: str
    purchase_order_number: str | None
    status: str
    """finalized, or closed: neither numbered nor shown."""
    currency: str
    timezone: str
    issuing_date: date
    payment_due_date: date
    expected_finalization_date: date
    net_payment_term: int
    fees_amount_cents: int
    skip_charges: bool
    at: datetime
    """Its now: the instant that was due."""
    subscriptions: Sequence[InvoiceSubscription]
    fees: Sequence[Fee]


@dataclass(frozen=True, slots=True, kw_only=True)
class Settled:
    """How far a subscription is billed, and when it is due again."""

    subscription_id: UUID
    next_billing_at: datetime | None
    fee_billed_until: datetime | None
    charges_billed_until: datetime | None
    trial_ended_at: datetime | None


# On its last day a subscription is billed by its end.
_TO_BILL = "s.status = 'active' and (s.ends_at is null or s.ends_at > s.next_billing_at)"


def claim_payers(
    conn: Connection[Any], organization_id: UUID, *, until: datetime, limit: int, wait: bool
) -> list[UUID]:
    """Lock the customers of the `limit` subscriptions that are due the longest; their ids.

    The lock is on the customer, as its subscriptions share invoices and a sequence of numbers. Customers that
    someone else has locked are passed over, or waited for.
    """
    rows = conn.execute(
        "select c.id from subscription s join customer c on c.id = s.customer_id"
        f" where s.organization_id = %s and s.next_billing_at <= %s and {_TO_BILL}"
        f" order by s.next_billing_at limit %s for no key update of c {'' if wait else 'skip locked'}",
        [organization_id, until, limit],
    ).fetchall()
    return list({customer_id for (customer_id,) in rows})


def claim_due(
    conn: Connection[Any], customer_ids: Collection[UUID], *, until: datetime
) -> list[Subscription]:
    """Lock what is due of these customers, each at the first of its due instants.

    The customers are locked before; whoever billed them meanwhile has left nothing due.
    """
    rows = conn.execute(
        "select id, customer_id, next_billing_at from subscription s"
        f" where customer_id = any(%s) and next_billing_at <= %s and {_TO_BILL}"
        " order by id for no key update",
        [list(customer_ids), until],
    ).fetchall()
    first: dict[UUID, datetime] = {}
    for _, customer_id, at in rows:
        first[customer_id] = min(at, first.get(customer_id, at))
    chosen = [row_id for row_id, customer_id, at in rows if at == first[customer_id]]
    return list(subscription_store.by_ids(conn, chosen).values())


def first_starts(conn: Connection[Any], rows: Sequence[Subscription]) -> dict[tuple[UUID, str], datetime]:
    """(customer, external id) -> when that first ran: trials count from there."""
    found = conn.execute(
        "select customer_id, external_id, min(started_at) from subscription"
        " where (customer_id, external_id) in (select * from unnest(%s::uuid[], %s::text[]))"
        " and started_at is not null group by customer_id, external_id",
        [[row.customer_id for row in rows], [row.external_id for row in rows]],
    ).fetchall()
    return {(customer_id, external_id): at for customer_id, external_id, at in found}


def take_customer_numbers(
    conn: Connection[Any], counts: Mapping[tuple[UUID, UUID], int]
) -> dict[tuple[UUID, UUID], int]:
    """Reserve so many numbers for each (customer, billing entity); the last one taken before."""
    keys = sorted(counts)
    rows = conn.execute(
        "insert into invoice_sequence as s (customer_id, billing_entity_id, last_value)"
        " select * from unnest(%s::uuid[], %s::uuid[], %s::bigint[])"
        " on conflict (customer_id, billing_entity_id) do update"
        " set last_value = s.last_value + excluded.last_value"
        " returning customer_id, billing_entity_id, last_value",
        [[key[0] for key in keys], [key[1] for key in keys], [counts[key] for key in keys]],
    ).fetchall()
    return {(payer, entity): last - counts[payer, entity] for payer, entity, last in rows}


def take_entity_numbers(conn: Connection[Any], counts: Mapping[UUID, int]) -> dict[UUID, int]:
    """Reserve so many numbers of each billing entity; the last one taken before.

    An entity that did not number by itself until now counts on from the number of its invoices.
    """
    last: dict[UUID, int] = {}
    for entity_id in sorted(counts):
        row = conn.execute(
            "update billing_entity b set last_invoice_sequential_id = %(count)s + case"
            " when last_invoice_sequential_id > 0 then last_invoice_sequential_id else (select count(*)"
            " from invoice i where i.billing_entity_id = b.id and i.sequential_id is not null) end"
            " where id = %(id)s returning last_invoice_sequential_id",
            {"count": counts[entity_id], "id": entity_id},
        ).fetchone()
        assert row is not None, entity_id
        last[entity_id] = row[0] - counts[entity_id]
    return last


_NEW_INVOICE = (
    "id, organization_id, billing_entity_id, customer_id, sequential_id, billing_entity_sequential_id, number,"
    " purchase_order_number, invoice_type, status, payment_status, currency, timezone, issuing_date,"
    " payment_due_date, expected_finalization_date, net_payment_term, fees_amount_cents,"
    " sub_total_excluding_taxes_amount_cents, sub_total_including_taxes_amount_cents, total_amount_cents,"
    " skip_charges, finalized_at, created_at, updated_at"
)
_NEW_FEE = (
    "id, organization_id, invoice_id, customer_id, subscription_id, fee_type, charge_id, charge_filter_id,"
    " position, pay_in_advance, invoice_display_name, units, total_aggregated_units, events_count,"
    " amount_cents, amount_currency, precise_amount_cents, unit_amount_cents, precise_unit_amount,"
    " amount_details, grouped_by, from_at, to_at, created_at"
)


def add(conn: Connection[Any], new: Sequence[NewInvoice]) -> None:
    """Write invoices with their subscriptions and fees, one statement a table."""
    with conn.cursor() as cursor:
        with cursor.copy(f"copy invoice ({_NEW_INVOICE}) from stdin") as copy:
            for invoice in new:
                copy.write_row(_invoice_row(invoice))
        with cursor.copy(f"copy invoice_subscription ({_SUBSCRIPTION_COLUMNS}) from stdin") as copy:
            for invoice in new:
                for on_invoice in invoice.subscriptions:
                    copy.write_row(_values(on_invoice))
        with cursor.copy(f"copy fee ({_NEW_FEE}) from stdin") as copy:
            for invoice in new:
                for position, fee in enumerate(invoice.fees):
                    copy.write_row(_fee_row(invoice, position, fee))


def _values(record: InvoiceSubscription) -> tuple[Any, ...]:
    return tuple(getattr(record, name) for name in InvoiceSubscription.__slots__)


def _invoice_row(new: NewInvoice) -> tuple[Any, ...]:
    total = new.fees_amount_cents
    return (
        new.id,
        new.organization_id,
        new.billing_entity_id,
        new.customer_id,
        new.sequential_id,
        new.billing_entity_sequential_id,
        new.number,
        new.purchase_order_number,
        "subscription",
        new.status,
        "pending" if total else "succeeded",
        new.currency,
        new.timezone,
        new.issuing_date,
        new.payment_due_date,
        new.expected_finalization_date,
        new.net_payment_term,
        total,
        total,
        total,
        total,
        new.skip_charges,
        new.at if new.status == "finalized" else None,
        new.at,
        new.at,
    )


def _fee_row(invoice: NewInvoice, position: int, fee: Fee) -> tuple[Any, ...]:
    return (
        new_id(invoice.at),
        invoice.organization_id,
        invoice.id,
        invoice.customer_id,
        fee.subscription_id,
        fee.kind,
        fee.charge_id,
        fee.charge_filter_id,
        position,
        False,
        fee.invoice_display_name,
        fee.units,
        fee.total_aggregated_units,
        fee.events_count,
        fee.amount_cents,
        invoice.currency,
        fee.precise_amount_cents,
        fee.unit_amount_cents,
        fee.precise_unit_amount,
        Jsonb(fee.amount_details),
        Jsonb(fee.grouped_by),
        fee.from_,
        fee.to,
        invoice.at,
    )


def settle(conn: Connection[Any], settled: Sequence[Settled]) -> None:
    """Write down how far each subscription is billed and when it is due again."""
    conn.execute(
        "update subscription s set next_billing_at = w.next_billing_at, fee_billed_until = w.fee_until,"
        " charges_billed_until = w.charges_until, trial_ended_at = w.trial_ended_at"
        " from unnest(%s::uuid[], %s::timestamptz[], %s::timestamptz[], %s::timestamptz[], %s::timestamptz[])"
        " as w (id, next_billing_at, fee_until, charges_until, trial_ended_at) where s.id = w.id",
        [
            [each.subscription_id for each in settled],
            [each.next_billing_at for each in settled],
            [each.fee_billed_until for each in settled],
            [each.charges_billed_until for each in settled],
            [each.trial_ended_at for each in settled],
        ],
    )
