from decimal import ROUND_FLOOR, Decimal, getcontext, localcontext
from fractions import Fraction
from random import Random
from threading import Thread

import pytest
from hypothesis import example, given, strategies as st
from iso4217 import Currency

from permille.core.money import (
    CURRENCIES,
    allocate,
    apportion,
    decimal_text,
    exact,
    line_amounts,
    minor,
    precise,
    round_cents,
    subunits,
)
from tests.core.given import decimals

currencies = st.sampled_from(sorted(CURRENCIES))
amounts = decimals(-(10**15), 10**15, 9)


def half_away_from_zero(value: Fraction) -> int:
    doubled = abs(value) * 2 + 1
    whole = doubled.numerator // (doubled.denominator * 2)
    return whole if value >= 0 else -whole


@given(amounts, currencies)
@example(Decimal("0.005"), "EUR")
@example(Decimal("-0.005"), "EUR")
@example(Decimal("0.5"), "JPY")
@example(Decimal("0.0005"), "KWD")
def test_rounding_is_half_away_from_zero(amount: Decimal, currency: str) -> None:
    cents = Fraction(amount) * subunits(currency)
    assert round_cents(minor(amount, currency)) == half_away_from_zero(cents)
    assert Fraction(minor(amount, currency)) == cents


@pytest.mark.parametrize(
    ("amount", "currency", "cents"),
    [
        ("51.2345", "USD", 5123),
        ("0.005", "EUR", 1),
        ("0.0149", "EUR", 1),
        ("-1.005", "EUR", -101),
        ("100.50", "KWD", 100_500),
        ("100.5", "JPY", 101),
        ("100.4", "HUF", 100),
        ("1.23456", "CLF", 12_346),
        ("0.6", "MRO", 3),
    ],
)
def test_each_currency_has_its_own_smallest_unit(amount: str, currency: str, cents: int) -> None:
    assert round_cents(minor(Decimal(amount), currency)) == cents


def test_currencies_have_their_iso_decimals_but_for_lagos_own() -> None:
    iso = {each.code: each.exponent for each in Currency}
    differing = {code for code, exponent in CURRENCIES.items() if iso.get(code, exponent) != exponent}
    assert differing == {"HUF", "MGA"}
    no_longer_in_iso = CURRENCIES.keys() - iso.keys()
    assert no_longer_in_iso == {"ANG", "BGN", "CUC", "HRK", "MRO", "SLL", "STD"} & CURRENCIES.keys()
    assert len(CURRENCIES) >= 142
    assert CURRENCIES["MRO"] == 1, "fifths have one decimal"


def test_an_unknown_currency_is_a_bug() -> None:
    with pytest.raises(KeyError):
        subunits("XXX")


@given(st.integers(-(10**12), 10**12), st.lists(decimals(0, 1000, 3), min_size=1, max_size=12))
def test_parts_sum_to_the_whole_and_are_within_one_of_their_share(total: int, weights: list[Decimal]) -> None:
    parts = allocate(total, weights)
    assert sum(parts) == total
    shares = weights if any(weights) else [Decimal(1)] * len(weights)
    for part, weight in zip(parts, shares, strict=True):
        assert abs(part - Fraction(total) * Fraction(weight) / Fraction(sum(shares))) < 1


@given(st.integers(0, 10**6), st.lists(decimals(0, 1000, 3), min_size=1, max_size=8))
def test_what_is_left_goes_to_the_largest_remainders(total: int, weights: list[Decimal]) -> None:
    parts = allocate(total, weights)
    shares = weights if any(weights) else [Decimal(1)] * len(weights)
    exact_shares = [Fraction(total) * Fraction(w) / Fraction(sum(shares)) for w in shares]
    got_more = [s % 1 for s, p in zip(exact_shares, parts, strict=True) if p > s // 1]
    got_none = [s % 1 for s, p in zip(exact_shares, parts, strict=True) if p == s // 1]
    assert min(got_more, default=Fraction(1)) >= max(got_none, default=Fraction(0)) or not got_more


def test_of_equal_remainders_the_earlier_gets_more() -> None:
    assert allocate(100, [Decimal(1)] * 3) == [34, 33, 33]
    assert allocate(-100, [Decimal(1)] * 3) == [-34, -33, -33]


def test_there_is_nothing_to_allocate_to() -> None:
    with pytest.raises(ValueError, match="nothing"):
        allocate(1, [])
    with pytest.raises(ValueError, match="negative"):
        allocate(1, [Decimal(1), Decimal(-1)])


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("4", "4.0"),
        ("0.50", "0.5"),
        ("0", "0.0"),
        ("-0", "0.0"),
        ("-0.00", "0.0"),
        ("1E+3", "1000.0"),
        ("1.5E-7", "0.00000015"),
        ("2177.4193548387096774", "2177.4193548387096774"),
        ("-3.50", "-3.5"),
        ("100", "100.0"),
    ],
)
def test_decimals_on_the_wire(value: str, text: str) -> None:
    assert decimal_text(Decimal(value)) == text


