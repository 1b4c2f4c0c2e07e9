"""Charges by the price catalogue (docs/catalogue.md): what a version asks for on the day of the usage, times the markup."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, replace
from datetime import date, datetime
from fractions import Fraction
from math import floor
from typing import TYPE_CHECKING, Any

from .prices import place_of, rounded, terms_at
from .settle import Fee

if TYPE_CHECKING:
    from .oracle import Oracle, Subscription

PART_OF = {"cached_input": "input", "reasoning": "output"}
"""What has no price of its own costs what it is a part of."""
MILLION = 1_000_000


Price = tuple[str, str, str]
"""A model, a type and a tier; the standard one is ''."""
Group = tuple[int, str, str, str, date]
"""Where usage is priced: the place of the filter, then model, type, tier, and since when its price holds."""


@dataclass
class Version:
    """A price file that holds from a day on, over those that were approved before it."""

    since: date
    prices: dict[Price, Fraction]
    approved: datetime


def version(prices: Any, since: date, approved: datetime) -> Version:
    """A file of billionths of a dollar by model, and by type with a tier behind it where it isn't the standard one."""
    found = {}
    for model, own in prices.items():
        for name, n in own.items():
            kind, _, tier = name.partition(" ")
            found[model, kind, tier] = Fraction(n, 10**9)
    return Version(since, found, approved)


def lines(
    oracle: Oracle, row: Subscription, charge: Any, period: tuple[datetime, datetime], owner: date
) -> list[Fee]:
    """A fee for each filter, model, type, tier and price; their cents add up to the rounded sum."""
    start, end = period
    units: dict[Group, Fraction] = defaultdict(Fraction)
    counts: dict[Group, int] = defaultdict(int)
    for event in oracle.events.values():
        is_own = (event.subscription, event.metric) == (row.id, charge["metric"])
        if is_own and not event.is_void and start <= event.at < end:
            place = place_of(charge, event.model)
            terms = terms_at(charge, start, place)
            since = _since(oracle, terms, (event.model, event.type, event.tier), event.at.date())
            units[place, event.model, event.type, event.tier, since] += event.value
            counts[place, event.model, event.type, event.tier, since] += 1
    always = min(each.since for each in oracle.versions)
    groups = sorted(
        units, key=lambda group: (*group[:3], not group[3], group[3], group[4] == always, group[4])
    )
    fees = []
    for group in groups:
        fee = oracle.charge_fee(row, charge["metric"], units[group], Fraction(0), owner)
        fees.append(_fee(oracle, row, terms_at(charge, start, group[0]), group, fee))
    for fee, group in zip(fees, groups, strict=True):
        fee.charge, fee.end, fee.count = charge, end, counts[group]
    _round(oracle, row, charge, fees)
    _note(oracle, charge, fees)
    return fees


def _fee(oracle: Oracle, row: Subscription, terms: Any, group: Group, fee: Fee) -> Fee:
    """Of usage without a price, one of nothing, for which its invoice may have to wait."""
    price = _price(oracle, terms, group[1:4], group[4])
    is_unpriced = price is None and fee.units != 0
    return replace(
        fee,
        precise=fee.units * (price or 0),
        place=group[0],
        group=group,
        is_unpriced=is_unpriced,
        is_held=is_unpriced and terms["unpriced"] == "hold",
    )


def _round(oracle: Oracle, row: Subscription, charge: Any, fees: list[Fee]) -> None:
    """From the currency, or the charge's unit, to cents: what is in a unit is rounded to its hundredths before."""
    unit = Fraction(10 ** oracle.decimals(row.customer))
    if charge["unit"]:
        for fee, hundredths in zip(fees, _shares([fee.precise * 100 for fee in fees]), strict=True):
            fee.hundredths = hundredths
            fee.precise = Fraction(hundredths, 100) * Fraction(charge["unit"])
    for fee in fees:
        fee.precise *= unit
    for fee, cents in zip(fees, _shares([fee.precise for fee in fees]), strict=True):
        fee.cents = cents


