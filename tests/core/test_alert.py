"""Which thresholds a value crosses, against the vectors V-154 to V-159 and a slow oracle."""

from __future__ import annotations

import itertools
from decimal import Decimal

import pytest
from hypothesis import given, strategies as st

from permille.core.alert import (
    STEPS_MAX,
    Direction,
    Threshold,
    crossed_thresholds,
    threshold_errors,
)

UP, DOWN = Direction.INCREASING, Direction.DECREASING


def at(*values: int, every: int | str | None = None) -> list[Threshold]:
    once = [Threshold(code=f"t{value}", value=Decimal(value)) for value in values]
    return once + ([] if every is None else [Threshold(code="step", value=Decimal(every), recurring=True)])


def crossed(thresholds: list[Threshold], before: int | str, now: int | str, way: Direction = UP) -> list[str]:
    found = crossed_thresholds(thresholds, Decimal(before), Decimal(now), way)
    return [str(each.value) for each in found]


@pytest.mark.parametrize(
    ("thresholds", "before", "now", "way", "expected"),
    [
        (at(1500, 3000, 5000), 1000, 3000, UP, "1500 3000"),  # V-154
        (at(1500, 3000, every=1000), 3500, 5500, UP, "4000 5000"),  # V-155
        (at(every=1000), 0, 3500, UP, "1000 2000 3000"),  # V-156
        (at(90), 89, 94, UP, "90"),  # V-157
        (at(10, 30, 50, every=100), 33, 351, UP, "50 150 250 350"),  # V-158
        (at(200, 500, 800, every=100), 600, -100, DOWN, "-100 0 100 200 500"),  # V-159
        (at(1500), 1500, 1600, UP, ""),
        (at(every=1000), 2000, 2999, UP, ""),
        (at(every=1000), 2000, 3000, UP, "3000"),
        (at(100, every=30), 0, 129, UP, "100"),
        (at(100, 200), 300, 50, UP, ""),
        (at(80, every=10), 100, 75, DOWN, "80"),
        (at(80, every=10), 70, 60, DOWN, "60"),
        (at(every="0.1"), "0.3", "0.55", UP, "0.4 0.5"),
    ],
)
def test_thresholds_between_the_two_values_are_crossed(
    thresholds: list[Threshold], before: int, now: int, way: Direction, expected: str
) -> None:
    assert crossed(thresholds, before, now, way) == expected.split()


whole = st.integers(-300, 300)


@given(st.sets(whole, max_size=4), st.none() | st.integers(1, 60), st.lists(whole, min_size=2, max_size=6))
def test_each_step_on_the_way_is_crossed_once_however_many_looks_there_are(
    once: set[int], step: int | None, way: list[int]
) -> None:
    rising = sorted(way)
    thresholds = at(*sorted(once), every=step)
    base = max(once, default=0)
    expected = [value for value in once if rising[0] < value <= rising[-1]]
    if step:
        expected += [value for value in range(base + step, rising[-1] + 1, step) if value > rising[0]]
    looks = [crossed(thresholds, a, b) for a, b in itertools.pairwise(rising)]
    assert [each for look in looks for each in look] == [str(value) for value in sorted(expected)]
    falling = [
        Threshold(code=t.code, value=t.value if t.recurring else -t.value, recurring=t.recurring)
        for t in thresholds
    ]
    mirrored = crossed(falling, -rising[0], -rising[-1], DOWN)
    assert [str(-int(each)) for each in reversed(mirrored)] == [str(value) for value in sorted(expected)]


def test_a_jump_over_countless_steps_reports_the_last_ones() -> None:
    found = crossed(at(every=1), 0, 10**12)
    assert (len(found), found[-1]) == (STEPS_MAX, str(10**12))


def test_thresholds_that_are_refused() -> None:
    step = Threshold(code="other", value=Decimal(7), recurring=True)
    assert threshold_errors(at(5, 6, every=5)) == []
    assert threshold_errors(at(5, 5)) == ["duplicate_threshold_values"]
    assert threshold_errors([*at(5, every=6), step]) == ["too_many_recurring_thresholds"]
    assert threshold_errors(at(*range(21))) == ["too_many_thresholds"]
