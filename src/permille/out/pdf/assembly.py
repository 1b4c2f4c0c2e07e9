"""From the stored invoice to what it says on paper."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.customer import BillingEntity, Customer
from permille.core.filters import ALL_FILTER_VALUES
from permille.core.money import ZERO, exact, subunits
from permille.core.period import INSTANT, local_date
from permille.core.plan import Plan
from permille.core.pricing import ChargeModel
from permille.core.subscription import Subscription
from permille.out.pdf.document import (
    InUnit,
    InvoiceDocument,
    Line,
    LineGroup,
    PackagePrice,
    Party,
    Section,
    Tax,
    UnitPrice,
)
from permille.store import customers, fee_items, invoices, plans, subscriptions
from permille.store.fee_items import FeeItem
from permille.store.invoices import InvoiceSubscription, StoredFee, StoredInvoice

Days = tuple[date, date]

_LETTER_COUNTRIES = ("US", "CA", "MX", "PH", "CL", "CO")
_PLURAL = re.compile(r"[a-z]+(?:_[a-z]+)*(?<![sui])s")


@dataclass(frozen=True, slots=True, kw_only=True)
class BilledSubscription:
    """A subscription on an invoice, with its plan and the periods that are billed."""

    subscription: Subscription
    plan: Plan
    periods: InvoiceSubscription


def invoice_document(conn: Connection[Any], invoice_id: UUID) -> InvoiceDocument:
    """The document of an invoice. Raises KeyError for an unknown one, which is a bug."""
    invoice = invoices.invoices_by_ids(conn, [invoice_id])[invoice_id]
    billed = invoices.subscriptions_of(conn, [invoice_id]).get(invoice_id, [])
    rows = subscriptions.by_ids(conn, [each.subscription_id for each in billed])
    known_plans = plans.plans_by_ids(conn, {row.plan_id for row in rows.values()})
    return document_of(
        invoice,
        invoices.fees_of(conn, [invoice_id])[invoice_id],
        items=fee_items.of_invoices(conn, [invoice_id]),
        customer=customers.by_ids(conn, [invoice.customer_id])[invoice.customer_id],
        billed=[
            BilledSubscription(
                subscription=rows[each.subscription_id],
                plan=known_plans[rows[each.subscription_id].plan_id],
                periods=each,
            )
            for each in billed
        ],
    )


def document_of(
    invoice: StoredInvoice,
    fees: Sequence[StoredFee],
    *,
    items: Mapping[UUID, FeeItem],
    customer: Customer,
    billed: Sequence[BilledSubscription],
) -> InvoiceDocument:
    """What an invoice says on paper: its fees by subscription and charge, in its own order.

    Plans without a price of their own have no line for it.
    """
    entity = customer.billing_entity
    return InvoiceDocument(
        number=invoice.number,
        status=invoice.status,
        currency=invoice.currency,
        issuing_date=invoice.issuing_date,
        payment_due_date=invoice.payment_due_date,
        purchase_order_number=invoice.purchase_order_number,
        issuer=_issuer(entity),
        customer=_payer(customer),
        imprint=" · ".join(_imprint(entity)),
        footer=entity.invoice_footer,
        paper="us-letter" if entity.country in _LETTER_COUNTRIES else "a4",
        sections=tuple(_sections(invoice, fees, items, billed)),
        fees_amount_cents=invoice.fees_amount_cents,
        progressive_billing_credit_amount_cents=invoice.progressive_billing_credit_amount_cents,
        coupons_amount_cents=invoice.coupons_amount_cents,
        taxes=_taxes(invoice),
        credit_notes_amount_cents=invoice.credit_notes_amount_cents,
        prepaid_credit_amount_cents=invoice.prepaid_credit_amount_cents,
        total_amount_cents=invoice.total_amount_cents,
        total_paid_amount_cents=invoice.total_paid_amount_cents,
    )


def _issuer(entity: BillingEntity) -> Party:
    lines = [*_address(entity), _labelled("Tax ID", entity.tax_identification_number), entity.email]
    return Party(name=entity.legal_name or entity.name, lines=tuple(line for line in lines if line))


def _payer(customer: Customer) -> Party:
    person = " ".join(name for name in (customer.firstname, customer.lastname) if name)
    lines = [*_address(customer), _labelled("Tax ID", customer.tax_identification_number), customer.email]
    return Party(
        name=customer.legal_name or customer.name or person or customer.external_id,
        lines=tuple(line for line in lines if line),
    )


def _address(who: BillingEntity | Customer) -> Iterator[str | None]:
    """The lines of a postal address; the town's is written as it is in North America or elsewhere."""
    yield who.address_line1
    yield who.address_line2
    if who.country in _LETTER_COUNTRIES:
        yield ", ".join(part for part in (who.city, _joined(who.state, who.zipcode)) if part)
    else:
        yield ", ".join(part for part in (_joined(who.zipcode, who.city), who.state) if part)
    yield who.country


