"""Invoices, the subscriptions on them and their fees: read by id, written many at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from datetime import date, datetime
from decimal import Decimal
from typing import Any, TypeVar
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from permille.core.contract.subscription import Subscription
from permille.core.invoice.billing import BillingProgress, SubscriptionBilling
from permille.core.invoice.draft import InvoiceDraft, InvoiceStatus, Line
from permille.core.invoice.tax import AppliedTax, Taxed, tax_of_json
from permille.core.metering.event import Arrival
from permille.core.money import decimal_text
from permille.core.period import Period
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
    def taxed(self) -> Taxed:
        """Its taxes, as they were when it was billed."""
        return Taxed(
            amount_cents=self.taxes_amount_cents,
            precise_amount_cents=self.taxes_precise_amount_cents,
            rate=self.taxes_rate,
            applied=tuple(
                AppliedTax(
                    tax=tax_of_json(each),
                    amount_cents=each["amount_cents"],
                    fees_amount_cents=each["fees_amount_cents"],
                )
                for each in self.applied_taxes
            ),
        )

    @property
    def as_fee(self) -> Fee:
        """What it is for and what it comes to, without how it is shown."""
        assert self.from_at is not None, "a priced fee has a period"
        assert self.to_at is not None, "a priced fee has a period"
        return Fee(
            kind=self.fee_type,
            subscription_id=self.subscription_id,
            charge_id=self.charge_id,
            charge_filter_id=self.charge_filter_id,
            invoice_display_name=self.invoice_display_name,
            units=self.units,
            events_count=self.events_count,
            total_aggregated_units=self.total_aggregated_units,
            amount_cents=self.amount_cents,
            precise_amount_cents=self.precise_amount_cents,
            unit_amount_cents=self.unit_amount_cents,
            precise_unit_amount=self.precise_unit_amount,
            amount_details=self.amount_details,
            grouped_by=self.grouped_by,
            from_=self.from_at,
            to=self.to_at,
            pay_in_advance=self.pay_in_advance,
            event_transaction_id=self.event_transaction_id,
        )

    @property
    def earlier(self) -> Earlier | None:
        """What it carries on from, None where it was not rounded after others."""
        if self.earlier_amount_cents is None:
            return None
        return Earlier(
            cents=self.earlier_amount_cents, in_unit_cents=self.earlier_in_unit_cents or Decimal(0)
        )


FeeId = TypeVar("FeeId", str, UUID)


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


def newest_subscription_fees(
    conn: Connection[Any], subscription_ids: Collection[UUID]
) -> dict[UUID, StoredFee]:
    """Subscription -> the last fee for the plan itself, unless its invoice was voided or is a draft."""
    with conn.cursor(row_factory=class_row(StoredFee)) as cursor:
        rows = cursor.execute(
            f"select distinct on (f.subscription_id) {', '.join(f'f.{column}' for column in FEE_COLUMNS.split(', '))}"
            " from fee f join invoice i on i.id = f.invoice_id where f.subscription_id = any(%s)"
            " and f.fee_type = 'subscription' and i.status not in ('voided', 'draft')"
            " order by f.subscription_id, f.created_at desc, f.to_at desc",
            [list(subscription_ids)],
        ).fetchall()
    return {row.subscription_id: row for row in rows if row.subscription_id}


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

    The customers are locked before; what was billed meanwhile is not due any more.
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


_NEW_FEE = (
    "id, organization_id, invoice_id, customer_id, subscription_id, fee_type, charge_id, charge_filter_id,"
    " position, pay_in_advance, invoice_display_name, units, total_aggregated_units, events_count,"
    " amount_cents, amount_currency, precise_amount_cents, unit_amount_cents, precise_unit_amount,"
    " amount_details, grouped_by, from_at, to_at, true_up_parent_fee_id, taxes_amount_cents,"
    " taxes_precise_amount_cents, taxes_rate, applied_taxes, precise_coupons_amount_cents, event_transaction_id,"
    " pricing_unit_details, presentation, is_unpriced, late_usage_id, rounding, earlier_amount_cents,"
    " earlier_in_unit_cents, created_at"
)


def add(conn: Connection[Any], drafts: Sequence[InvoiceDraft]) -> list[list[str]]:
    """Insert invoices with their subscriptions and fees, one statement a table, and attach fees that exist already.

    Returns the ids of each draft's new fees, in order, as hexadecimal digits.
    """
    on_invoices = [draft for draft in drafts if draft.is_on_invoice]
    if on_invoices:
        rows = [_row(draft) for draft in on_invoices]
        _copy(conn, "invoice", ", ".join(rows[0]), map(_copy_line, rows))
        billed = (_billing_line(draft.id, billing) for draft in on_invoices for billing in draft.billings)
        _copy(conn, "invoice_subscription", _SUBSCRIPTION_COLUMNS, billed)
    return _add_fees(conn, drafts)


def _add_fees(conn: Connection[Any], drafts: Sequence[InvoiceDraft]) -> list[list[str]]:
    ids = [new_id_texts(draft.at, len(draft.lines)) for draft in drafts]
    _copy(
        conn,
        "fee",
        _NEW_FEE,
        (line for draft, own in zip(drafts, ids, strict=True) for line in _fee_lines(draft, own)),
    )
    attached = {
        line.fee_id: (draft.id, position)
        for draft in drafts
        for position, line in enumerate(draft.lines)
        if line.fee_id is not None
    }
    if attached:
        _attach(conn, attached)
    return ids


def _copy(conn: Connection[Any], table: str, columns: str, lines: Iterable[str]) -> None:
    """Lines end with a newline each; psycopg's own rows cost four times as much."""
    with conn.cursor() as cursor, cursor.copy(f"copy {table} ({columns}) from stdin") as copy:
        copy.write("".join(lines))


