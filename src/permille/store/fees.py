"""Fees, the lines of invoices: read by id, written many at a time."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import islice
from typing import Any, TypeVar
from uuid import UUID

from psycopg import Connection

from permille.core.bounds import EARLIEST
from permille.core.fee_kind import FeeKind
from permille.core.invoice.draft import InvoiceDraft, Line
from permille.core.invoice.payment import PaymentStatus
from permille.core.money import LineAmounts, decimal_text
from permille.core.period import Period
from permille.core.rating.fee import Breakdown, Fee, Presentation
from permille.core.rating.filters import Id
from permille.core.rating.pricing_unit import AppliedPricingUnit, InUnit, PricingUnit
from permille.core.rating.rounding import Earlier, Rounding
from permille.core.record import Record
from permille.core.tax import UNTAXED, AppliedTax, Tax, Taxed, tax_of_json
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
    text_array,
    uuid_array,
)
from permille.database.connections import exact_json
from permille.database.typed_rows import typed_row
from permille.ids import new_id_texts, new_ids


class StoredFee(Record, kw_only=True):
    """A row of fee: one line of an invoice. `position` is its place there; the period's end is exclusive."""

    id: UUID
    organization_id: UUID
    invoice_id: UUID | None
    customer_id: UUID
    subscription_id: UUID | None
    fee_type: FeeKind
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
    payment_status: PaymentStatus
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
    rounding: Rounding = Rounding.PER_FEE
    """Whether it was rounded by itself or with its charge's other fees (core.rating.rounding)."""
    earlier_amount_cents: Decimal | None = None
    """What the fees that it carries on from come to precisely."""
    earlier_in_unit_cents: Decimal | None = None
    is_unpriced: bool = False
    """Whether it is of usage that had no price when it was billed (core.unlisted)."""
    late_usage_id: UUID | None = None
    """The late usage that it bills."""
    item_id: UUID | None = None
    """What it is for where that is neither a charge nor a plan: an add-on, a wallet's transaction, ..."""
    original_fee_id: UUID | None = None
    """The fee of a voided invoice that it bills again."""
    own_name: str | None = None
    """Instead of the name of what it is for."""

    @property
    def taxed(self) -> Taxed:
        """Its taxes, as they were when it was billed."""
        return Taxed(
            amount_cents=self.taxes_amount_cents,
            precise_amount_cents=self.taxes_precise_amount_cents,
            rate=self.taxes_rate,
            applied=tuple(
                AppliedTax(
                    tax=tax_of_json(each, self.created_at),
                    amount_cents=each["amount_cents"],
                    fees_amount_cents=each["fees_amount_cents"],
                )
                for each in self.applied_taxes
            ),
        )

    @property
    def as_fee(self) -> Fee:
        """What it is for and what it comes to, as it was priced."""
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
            is_true_up=self.true_up_parent_fee_id is not None,
            in_unit=in_unit_of_json(self.pricing_unit_details) if self.pricing_unit_details else None,
            presentation=presentation_of_json(self.presentation) if self.presentation else None,
            is_unpriced=self.is_unpriced,
            late_usage_id=self.late_usage_id,
            item_id=self.item_id,
            description=self.description,
            original_id=self.original_fee_id,
            own_name=self.own_name,
            rounding=self.rounding,
            earlier=self.earlier,
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


FEE_COLUMNS = columns_of(StoredFee)


def by_ids(conn: Connection[Any], ids: Collection[UUID]) -> dict[UUID, StoredFee]:
    """Fees by id, on whatever invoice or on none."""
    with conn.cursor(row_factory=typed_row(StoredFee)) as cursor:
        rows = cursor.execute(f"select {FEE_COLUMNS} from fee where id = any(%s)", [list(ids)]).fetchall()
    return {row.id: row for row in rows}


