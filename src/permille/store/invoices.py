"""Invoices and the subscriptions on them: read by id, written many at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from types import NoneType
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from permille.core.contract.subscription import Subscription
from permille.core.contract.timeline import BillingPeriods
from permille.core.custom_section import CustomSection
from permille.core.invoice.billing import BillingProgress, SubscriptionBilling
from permille.core.invoice.draft import InvoiceDates, InvoiceDraft, InvoiceStatus
from permille.core.invoice.payment import PaymentStatus, due_cents
from permille.core.metering.event import Arrival
from permille.core.period import Period
from permille.core.record import Record
from permille.database.bulk import (
    NULL,
    columns_of,
    copy_lines,
    hex_text,
    instant,
    instant_array,
    int_array,
    line_text,
    or_null,
    uuid_array,
)
from permille.database.connections import exact_json
from permille.database.typed_rows import typed_row
from permille.store import fees, progressive, subscriptions as subscription_store
from permille.store.billing_holds import NOT_HELD


class StoredInvoice(Record, kw_only=True):
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
    status: InvoiceStatus
    payment_status: PaymentStatus
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
    prepaid_granted_credit_amount_cents: int | None
    prepaid_purchased_credit_amount_cents: int | None
    total_amount_cents: int
    total_paid_amount_cents: int
    custom_sections: Sequence[Mapping[str, Any]]
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
    offset_amount_cents: int = 0
    """What its own credit notes took off what is due."""
    voided_invoice_id: UUID | None = None
    """The voided invoice that it replaces."""
    original_invoice_id: UUID | None = None
    """The first of the invoices that replace each other: it has the subscriptions and their periods."""

    @property
    def due_amount_cents(self) -> int:
        """What is still to be paid."""
        if self.status is InvoiceStatus.VOIDED:
            return 0
        return due_cents(
            self.total_amount_cents,
            paid_cents=self.total_paid_amount_cents,
            offset_cents=self.offset_amount_cents,
        )


class InvoiceSubscription(Record, kw_only=True):
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


INVOICE_COLUMNS = columns_of(StoredInvoice)


_SUBSCRIPTION_COLUMNS = columns_of(InvoiceSubscription)
_PERIOD_COLUMNS = ", ".join(f"p.{name}" for name in _SUBSCRIPTION_COLUMNS.split(", ") if name != "invoice_id")


def invoices_by_ids(conn: Connection[Any], ids: Collection[UUID]) -> dict[UUID, StoredInvoice]:
    """Invoices of any status by id."""
    with conn.cursor(row_factory=typed_row(StoredInvoice)) as cursor:
        rows = cursor.execute(
            f"select {INVOICE_COLUMNS} from invoice where id = any(%s)", [list(ids)]
        ).fetchall()
    return {row.id: row for row in rows}


def subscriptions_of(
    conn: Connection[Any], invoice_ids: Collection[UUID]
) -> dict[UUID, list[InvoiceSubscription]]:
    """The subscriptions on each invoice, in the order of their ids; of one that replaces another, those of the first."""
    with conn.cursor(row_factory=class_row(InvoiceSubscription)) as cursor:
        rows = cursor.execute(
            f"select i.id as invoice_id, {_PERIOD_COLUMNS} from invoice i join invoice_subscription p"
            " on p.invoice_id = coalesce(i.original_invoice_id, i.id) where i.id = any(%s)"
            " order by i.id, p.subscription_id",
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
        [uuid_array(customer_ids), until],
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
    """Reserve so many numbers of each billing entity; the last one taken before."""
    last: dict[UUID, int] = {}
    for entity_id in sorted(counts):
        row = conn.execute(
            "update billing_entity set last_invoice_sequential_id = last_invoice_sequential_id + %(count)s"
            " where id = %(id)s returning last_invoice_sequential_id",
            {"count": counts[entity_id], "id": entity_id},
        ).fetchone()
        assert row is not None, entity_id
        last[entity_id] = row[0] - counts[entity_id]
    return last


def add(conn: Connection[Any], drafts: Sequence[InvoiceDraft]) -> list[list[str]]:
    """Insert invoices with their subscriptions and fees, one statement a table, and attach fees that exist already.

    Returns the ids of each draft's new fees, in order, as hexadecimal digits.
    """
    on_invoices = [draft for draft in drafts if draft.is_on_invoice]
    if on_invoices:
        rows, tax_texts = [_columns(draft) for draft in on_invoices], fees.TaxTexts()
        taxes = (tax_texts.of(draft.taxed) for draft in on_invoices)
        columns = ", ".join([*rows[0], "applied_taxes"])
        copy_lines(conn, "invoice", columns, map(_copy_line, rows, taxes))
        billed = (_billing_line(draft.id, billing) for draft in on_invoices for billing in draft.billings)
        copy_lines(conn, "invoice_subscription", _SUBSCRIPTION_COLUMNS, billed)
        progressive.save_credits(conn, on_invoices)
    return fees.add(conn, drafts)


def _row(draft: InvoiceDraft) -> dict[str, Any]:
    """The columns of an invoice that is saved, its taxes as JSON."""
    return {**_columns(draft), "applied_taxes": fees.applied_taxes_json(draft.taxed)}


def _columns(draft: InvoiceDraft) -> dict[str, Any]:
    """All columns but its taxes."""
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
        "progressive_billing_credit_amount_cents": draft.progressive_billing_credit_amount_cents,
        "coupons_amount_cents": draft.coupons_amount_cents,
        "credit_notes_amount_cents": draft.credit_notes_amount_cents,
        "sub_total_excluding_taxes_amount_cents": draft.sub_total_excluding_taxes_amount_cents,
        "sub_total_including_taxes_amount_cents": draft.sub_total_including_taxes_amount_cents,
        "prepaid_credit_amount_cents": draft.prepaid_credit_amount_cents,
        "prepaid_granted_credit_amount_cents": draft.prepaid_granted_credit_amount_cents,
        "prepaid_purchased_credit_amount_cents": draft.prepaid_purchased_credit_amount_cents,
        "total_amount_cents": draft.total_amount_cents,
        "total_paid_amount_cents": draft.total_paid_amount_cents,
        "custom_sections": _custom_sections(draft.custom_sections),
        "skip_charges": draft.skip_charges,
        "finalizes_at": dates.finalizes_at,
        "waits_for_price": draft.waits_for_price,
        "price_retry_at": draft.price_retry_at,
        "finalized_at": draft.made_at if status is InvoiceStatus.FINALIZED else None,
        "voided_invoice_id": draft.replaces.id if draft.replaces else None,
        "original_invoice_id": draft.replaces.original_id if draft.replaces else None,
        "created_at": draft.at,
        "updated_at": draft.made_at,
    }


def _custom_sections(printed: Sequence[CustomSection]) -> list[dict[str, Any]]:
    """The sections as an invoice keeps them."""
    return [
        {
            "lago_id": str(each.id),
            "code": each.code,
            "display_name": each.display_name,
            "details": each.details,
        }
        for each in printed
    ]


_TEXTS: Mapping[type, Callable[[Any], str]] = {
    NoneType: lambda _: NULL,
    UUID: hex_text,
    datetime: instant,
    str: line_text,
    list: lambda value: line_text(exact_json(value)) if value else "[]",
}
"""The forms of values in a line of COPY that `str` does not write, or not as fast."""


def _copy_line(row: dict[str, Any], applied_taxes: str) -> str:
    texts = [_TEXTS.get(type(value), str)(value) for value in row.values()]
    return "\t".join([*texts, applied_taxes]) + "\n"


def unsaved_invoice(draft: InvoiceDraft) -> StoredInvoice:
    """The row that a draft would be."""
    row = _row(draft)
    own = {name: row[name] for name in INVOICE_COLUMNS.split(", ") if name in row}
    return StoredInvoice(
        **own,
        payment_overdue=False,
        payment_dispute_lost_at=None,
        metadata=[],
        voided_at=None,
    )


def unsaved_periods(draft: InvoiceDraft) -> list[InvoiceSubscription]:
    """The rows of a draft's subscriptions."""
    found = []
    for billing in draft.billings:
        periods = billing.planned.periods
        own, usage, fixed = periods.subscription, periods.charges, _fixed_charges(periods)
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
                fixed_charges_from_at=fixed.from_ if fixed else None,
                fixed_charges_to_at=fixed.to if fixed else None,
            )
        )
    return found


