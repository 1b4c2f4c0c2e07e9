"""Which price an event gets, against the definition of semantics-metering.md 4.3, spelled out over all filters."""

from collections.abc import Sequence

import pytest
from hypothesis import given, settings, strategies as st

from permille.core.rating import filters as filters_module
from permille.core.rating.filters import (
    ALL_FILTER_VALUES,
    ChargeFilter,
    best_match,
    expand_all_values,
    filter_finder,
    group_of,
)

KEYS = ("model", "type", "region")
VALUES = ("a", "b", "c")

filters = st.lists(
    st.dictionaries(
        st.sampled_from(KEYS),
        st.lists(st.sampled_from(VALUES), min_size=1, max_size=3, unique=True).map(tuple),
        max_size=3,
    ),
    max_size=5,
).map(lambda many: [ChargeFilter(f"f{i}", values, None, {}) for i, values in enumerate(many)])
dimensions = st.dictionaries(st.sampled_from(KEYS), st.none() | st.sampled_from([*VALUES, "", "other"]))


def matches(event: dict[str, str | None], one: ChargeFilter) -> bool:
    return all(event.get(key) in one.values[key] for key in one.values)


def beats(g: ChargeFilter, f: ChargeFilter, order: Sequence[ChargeFilter]) -> bool:
    """The closed form of semantics-metering.md 4.3."""
    if set(g.values) > set(f.values):
        return True
    if set(g.values) != set(f.values):
        return False
    subsets = all(set(g.values[key]) <= set(f.values[key]) for key in f.values)
    same = all(set(g.values[key]) == set(f.values[key]) for key in f.values)
    return (subsets and not same) or (same and order.index(g) < order.index(f))


@settings(max_examples=400)
@given(dimensions, filters)
def test_the_best_of_the_unbeaten_filters(event: dict[str, str | None], order: list[ChargeFilter]) -> None:
    matching = [f for f in order if matches(event, f)]
    unbeaten = [f for f in matching if not any(beats(g, f, order) for g in matching if g is not f)]
    best = max(unbeaten, key=lambda f: (len(f.values), -order.index(f)), default=None)
    assert best_match(event, order) is best


crowded = st.lists(
    st.dictionaries(
        st.sampled_from((*KEYS, "not listed")),
        st.lists(st.sampled_from(VALUES), max_size=4).map(tuple),
        max_size=3,
    ),
    max_size=30,
).map(lambda many: [ChargeFilter(f"f{i}", values, None, {}) for i, values in enumerate(many)])


@settings(max_examples=300)
@given(
    crowded,
    st.lists(st.tuples(*[st.none() | st.sampled_from([*VALUES, "", "other"])] * len(KEYS)), min_size=1),
)
def test_the_finder_finds_the_best_match(
    order: list[ChargeFilter], events: list[tuple[str | None, ...]]
) -> None:
    place_of = filter_finder(order, KEYS)
    for texts in events:
        best = best_match(dict(zip(KEYS, texts, strict=True)), order)
        assert place_of(texts) == (len(order) if best is None else order.index(best))


def test_the_finder_looks_at_no_filter_that_does_not_match(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand filters, each of another model, and one for what is of any."""
    order = [named(model=(f"m{n}",), type=("input",)) for n in range(1_000)] + [named(type=("input",))]
    place_of = filter_finder(order, ("model", "type"))

    def never(*_: object) -> bool:
        raise AssertionError("a filter was looked at")

    monkeypatch.setattr(filters_module, "_matches", never)
    assert [place_of((f"m{n}", "input")) for n in range(1_000)] == list(range(1_000))
    assert place_of(("other", "input")) == 1_000
    assert place_of(("m1", "output")) == 1_001


def named(**values: tuple[str, ...]) -> ChargeFilter:
    return ChargeFilter(" ".join(f"{k}={'+'.join(v)}" for k, v in values.items()), values, None, {})


BOTH_CLOUDS, AWS, AWS_AGAIN = named(cloud=("aws", "gcp")), named(cloud=("aws",)), named(cloud=("aws",))
AWS_EU = named(cloud=("aws",), region=("eu",))
EU = named(region=("eu",))


@pytest.mark.parametrize(
    ("event", "order", "expected"),
    [
        ({"cloud": "aws"}, [BOTH_CLOUDS, AWS], AWS),
        ({"cloud": "gcp"}, [BOTH_CLOUDS, AWS], BOTH_CLOUDS),
        ({"cloud": "azure"}, [BOTH_CLOUDS, AWS], None),
        ({"cloud": "aws"}, [AWS, AWS_AGAIN], AWS),
        ({"cloud": "aws", "region": "eu"}, [AWS, EU, AWS_EU], AWS_EU),
        ({"cloud": "aws", "region": "eu"}, [EU, AWS], EU),
        ({"cloud": "aws", "region": None}, [AWS_EU], None),
        ({}, [AWS], None),
        ({}, [named()], named()),
        ({"cloud": "AWS"}, [AWS], None),
    ],
)
def test_worked_examples(
    event: dict[str, str | None], order: list[ChargeFilter], expected: ChargeFilter | None
) -> None:
    assert best_match(event, order) == expected


def test_all_values_are_those_the_metric_lists_and_no_wildcard() -> None:
    metric = {"cloud": ["aws", "gcp"], "region": ["eu"]}
    expanded = expand_all_values({"cloud": [ALL_FILTER_VALUES], "region": ["eu"]}, metric)
    assert expanded == {"cloud": ("aws", "gcp"), "region": ("eu",)}
    everything = ChargeFilter("all", expanded, None, {})
    assert best_match({"cloud": "gcp", "region": "eu"}, [everything]) is everything
    assert best_match({"cloud": "azure", "region": "eu"}, [everything]) is None
    assert expand_all_values({"gone": [ALL_FILTER_VALUES]}, metric) == {"gone": ()}


def test_a_missing_and_an_empty_group_value_are_one() -> None:
    assert group_of({"a": "", "b": "x"}, ("a", "b", "c")) == (("a", None), ("b", "x"), ("c", None))
    assert group_of({}, ()) == ()


def test_a_filter_with_the_same_values_of_one_key_is_narrower_by_another() -> None:
    wide = named(cloud=("aws",), region=("eu", "us"))
    for order in ([wide, AWS_EU], [AWS_EU, wide]):
        assert best_match({"cloud": "aws", "region": "eu"}, order) is AWS_EU