def newest_subscription_fees(
    conn: Connection[Any], subscription_ids: Collection[UUID]
) -> dict[UUID, StoredFee]:
    """Subscription -> the last fee for the plan itself, unless its invoice was voided or is a draft."""
    with conn.cursor(row_factory=typed_row(StoredFee)) as cursor:
        rows = cursor.execute(
            f"select distinct on (f.subscription_id) {', '.join(f'f.{column}' for column in FEE_COLUMNS.split(', '))}"
            " from fee f join invoice i on i.id = f.invoice_id where f.subscription_id = any(%s)"
            " and f.fee_type = 'subscription' and i.status not in ('voided', 'draft')"
            " order by f.subscription_id, f.to_at desc, f.created_at desc",
            [list(subscription_ids)],
        ).fetchall()
    return {row.subscription_id: row for row in rows if row.subscription_id}


def of_invoices(conn: Connection[Any], invoice_ids: Collection[UUID]) -> dict[UUID, list[StoredFee]]:
    """The fees of each invoice in its own order; an invoice without fees has an empty list."""
    with conn.cursor(row_factory=typed_row(StoredFee)) as cursor:
        rows = cursor.execute(
            f"select {FEE_COLUMNS} from fee where invoice_id = any(%s) order by invoice_id, position, id",
            [list(invoice_ids)],
        ).fetchall()
    found: dict[UUID, list[StoredFee]] = {invoice_id: [] for invoice_id in invoice_ids}
    for row in rows:
        assert row.invoice_id is not None, row.id
        found[row.invoice_id].append(row)
    return found


_NEW_FEE = (
    "id, organization_id, invoice_id, customer_id, subscription_id, fee_type, charge_id, charge_filter_id,"
    " position, pay_in_advance, invoice_display_name, units, total_aggregated_units, events_count,"
    " amount_cents, amount_currency, precise_amount_cents, unit_amount_cents, precise_unit_amount,"
    " amount_details, grouped_by, from_at, to_at, true_up_parent_fee_id, taxes_amount_cents,"
    " taxes_precise_amount_cents, taxes_rate, applied_taxes, precise_coupons_amount_cents, event_transaction_id,"
    " pricing_unit_details, presentation, is_unpriced, late_usage_id, rounding, earlier_amount_cents,"
    " earlier_in_unit_cents, item_id, description, original_fee_id, own_name, created_at"
)


def add(conn: Connection[Any], drafts: Sequence[InvoiceDraft]) -> list[list[str]]:
    """Insert the fees of drafts, and attach those that exist already; the ids of each draft's, as hexadecimal digits."""
    ids, texts = _new_ids(drafts), _FeeTexts()
    copy_lines(
        conn,
        "fee",
        _NEW_FEE,
        (line for draft, own in zip(drafts, ids, strict=True) for line in _fee_lines(draft, own, texts)),
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


def _new_ids(drafts: Sequence[InvoiceDraft]) -> list[list[str]]:
    """Those of each draft, ascending through all of one instant: drawn together, and side by side in their index."""
    counts: Counter[datetime] = Counter()
    for draft in drafts:
        counts[draft.at] += len(draft.lines)
    drawn = {at: iter(new_id_texts(at, count)) for at, count in counts.items()}
    return [list(islice(drawn[draft.at], len(draft.lines))) for draft in drafts]


def unsaved(draft: InvoiceDraft) -> list[StoredFee]:
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
            description=line.fee.description,
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
            applied_taxes=applied_taxes_json(line.taxed),
            precise_coupons_amount_cents=line.discount_cents,
            amount_details=line.fee.amount_details,
            grouped_by=line.fee.grouped_by,
            payment_status=PaymentStatus.PENDING,
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
            item_id=_uuid(line.fee.item_id),
            original_fee_id=_uuid(line.fee.original_id),
            own_name=line.fee.own_name,
        )
        for position, (fee_id, line) in enumerate(zip(ids, draft.lines, strict=True))
    ]


