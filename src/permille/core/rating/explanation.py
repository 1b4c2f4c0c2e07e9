"""The formula behind a fee, step by step, from the numbers that the fee itself keeps.

Every step is a sentence of arithmetic and what it comes to in major units; the steps' amounts, added up, are
the fee's exact amount, and the last step rounds it to the cent. What is priced in a pricing unit is converted
before that: those sentences are in the unit, their amounts in the currency.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import ROUND_CEILING, Decimal
from typing import Any

from permille.core.money import ZERO, exact, subunits
from permille.core.rating.models import ChargeModel
from permille.core.rating.pricing_unit import SUBUNITS
from permille.core.rating.rounding import Earlier
from permille.core.record import Record

# A fee keeps the price of a unit to 15 decimals. A price with more of them is shown by what it comes to.
_UNIT_AMOUNTS_EXACT_TO = Decimal("1e-12")


class Step(Record):
    """A line of the calculation. `amount` is in major units and unrounded."""

    text: str
    amount: Decimal


def plain(value: Decimal) -> str:
    """1234567.50 -> 1,234,567.5"""
    text = f"{value:,f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def charge_steps(
    model: ChargeModel,
    *,
    units: Decimal,
    unit_amount: Decimal,
    amount: Decimal,
    details: Mapping[str, Any],
    prorated: bool = False,
) -> tuple[Step, ...]:
    """How a charge's units became its amount. `amount` and `unit_amount` in major units, `details` of the fee.

    Details of usage below zero are shown as they are, but nothing is owed.
    """
    with exact():
        steps = _charge_steps(
            model, units=units, unit_amount=unit_amount, amount=amount, details=details, prorated=prorated
        )
        if not (units or amount) and sum_of(steps):
            return (Step("usage below zero costs nothing", ZERO),)
        return steps


def sum_of(steps: Sequence[Step]) -> Decimal:
    """What steps come to together. Call under exact()."""
    return sum((step.amount for step in steps), ZERO)


def _charge_steps(
    model: ChargeModel,
    *,
    units: Decimal,
    unit_amount: Decimal,
    amount: Decimal,
    details: Mapping[str, Any],
    prorated: bool,
) -> tuple[Step, ...]:
    match model:
        case ChargeModel.PACKAGE if details.get("per_package_size"):
            return (_package(units, details),)
        case ChargeModel.GRADUATED if "graduated_ranges" in details:
            return tuple(_tier(each, percent=False) for each in details["graduated_ranges"])
        case ChargeModel.GRADUATED_PERCENTAGE if "graduated_percentage_ranges" in details:
            return tuple(_tier(each, percent=True) for each in details["graduated_percentage_ranges"])
        case ChargeModel.VOLUME if "per_unit_total_amount" in details:
            return _volume(units, details, prorated)
        case ChargeModel.PERCENTAGE if "rate" in details:
            return _percentage(details)
        case ChargeModel.DYNAMIC:
            return (Step(f"the prices that {plain(units)} units were sent with, added up", amount),)
        case ChargeModel.CATALOGUE:
            return (_catalogue(units, details, amount),)
        case ChargeModel.CUSTOM:
            return (Step(f"what the metric's own rule adds for each event, of {plain(units)} units", amount),)
        case _ if prorated:
            text = f"{plain(units)} units, each for the days on which it was there: {plain(amount)}"
            return (Step(text, amount),)
        case _:
            product = units * unit_amount
            if abs(product - amount) < _UNIT_AMOUNTS_EXACT_TO:
                text = f"{plain(units)} units x {plain(unit_amount)} = {plain(product)}"
                return (Step(text, product),)
            return (Step(f"{plain(units)} units x about {plain(unit_amount)} = {plain(amount)}", amount),)


def plan_step(plan_amount: Decimal, amount: Decimal) -> Step:
    """The plan's own fee, of a whole period or by the days that are paid."""
    if amount == plan_amount:
        return Step(f"the plan's amount: {plain(amount)}", amount)
    return Step(
        f"the plan's amount of {plain(plan_amount)}, by the days of the period: {plain(amount)}", amount
    )


def minimum_charge_steps(least: Decimal, others: Decimal) -> tuple[Step, ...]:
    """What the other fees of a charge, as they were rounded, lack of its minimum charge."""
    with exact():
        return (
            Step(f"the minimum charge for the days of the period: {plain(least)}", least),
            Step(f"less what its other fees come to: {plain(others)}", -others),
        )


def _number(details: Mapping[str, Any], name: str) -> Decimal:
    return Decimal(str(details[name]))


def _package(units: Decimal, details: Mapping[str, Any]) -> Step:
    size, price = _number(details, "per_package_size"), _number(details, "per_package_unit_amount")
    free, paid = _number(details, "free_units"), _number(details, "paid_units")
    packages = (paid / size).to_integral_value(ROUND_CEILING)
    less = f"{plain(units)} units - {plain(free)} free = {plain(paid)}" if free else f"{plain(paid)} units"
    amount = packages * price
    return Step(
        f"{less}, in packages of {plain(size)} begun: {plain(packages)} x {plain(price)} = {plain(amount)}",
        amount,
    )