def _joined(*parts: str | None) -> str:
    return " ".join(part for part in parts if part)


def _labelled(label: str, value: str | None) -> str | None:
    return f"{label} {value}" if value else None


def _imprint(entity: BillingEntity) -> Iterator[str]:
    yield entity.legal_name or entity.name
    yield from (
        part for part in (entity.legal_number, entity.tax_identification_number, entity.email) if part
    )


def _taxes(invoice: StoredInvoice) -> tuple[Tax, ...]:
    return tuple(
        Tax(name=each["tax_name"], rate=Decimal(each["tax_rate"]), amount_cents=each["amount_cents"])
        for each in invoice.applied_taxes
    )


def _sections(
    invoice: StoredInvoice,
    fees: Sequence[StoredFee],
    items: Mapping[UUID, FeeItem],
    billed: Sequence[BilledSubscription],
) -> Iterator[Section]:
    """One for each subscription that has a line, in the order of the fees."""
    known = {each.subscription.id: each for each in billed}
    titles = {each.subscription.id: _title(each) for each in billed}
    named = Counter(titles.values())
    split: dict[UUID | None, list[StoredFee]] = {}
    for fee in fees:
        if fee.fee_type != "subscription" or fee.amount_cents:
            split.setdefault(fee.subscription_id, []).append(fee)
    for subscription_id, own in split.items():
        each = known.get(subscription_id) if subscription_id else None
        if each is None:
            period, title = None, "Other items"
        else:
            period, title = _section_period(each.periods, invoice.timezone), titles[each.subscription.id]
            if named[title] > 1:
                title = f"{title} ({each.subscription.external_id})"
        groups = tuple(_groups(own, items, period, invoice))
        yield Section(title=title, period=period, groups=groups)


def _title(billed: BilledSubscription) -> str:
    return billed.subscription.name or billed.plan.invoice_display_name or billed.plan.name


def _section_period(periods: InvoiceSubscription, timezone: str) -> Days | None:
    if periods.charges_from_at and periods.charges_to_at:
        return _days(periods.charges_from_at, periods.charges_to_at, timezone)
    return _days(periods.from_at, periods.to_at, timezone)


def _days(from_: datetime | None, to: datetime | None, timezone: str) -> Days | None:
    """First and last day of [from, to) in the customer's timezone."""
    if from_ is None or to is None:
        return None
    return local_date(from_, timezone), local_date(max(from_, to - INSTANT), timezone)


def _groups(
    fees: Sequence[StoredFee], items: Mapping[UUID, FeeItem], period: Days | None, invoice: StoredInvoice
) -> Iterator[LineGroup]:
    """One for each charge; a charge that has no filters and groups is a line of its own."""
    split: dict[UUID, list[StoredFee]] = {}
    for fee in fees:
        split.setdefault(fee.charge_id or fee.id, []).append(fee)
    for own in split.values():
        item = items.get(own[0].id)
        lines = tuple(_line(fee, items.get(fee.id), period, invoice) for fee in own)
        is_split = item is not None and (item.charge_has_filters or any(fee.grouped_by for fee in own))
        yield LineGroup(title=_charge_name(item) if item and is_split else None, lines=lines)