class TaxTexts:
    """Applied taxes as JSON in lines of COPY: what is the same of a tax in all lines is rendered once.

    It knows taxes by their objects: its owner keeps these.
    """

    def __init__(self) -> None:
        self._beginnings: dict[int, str] = {}

    def of(self, taxed: Taxed) -> str:
        """The taxes as they are now: they stay on the invoice whatever becomes of them."""
        return f"[{','.join(map(self._one, taxed.applied))}]"

    def _one(self, each: AppliedTax) -> str:
        begun = self._beginnings.get(id(each.tax)) or self._begin(each.tax)
        return f'{begun},"amount_cents":{each.amount_cents},"fees_amount_cents":{each.fees_amount_cents}}}'

    def _begin(self, tax: Tax) -> str:
        found = line_text(exact_json(_tax_json(tax))).removesuffix("}")
        self._beginnings[id(tax)] = found
        return found


class _FeeTexts:
    """What fees of a run are alike in as it is in their lines of COPY, rendered once. It knows values by their objects."""

    def __init__(self) -> None:
        self.taxes = TaxTexts()
        self._alike: dict[tuple[int, ...], tuple[Fee, str, str, str]] = {}

    def alike(self, fee: Fee) -> tuple[Fee, str, str, str]:
        """A fee of the same charge, filter, name and period; these, in three pieces."""
        key = (
            id(fee.kind),
            id(fee.charge_id),
            id(fee.charge_filter_id),
            id(fee.invoice_display_name),
            id(fee.from_),
            id(fee.to),
            id(fee.pay_in_advance),
        )
        found = self._alike.get(key)
        if found is None:
            found = self._alike[key] = (
                fee,
                f"{fee.kind}\t{_id(fee.charge_id)}\t{_id(fee.charge_filter_id)}",
                f"{fee.pay_in_advance}\t{line_text(fee.invoice_display_name)}",
                f"{instant(fee.from_)}\t{instant(fee.to)}",
            )
        return found


def _fee_lines(draft: InvoiceDraft, ids: Sequence[str], texts: _FeeTexts) -> Iterator[str]:
    at, currency, is_on_invoice = instant(draft.at), draft.currency, draft.is_on_invoice
    invoice_id = hex_text(draft.id) if is_on_invoice else NULL
    whose = f"{hex_text(draft.customer.organization_id)}\t{invoice_id}\t{hex_text(draft.customer.id)}"
    owner: Id | None = None
    owner_text = NULL
    parents = _true_up_parents(draft.lines, ids)
    for position, (fee_id, line) in enumerate(zip(ids, draft.lines, strict=True)):
        if line.fee_id is not None:
            continue
        fee = line.fee
        if fee.subscription_id is not owner:
            owner, owner_text = fee.subscription_id, _id(fee.subscription_id)
        _, source, name, period = texts.alike(fee)
        yield (
            f"{fee_id}\t{whose}\t{owner_text}\t{source}\t{position if is_on_invoice else 0}\t{name}\t{fee.units!s}"
            f"\t{or_null(fee.total_aggregated_units)}\t{or_null(fee.events_count)}\t{fee.amount_cents}"
            f"\t{currency}\t{fee.precise_amount_cents!s}\t{fee.unit_amount_cents}\t{fee.precise_unit_amount!s}"
            f"\t{_json(fee.amount_details)}\t{_json(fee.grouped_by)}\t{period}\t{parents.get(position, NULL)}"
            f"\t{_taxes(line.taxed, texts)}\t{line.discount_cents!s}\t{_rest(fee)}\t{at}\n"
        )


def _taxes(taxed: Taxed, texts: _FeeTexts) -> str:
    if taxed is UNTAXED:
        return "0\t0\t0\t[]"
    applied = texts.taxes.of(taxed)
    return f"{taxed.amount_cents}\t{taxed.precise_amount_cents!s}\t{taxed.rate!s}\t{applied}"