def _billing_line(invoice_id: UUID, billing: SubscriptionBilling) -> str:
    periods, (counted_to, seen_to) = billing.planned.periods, billing.arrival or (None, None)
    return (
        f"{hex_text(invoice_id)}\t{hex_text(billing.subscription.id)}\t{billing.reason}\t{billing.recurring}"
        f"\t{instant(billing.at)}\t{_period(periods.subscription)}\t{_period(periods.charges)}"
        f"\t{_period(_fixed_charges(periods))}\t{or_null(counted_to)}\t{or_null(seen_to)}\n"
    )


def _fixed_charges(periods: BillingPeriods) -> Period | None:
    """The period of fixed charges that an invoice shows: the one that has ended, else the one that begins."""
    return periods.fixed_charges or periods.fixed_charges_in_advance


def _period(period: Period | None) -> str:
    """Both ends."""
    return f"{NULL}\t{NULL}" if period is None else f"{instant(period.from_)}\t{instant(period.to)}"


class DueDraft(Record, kw_only=True):
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


def drafts_of_customer(conn: Connection[Any], customer_id: UUID) -> list[UUID]:
    """All drafts of a customer, locked."""
    rows = conn.execute(
        "select id from invoice where status = 'draft' and customer_id = %s order by id for no key update",
        [customer_id],
    ).fetchall()
    return [invoice_id for (invoice_id,) in rows]