def _charge_name(item: FeeItem) -> str:
    return item.charge_invoice_display_name or item.metric_name


def _line(fee: StoredFee, item: FeeItem | None, period: Days | None, invoice: StoredInvoice) -> Line:
    own_period = _days(fee.from_at, fee.to_at, invoice.timezone)
    return Line(
        description=_charge_description(fee, item) if item else _description(fee),
        units=fee.units,
        unit=_unit(item) if item else None,
        price=_price(fee, item, invoice.currency),
        amount_cents=fee.amount_cents,
        period=own_period if own_period != period else None,
        in_unit=_in_unit(fee),
    )


def _in_unit(fee: StoredFee) -> InUnit | None:
    details = fee.pricing_unit_details
    if details is None:
        return None
    return InUnit(
        short_name=details["short_name"],
        amount_cents=details["amount_cents"],
        conversion_rate=Decimal(details["conversion_rate"]),
    )


def _description(fee: StoredFee) -> str:
    default = (
        "Subscription fee" if fee.fee_type == "subscription" else fee.fee_type.replace("_", " ").capitalize()
    )
    return fee.invoice_display_name or fee.description or default


def _charge_description(fee: StoredFee, item: FeeItem) -> str:
    """The filter's name, or the charge's, and the values of the group."""
    if fee.true_up_parent_fee_id is not None:
        return f"{_charge_name(item)}, up to the agreed minimum"
    if item.filter_id is not None:
        name = item.filter_invoice_display_name or _values_name(item.filter_values or {})
    else:
        name = "Other" if item.charge_has_filters else _charge_name(item)
    groups = [f"{key}: {value or 'none'}" for key, value in fee.grouped_by.items()]
    return " · ".join([name, *groups])


def _values_name(values: Mapping[str, Sequence[str]]) -> str:
    """A filter that has no name of its own: all its values, and the key in place of an all-values list."""
    return ", ".join(
        key if list(listed) == [ALL_FILTER_VALUES] else ", ".join(listed) for key, listed in values.items()
    )


def _unit(item: FeeItem) -> str | None:
    """What a summed property counts, when its name is a plural: tokens, images, audio minutes."""
    if item.aggregation_type != "sum_agg" or not item.field_name or not _PLURAL.fullmatch(item.field_name):
        return None
    return item.field_name.replace("_", " ")


def _price(fee: StoredFee, item: FeeItem | None, currency: str) -> UnitPrice | PackagePrice:
    model = item.charge_model if item else None
    details = fee.pricing_unit_details
    unit_amount = Decimal(details["precise_unit_amount"]) if details else fee.precise_unit_amount
    if model == ChargeModel.PACKAGE and fee.amount_details.get("per_package_size"):
        return _package_price(fee.amount_details)
    if model == ChargeModel.STANDARD:
        return UnitPrice(amount=unit_amount)
    if model is not None:
        return UnitPrice(amount=unit_amount, is_average=True)
    with exact():
        amount = Decimal(fee.amount_cents) / subunits(currency)
        return UnitPrice(amount=amount / fee.units if fee.units else amount, is_average=fee.units != 1)


def _package_price(details: Mapping[str, Any]) -> PackagePrice:
    size, paid_units = int(details["per_package_size"]), Decimal(details["paid_units"])
    with exact():
        packages, rest = divmod(max(paid_units, ZERO), size)
    return PackagePrice(
        amount=Decimal(details["per_package_unit_amount"]),
        size=size,
        packages=int(packages) + bool(rest),
        free_units=Decimal(details["free_units"]),
    )
