"""Usage that is paid event by event, as it arrives (6.4): what all units cost with the event, less what they cost before."""

from __future__ import annotations

from fractions import Fraction
from typing import TYPE_CHECKING, Any

from . import days
from .prices import place_of, price, terms_at
from .settle import Bill, Fee

if TYPE_CHECKING:
    from .oracle import Event, Oracle, Subscription


def bill(oracle: Oracle, event: Event) -> None:
    """Bill an event to the row that runs, by each charge in advance on its metric."""
    row = oracle.active(event.subscription)
    if row is None or event.at < row.started:
        return
    for charge in row.plan["charges"]:
        if charge["advance"] and charge["metric"] == event.metric:
            fee = _fee(oracle, row, charge, event)
            row.fees.append(fee)
            if charge["invoiceable"] and fee.cents:
                oracle.played.add("in_advance")
                oracle.settle(row.customer, Bill("subscription", [fee], oracle.now))


def _fee(oracle: Oracle, row: Subscription, charge: Any, event: Event) -> Fee:
    first, after = row.usage_period(row.day(event.at))
    start, end = max(days.opens(first, row.zone), row.started), days.opens(after, row.zone)
    place = place_of(charge, event.model)
    before = [
        each
        for each in oracle.events.values()
        if each.subscription == event.subscription
        and each.metric == event.metric
        and start <= each.at < end
        and each.order < event.order
        and place_of(charge, each.model) == place
    ]
    kind = oracle.metrics[event.metric]["kind"]
    unit = 10 ** oracle.decimals(row.customer)
    was, is_ = _units(kind, before), _units(kind, [*before, event])
    values = [Fraction(1)] * int(is_ if kind == "unique_count_agg" else len(before) + 1)
    terms = terms_at(charge, start, place)
    more = price(charge["model"], terms, is_, values)
    if before:
        count = int(was) if kind == "unique_count_agg" else len(before)
        more -= price(charge["model"], terms, was, values[:count])
    fee = oracle.charge_fee(row, event.metric, is_ - was, max(more, Fraction(0)) * unit, row.period(first)[0])
    fee.end = end
    return fee


def _units(kind: str, events: list[Event]) -> Fraction:
    values = [each.value for each in events]
    if kind == "sum_agg":
        return sum(values, Fraction(0))
    return Fraction(len(set(values)) if kind == "unique_count_agg" else len(values))
