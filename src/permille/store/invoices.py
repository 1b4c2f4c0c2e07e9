"""Invoices, the subscriptions on them and their fees: read by id, written many at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from permille.core.contract.subscription import Subscription
from permille.core.invoice.tax import Taxed
from permille.core.metering.event import Arrival
from permille.core.money import decimal_text
from permille.core.rating.fee import Fee, Presentation
from permille.core.rating.filters import Id
from permille.core.rating.pricing_unit import InUnit
from permille.core.rating.rounding import Earlier, Rounding
from permille.database.bulk import NULL, instant, instant_array, int_array, line_text, text_array, uuid_array
from permille.database.connections import exact_json
from permille.ids import new_id_texts, new_ids
from permille.store import subscriptions as subscription_store
from permille.store.billing_holds import NOT_HELD


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
    applied_taxes: Sequence[Mapping[str, Any]]
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
    finalizes_at: datetime | None = None
    """When a draft becomes final."""
    waits_for_price: bool = False
    """Whether it is a draft with usage that is held until it has a price."""


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
    counted_to: int | None = None
    """Events up to this seq are surely in its usage fees."""
    seen_to: int | None = None
    """The last seq when its usage was read: what came later is in none of them."""


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
    applied_taxes: Sequence[Mapping[str, Any]]
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
    pricing_unit_details: Mapping[str, Any] | None = None
    """What the money was converted from, in the API's own form."""
    presentation: Mapping[str, Any] | None = None
    """Its breakdowns, in the API's own form, and `on_invoice`: the properties that it shows of them."""
    rounding: str = Rounding.PER_FEE
    """Whether it was rounded by itself or with its charge's other fees (core.rounding)."""
    earlier_amount_cents: Decimal | None = None
    """What the fees that it carries on from come to precisely."""
    earlier_in_unit_cents: Decimal | None = None
    is_unpriced: bool = False
    """Whether it is of usage that had no price when it was billed (core.unlisted)."""
    late_usage_id: UUID | None = None
    """The late usage that it bills."""

    @property
    def earlier(self) -> Earlier | None:
        """What it carries on from, None where it was not rounded after others."""
        if self.earlier_amount_cents is None:
            return None
        return Earlier(
            cents=self.earlier_amount_cents, in_unit_cents=self.earlier_in_unit_cents or Decimal(0)
        )


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


def fees_by_ids(conn: Connection[Any], ids: Collection[UUID]) -> dict[UUID, StoredFee]:
    """Fees by id, on whatever invoice or on none."""
    with conn.cursor(row_factory=class_row(StoredFee)) as cursor:
        rows = cursor.execute(f"select {FEE_COLUMNS} from fee where id = any(%s)", [list(ids)]).fetchall()
    return {row.id: row for row in rows}