class DatedDraft(Record, kw_only=True):
    """What the dates of a draft are made of, and those of its end that it has."""

    id: UUID
    customer_id: UUID
    billing_entity_id: UUID
    billed_at: datetime
    timezone: str
    recurring: bool
    """Whether a period's end made it due."""
    expected_finalization_date: date
    finalizes_at: datetime


_DATED = """
select i.id, i.customer_id, i.billing_entity_id, i.created_at as billed_at, i.timezone, i.expected_finalization_date, i.finalizes_at,
    exists (select from invoice_subscription s where s.invoice_id = i.id and s.recurring) as recurring
from invoice i where i.status = 'draft' and """
_DATED_OF_CUSTOMER = f"{_DATED} i.customer_id = %s"
_DATED_OF_ENTITY = f"{_DATED} i.billing_entity_id = %s"


def dated_drafts_of_customer(conn: Connection[Any], customer_id: UUID) -> list[DatedDraft]:
    """All drafts of a customer."""
    with conn.cursor(row_factory=class_row(DatedDraft)) as cursor:
        return cursor.execute(_DATED_OF_CUSTOMER, [customer_id]).fetchall()


def dated_drafts_of_entity(conn: Connection[Any], billing_entity_id: UUID) -> list[DatedDraft]:
    """All drafts that a billing entity issues."""
    with conn.cursor(row_factory=class_row(DatedDraft)) as cursor:
        return cursor.execute(_DATED_OF_ENTITY, [billing_entity_id]).fetchall()


def set_draft_dates(conn: Connection[Any], dates: Mapping[UUID, InvoiceDates]) -> None:
    """Date drafts, as far as they are drafts still; set-based."""
    of = dates.values()
    conn.execute(
        "update invoice i set issuing_date = d.issued_on, payment_due_date = d.due_on, net_payment_term = d.term,"
        " expected_finalization_date = d.expected_on, finalizes_at = d.finalizes_at"
        " from unnest(%s::uuid[], %s::date[], %s::date[], %s::int[], %s::date[], %s::timestamptz[])"
        " as d (id, issued_on, due_on, term, expected_on, finalizes_at) where i.id = d.id and i.status = 'draft'",
        [
            uuid_array(dates),
            [each.issuing_date for each in of],
            [each.payment_due_date for each in of],
            int_array(each.net_payment_term for each in of),
            [each.expected_finalization_date for each in of],
            instant_array(each.finalizes_at for each in of),
        ],
    )


