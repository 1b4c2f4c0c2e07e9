"""The lines of an invoice as they are printed: by subscription and charge, in the language of the document."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from permille.core.contract.plan import Plan
from permille.core.contract.subscription import Subscription
from permille.core.fee_kind import FeeKind
from permille.core.metering.aggregations import SUM
from permille.core.money import ZERO, exact, subunits
from permille.core.period import INSTANT, local_date
from permille.core.rating.filters import ALL_FILTER_VALUES
from permille.core.rating.models import ChargeModel
from permille.core.rating.models.price import is_average
from permille.core.rating.pricing_unit import SUBUNITS
from permille.core.record import Record
from permille.out.pdf.document import Dimension, InUnit, Line, LineGroup, PackagePrice, Section, UnitPrice
from permille.out.pdf.language import Language
from permille.store.fee_items import FeeItem
from permille.store.fees import StoredFee
from permille.store.invoices import InvoiceSubscription, StoredInvoice

Days = tuple[date, date]

_PLURAL = re.compile(r"[a-z]+(?:_[a-z]+)*(?<![sui])s")


class BilledSubscription(Record, kw_only=True):
    """A subscription on an invoice, with its plan and the periods that are billed."""

    subscription: Subscription
    plan: Plan
    periods: InvoiceSubscription


class Billed(Record, kw_only=True):
    """An invoice with what its charge fees are for, and the language to write them in."""

    invoice: StoredInvoice
    items: Mapping[UUID, FeeItem]
    language: Language


def sections(
    of: Billed, fees: Sequence[StoredFee], subscriptions: Sequence[BilledSubscription]
) -> Iterator[Section]:
    """A section for each subscription that has a line, in the order of the fees."""
    known = {each.subscription.id: each for each in subscriptions}
    titles = {each.subscription.id: _title(each) for each in subscriptions}
    named = Counter(titles.values())
    split: dict[UUID | None, list[StoredFee]] = {}
    for fee in fees:
        if fee.fee_type is not FeeKind.SUBSCRIPTION or fee.amount_cents:
            split.setdefault(fee.subscription_id, []).append(fee)
    for subscription_id, own in split.items():
        each = known.get(subscription_id) if subscription_id else None
        if each is None:
            period, title = None, of.language.word("other_items")
        else:
            period, title = _section_period(each.periods, of.invoice.timezone), titles[each.subscription.id]
            if named[title] > 1:
                title = f"{title} ({each.subscription.external_id})"
        groups = tuple(_groups(of, own, period))
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


def _groups(of: Billed, fees: Sequence[StoredFee], period: Days | None) -> Iterator[LineGroup]:
    """One for each charge; a charge that has no filters and groups is a line of its own."""
    split: dict[UUID, list[StoredFee]] = {}
    for fee in fees:
        split.setdefault(fee.charge_id or fee.id, []).append(fee)
    for own in split.values():
        item = of.items.get(own[0].id)
        lines = tuple(_line(of, fee, period) for fee in own)
        is_split = item is not None and (item.charge_has_filters or any(fee.grouped_by for fee in own))
        yield LineGroup(title=_charge_name(item) if item and is_split else None, lines=lines)


def _charge_name(item: FeeItem) -> str:
    return item.charge_invoice_display_name or item.metric_name


def _line(of: Billed, fee: StoredFee, period: Days | None) -> Line:
    item = of.items.get(fee.id)
    own_period = _days(fee.from_at, fee.to_at, of.invoice.timezone)
    return Line(
        description=fee_text(fee, item, of.language),
        units=fee.units,
        unit=_unit(item) if item else None,
        price=_price(fee, item, of.invoice.currency),
        amount_cents=fee.amount_cents,
        period=own_period if own_period != period else None,
        note=fee.description if fee.fee_type is FeeKind.ADD_ON and fee.invoice_display_name else None,
        in_unit=_in_unit(fee),
        dimension=_dimension(fee, item, of.language) if item else None,
    )


def fee_text(fee: StoredFee, item: FeeItem | None, language: Language) -> str:
    """What a fee is called on paper."""
    return _charge_description(fee, item, language) if item else _description(fee, language)


def _dimension(fee: StoredFee, item: FeeItem, language: Language) -> Dimension | None:
    """The first dimension of a fee's filter that is not about all values, else the first key of its group."""
    for key, listed in (item.filter_values or {}).items():
        if list(listed) != [ALL_FILTER_VALUES]:
            return Dimension(key=key, value=", ".join(listed))
    for key, value in fee.grouped_by.items():
        return Dimension(key=key, value=value or language.word("none"))
    return None


def _in_unit(fee: StoredFee) -> InUnit | None:
    details = fee.pricing_unit_details
    if details is None:
        return None
    return InUnit(
        short_name=details["short_name"],
        amount_cents=details["amount_cents"],
        conversion_rate=Decimal(details["conversion_rate"]),
    )


def _description(fee: StoredFee, language: Language) -> str:
    if fee.fee_type is FeeKind.SUBSCRIPTION:
        default = language.word("subscription_fee")
    elif fee.fee_type is FeeKind.COMMITMENT:
        default = language.word("commitment")
    else:
        default = fee.fee_type.replace("_", " ").capitalize()
    return fee.invoice_display_name or fee.description or default


def _charge_description(fee: StoredFee, item: FeeItem, language: Language) -> str:
    """The filter's name, or the charge's, and the values of the group."""
    if fee.true_up_parent_fee_id is not None:
        return language.word("minimum", name=_charge_name(item))
    if item.filter_id is not None:
        name = item.filter_invoice_display_name or _values_name(item.filter_values or {})
    else:
        name = language.word("other") if item.charge_has_filters else _charge_name(item)
    groups = [f"{key}: {value or language.word('none')}" for key, value in fee.grouped_by.items()]
    return " · ".join([name, *groups])


def _values_name(values: Mapping[str, Sequence[str]]) -> str:
    """A filter that has no name of its own: all its values, and the key in place of an all-values list."""
    return ", ".join(
        key if list(listed) == [ALL_FILTER_VALUES] else ", ".join(listed) for key, listed in values.items()
    )


def _unit(item: FeeItem) -> str | None:
    """What a summed property counts, when its name is a plural: tokens, images, audio minutes."""
    if item.aggregation_type != SUM.name or not item.field_name or not _PLURAL.fullmatch(item.field_name):
        return None
    return item.field_name.replace("_", " ")


def _price(fee: StoredFee, item: FeeItem | None, currency: str) -> UnitPrice | PackagePrice:
    model = item.charge_model if item else None
    if model == ChargeModel.PACKAGE and fee.amount_details.get("per_package_size"):
        return _package_price(fee.amount_details)
    if fee.fee_type not in (FeeKind.SUBSCRIPTION, FeeKind.COMMITMENT):
        return _unit_price(fee)
    with exact():
        amount = Decimal(fee.amount_cents) / subunits(currency)
        return UnitPrice(amount=amount / fee.units if fee.units else amount, is_average=fee.units != 1)


def _unit_price(fee: StoredFee) -> UnitPrice:
    details = fee.pricing_unit_details
    with exact():
        if details:
            amount, unit_amount = (
                Decimal(details[name]) for name in ("precise_amount_cents", "precise_unit_amount")
            )
            amount /= SUBUNITS
        else:
            amount = fee.precise_amount_cents / subunits(fee.amount_currency)
            unit_amount = fee.precise_unit_amount
    averaged = is_average(units=fee.units, unit_amount=unit_amount, amount=amount, details=fee.amount_details)
    return UnitPrice(amount=unit_amount, is_average=averaged)


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
