"""The formula behind a fee, step by step, from the numbers that the fee itself keeps.

Every step is a sentence of arithmetic and what it comes to in major units; the steps' amounts, added up, are
the fee's exact amount, and the last step rounds it to the cent. What is priced in a pricing unit is converted
before that: those sentences are in the unit, their amounts in the currency.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import ROUND_CEILING, Decimal
from typing import Any

from permille.core.money import ZERO, exact, subunits
from permille.core.pricing import ChargeModel
from permille.core.pricing_unit import SUBUNITS


@dataclass(frozen=True, slots=True)
class Step:
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
    """How a charge's units became its amount. `amount` and `unit_amount` in major units, `details` of the fee."""
    with exact():
        steps = _model_steps(model, units, unit_amount, amount, details, prorated=prorated)
        total = sum((step.amount for step in steps), ZERO)
        if total and not (units or amount):
            # The details tell the negative usage, the fee has neither units nor an amount.
            return (*steps, Step("usage below 0 costs nothing and gives nothing back", -total))
        return steps


def _model_steps(
    model: ChargeModel,
    units: Decimal,
    unit_amount: Decimal,
    amount: Decimal,
    details: Mapping[str, Any],
    *,
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
            return _volume(units, details)
        case ChargeModel.PERCENTAGE if "rate" in details:
            return _percentage(details)
        case ChargeModel.DYNAMIC:
            return (Step(f"the prices that {plain(units)} units were sent with, added up", amount),)
        case ChargeModel.CUSTOM:
            return (Step(f"what the metric's own rule adds for each event, of {plain(units)} units", amount),)
        case _ if prorated:
            text = "units of the period, each for its share of the days"
            return (Step(f"{text}, {plain(units)} at the end: {plain(amount)}", amount),)
        case _:
            text = f"{plain(units)} units x {plain(unit_amount)} = {plain(amount)}"
            return (Step(text, amount),)


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


def _volume(units: Decimal, details: Mapping[str, Any]) -> tuple[Step, ...]:
    usage, flat = _number(details, "per_unit_total_amount"), _number(details, "flat_unit_amount")
    price = _number(details, "per_unit_amount")
    text = f"all {plain(units)} units at the price of their range: x {plain(price)} = {plain(usage)}"
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


def conversion_steps(
    steps: Sequence[Step],
    *,
    precise_cents: Decimal,
    amount_cents: int,
    short_name: str,
    conversion_rate: Decimal,
    currency: str,
) -> tuple[Step, ...]:
    """Steps whose amounts are in a pricing unit, with its rounding and its conversion to the currency.

    `precise_cents` and `amount_cents` are in hundredths of the unit. The answer's amounts are in the currency.
    """
    with exact():
        before, after = precise_cents / SUBUNITS, Decimal(amount_cents) / SUBUNITS
        worth = after * conversion_rate
        rounding = Step(
            f"{plain(before)} {short_name} to the hundredth, half away from zero: {plain(after)}",
            after - before,
        )
        text = f"{plain(after)} {short_name} x {plain(conversion_rate)} = {plain(worth)} {currency}"
        return (
            *(Step(step.text, step.amount * conversion_rate) for step in (*steps, rounding)),
            Step(text, ZERO),
        )


def rounding_step(precise_cents: Decimal, amount_cents: int, currency: str) -> Step:
    """The one rounding, from the exact amount to what is owed."""
    with exact():
        before, after = precise_cents / subunits(currency), Decimal(amount_cents) / subunits(currency)
        text = f"{plain(before)} {currency} to the smallest unit, half away from zero: {plain(after)}"
        return Step(text, after - before if after != before else ZERO)