def _row(draft: InvoiceDraft) -> dict[str, Any]:
    """The columns of an invoice that is saved."""
    dates, number, status = draft.dates, draft.number, draft.status
    assert dates is not None, "an invoice has dates"
    return {
        "id": draft.id,
        "organization_id": draft.customer.organization_id,
        "billing_entity_id": draft.customer.billing_entity.id,
        "customer_id": draft.customer.id,
        "sequential_id": number.of_customer if number else None,
        "billing_entity_sequential_id": number.of_entity if number else None,
        "number": draft.number_text,
        "purchase_order_number": draft.purchase_order_number,
        "invoice_type": draft.invoice_type,
        "status": status,
        "payment_status": draft.payment_status,
        "currency": draft.currency,
        "timezone": draft.timezone,
        "issuing_date": dates.issuing_date,
        "payment_due_date": dates.payment_due_date,
        "expected_finalization_date": dates.expected_finalization_date,
        "net_payment_term": dates.net_payment_term,
        "fees_amount_cents": draft.fees_amount_cents,
        "taxes_amount_cents": draft.taxes_amount_cents,
        "taxes_rate": draft.taxed.rate,
        "applied_taxes": applied_taxes_json(draft.taxed, draft.currency, draft.at),
        "coupons_amount_cents": draft.coupons_amount_cents,
        "credit_notes_amount_cents": draft.credit_notes_amount_cents,
        "sub_total_excluding_taxes_amount_cents": draft.sub_total_excluding_taxes_amount_cents,
        "sub_total_including_taxes_amount_cents": draft.sub_total_including_taxes_amount_cents,
        "total_amount_cents": draft.total_amount_cents,
        "total_paid_amount_cents": draft.total_paid_amount_cents,
        "skip_charges": draft.skip_charges,
        "finalizes_at": dates.finalizes_at,
        "waits_for_price": draft.waits_for_price,
        "price_retry_at": draft.price_retry_at,
        "finalized_at": draft.made_at if status is InvoiceStatus.FINALIZED else None,
        "created_at": draft.at,
        "updated_at": draft.made_at,
    }


def _copy_line(row: dict[str, Any]) -> str:
    applied = row["applied_taxes"]
    texts = row | {
        "number": line_text(row["number"]),
        "purchase_order_number": line_text(row["purchase_order_number"]),
        "applied_taxes": line_text(exact_json(applied)) if applied else "[]",
    }
    return "\t".join([NULL if value is None else str(value) for value in texts.values()]) + "\n"


def unsaved_invoice(draft: InvoiceDraft) -> StoredInvoice:
    """The row that a draft would be."""
    row = _row(draft)
    own = {name: row[name] for name in INVOICE_COLUMNS.split(", ") if name in row}
    return StoredInvoice(
        **own,
        payment_overdue=False,
        payment_dispute_lost_at=None,
        progressive_billing_credit_amount_cents=0,
        prepaid_credit_amount_cents=0,
        metadata=[],
        voided_at=None,
    )


