"""What holds of several versions and sources of the catalogue on a date, against looking through all of them."""

from __future__ import annotations

from datetime import date, timedelta
from decimal import Decimal
from itertools import pairwise
from typing import Any

from hypothesis import given, strategies as st

from permille.core.llm.catalogue.effective import DatedCatalogue, EffectiveCatalogue
from permille.core.llm.catalogue.genai_prices import read_catalogue
from permille.core.llm.catalogue.prices import Catalogue
from permille.core.llm.catalogue.rows import Conditions, Measure
from permille.core.money import exact
from permille.core.rating.models import ChargeModel, Quantity, clean, pricer
from permille.core.rating.models.catalogue import placed, price_dates, with_prices

FIRST = date(2026, 11, 1)
INPUT = Measure("llm_tokens", "input")


def catalogue(label: str, **models: Any) -> Catalogue:
    """A catalogue of acme with the models' input prices: one, or a list of (date, price)."""
    found = []
    for name, prices in models.items():
        sets = prices if isinstance(prices, list) else [(None, prices)]
        found.append(
            {
                "id": name,
                "match": {"equals": name},
                "prices": [
                    {"prices": {"input_mtok": amount}}
                    | ({"constraint": {"start_date": at.isoformat()}} if at else {})
                    for at, amount in sets
                ],
            }
        )
    return read_catalogue([{"id": "acme", "models": found}], label=label)


def of(*sources: list[tuple[Catalogue, date | None]]) -> EffectiveCatalogue:
    return EffectiveCatalogue(tuple(tuple(DatedCatalogue(*each) for each in source) for source in sources))


def price(prices: EffectiveCatalogue, model: str, on: date) -> tuple[str, str] | None:
    found = prices.price("acme", model, INPUT, Conditions(), on=on)
    return (found.version, str(found.row.rate.amount)) if found else None


def test_a_version_holds_from_its_date_on_and_the_one_approved_last_counts() -> None:
    first, second = catalogue("1", a="1", gone="9"), catalogue("2", a="2", new=[(None, "4"), (FIRST, "5")])
    prices = of([(first, None), (second, date(2026, 11, 10))])
    assert price(prices, "a", date(2026, 11, 9)) == ("1", "1")
    assert price(prices, "a", date(2026, 11, 10)) == ("2", "2")
    assert price(prices, "gone", date(2026, 11, 9)) == ("1", "9")
    assert price(prices, "gone", date(2026, 11, 10)) is None
    # What was not known is priced once it is, from its own date on.
    assert price(prices, "new", date(2026, 10, 31)) == ("2", "4")
    assert price(prices, "new", date(2026, 11, 2)) == ("2", "5")
    # A correction counts from an earlier date than the version before it, which counts no more.
    corrected = of([(first, None), (second, date(2026, 11, 10)), (catalogue("3", a="3"), date(2026, 11, 5))])
    assert [price(corrected, "a", date(2026, 11, day)) for day in (4, 5, 20)] == [
        ("1", "1"), ("3", "3"), ("3", "3"),
    ]  # fmt: skip
    assert price(corrected, "new", date(2026, 11, 2)) is None


def test_own_prices_come_first_and_never_count_before_their_date_where_there_is_another() -> None:
    own, public, second = catalogue("own", a="7", o="6"), catalogue("1", a="1"), catalogue("2", a="2", b="3")
    prices = of([(own, date(2026, 11, 10))], [(public, None)], [(second, None)])
    assert price(prices, "a", date(2026, 11, 9)) == ("1", "1")
    assert price(prices, "a", date(2026, 11, 10)) == ("own", "7")
    assert price(prices, "b", date(2026, 11, 10)) == ("2", "3")
    assert price(prices, "o", date(2026, 11, 1)) == ("own", "6")
    assert price(prices, "c", date(2026, 11, 10)) is None


AMOUNTS = st.integers(min_value=1, max_value=3).map(str)
DATES = st.integers(min_value=0, max_value=12).map(lambda day: FIRST + timedelta(days=day))
MODELS = st.dictionaries(
    st.sampled_from(["a", "b"]),
    st.lists(st.tuples(DATES, AMOUNTS), max_size=2, unique_by=lambda each: each[0]).flatmap(
        lambda dated: AMOUNTS.map(lambda first: [(None, first), *sorted(dated)])
    ),
)
VERSIONS = st.lists(st.tuples(MODELS, st.none() | DATES), max_size=4)


@given(sources=st.lists(VERSIONS, max_size=2), model=st.sampled_from(["a", "b"]))
def test_prices_are_those_of_a_look_through_all_versions_and_split_only_at_their_dates(
    sources: list[list[tuple[dict[str, Any], date | None]]], model: str
) -> None:
    read = [
        [(catalogue(f"{place}.{nth}", **models), from_) for nth, (models, from_) in enumerate(source)]
        for place, source in enumerate(sources)
    ]
    prices = of(*read)
    properties = with_prices(clean(ChargeModel.CATALOGUE, {}), prices, "llm_tokens")
    place, by_catalogue = placed(properties), pricer(ChargeModel.CATALOGUE, properties)
    lines: list[tuple[str | None, Decimal]] = []
    for day in range(-1, 15):
        on = FIRST + timedelta(days=day)
        expected = None
        for source in read:
            holding = [each for each, from_ in source if from_ is None or from_ <= on]
            if holding and expected is None:
                found = holding[-1].price("acme", model, INPUT, Conditions(), on=on)
                expected = found and (found.version, str(found.row.rate.amount))
        now = price(prices, model, on)
        assert now == expected if expected is not None else True
        group = dict(
            place({"provider": "acme", "model": model, "type": "input", "price_since": on.isoformat()})
        )
        with exact():
            priced = by_catalogue(Quantity(units=Decimal(1_000_000), group=group))
        assert priced.amount == (Decimal(now[1]) if now else 0)
        lines.append((group["price_since"], priced.amount))
        if len(lines) > 1 and lines[-1] != lines[-2]:
            assert on in price_dates(properties, prices)
    for before, after in pairwise(lines):
        assert (before[0] == after[0]) == (before[1] == after[1])
