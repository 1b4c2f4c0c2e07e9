"""Filters of a charge after the dimensions of its metric have changed, so that no other event is priced otherwise.

Values that a metric does not list any more leave the filters (semantics-metering.md section 2.1): two may become equal
then, or one narrower than another, and another price would win. An event is untouched when the metric still lists its
values as before; every untouched event keeps its filter. Where filters are equal now their order decides, so they are
put in an order that keeps it; where none does, the edit is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from graphlib import CycleError, TopologicalSorter

from permille.core.contract.plan import Charge, PlanFilter, trim_filters
from permille.core.metering.billable_metric import BillableMetric
from permille.core.rating.filters import ChargeFilter, expand_all_values, unbeaten
from permille.core.record import Record, replace

MATCHINGS_MAX = 200_000

Matching = tuple[frozenset[int], frozenset[int]]
"""Places of the filters that match an event before the edit, and after it."""


class EditedCharge(Record, kw_only=True):
    """A charge whose metric has changed."""

    charge: Charge
    repriced_by: tuple[PlanFilter, ...]
    """The filters, as they were, that would win or lose untouched events; none when every such event keeps its own."""


def follow_metric(charge: Charge, metric: BillableMetric) -> EditedCharge:
    """The charge with its filters trimmed to what the metric lists now."""
    after = trim_filters(replace(charge, metric=metric))
    touched = _touched(charge.metric.filters, metric.filters)
    changed = [each for each in charge.filters if any(touched.get(key) for key in each.values)]
    if not changed:
        return EditedCharge(charge=after, repriced_by=())
    place_of = {each.id: place for place, each in enumerate(charge.filters)}
    kept = {place_of[each.id]: each for each in after.filters}
    old = [_expanded(each, charge.metric) for each in charge.filters]
    new = {place: _expanded(each, metric) for place, each in kept.items()}
    comes_after: dict[int, set[int]] = {place: set() for place in kept}
    repriced: set[int] = set()
    matchings = _matchings(old, new, touched)
    if matchings is None:
        return EditedCharge(charge=after, repriced_by=tuple(changed))
    for before, now in matchings:
        winner = _winner(before, old)
        rivals = {place for place in now if new[place] in unbeaten([new[each] for each in sorted(now)])}
        if winner is None and not rivals:
            continue
        if winner is None or winner not in rivals:
            repriced |= rivals | ({winner} if winner is not None else set())
            continue
        for rival in rivals - {winner}:
            comes_after[rival].add(winner)
    order = _ordered(comes_after)
    if order is None:
        repriced |= {place for place, befores in comes_after.items() if befores}
        order = sorted(kept)
    return EditedCharge(
        charge=replace(after, filters=tuple(kept[place] for place in order)),
        repriced_by=tuple(charge.filters[place] for place in sorted(repriced)),
    )


def _expanded(entry: PlanFilter, metric: BillableMetric) -> ChargeFilter:
    return ChargeFilter(entry.id, expand_all_values(entry.values, metric.filters), None, {})


def _winner(matching: Iterable[int], filters: Sequence[ChargeFilter]) -> int | None:
    found = [filters[place] for place in sorted(matching)]
    return filters.index(unbeaten(found)[0]) if found else None


def _ordered(comes_after: Mapping[int, set[int]]) -> list[int] | None:
    """The places in their order, but for those that have to come after others; None where that goes in a circle."""
    sorter: TopologicalSorter[int] = TopologicalSorter(comes_after)
    try:
        sorter.prepare()
    except CycleError:
        return None
    order: list[int] = []
    ready: set[int] = set()
    while sorter.is_active():
        ready |= set(sorter.get_ready())
        first = min(ready)
        ready.remove(first)
        order.append(first)
        sorter.done(first)
    return order


def _touched(
    listed_before: Mapping[str, Sequence[str]], listed_now: Mapping[str, Sequence[str]]
) -> dict[str, set[str]]:
    """Key -> the values that came or went."""
    return {
        key: set(listed_before.get(key, ())) ^ set(listed_now.get(key, ()))
        for key in {*listed_before, *listed_now}
    }


def _matchings(
    old: Sequence[ChargeFilter], new: Mapping[int, ChargeFilter], touched: Mapping[str, set[str]]
) -> set[Matching] | None:
    """What can match an untouched event: key by key, as events that the same filters match are alike.

    None where there is too much of it to look at.
    """
    reached: set[Matching] = {(frozenset(range(len(old))), frozenset(new))}
    for key in sorted({key for each in old for key in each.values}):
        values = {value for each in (*old, *new.values()) for value in each.values.get(key, ())}
        values -= touched.get(key, set())
        alike = {_takers(old, new, key, value) for value in (None, *values)}
        if len(reached) * len(alike) > MATCHINGS_MAX:
            return None
        reached = {(before & mine, now & theirs) for before, now in reached for mine, theirs in alike}
    return reached


def _takers(
    old: Sequence[ChargeFilter], new: Mapping[int, ChargeFilter], key: str, value: str | None
) -> Matching:
    """The filters that a value of the key, or none that any of them lists, leaves in."""
    return (
        frozenset(place for place, each in enumerate(old) if _takes(each, key, value)),
        frozenset(place for place, each in new.items() if _takes(each, key, value)),
    )


def _takes(one: ChargeFilter, key: str, value: str | None) -> bool:
    return key not in one.values or value in one.values[key]