def _catalogue(units: Decimal, details: Mapping[str, Any], amount: Decimal) -> Step:
    if "rate" not in details:
        return Step(f"{plain(units)} units for which the catalogue has no price", amount)
    rate, per, markup = (_number(details, name) for name in ("rate", "per", "markup"))
    times = f" x {plain(markup)}" if markup != 1 else ""
    since = f", the price since {details['price_since']}" if details.get("price_since") else ""
    text = f"{plain(units)} units x {plain(rate)} / {plain(per)}{times} = {plain(amount)}"
    row = f": {details['row']}" if details.get("row") else ""
    return Step(f"{text} ({details['catalogue']}{row}{since})", amount)


def _tier(tier: Mapping[str, Any], *, percent: bool) -> Step:
    units, flat = _number(tier, "units"), _number(tier, "flat_unit_amount")
    amount = _number(tier, "total_with_flat_amount")
    until = "on" if tier.get("to_value") is None else f"to {tier['to_value']}"
    rate = _number(tier, "rate" if percent else "per_unit_amount")
    price = f"{plain(rate)} %" if percent else plain(rate)
    return Step(
        f"from {tier.get('from_value')} {until}: {plain(units)} units x {price} + {plain(flat)} = {plain(amount)}",
        amount,
    )


def _volume(units: Decimal, details: Mapping[str, Any], prorated: bool) -> tuple[Step, ...]:
    usage, flat = _number(details, "per_unit_total_amount"), _number(details, "flat_unit_amount")
    price = _number(details, "per_unit_amount")
    text = f"all {plain(units)} units at the price of their range"
    how = ", each for the days on which it was there:" if prorated else f": x {plain(price)} ="
    text = f"{text}{how} {plain(usage)}"
    return (Step(text, usage), Step(f"the range's flat amount: {plain(flat)}", flat))


def _percentage(details: Mapping[str, Any]) -> tuple[Step, ...]:
    rate, paid, free = (_number(details, name) for name in ("rate", "paid_units", "free_units"))
    share = _number(details, "per_unit_total_amount")
    events, each = _number(details, "paid_events"), _number(details, "fixed_fee_unit_amount")
    fixed, bounds = (
        _number(details, name) for name in ("fixed_fee_total_amount", "min_max_adjustment_total_amount")
    )
    steps = [Step(f"{plain(rate)} % of {plain(paid)} units ({plain(free)} are free) = {plain(share)}", share)]
    if fixed:
        steps.append(Step(f"{plain(events)} events x {plain(each)} = {plain(fixed)}", fixed))
    if bounds:
        steps.append(Step(f"the least and the most that an event costs: {plain(bounds)}", bounds))
    return tuple(steps)


class RoundedWith(Record, kw_only=True):
    """The fees that a fee is rounded with: the others of its bill, or those before it, which come to `earlier`."""

    earlier: Earlier | None


def conversion_steps(
    steps: Sequence[Step],
    *,
    amount_cents: int,
    short_name: str,
    conversion_rate: Decimal,
    currency: str,
    rounded_with: RoundedWith | None = None,
) -> tuple[Step, ...]:
    """Steps whose amounts are in a pricing unit, with its rounding and its conversion to the currency.

    `amount_cents` is in hundredths of the unit. The answer's amounts are in the currency.
    """
    with exact():
        before, after = sum_of(steps), Decimal(amount_cents) / SUBUNITS
        worth = after * conversion_rate
        earlier = (
            rounded_with.earlier.in_unit_cents / SUBUNITS if rounded_with and rounded_with.earlier else None
        )
        words = _rounding_text(
            before,
            after,
            name=short_name,
            digit="hundredth",
            together=rounded_with is not None,
            earlier=earlier,
        )
        rounding = Step(words, after - before)
        text = f"{plain(after)} {short_name} x {plain(conversion_rate)} = {plain(worth)} {currency}"
        return (
            *(Step(step.text, step.amount * conversion_rate) for step in (*steps, rounding)),
            Step(text, ZERO),
        )


def rounding_step(
    steps: Sequence[Step], amount_cents: int, currency: str, rounded_with: RoundedWith | None = None
) -> Step:
    """The one rounding, from what the steps come to, to what is owed."""
    with exact():
        per_unit = subunits(currency)
        before, after = sum_of(steps), Decimal(amount_cents) / per_unit
        earlier = rounded_with.earlier.cents / per_unit if rounded_with and rounded_with.earlier else None
        text = _rounding_text(
            before,
            after,
            name=currency,
            digit="smallest unit",
            together=rounded_with is not None,
            earlier=earlier,
        )
        return Step(text, after - before if after != before else ZERO)


def _rounding_text(
    before: Decimal, after: Decimal, *, name: str, digit: str, together: bool, earlier: Decimal | None
) -> str:
    if not together:
        return f"{plain(before)} {name} to the {digit}, half away from zero: {plain(after)}"
    if earlier is None:
        return (
            f"{plain(before)} {name}; the sum of all fees of the charge on the bill is rounded to the {digit}:"
            f" of it this one has {plain(after)}"
        )
    return (
        f"{plain(before)} {name}; earlier fees of the charge come to {plain(earlier)}, with this one"
        f" {plain(earlier + before)}: that raises the sum, rounded to the {digit}, by {plain(after)}"
    )