def move_drafts(conn: Connection[Any], customer_id: UUID, from_: UUID, to: UUID) -> None:
    """Let another billing entity issue a customer's drafts, but for those of subscriptions that name an entity themselves."""
    conn.execute(
        "update invoice i set billing_entity_id = %(to)s where i.customer_id = %(customer)s and i.status = 'draft'"
        " and i.billing_entity_id = %(from)s and not exists (select from invoice_subscription x"
        " join subscription s on s.id = x.subscription_id where x.invoice_id = i.id and s.billing_entity_id is not null)",
        {"customer": customer_id, "from": from_, "to": to},
    )


_REWRITTEN = (
    "billing_entity_id",
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
    "custom_sections",
    "progressive_billing_credit_amount_cents",
    "coupons_amount_cents",
    "credit_notes_amount_cents",
    "sub_total_excluding_taxes_amount_cents",
    "sub_total_including_taxes_amount_cents",
    "prepaid_credit_amount_cents",
    "prepaid_granted_credit_amount_cents",
    "prepaid_purchased_credit_amount_cents",
    "total_amount_cents",
    "payment_status",
    "updated_at",
)


def rewrite(conn: Connection[Any], drafts: Sequence[InvoiceDraft]) -> None:
    """Replace the fees and amounts of drafts that are stored, and what has become of them; set-based."""
    conn.execute("delete from fee where invoice_id = any(%s)", [uuid_array(draft.id for draft in drafts)])
    fees.add(conn, drafts)
    progressive.replace_credits(conn, drafts)
    conn.execute(
        f"update invoice i set {', '.join(f'{name} = w.{name}' for name in _REWRITTEN)}"
        " from jsonb_populate_recordset(null::invoice, %s::jsonb) w where i.id = w.id and i.status = 'draft'",
        [exact_json([_row(draft) for draft in drafts])],
    )


def finalize_opened(conn: Connection[Any], drafts: Sequence[InvoiceDraft]) -> None:
    """Number and date invoices that waited for their payment; set-based."""
    shown = ("number", "sequential_id", "billing_entity_sequential_id", "issuing_date", "payment_due_date")
    rows = [{**{name: _row(draft)[name] for name in shown}, "id": draft.id} for draft in drafts]
    conn.execute(
        f"update invoice i set status = 'finalized', finalized_at = %s, {', '.join(f'{name} = w.{name}' for name in shown)}"
        " from jsonb_populate_recordset(null::invoice, %s::jsonb) w where i.id = w.id and i.status = 'open'",
        [drafts[0].made_at, exact_json(rows)],
    )


def close(conn: Connection[Any], invoice_ids: Collection[UUID], *, now: datetime) -> None:
    """Invoices that waited for their payment, and never become final."""
    conn.execute(
        "update invoice set status = 'closed', updated_at = %s where id = any(%s) and status = 'open'",
        [now, list(invoice_ids)],
    )


def take_off_due(conn: Connection[Any], offsets: Mapping[UUID, int], *, now: datetime) -> list[UUID]:
    """Take so much off what is due of invoices; those of which nothing is due any more, and that were not paid before."""
    rows = conn.execute(
        "update invoice i set offset_amount_cents = i.offset_amount_cents + w.amount, updated_at = %s"
        " from unnest(%s::uuid[], %s::bigint[]) as w (id, amount) where i.id = w.id"
        " returning i.id, i.payment_status <> 'succeeded'"
        " and i.total_amount_cents <= i.total_paid_amount_cents + i.offset_amount_cents",
        [now, uuid_array(offsets), int_array(offsets.values())],
    ).fetchall()
    return [invoice_id for invoice_id, is_settled in rows if is_settled]