def unsaved_periods(draft: InvoiceDraft) -> list[InvoiceSubscription]:
    """The rows of a draft's subscriptions."""
    found = []
    for billing in draft.billings:
        own, usage = billing.planned.periods.subscription, billing.planned.periods.charges
        found.append(
            InvoiceSubscription(
                invoice_id=draft.id,
                subscription_id=billing.subscription.id,
                invoicing_reason=billing.reason,
                recurring=billing.recurring,
                billed_at=billing.at,
                from_at=own.from_ if own else None,
                to_at=own.to if own else None,
                charges_from_at=usage.from_ if usage else None,
                charges_to_at=usage.to if usage else None,
                fixed_charges_from_at=None,
                fixed_charges_to_at=None,
            )
        )
    return found


def unsaved_fees(draft: InvoiceDraft) -> list[StoredFee]:
    """The rows that the lines of a draft would be."""
    ids = new_ids(draft.at, len(draft.lines))
    parents = _true_up_parents(draft.lines, ids)
    return [
        StoredFee(
            id=fee_id,
            organization_id=draft.customer.organization_id,
            invoice_id=draft.id if draft.is_on_invoice else None,
            customer_id=draft.customer.id,
            subscription_id=_uuid(line.fee.subscription_id),
            fee_type=line.fee.kind,
            charge_id=_uuid(line.fee.charge_id),
            charge_filter_id=_uuid(line.fee.charge_filter_id),
            position=position,
            pay_in_advance=line.fee.pay_in_advance,
            invoice_display_name=line.fee.invoice_display_name,
            description=None,
            units=line.fee.units,
            total_aggregated_units=line.fee.total_aggregated_units,
            events_count=line.fee.events_count,
            amount_cents=line.fee.amount_cents,
            amount_currency=draft.currency,
            precise_amount_cents=line.fee.precise_amount_cents,
            unit_amount_cents=line.fee.unit_amount_cents,
            precise_unit_amount=line.fee.precise_unit_amount,
            taxes_amount_cents=line.taxed.amount_cents,
            taxes_precise_amount_cents=line.taxed.precise_amount_cents,
            taxes_rate=line.taxed.rate,
            applied_taxes=applied_taxes_json(line.taxed, draft.currency, draft.at),
            precise_coupons_amount_cents=line.discount_cents,
            amount_details=line.fee.amount_details,
            grouped_by=line.fee.grouped_by,
            payment_status="pending",
            from_at=line.fee.from_,
            to_at=line.fee.to,
            event_transaction_id=line.fee.event_transaction_id,
            true_up_parent_fee_id=parents.get(position),
            succeeded_at=None,
            failed_at=None,
            refunded_at=None,
            created_at=draft.at,
            pricing_unit_details=pricing_unit_json(line.fee.in_unit) if line.fee.in_unit else None,
            presentation=presentation_json(line.fee.presentation) if line.fee.presentation else None,
            is_unpriced=line.fee.is_unpriced,
            late_usage_id=_uuid(line.fee.late_usage_id),
        )
        for position, (fee_id, line) in enumerate(zip(ids, draft.lines, strict=True))
    ]


def _billing_line(invoice_id: UUID, billing: SubscriptionBilling) -> str:
    periods, (counted_to, seen_to) = billing.planned.periods, billing.arrival or (None, None)
    return (
        f"{invoice_id.hex}\t{billing.subscription.id.hex}\t{billing.reason}\t{billing.recurring}"
        f"\t{instant(billing.at)}\t{_period(periods.subscription)}\t{_period(periods.charges)}"
        f"\t{_period(None)}\t{_or_null(counted_to)}\t{_or_null(seen_to)}\n"
    )


def _period(period: Period | None) -> str:
    """Both ends."""
    return f"{NULL}\t{NULL}" if period is None else f"{instant(period.from_)}\t{instant(period.to)}"