def newest_subscription_fee(conn: Connection[Any], subscription_id: UUID) -> StoredFee | None:
    """The last fee for the plan itself, unless its invoice was voided."""
    with conn.cursor(row_factory=class_row(StoredFee)) as cursor:
        return cursor.execute(
            f"select {', '.join(f'f.{column}' for column in FEE_COLUMNS.split(', '))}"
            " from fee f join invoice i on i.id = f.invoice_id"
            " where f.subscription_id = %s and f.fee_type = 'subscription' and i.status not in ('voided', 'draft')"
            " order by f.created_at desc, f.to_at desc limit 1",
            [subscription_id],
        ).fetchone()


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
    """A subscription invoice to be written, with what is on it. No credits yet: fees and taxes are the total."""

    id: UUID
    organization_id: UUID
    billing_entity_id: UUID
    customer_id: UUID
    sequential_id: int | None
    billing_entity_sequential_id: int | None
    number: str
    purchase_order_number: str | None
    status: str
    """finalized, draft, or closed: neither numbered nor shown."""
    finalizes_at: datetime | None
    """When a draft becomes final."""
    waits_for_price: bool
    """Whether it is a draft with usage that is held until it has a price."""
    price_retry_at: datetime | None
    """Before then nobody looks whether that usage has one."""
    invoice_type: str
    is_paid: bool
    currency: str
    timezone: str
    issuing_date: date
    payment_due_date: date
    expected_finalization_date: date
    net_payment_term: int
    fees_amount_cents: int
    taxed: Taxed
    credit_notes_amount_cents: int
    """What credit notes pay of it."""
    skip_charges: bool
    at: datetime
    """Its now: the instant that was due."""
    subscriptions: Sequence[InvoiceSubscription]
    fees: Sequence[Fee]
    fees_taxed: Sequence[Taxed]
    """For each fee."""

    @property
    def takes_credits(self) -> bool:
        """Whether credit notes pay it: a draft is paid when it is final."""
        return self.status != "draft" and not self.is_paid and self.total_with_taxes_cents > 0

    @property
    def total_with_taxes_cents(self) -> int:
        """What there is to pay before credits."""
        return self.fees_amount_cents + self.taxed.amount_cents

    @property
    def lines(self) -> NewFees:
        return NewFees(
            organization_id=self.organization_id,
            invoice_id=self.id,
            customer_id=self.customer_id,
            currency=self.currency,
            at=self.at,
            fees=self.fees,
            taxed=self.fees_taxed,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFees:
    """Fees to be written: those of an invoice in its order, or without one such as stand alone."""

    organization_id: UUID
    invoice_id: UUID | None
    customer_id: UUID
    currency: str
    at: datetime
    fees: Sequence[Fee]
    taxed: Sequence[Taxed]
    """For each fee."""


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
    someone else has locked are passed over, or waited for; those that are held are left alone.
    """
    rows = conn.execute(
        "select c.id from subscription s join customer c on c.id = s.customer_id"
        f" where s.organization_id = %(organization)s and s.next_billing_at <= %(until)s and {_TO_BILL}"
        f" and s.{NOT_HELD} order by s.next_billing_at limit %(limit)s"
        f" for no key update of c {'' if wait else 'skip locked'}",
        {"organization": organization_id, "until": until, "limit": limit},
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


def take_customer_numbers(
    conn: Connection[Any], counts: Mapping[tuple[UUID, UUID], int]
) -> dict[tuple[UUID, UUID], int]:
    """Reserve so many numbers for each (customer, billing entity); the last one taken before."""
    keys = sorted(counts, key=lambda key: (key[0].int, key[1].int))
    rows = conn.execute(
        "insert into invoice_sequence as s (customer_id, billing_entity_id, last_value)"
        " select * from unnest(%s::uuid[], %s::uuid[], %s::bigint[])"
        " on conflict (customer_id, billing_entity_id) do update"
        " set last_value = s.last_value + excluded.last_value"
        " returning customer_id, billing_entity_id, last_value",
        [
            uuid_array(payer for payer, _ in keys),
            uuid_array(entity for _, entity in keys),
            int_array(counts[key] for key in keys),
        ],
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
    " taxes_amount_cents, taxes_rate, applied_taxes, credit_notes_amount_cents,"
    " sub_total_excluding_taxes_amount_cents, sub_total_including_taxes_amount_cents, total_amount_cents,"
    " total_paid_amount_cents, skip_charges, finalizes_at, waits_for_price, price_retry_at,"
    " finalized_at, created_at, updated_at"
)
_NEW_FEE = (
    "id, organization_id, invoice_id, customer_id, subscription_id, fee_type, charge_id, charge_filter_id,"
    " position, pay_in_advance, invoice_display_name, units, total_aggregated_units, events_count,"
    " amount_cents, amount_currency, precise_amount_cents, unit_amount_cents, precise_unit_amount,"
    " amount_details, grouped_by, from_at, to_at, true_up_parent_fee_id, taxes_amount_cents,"
    " taxes_precise_amount_cents, taxes_rate, applied_taxes, event_transaction_id, pricing_unit_details,"
    " presentation, is_unpriced, late_usage_id, rounding, earlier_amount_cents, earlier_in_unit_cents, created_at"
)


def add(conn: Connection[Any], new: Sequence[NewInvoice]) -> list[list[str]]:
    """Write invoices with their subscriptions and fees, one statement a table; the fees' ids as hexadecimal digits."""
    _copy(conn, "invoice", _NEW_INVOICE, map(_invoice_line, new))
    on_invoices = (_on_invoice_line(each) for invoice in new for each in invoice.subscriptions)
    _copy(conn, "invoice_subscription", _SUBSCRIPTION_COLUMNS, on_invoices)
    return add_fees(conn, [invoice.lines for invoice in new])


def add_fees(conn: Connection[Any], new: Sequence[NewFees]) -> list[list[str]]:
    """Write fees, one statement whatever their number; their ids as hexadecimal digits."""
    ids = [new_id_texts(fees.at, len(fees.fees)) for fees in new]
    lines = (line for fees, own in zip(new, ids, strict=True) for line in _fee_lines(fees, own))
    _copy(conn, "fee", _NEW_FEE, lines)
    return ids


def _copy(conn: Connection[Any], table: str, columns: str, lines: Iterable[str]) -> None:
    """Lines end with a newline each; psycopg's own rows cost four times as much."""
    with conn.cursor() as cursor, cursor.copy(f"copy {table} ({columns}) from stdin") as copy:
        copy.write("".join(lines))


def _invoice_line(new: NewInvoice) -> str:
    fees, at = new.fees_amount_cents, instant(new.at)
    with_taxes = new.total_with_taxes_cents
    total = with_taxes - new.credit_notes_amount_cents
    is_open = total and not new.is_paid
    return (
        f"{new.id.hex}\t{new.organization_id.hex}\t{new.billing_entity_id.hex}\t{new.customer_id.hex}"
        f"\t{_or_null(new.sequential_id)}\t{_or_null(new.billing_entity_sequential_id)}"
        f"\t{line_text(new.number)}\t{line_text(new.purchase_order_number)}\t{new.invoice_type}\t{new.status}"
        f"\t{'pending' if is_open else 'succeeded'}\t{new.currency}\t{new.timezone}\t{new.issuing_date}"
        f"\t{new.payment_due_date}\t{new.expected_finalization_date}\t{new.net_payment_term}"
        f"\t{fees}\t{new.taxed.amount_cents}\t{new.taxed.rate}\t{_applied(new.taxed, new.currency, new.at)}"
        f"\t{new.credit_notes_amount_cents}\t{fees}\t{with_taxes}\t{total}\t{total if new.is_paid else 0}\t{new.skip_charges}"
        f"\t{_instant(new.finalizes_at)}\t{new.waits_for_price}\t{_instant(new.price_retry_at)}\t{at if new.status == 'finalized' else NULL}\t{at}\t{at}\n"
    )


def _on_invoice_line(new: InvoiceSubscription) -> str:
    return (
        f"{new.invoice_id.hex}\t{new.subscription_id.hex}\t{new.invoicing_reason}\t{new.recurring}"
        f"\t{instant(new.billed_at)}\t{_instant(new.from_at)}\t{_instant(new.to_at)}"
        f"\t{_instant(new.charges_from_at)}\t{_instant(new.charges_to_at)}"
        f"\t{_instant(new.fixed_charges_from_at)}\t{_instant(new.fixed_charges_to_at)}"
        f"\t{_or_null(new.counted_to)}\t{_or_null(new.seen_to)}\n"
    )


def _fee_lines(new: NewFees, ids: Sequence[str]) -> Iterator[str]:
    at = instant(new.at)
    whose = f"{new.organization_id.hex}\t{_id(new.invoice_id)}\t{new.customer_id.hex}"
    parents = _true_up_parents(new.fees, ids)
    for position, (fee_id, fee, taxed) in enumerate(zip(ids, new.fees, new.taxed, strict=True)):
        yield (
            f"{fee_id}\t{whose}\t{_id(fee.subscription_id)}\t{fee.kind}\t{_id(fee.charge_id)}"
            f"\t{_id(fee.charge_filter_id)}\t{position}\t{fee.pay_in_advance}\t{line_text(fee.invoice_display_name)}\t{fee.units}"
            f"\t{_or_null(fee.total_aggregated_units)}\t{_or_null(fee.events_count)}\t{fee.amount_cents}"
            f"\t{new.currency}\t{fee.precise_amount_cents}\t{fee.unit_amount_cents}"
            f"\t{fee.precise_unit_amount}\t{_json(fee.amount_details)}\t{_json(fee.grouped_by)}"
            f"\t{instant(fee.from_)}\t{instant(fee.to)}\t{parents.get(position, NULL)}"
            f"\t{taxed.amount_cents}\t{taxed.precise_amount_cents}\t{taxed.rate}\t{_applied(taxed, new.currency, new.at)}"
            f"\t{line_text(fee.event_transaction_id)}\t{_details(fee.in_unit)}"
            f"\t{_presentation(fee.presentation)}\t{fee.is_unpriced}\t{_id(fee.late_usage_id)}"
            f"\t{fee.rounding}\t{_or_null(fee.earlier.cents if fee.earlier else None)}"
            f"\t{_or_null(fee.earlier.in_unit_cents if fee.earlier else None)}\t{at}\n"
        )


def _applied(taxed: Taxed, currency: str, at: datetime) -> str:
    """The taxes as they are now, as JSON: they stay on the invoice whatever becomes of them."""
    return line_text(exact_json(applied_taxes_json(taxed, currency, at))) if taxed.applied else "[]"


def _details(in_unit: InUnit | None) -> str:
    return NULL if in_unit is None else line_text(exact_json(pricing_unit_json(in_unit)))


def _presentation(found: Presentation | None) -> str:
    return NULL if found is None else line_text(exact_json(presentation_json(found)))


def presentation_json(found: Presentation) -> dict[str, Any]:
    """How a fee is shown as it is kept on it: the charge may change."""
    return {
        "on_invoice": list(found.on_invoice),
        "breakdowns": [
            {"presentation_by": dict(each.presentation_by), "units": decimal_text(each.units)}
            for each in found.breakdowns
        ],
    }


def pricing_unit_json(in_unit: InUnit) -> dict[str, Any]:
    """What a fee comes to in a pricing unit as it is kept on it: the unit and its rate may change."""
    unit, amounts = in_unit.applied.unit, in_unit.amounts
    return {
        "lago_pricing_unit_id": str(unit.id),
        "pricing_unit_code": unit.code,
        "short_name": unit.short_name,
        "amount_cents": amounts.amount_cents,
        "precise_amount_cents": decimal_text(amounts.precise_amount_cents),
        "unit_amount_cents": amounts.unit_amount_cents,
        "precise_unit_amount": decimal_text(amounts.precise_unit_amount),
        "conversion_rate": decimal_text(in_unit.applied.conversion_rate),
    }


def applied_taxes_json(taxed: Taxed, currency: str, at: datetime) -> list[dict[str, Any]]:
    """The taxes of a fee or an invoice as they are kept on it."""
    ids = new_ids(at, len(taxed.applied))
    return [
        {
            "lago_id": str(applied_id),
            "lago_tax_id": str(each.tax.id),
            "tax_name": each.tax.name,
            "tax_code": each.tax.code,
            "tax_rate": each.tax.rate,
            "tax_description": each.tax.description,
            "amount_cents": each.amount_cents,
            "amount_currency": currency,
            "fees_amount_cents": each.fees_amount_cents,
            "created_at": at.strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        for applied_id, each in zip(ids, taxed.applied, strict=True)
    ]


def _true_up_parents(fees: Sequence[Fee], ids: Sequence[str]) -> dict[int, str]:
    """Place of a true-up fee -> id of the fee that it belongs to: the charge's first without a filter."""
    found: dict[int, str] = {}
    for place, fee in enumerate(fees):
        if fee.is_true_up:
            found[place] = next(
                ids[other]
                for other, parent in enumerate(fees)
                if (parent.subscription_id, parent.charge_id) == (fee.subscription_id, fee.charge_id)
                and parent.charge_filter_id is None
                and not parent.is_true_up
            )
    return found


def true_ups_of(conn: Connection[Any], fee_ids: Collection[UUID]) -> dict[UUID, UUID]:
    """Fee -> the fee that makes it up to its charge's least amount, where there is one."""
    rows = conn.execute(
        "select true_up_parent_fee_id, id from fee where true_up_parent_fee_id = any(%s)", [list(fee_ids)]
    ).fetchall()
    return dict(rows)


def _or_null(value: Decimal | int | None) -> str:
    return NULL if value is None else str(value)


def _instant(at: datetime | None) -> str:
    return NULL if at is None else instant(at)


def _id(value: Id | None) -> str:
    """Core passes identifiers on without a look; those of fees are UUIDs."""
    return value.hex if isinstance(value, UUID) else NULL


def _json(value: Mapping[str, Any]) -> str:
    return line_text(exact_json(value)) if value else "{}"


@dataclass(frozen=True, slots=True, kw_only=True)
class DueDraft:
    """A draft that becomes final."""

    id: UUID
    customer_id: UUID
    finalizes_at: datetime
    waits_for_price: bool
    """Whether its usage had no price when it was last looked at."""


def claim_drafts(
    conn: Connection[Any], organization_id: UUID, *, until: datetime, limit: int, wait: bool
) -> list[DueDraft]:
    """Lock the drafts whose day has come, with their customers, but for those that are held or wait for a price."""
    with conn.cursor(row_factory=class_row(DueDraft)) as cursor:
        return cursor.execute(
            "select i.id, i.customer_id, i.finalizes_at, i.waits_for_price from invoice i join customer c on c.id = i.customer_id"
            " where i.organization_id = %(organization)s and i.finalizes_at <= %(until)s"
            f" and i.price_retry_at is null and i.{NOT_HELD} order by i.finalizes_at, i.id limit %(limit)s"
            f" for no key update of c, i {'' if wait else 'skip locked'}",
            {"organization": organization_id, "until": until, "limit": limit},
        ).fetchall()


def release_waiting(conn: Connection[Any], organization_id: UUID, *, until: datetime | None) -> None:
    """Let drafts that wait for a price be tried again: those whose time for it has come, or without one all."""
    conn.execute(
        "update invoice set price_retry_at = null where id in ("
        "   select id from invoice where organization_id = %(organization)s"
        "   and price_retry_at <= coalesce(%(until)s, 'infinity'::timestamptz)"
        f"  order by id for update {'skip locked' if until else ''})",
        {"organization": organization_id, "until": until},
    )


def drafts_of(conn: Connection[Any], subscription_ids: Collection[UUID]) -> list[UUID]:
    """The drafts with any of these subscriptions, locked."""
    rows = conn.execute(
        "select id from invoice where status = 'draft' and customer_id in"
        " (select customer_id from subscription where id = any(%(ids)s)) and id in"
        " (select invoice_id from invoice_subscription where subscription_id = any(%(ids)s))"
        " order by id for no key update",
        {"ids": list(subscription_ids)},
    ).fetchall()
    return [invoice_id for (invoice_id,) in rows]


def with_subscription_fee(conn: Connection[Any], invoice_ids: Collection[UUID]) -> set[tuple[UUID, UUID]]:
    """(invoice, subscription) of those on which the plan's own fee is billed."""
    rows = conn.execute(
        "select invoice_id, subscription_id from fee where invoice_id = any(%s) and fee_type = 'subscription'",
        [list(invoice_ids)],
    ).fetchall()
    return set(rows)


# The customer's midnight of the day, so many days after that of its billing.
_GRACE = """
update invoice i set expected_finalization_date = d.day,
    finalizes_at = greatest(d.day::timestamp at time zone i.timezone, %(now)s)
from (
    select o.id, (o.created_at at time zone o.timezone)::date + w.days as day
    from unnest(%(customers)s::uuid[], %(days)s::int[]) as w (customer_id, days)
    join invoice o on o.customer_id = w.customer_id and o.status = 'draft'
) d
where i.id = d.id
"""


def set_grace_periods(conn: Connection[Any], days: Mapping[UUID, int], *, now: datetime) -> None:
    """Let the drafts of these customers become final so many days after they were billed, now at the earliest."""
    values = {"customers": uuid_array(days), "days": int_array(days.values()), "now": now}
    conn.execute(_GRACE, values)


_REWRITE = """
update invoice set status = %(status)s, number = %(number)s, sequential_id = %(sequential_id)s,
    billing_entity_sequential_id = %(billing_entity_sequential_id)s, issuing_date = %(issuing_date)s,
    payment_due_date = %(payment_due_date)s, expected_finalization_date = %(expected_finalization_date)s,
    net_payment_term = %(net_payment_term)s, finalizes_at = %(finalizes_at)s,
    waits_for_price = %(waits_for_price)s, price_retry_at = %(price_retry_at)s, finalized_at = %(finalized_at)s,
    fees_amount_cents = %(fees)s, taxes_amount_cents = %(taxes)s, taxes_rate = %(taxes_rate)s,
    applied_taxes = %(applied_taxes)s, credit_notes_amount_cents = %(credit_notes)s,
    sub_total_excluding_taxes_amount_cents = %(fees)s, sub_total_including_taxes_amount_cents = %(with_taxes)s,
    total_amount_cents = %(total)s, payment_status = %(payment_status)s, updated_at = %(now)s
where id = %(id)s and status = 'draft'
"""


def rewrite(
    conn: Connection[Any], drafts: Sequence[NewInvoice], *, finalized_at: datetime | None, now: datetime
) -> None:
    """Write drafts anew, with other fees, or as what they become."""
    conn.execute("delete from fee where invoice_id = any(%s)", [uuid_array(each.id for each in drafts)])
    add_fees(conn, [each.lines for each in drafts])
    with conn.cursor() as cursor:
        cursor.executemany(_REWRITE, [_rewritten(each, finalized_at, now) for each in drafts])


def _rewritten(new: NewInvoice, finalized_at: datetime | None, now: datetime) -> dict[str, Any]:
    with_taxes = new.total_with_taxes_cents
    total = with_taxes - new.credit_notes_amount_cents
    return {
        "id": new.id,
        "status": new.status,
        "number": new.number,
        "sequential_id": new.sequential_id,
        "billing_entity_sequential_id": new.billing_entity_sequential_id,
        "issuing_date": new.issuing_date,
        "payment_due_date": new.payment_due_date,
        "expected_finalization_date": new.expected_finalization_date,
        "net_payment_term": new.net_payment_term,
        "finalizes_at": new.finalizes_at,
        "waits_for_price": new.waits_for_price,
        "price_retry_at": new.price_retry_at,
        "finalized_at": finalized_at if new.status == "finalized" else None,
        "fees": new.fees_amount_cents,
        "taxes": new.taxed.amount_cents,
        "taxes_rate": new.taxed.rate,
        "applied_taxes": exact_json(applied_taxes_json(new.taxed, new.currency, new.at)),
        "credit_notes": new.credit_notes_amount_cents,
        "with_taxes": with_taxes,
        "total": total,
        "payment_status": "pending" if total else "succeeded",
        "now": now,
    }


def set_arrival(conn: Connection[Any], invoice_ids: Collection[UUID], arrival: Arrival) -> None:
    """Write down which events the usage fees of these invoices were priced with."""
    conn.execute(
        "update invoice_subscription set counted_to = %s, seen_to = %s where invoice_id = any(%s)",
        [arrival.counted_to, arrival.seen_to, list(invoice_ids)],
    )


def paid_alone(
    conn: Connection[Any], names: Mapping[tuple[UUID, str], datetime], *, only_ended: bool
) -> list[StoredFee]:
    """Fees without an invoice that were paid by an instant, of subscriptions by (organization, external id).

    Those of charges that ask for it; `only_ended` leaves out those whose period goes on then.
    """
    with conn.cursor(row_factory=class_row(StoredFee)) as cursor:
        return cursor.execute(
            f"select {', '.join(f'f.{column}' for column in FEE_COLUMNS.split(', '))}"
            " from unnest(%s::uuid[], %s::text[], %s::timestamptz[]) as w (organization_id, external_id, at)"
            " join subscription s on s.organization_id = w.organization_id and s.external_id = w.external_id"
            " join fee f on f.subscription_id = s.id join charge c on c.id = f.charge_id"
            " where f.invoice_id is null and f.payment_status = 'succeeded' and f.succeeded_at <= w.at"
            " and c.regroup_paid_fees = 'invoice' and (not %s or f.to_at <= w.at)"
            " order by f.created_at, f.id",
            [
                uuid_array(organization for organization, _ in names),
                text_array(name for _, name in names),
                instant_array(names.values()),
                only_ended,
            ],
        ).fetchall()


def attach(conn: Connection[Any], places: Mapping[UUID, tuple[UUID, int]]) -> None:
    """Put fees that stood alone on invoices: fee -> invoice and place on it."""
    conn.execute(
        "update fee f set invoice_id = w.invoice_id, position = w.position"
        " from unnest(%s::uuid[], %s::uuid[], %s::int[]) as w (id, invoice_id, position) where f.id = w.id",
        [
            uuid_array(places),
            uuid_array(invoice_id for invoice_id, _ in places.values()),
            int_array(position for _, position in places.values()),
        ],
    )


def set_payment_status(
    conn: Connection[Any], fee_id: UUID, *, payment_status: str, now: datetime
) -> StoredFee | None:
    """What became of the payment of a fee that stands alone, and since when; None for one on an invoice."""
    with conn.cursor(row_factory=class_row(StoredFee)) as cursor:
        return cursor.execute(
            "update fee set payment_status = %(status)s,"
            " succeeded_at = case when %(status)s = 'succeeded' then %(now)s::timestamptz end,"
            " failed_at = case when %(status)s = 'failed' then %(now)s::timestamptz end,"
            " refunded_at = case when %(status)s = 'refunded' then %(now)s::timestamptz end"
            f" where id = %(id)s and invoice_id is null returning {FEE_COLUMNS}",
            {"status": payment_status, "now": now, "id": fee_id},
        ).fetchone()


def delete_alone(conn: Connection[Any], fee_id: UUID) -> bool:
    """Delete a fee that stands alone; False for one on an invoice."""
    return conn.execute("delete from fee where id = %s and invoice_id is null", [fee_id]).rowcount == 1


def settle(conn: Connection[Any], settled: Sequence[Settled]) -> None:
    """Write down how far each subscription is billed and when it is due again."""
    conn.execute(
        "update subscription s set next_billing_at = w.next_billing_at, fee_billed_until = w.fee_until,"
        " charges_billed_until = w.charges_until, trial_ended_at = w.trial_ended_at"
        " from unnest(%s::uuid[], %s::timestamptz[], %s::timestamptz[], %s::timestamptz[], %s::timestamptz[])"
        " as w (id, next_billing_at, fee_until, charges_until, trial_ended_at) where s.id = w.id",
        [
            uuid_array(each.subscription_id for each in settled),
            instant_array(each.next_billing_at for each in settled),
            instant_array(each.fee_billed_until for each in settled),
            instant_array(each.charges_billed_until for each in settled),
            instant_array(each.trial_ended_at for each in settled),
        ],
    )


def totals(conn: Connection[Any], organization_id: UUID) -> list[tuple[int, int, str]]:
    """(number, total in cents, currency) of the organization's drafts and final invoices."""
    return conn.execute(
        "select count(*), sum(total_amount_cents)::bigint, currency from invoice"
        " where organization_id = %s and status in ('draft', 'finalized') group by currency order by currency",
        [organization_id],
    ).fetchall()
