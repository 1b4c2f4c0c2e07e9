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


@dataclass
class Version:
    """A price file that holds from a day on, over those that were approved before it."""

    since: date
    prices: dict[tuple[str, str], Fraction]
    approved: datetime


def version(prices: Any, since: date, approved: datetime) -> Version:
    """A file of billionths of a dollar by model and type."""
    found = {(model, kind): Fraction(n, 10**9) for model, own in prices.items() for kind, n in own.items()}
    return Version(since, found, approved)


def lines(
    oracle: Oracle, row: Subscription, charge: Any, period: tuple[datetime, datetime], owner: date
) -> list[Fee]:
    """A fee for each filter, model, type and price; their cents add up to the rounded sum."""
    start, end = period
    units: dict[tuple[int, str, str, date], Fraction] = defaultdict(Fraction)
    counts: dict[tuple[int, str, str, date], int] = defaultdict(int)
    for event in oracle.events.values():
        is_own = (event.subscription, event.metric) == (row.id, charge["metric"])
        if is_own and not event.is_void and start <= event.at < end:
            place = place_of(charge, event.model)
            terms = terms_at(charge, start, place)
            since = _since(oracle, terms, event.model, event.type, event.at.date())
            units[place, event.model, event.type, since] += event.value
            counts[place, event.model, event.type, since] += 1
    unit, always = 10 ** oracle.decimals(row.customer), min(each.since for each in oracle.versions)
    fees = []
    for group in sorted(units, key=lambda group: (*group[:3], group[3] == always, group[3])):
        place, model, kind, since = group
        precise = units[group] * _price(oracle, terms_at(charge, start, place), model, kind, since) * unit
        fee = oracle.charge_fee(row, charge["metric"], units[group], precise, owner)
        told_apart = {"charge": charge, "place": place, "group": group, "count": counts[group]}
        fees.append(replace(fee, **told_apart, end=end, cents=floor(precise)))
    left = rounded(sum((fee.precise for fee in fees), Fraction(0))) - sum(fee.cents for fee in fees)
    for fee in sorted(fees, key=lambda fee: floor(fee.precise) - fee.precise)[:left]:
        fee.cents += 1
    if any(fee.cents and fee.place < len(charge["filters"]) for fee in fees):
        oracle.played.add("catalogue_filters")
    if any(fee.cents for fee in fees):
        oracle.played.add("catalogue")
    return fees


def _since(oracle: Oracle, terms: Any, model: str, kind: str, on: date) -> date:
    """Since when the price is what it is on a day."""
    dates = [each.since for each in oracle.versions] + [
        date.fromisoformat(each["from"]) for each in terms["prices"]
    ]
    known = sorted({each for each in dates if each <= on})
    prices = [_price(oracle, terms, model, kind, each) for each in known]
    place = len(known) - 1
    while place > 0 and prices[place - 1] == prices[place]:
        place -= 1
    return known[place]


def _price(oracle: Oracle, terms: Any, model: str, kind: str, on: date) -> Fraction:
    """In the currency: an own price without a markup, else that of the version that was approved last."""
    kinds = [kind, *([PART_OF[kind]] if kind in PART_OF else [])]
    own = [
        (each["from"], Fraction(each["amount"]) / MILLION)
        for each in terms["prices"]
        if each["model"] == model and each["type"] in kinds and date.fromisoformat(each["from"]) <= on
    ]
    if own:
        return max(own)[1]
    held = [each for each in oracle.versions if each.since <= on]
    prices = held[-1].prices
    found = next(prices[model, each] for each in kinds if (model, each) in prices)
    used = {"model": model, "type": kind}
    fitting = [
        each
        for each in terms["markup_by"]
        if all(used[name] == text for name, text in each.items() if name != "markup")
    ]
    most = max((len(each) for each in fitting), default=0)
    factor = Fraction(next((each["markup"] for each in fitting if len(each) == most), terms["markup"]))
    return found * factor * Fraction(terms.get("exchange_rate", "1"))