def _fee_lines(draft: InvoiceDraft, ids: Sequence[str]) -> Iterator[str]:
    at, currency = instant(draft.at), draft.currency
    invoice_id = draft.id.hex if draft.is_on_invoice else NULL
    whose = f"{draft.customer.organization_id.hex}\t{invoice_id}\t{draft.customer.id.hex}"
    parents = _true_up_parents(draft.lines, ids)
    for position, (fee_id, line) in enumerate(zip(ids, draft.lines, strict=True)):
        if line.fee_id is not None:
            continue
        fee, taxed = line.fee, line.taxed
        yield (
            f"{fee_id}\t{whose}\t{_id(fee.subscription_id)}\t{fee.kind}\t{_id(fee.charge_id)}"
            f"\t{_id(fee.charge_filter_id)}\t{position if draft.is_on_invoice else 0}\t{fee.pay_in_advance}"
            f"\t{line_text(fee.invoice_display_name)}\t{fee.units}"
            f"\t{_or_null(fee.total_aggregated_units)}\t{_or_null(fee.events_count)}\t{fee.amount_cents}"
            f"\t{currency}\t{fee.precise_amount_cents}\t{fee.unit_amount_cents}"
            f"\t{fee.precise_unit_amount}\t{_json(fee.amount_details)}\t{_json(fee.grouped_by)}"
            f"\t{instant(fee.from_)}\t{instant(fee.to)}\t{parents.get(position, NULL)}"
            f"\t{taxed.amount_cents}\t{taxed.precise_amount_cents}\t{taxed.rate}\t{_applied(taxed, currency, draft.at)}"
            f"\t{line.discount_cents}\t{line_text(fee.event_transaction_id)}\t{_details(fee.in_unit)}"
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


def _attach(conn: Connection[Any], places: Mapping[UUID, tuple[UUID, int]]) -> None:
    """Put fees that were alone on invoices: fee -> invoice and place on it."""
    conn.execute(
        "update fee f set invoice_id = w.invoice_id, position = w.position"
        " from unnest(%s::uuid[], %s::uuid[], %s::int[]) as w (id, invoice_id, position) where f.id = w.id",
        [
            uuid_array(places),
            uuid_array(invoice_id for invoice_id, _ in places.values()),
            int_array(position for _, position in places.values()),
        ],
    )


def _true_up_parents(lines: Sequence[Line], ids: Sequence[FeeId]) -> dict[int, FeeId]:
    """Place of a true-up fee -> id of the fee that it belongs to: the charge's first without a filter."""
    found: dict[int, FeeId] = {}
    fees = [line.fee for line in lines]
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
    """Fee -> the true-up fee that fills up its charge to the minimum, where there is one."""
    rows = conn.execute(
        "select true_up_parent_fee_id, id from fee where true_up_parent_fee_id = any(%s)", [list(fee_ids)]
    ).fetchall()
    return dict(rows)


def _or_null(value: Decimal | int | None) -> str:
    return NULL if value is None else str(value)


def _id(value: Id | None) -> str:
    row_id = _uuid(value)
    return NULL if row_id is None else row_id.hex


def _uuid(value: Id | None) -> UUID | None:
    """Core passes identifiers on without a look; those of fees are UUIDs."""
    if value is not None and not isinstance(value, UUID):
        raise TypeError(f"{value!r} is not the id of a row")
    return value


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


_REWRITTEN = (
    "status",
    "number",
    "sequential_id",
    "billing_entity_sequential_id",
    "issuing_date",
    "payment_due_date",
    "expected_finalization_date",
    "net_payment_term",
    "finalizes_at",
    "waits_for_price",
    "price_retry_at",
    "finalized_at",
    "fees_amount_cents",
    "taxes_amount_cents",
    "taxes_rate",
    "applied_taxes",
    "coupons_amount_cents",
    "credit_notes_amount_cents",
    "sub_total_excluding_taxes_amount_cents",
    "sub_total_including_taxes_amount_cents",
    "total_amount_cents",
    "payment_status",
    "updated_at",
)


def rewrite(conn: Connection[Any], drafts: Sequence[InvoiceDraft]) -> None:
    """Replace the fees and amounts of drafts that are stored, and what has become of them; set-based."""
    conn.execute("delete from fee where invoice_id = any(%s)", [uuid_array(draft.id for draft in drafts)])
    _add_fees(conn, drafts)
    conn.execute(
        f"update invoice i set {', '.join(f'{name} = w.{name}' for name in _REWRITTEN)}"
        " from jsonb_populate_recordset(null::invoice, %s::jsonb) w where i.id = w.id and i.status = 'draft'",
        [exact_json([_row(draft) for draft in drafts])],
    )


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


def set_payment_status(
    conn: Connection[Any], fee_id: UUID, *, payment_status: str, now: datetime
) -> StoredFee | None:
    """Set the payment status of a fee without an invoice, and since when it has it; None for one on an invoice."""
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
    """Delete a fee without an invoice; False for one on an invoice."""
    return conn.execute("delete from fee where id = %s and invoice_id is null", [fee_id]).rowcount == 1


def settle(conn: Connection[Any], settled: Sequence[BillingProgress]) -> None:
    """Save how far each subscription is billed and when it is due again."""
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