def _shares(precise: list[Fraction]) -> list[int]:
    """Whole parts that add up to the rounded sum: what is left goes to the largest fractions."""
    found = [floor(each) for each in precise]
    left = rounded(sum(precise, Fraction(0))) - sum(found)
    for place in sorted(range(len(found)), key=lambda place: found[place] - precise[place])[:left]:
        found[place] += 1
    return found


def _note(oracle: Oracle, charge: Any, fees: list[Fee]) -> None:
    """What has been met."""
    for fee in fees:
        if fee.cents:
            oracle.played.add("catalogue")
            oracle.played |= {"catalogue_filters"} if fee.place < len(charge["filters"]) else set()
            oracle.played |= {"catalogue_tiers"} if fee.group[3] else set()
            oracle.played |= {"catalogue_units"} if charge["unit"] else set()
        if fee.is_unpriced:
            oracle.played.add("catalogue_holds" if fee.is_held else "catalogue_free")


def fill_up(oracle: Oracle, row: Subscription, charge: Any, fees: list[Fee], fee: Fee) -> Fee:
    """From hundredths of the charge's unit, what lacks of its minimum: with the others it comes to their rounded sum."""
    before = sum((each.precise for each in fees), Fraction(0))
    unit = 10 ** oracle.decimals(row.customer)
    fee.precise = Fraction(fee.cents, 100) * Fraction(charge["unit"]) * unit
    fee.cents = rounded(before + fee.precise) - rounded(before)
    return fee


def _since(oracle: Oracle, terms: Any, used: Price, on: date) -> date:
    """Since when the price is what it is on a day."""
    dates = [each.since for each in oracle.versions] + [
        date.fromisoformat(each["from"]) for each in terms["prices"] if each.get("from")
    ]
    known = sorted({each for each in dates if each <= on})
    prices = [_price(oracle, terms, used, each) for each in known]
    place = len(known) - 1
    while place > 0 and prices[place - 1] == prices[place]:
        place -= 1
    return known[place]


def _price(oracle: Oracle, terms: Any, used: Price, on: date) -> Fraction | None:
    """In the currency: an own price without a markup, else that of the version that counts; None where there is none."""
    model, kind, tier = used
    kinds = [kind, *([PART_OF[kind]] if kind in PART_OF else [])]
    for each in kinds:
        own = [
            (one.get("tier") is not None, one.get("from", ""), Fraction(one["amount"]) / MILLION)
            for one in terms["prices"]
            if (one["model"], one["type"]) == (model, each)
            and one.get("tier") in {None, tier or "standard"}
            and one.get("from", "") <= on.isoformat()
        ]
        if own:
            return max(own)[2]
    found = _listed(
        oracle, [(model, each, which) for each in kinds for which in dict.fromkeys((tier, ""))], on
    )
    if found is None:
        return None
    said = {"model": model, "type": kind, "tier": tier}
    fitting = [
        each
        for each in terms["markup_by"]
        if all(said[name] == text for name, text in each.items() if name != "markup")
    ]
    most = max((len(each) for each in fitting), default=0)
    factor = Fraction(next((each["markup"] for each in fitting if len(each) == most), terms["markup"]))
    return found * factor * Fraction(terms.get("exchange_rate", "1"))


def _listed(oracle: Oracle, wanted: list[Price], on: date) -> Fraction | None:
    """The first of these prices in the version that counts, else in the next one that has any."""
    counting: list[Version] = []
    for each in oracle.versions:  # each takes over from its day on from those that were approved before it
        counting = [*(one for one in counting if one.since < each.since), each]
    now = [each for each in counting if each.since <= on][-1:]
    later = [each for each in counting if each.since > on]
    for each in [*now, *later]:
        for price in wanted:
            if price in each.prices:
                return each.prices[price]
    return None
