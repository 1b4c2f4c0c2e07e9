"""An edit of a metric's dimensions: events whose own values stay as they were keep their price, or it is refused."""

from collections.abc import Hashable
from itertools import permutations, product
from uuid import UUID

import pytest
from hypothesis import given, settings, strategies as st

from permille.core.contract import dimension_edit
from permille.core.contract.dimension_edit import follow_metric
from permille.core.contract.plan import Charge, PlanFilter, trim_filters
from permille.core.rating.filters import ALL_FILTER_VALUES, ChargeFilter, best_match, expand_all_values
from permille.core.record import replace

from .test_plan import CHARGE, METRIC

ALL = (ALL_FILTER_VALUES,)
VALUES = {"model": ("a", "b", "c"), "type": ("in", "out"), "region": ("eu", "us")}
NEVER_LISTED = "z"

Dimensions = dict[str, tuple[str, ...]]

dimensions = st.fixed_dictionaries(
    {},
    optional={
        key: st.lists(st.sampled_from(listed), min_size=1, unique=True).map(tuple)
        for key, listed in VALUES.items()
    },
)


def some_filters(listed: Dimensions) -> st.SearchStrategy[list[Dimensions]]:
    if not listed:
        return st.just([])
    values = {
        key: st.lists(st.sampled_from(own), min_size=1, unique=True).map(tuple) | st.just(ALL)
        for key, own in listed.items()
    }
    one = st.fixed_dictionaries({}, optional=values).filter(bool)
    return st.lists(one, max_size=4)


edits = dimensions.flatmap(lambda listed: st.tuples(st.just(listed), some_filters(listed), dimensions))


def charge_of(listed: Dimensions, filters: list[Dimensions]) -> Charge:
    entries = tuple(
        PlanFilter(id=UUID(int=n), invoice_display_name=None, values=values, properties={"amount": str(n)})
        for n, values in enumerate(filters, start=1)
    )
    return replace(CHARGE, metric=replace(METRIC, filters=listed), filters=entries)


def price_of(charge: Charge, event: dict[str, str]) -> Hashable:
    filters = [
        ChargeFilter(each.id, expand_all_values(each.values, charge.metric.filters), None, each.properties)
        for each in charge.filters
    ]
    found = best_match(event, filters)
    return found and found.id


def untouched(before: Dimensions, after: Dimensions) -> list[dict[str, str]]:
    """Every event whose values are listed as they were, or as little as they were."""
    kept = {
        key: [
            None,
            NEVER_LISTED,
            *(value for value in listed if (value in before.get(key, ())) == (value in after.get(key, ()))),
        ]
        for key, listed in VALUES.items()
    }
    return [
        {key: value for key, value in zip(kept, values, strict=True) if value is not None}
        for values in product(*kept.values())
    ]


@settings(max_examples=300)
@given(edit=edits)
def test_untouched_events_keep_their_price_or_the_edit_is_refused(
    edit: tuple[Dimensions, list[Dimensions], Dimensions],
) -> None:
    listed, filters, now = edit
    before = charge_of(listed, filters)
    metric = replace(METRIC, filters=now)
    edited = follow_metric(before, metric)
    events = untouched(listed, now)
    wanted = [price_of(before, event) for event in events]
    trimmed = trim_filters(replace(before, metric=metric))

    def keeps(order: tuple[PlanFilter, ...]) -> bool:
        charge = replace(trimmed, filters=order)
        return [price_of(charge, event) for event in events] == wanted

    assert sorted(edited.charge.filters, key=lambda each: each.id) == list(trimmed.filters)
    if edited.repriced_by:
        assert not any(keeps(order) for order in permutations(trimmed.filters)), "refused without need"
    else:
        assert keeps(edited.charge.filters)
        if keeps(trimmed.filters):
            assert edited.charge == trimmed, "nothing is put in another order without need"


def edited(before: Dimensions, filters: list[Dimensions], now: Dimensions) -> tuple[list[int], list[int]]:
    """The numbers of the filters in their order, and of those that are in the way."""
    found = follow_metric(charge_of(before, filters), replace(METRIC, filters=now))
    return [each.id.int for each in found.charge.filters], [each.id.int for each in found.repriced_by]


AB: Dimensions = {"model": ("a", "b")}
B: Dimensions = {"model": ("b",)}


@pytest.mark.parametrize(
    ("filters", "now", "expected"),
    [
        # "a" goes: both price "b" now, and the second one has always done so.
        ([AB, B], {"model": ("b", "c")}, ([2, 1], [])),
        # "c" goes: what is left of the second is narrower than the first, which has priced "b".
        ([AB, {"model": ("b", "c")}], {"model": ("a", "b")}, ([1, 2], [1, 2])),
        # A value more ends that "all" is the same as the list.
        ([{"model": ALL}, {"model": ("a", "b", "c")}], {"model": ("a", "b", "c", "d")}, ([1, 2], [1, 2])),
        # Without its type a price would be that of every other type.
        ([{"model": ("a",), "type": ("in",)}], {"model": ("a", "b", "c"), "type": ("out",)}, ([1], [1])),
        ([{"model": ("a",), "type": ("in",)}], {"model": ("a", "b", "c")}, ([1], [1])),
        # What is listed nowhere prices nothing.
        ([{"type": ("in",)}, B], {"model": ("a", "b", "c"), "type": ("out",)}, ([2], [])),
        # Another dimension.
        ([AB, B], {"model": ("a", "b", "c"), "type": ("in",)}, ([1, 2], [])),
    ],
)
def test_edits(filters: list[Dimensions], now: Dimensions, expected: tuple[list[int], list[int]]) -> None:
    assert edited({"model": ("a", "b", "c"), "type": ("in", "out")}, filters, now) == expected


def test_what_is_too_much_to_look_at_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dimension_edit, "MATCHINGS_MAX", 1)
    assert edited({"model": ("a", "b")}, [AB, B], {"model": ("b",)}) == ([1, 2], [1, 2])