@given(st.decimals(allow_nan=False, allow_infinity=False, min_value=-(10**30), max_value=10**30))
def test_a_decimal_survives_the_wire(value: Decimal) -> None:
    text = decimal_text(value)
    assert Decimal(text) == value
    whole, fraction = text.split(".")
    assert "E" not in text
    assert fraction == "0" or not fraction.endswith("0")
    assert text != "-0.0"
    assert whole


@given(decimals(-(10**20), 10**20, 20))
def test_precise_keeps_15_decimals(value: Decimal) -> None:
    kept = precise(value)
    assert Fraction(kept) * 10**15 == half_away_from_zero(Fraction(value) * 10**15)


@given(decimals(0, 10**9, 12), decimals(0, 10**6, 20), currencies)
def test_a_line_states_its_amounts(amount: Decimal, unit_amount: Decimal, currency: str) -> None:
    with exact():
        line = line_amounts(amount, unit_amount, subunits(currency))
    assert line.amount_cents == round_cents(minor(amount, currency))
    assert line.precise_amount_cents == precise(minor(amount, currency))
    assert line.unit_amount_cents == Fraction(unit_amount) * subunits(currency) // 1
    assert line.precise_unit_amount == precise(unit_amount)


def test_exact_arithmetic_is_exact_in_any_thread_and_leaves_no_trace() -> None:
    big, small = Decimal(10**39 + 1), Decimal("1e-40")
    sums = []

    def add() -> None:
        with exact():
            sums.append(big + small)
        assert getcontext().prec == 28

    threads = [Thread(target=add) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with localcontext() as wide:
        wide.prec = 200
        assert sums == [big + small] * 4


cents = st.decimals(-1_000, 1_000, places=3)


@given(st.lists(cents, max_size=12))
def test_what_is_rounded_together_sums_to_the_rounded_sum(amounts: list[Decimal]) -> None:
    parts = apportion(amounts)
    assert sum(parts) == round_cents(sum(amounts, Decimal(0)))
    for part, amount in zip(parts, amounts, strict=True):
        assert abs(part - amount) < 1
        assert part == amount or amount % 1


@given(st.lists(cents, max_size=12))
def test_where_each_ones_own_rounding_gives_the_sum_it_is_kept(amounts: list[Decimal]) -> None:
    alone = [round_cents(each) for each in amounts if each >= 0]
    positive = [each for each in amounts if each >= 0]
    if sum(alone) == round_cents(sum(positive, Decimal(0))) and len({each % 1 for each in positive}) == len(
        positive
    ):
        assert apportion(positive) == alone


@given(st.lists(cents, min_size=1, max_size=8), st.randoms(use_true_random=False))
def test_the_order_says_only_which_of_equal_remainders_come_first(
    amounts: list[Decimal], chance: Random
) -> None:
    mixed = list(amounts)
    chance.shuffle(mixed)
    assert _cents_by_remainder(mixed) == _cents_by_remainder(amounts)


def _cents_by_remainder(amounts: list[Decimal]) -> list[tuple[Decimal, int]]:
    """What each amount has above its whole cents, and how many of the cents that were left it took."""
    cut = [int(each.to_integral_value(ROUND_FLOOR)) for each in amounts]
    parts = apportion(amounts)
    return sorted(
        (amount - whole, part - whole) for amount, whole, part in zip(amounts, cut, parts, strict=True)
    )


def test_a_thousand_small_amounts_are_not_lost() -> None:
    parts = apportion([Decimal("0.4")] * 1_000)
    assert (sum(parts), parts[:400], set(parts[400:])) == (400, [1] * 400, {0})
    assert apportion([]) == []
    assert apportion([Decimal("-0.5")]) == [-1]