def delete_draft(conn: Connection[Any], invoice_id: UUID, *, now: datetime) -> bool:
    """Whether it was a draft: it is hidden now, with its fees, and does not become final."""
    done = conn.execute(
        "update invoice set status = 'deleted', finalizes_at = null, waits_for_price = false,"
        " price_retry_at = null, updated_at = %s where id = %s and status = 'draft'",
        [now, invoice_id],
    )
    return done.rowcount == 1


def void(conn: Connection[Any], invoice_ids: Collection[UUID], *, now: datetime) -> None:
    """Void invoices: they keep their numbers, and nothing of them is due. Notes that they get later are of the void."""
    conn.execute(
        "update invoice set status = 'voided', voided_at = %(now)s, updated_at = %(now)s, payment_overdue = false,"
        " notes_before_void = (select count(*) from credit_note n where n.invoice_id = invoice.id)"
        " where id = any(%(ids)s)",
        {"now": now, "ids": list(invoice_ids)},
    )
    conn.execute(
        "update credit_note set given_up_before_void_cents = voided_amount_cents"
        " where invoice_id = any(%s) and voided_amount_cents > 0",
        [list(invoice_ids)],
    )


def replacement_of(conn: Connection[Any], invoice_id: UUID) -> UUID | None:
    """The invoice that replaces a voided one, where there is one."""
    row = conn.execute("select id from invoice where voided_invoice_id = %s", [invoice_id]).fetchone()
    return row[0] if row else None


def lose_dispute(conn: Connection[Any], invoice_id: UUID, *, now: datetime) -> None:
    """Record that a dispute about an invoice's payment was lost."""
    conn.execute(
        "update invoice set payment_dispute_lost_at = %(now)s, updated_at = %(now)s, payment_overdue = false"
        " where id = %(id)s",
        {"now": now, "id": invoice_id},
    )


def set_arrival(conn: Connection[Any], invoice_ids: Collection[UUID], arrival: Arrival) -> None:
    """Write down which events the usage fees of these invoices were priced with."""
    conn.execute(
        "update invoice_subscription set counted_to = %s, seen_to = %s where invoice_id = any(%s)",
        [arrival.counted_to, arrival.seen_to, list(invoice_ids)],
    )


def settle(conn: Connection[Any], settled: Sequence[BillingProgress]) -> None:
    """Save how far each subscription is billed and when it is due again."""
    conn.execute(
        "update subscription s set next_billing_at = w.next_billing_at, fee_billed_until = w.fee_until,"
        " charges_billed_until = w.charges_until, trial_ended_at = w.trial_ended_at,"
        " fixed_charges_billed_until = w.fixed_until, fixed_charges_paid_until = w.paid_until"
        " from unnest(%s::uuid[], %s::timestamptz[], %s::timestamptz[], %s::timestamptz[], %s::timestamptz[],"
        " %s::timestamptz[], %s::timestamptz[])"
        " as w (id, next_billing_at, fee_until, charges_until, trial_ended_at, fixed_until, paid_until) where s.id = w.id",
        [
            uuid_array(each.subscription_id for each in settled),
            instant_array(each.next_billing_at for each in settled),
            instant_array(each.fee_billed_until for each in settled),
            instant_array(each.charges_billed_until for each in settled),
            instant_array(each.trial_ended_at for each in settled),
            instant_array(each.fixed_charges_billed_until for each in settled),
            instant_array(each.fixed_charges_paid_until for each in settled),
        ],
    )


def totals(conn: Connection[Any], organization_id: UUID) -> list[tuple[int, int, str]]:
    """(number, total in cents, currency) of the organization's drafts and final invoices."""
    return conn.execute(
        "select count(*), sum(total_amount_cents)::bigint, currency from invoice"
        " where organization_id = %s and status in ('draft', 'finalized') group by currency order by currency",
        [organization_id],
    ).fetchall()
