"""Charge filters and pricing groups: which of a charge's prices an event gets.

An event is counted once: by the most specific filter that matches it, else by the charge's own price. That
is Lago's result wherever filters nest; where they only overlap Lago's invoices count an event twice, which
we don't (semantics-metering.md section 4.3, closing recommendation).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

from permille.core.record import Record

ALL_FILTER_VALUES = "__ALL_FILTER_VALUES__"

Id = Hashable
"""An identifier of the outside, which core only passes on."""
Group = tuple[tuple[str, str | None], ...]


class ChargeFilter(Record):
    """A price for the events whose properties are among the values, key by key (all-values expanded)."""

    id: Id
    values: Mapping[str, tuple[str, ...]]
    invoice_display_name: str | None
    properties: Mapping[str, Any]


def expand_all_values(
    values: Mapping[str, Sequence[str]], metric_filters: Mapping[str, Sequence[str]]
) -> dict[str, tuple[str, ...]]:
    """A filter's values with the all-values marker replaced by what the metric lists now.

    It is no wildcard: a value that the metric does not list does not match.
    """
    return {
        key: tuple(metric_filters.get(key, ())) if list(listed) == [ALL_FILTER_VALUES] else tuple(listed)
        for key, listed in values.items()
    }


def best_match(dimensions: Mapping[str, str | None], filters: Sequence[ChargeFilter]) -> ChargeFilter | None:
    """The filter that prices an event with these property texts, None for the charge's own price.

    Of the matching filters that no other beats by being narrower on the same keys: most keys, then the first.
    """
    matching = [candidate for candidate in filters if _matches(dimensions, candidate)]
    return unbeaten(matching)[0] if matching else None


def filter_finder(
    filters: Sequence[ChargeFilter], keys: Sequence[str]
) -> Callable[[Sequence[str | None]], int]:
    """From the texts of these keys to the place of their `best_match` in `filters`; their number where none matches.

    However many filters there are, it looks at those alone that match: of each value of a key, the filters that it
    agrees with are one number, with a bit for each filter.
    """
    indifferent = [(1 << len(filters)) - 1] * len(keys)
    listing: list[dict[str | None, int]] = [{} for _ in keys]
    possible = (1 << len(filters)) - 1
    column = {key: place for place, key in enumerate(keys)}
    for place, candidate in enumerate(filters):
        bit = 1 << place
        for key, listed in candidate.values.items():
            if key not in column:
                possible &= ~bit
                continue
            indifferent[column[key]] &= ~bit
            takers = listing[column[key]]
            for value in set(listed):
                takers[value] = takers.get(value, 0) | bit

    def place_of(texts: Sequence[str | None]) -> int:
        matching = possible
        for text, takers, others in zip(texts, listing, indifferent, strict=True):
            matching &= takers.get(text, 0) | others
        if not matching:
            return len(filters)
        if not matching & (matching - 1):
            return matching.bit_length() - 1
        places = [place for place in range(matching.bit_length()) if matching >> place & 1]
        best = unbeaten([filters[place] for place in places])[0]
        return next(place for place in places if filters[place] is best)

    return place_of


def unbeaten(matching: Sequence[ChargeFilter]) -> list[ChargeFilter]:
    """The matching filters with the most keys of which none is narrower, in the order given."""
    most_keys = max((len(candidate.values) for candidate in matching), default=0)
    finalists = [candidate for candidate in matching if len(candidate.values) == most_keys]
    return [one for one in finalists if not any(_is_narrower(other, one) for other in finalists)]


def _matches(dimensions: Mapping[str, str | None], candidate: ChargeFilter) -> bool:
    return all(dimensions.get(key) in listed for key, listed in candidate.values.items())


def _is_narrower(one: ChargeFilter, other: ChargeFilter) -> bool:
    """Whether the values of one are, on each of the same keys, among the other's, and fewer on some."""
    if one.values.keys() != other.values.keys():
        return False
    pairs = [(set(one.values[key]), set(other.values[key])) for key in one.values]
    return all(mine <= theirs for mine, theirs in pairs) and any(mine < theirs for mine, theirs in pairs)


def group_of(dimensions: Mapping[str, str | None], keys: Sequence[str]) -> Group:
    """The pricing group of an event: a missing property and an empty one are both None."""
    if len(keys) == 1:
        return ((keys[0], dimensions.get(keys[0]) or None),)
    return tuple([(key, dimensions.get(key) or None) for key in keys])