def _rest(fee: Fee) -> str:
    """What few fees have, from the transaction of their event on."""
    has_any = (
        fee.event_transaction_id is not None
        or fee.in_unit is not None
        or fee.presentation is not None
        or fee.is_unpriced
        or fee.late_usage_id is not None
        or fee.rounding is not Rounding.PER_FEE
        or fee.item_id is not None
        or fee.description is not None
        or fee.original_id is not None
        or fee.own_name is not None
    )
    return _rest_text(fee) if has_any or fee.earlier is not None else _NO_REST


def _rest_text(fee: Fee) -> str:
    return (
        f"{line_text(fee.event_transaction_id)}\t{_details(fee.in_unit)}"
        f"\t{_presentation(fee.presentation)}\t{fee.is_unpriced}\t{_id(fee.late_usage_id)}"
        f"\t{fee.rounding}\t{or_null(fee.earlier.cents if fee.earlier else None)}"
        f"\t{or_null(fee.earlier.in_unit_cents if fee.earlier else None)}"
        f"\t{_id(fee.item_id)}\t{line_text(fee.description)}\t{_id(fee.original_id)}\t{line_text(fee.own_name)}"
    )


_NO_REST = "\t".join([NULL, NULL, NULL, "False", NULL, Rounding.PER_FEE, *[NULL] * 6])


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


def presentation_of_json(kept: Mapping[str, Any]) -> Presentation:
    """What `presentation_json` has written."""
    return Presentation(
        breakdowns=tuple(
            Breakdown(presentation_by=each["presentation_by"], units=Decimal(each["units"]))
            for each in kept["breakdowns"]
        ),
        on_invoice=tuple(kept["on_invoice"]),
    )


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


def in_unit_of_json(kept: Mapping[str, Any]) -> InUnit:
    """What `pricing_unit_json` has written; a fee keeps no more of its unit than that."""
    unit = PricingUnit(
        id=UUID(kept["lago_pricing_unit_id"]),
        code=kept["pricing_unit_code"],
        name=kept["short_name"],
        short_name=kept["short_name"],
        description=None,
        created_at=EARLIEST,
    )
    amounts = LineAmounts(
        kept["amount_cents"],
        Decimal(kept["precise_amount_cents"]),
        kept["unit_amount_cents"],
        Decimal(kept["precise_unit_amount"]),
    )
    return InUnit(AppliedPricingUnit(unit=unit, conversion_rate=Decimal(kept["conversion_rate"])), amounts)


def applied_taxes_json(taxed: Taxed) -> list[dict[str, Any]]:
    """The taxes of a fee or an invoice as they are kept on it, which has their currency and instant."""
    return [
        {
            **_tax_json(each.tax),
            "amount_cents": each.amount_cents,
            "fees_amount_cents": each.fees_amount_cents,
        }
        for each in taxed.applied
    ]


def _tax_json(tax: Tax) -> Mapping[str, Any]:
    """What all fees of a run say of a tax."""
    return {
        "lago_tax_id": str(tax.id),
        "tax_name": tax.name,
        "tax_code": tax.code,
        "tax_rate": tax.rate,
        "tax_description": tax.description,
    }


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
    """Place of a true-up fee -> id of the fee that it belongs to: the charge's first without a filter, if that is there."""
    fees = [line.fee for line in lines]
    return {
        place: ids[other]
        for place, fee in enumerate(fees)
        if fee.is_true_up and (other := _true_up_parent(fees, fee)) is not None
    }


def _true_up_parent(fees: Sequence[Fee], fee: Fee) -> int | None:
    places = (
        other
        for other, parent in enumerate(fees)
        if (parent.subscription_id, parent.charge_id) == (fee.subscription_id, fee.charge_id)
        and parent.charge_filter_id is None
        and not parent.is_true_up
    )
    return next(places, None)


def true_ups_of(conn: Connection[Any], fee_ids: Collection[UUID]) -> dict[UUID, UUID]:
    """Fee -> the true-up fee that fills up its charge to the minimum, where there is one."""
    rows = conn.execute(
        "select true_up_parent_fee_id, id from fee where true_up_parent_fee_id = any(%s::uuid[])",
        [uuid_array(fee_ids)],
    ).fetchall()
    return dict(rows)


def _id(value: Id | None) -> str:
    if isinstance(value, UUID):
        return hex_text(value)
    _uuid(value)
    return NULL


def _uuid(value: Id | None) -> UUID | None:
    """Core passes identifiers on without a look; those of fees are UUIDs."""
    if value is not None and not isinstance(value, UUID):
        raise TypeError(f"{value!r} is not the id of a row")
    return value


def _json(value: Mapping[str, Any]) -> str:
    return line_text(exact_json(value)) if value else "{}"


def counted_cents(
    conn: Connection[Any],
    periods: Mapping[UUID, Period],
    *,
    kinds: Collection[str],
    without: Collection[UUID],
) -> dict[UUID, int]:
    """Subscription -> the sum of its fees of these kinds whose middle is in its period.

    Left out are the invoices `without`, voided ones, and those that bill a running period ahead of its end.
    """
    rows = conn.execute(
        "select w.subscription_id, sum(f.amount_cents)::bigint"
        " from unnest(%(ids)s::uuid[], %(begins)s::timestamptz[], %(ends)s::timestamptz[])"
        " as w (subscription_id, begins, ends)"
        " cross join lateral (select * from fee where subscription_id = w.subscription_id"
        " and created_at >= w.begins - interval '2 days' offset 0) f"  # never by the index of all invoices' fees
        " left join invoice i on i.id = f.invoice_id"
        " where f.fee_type = any(%(kinds)s) and f.from_at + (f.to_at - f.from_at) / 2 >= w.begins"
        " and f.from_at + (f.to_at - f.from_at) / 2 < w.ends and (f.invoice_id is null"
        " or f.invoice_id <> all(%(without)s) and i.status not in ('voided', 'deleted') and i.invoice_type <> 'progressive_billing')"
        " group by w.subscription_id",
        {
            "ids": uuid_array(periods),
            "begins": instant_array(period.from_ for period in periods.values()),
            "ends": instant_array(period.to for period in periods.values()),
            "kinds": list(kinds),
            "without": uuid_array(without),
        },
    ).fetchall()
    return dict(rows)


def commitments(conn: Connection[Any], subscription_ids: Collection[UUID]) -> dict[UUID, dict[Period, int]]:
    """Subscription -> period of its plan -> what final invoices have billed up to its minimum commitment, less credit notes."""
    rows = conn.execute(
        "select f.subscription_id, f.from_at, f.to_at, f.amount_cents - coalesce("
        " (select sum(t.amount_cents) from credit_note_item t where t.fee_id = f.id), 0)::bigint"
        " from fee f join invoice i on i.id = f.invoice_id where f.subscription_id = any(%s::uuid[])"
        " and f.fee_type = 'commitment' and f.late_usage_id is null and i.status = 'finalized'",
        [uuid_array(subscription_ids)],
    ).fetchall()
    found: dict[UUID, dict[Period, int]] = {}
    for subscription_id, begins, ends, cents in rows:
        found.setdefault(subscription_id, {})[Period(begins, ends)] = cents
    return found


def with_subscription_fee(conn: Connection[Any], invoice_ids: Collection[UUID]) -> set[tuple[UUID, UUID]]:
    """(invoice, subscription) of those on which the plan's own fee is billed."""
    rows = conn.execute(
        "select invoice_id, subscription_id from fee where invoice_id = any(%s) and fee_type = 'subscription'",
        [list(invoice_ids)],
    ).fetchall()
    return set(rows)


def paid_alone(
    conn: Connection[Any], names: Mapping[tuple[UUID, str], datetime], *, only_ended: bool
) -> list[StoredFee]:
    """Fees without an invoice that were paid by an instant, of subscriptions by (organization, external id).

    Those of charges that ask for it; `only_ended` leaves out those whose period goes on then.
    """
    with conn.cursor(row_factory=typed_row(StoredFee)) as cursor:
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
    with conn.cursor(row_factory=typed_row(StoredFee)) as cursor:
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
