"""Charts as SVG, drawn here: bars by day, stacked by kind or side by side, and bars in rows. Colours are classes of the style sheet."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from decimal import ROUND_FLOOR, Decimal

from permille.core.money import ZERO
from permille.core.record import Record
from permille.events.usage import OTHERS

KINDS_MAX = 8  # as many as there are colours; the rest is one kind

WIDTH, HEIGHT = 760, 240
LEFT, BOTTOM, TOP = 56, 28, 12
ROW_LABEL, ROW_BAR, ROW_GAP, ROW_EDGE = 26, 11, 12, 20
STEPS = 4  # from zero to the top of a scale
_ROUND = (Decimal(1), Decimal(2), Decimal("2.5"), Decimal(5), Decimal(10))


class Bar(Record, kw_only=True):
    """A rectangle; `css` is the class of its colour."""

    x: float
    y: float
    width: float
    height: float
    css: str
    title: str


class Label(Record, kw_only=True):
    x: float
    y: float
    text: str


class Chart(Record, kw_only=True):
    """What the template draws, and the same as a table for who cannot see it."""

    bars: tuple[Bar, ...]
    names: tuple[Label, ...]
    scale: tuple[Label, ...]
    legend: tuple[tuple[str, str], ...]
    """(class, kind)"""
    kinds: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Decimal, ...]], ...]
    """(day, units by kind)"""
    total: Decimal
    height: float = HEIGHT


def short(value: Decimal) -> str:
    """1250000 -> 1.25M, exactly."""
    if value < 0:
        return f"−{short(-value)}"
    for size, letter in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if value >= size:
            return f"{(value / size).normalize():f}{letter}"
    return f"{value.normalize():f}"


def top_of_scale(highest: Decimal) -> Decimal:
    """The round number at or above the highest bar."""
    if highest <= 0:
        return Decimal(1)
    power = Decimal(10) ** highest.adjusted()
    return next(step * power for step in _ROUND if step * power >= highest)


def stacked(days: Sequence[tuple[str, Mapping[str, Decimal]]], order: Sequence[str] = ()) -> Chart:
    """A bar for each (day, kind -> units), kinds stacked in their order, others after them by name."""
    kinds, days = _kinds(days, order)
    top = top_of_scale(max((sum(by_kind.values(), ZERO) for _, by_kind in days), default=ZERO))
    step = (WIDTH - LEFT) / max(len(days), 1)
    every = max(1, -(-len(days) // 8))
    return Chart(
        bars=tuple(bar for n, day in enumerate(days) for bar in _column(n, day, kinds, top, step)),
        names=tuple(
            Label(x=round(LEFT + (n + 0.5) * step, 1), y=HEIGHT - 8, text=day)
            for n, (day, _) in enumerate(days)
            if n % every == 0
        ),
        scale=tuple(
            Label(x=LEFT - 8, y=_y(top * step / STEPS, top), text=short(top * step / STEPS))
            for step in range(STEPS + 1)
        ),
        legend=tuple((_css(n, kind), kind) for n, kind in enumerate(kinds)),
        kinds=kinds,
        rows=tuple((day, tuple(by_kind.get(kind, ZERO) for kind in kinds)) for day, by_kind in days),
        total=sum((units for _, by_kind in days for units in by_kind.values()), ZERO),
    )


def _kinds(
    days: Sequence[tuple[str, Mapping[str, Decimal]]], order: Sequence[str]
) -> tuple[tuple[str, ...], list[tuple[str, Mapping[str, Decimal]]]]:
    """The kinds in their order, and the days with the smallest kinds as one when there are too many."""
    places = {kind: place for place, kind in enumerate(order)}

    def in_order(kind: str) -> tuple[int, list[tuple[int, str]]]:
        return places.get(kind, len(places)), _by_name(kind)

    totals: dict[str, Decimal] = {}
    for _, by_kind in days:
        for kind, units in by_kind.items():
            totals[kind] = totals.get(kind, ZERO) + units
    ranked = sorted(totals.keys() - {OTHERS}, key=lambda kind: (-totals[kind], kind))
    if len(ranked) <= KINDS_MAX and OTHERS not in totals:
        return tuple(sorted(ranked, key=in_order)), list(days)
    kept = sorted(ranked[: KINDS_MAX - 1], key=in_order)
    folded: list[tuple[str, Mapping[str, Decimal]]] = []
    for day, by_kind in days:
        own = {kind: units for kind, units in by_kind.items() if kind in kept}
        rest = sum((units for kind, units in by_kind.items() if kind not in kept), ZERO)
        folded.append((day, {**own, OTHERS: rest}))
    return (*kept, OTHERS), folded


def _by_name(kind: str) -> list[tuple[int, str]]:
    """8K before 32K: digits count as a number."""
    return [(int(part) if part.isdecimal() else -1, part) for part in re.split(r"(\d{1,18})", kind)]


def _column(
    n: int, day: tuple[str, Mapping[str, Decimal]], kinds: Sequence[str], top: Decimal, step: float
) -> list[Bar]:
    name, by_kind = day
    bars, below = [], ZERO
    for rank, kind in enumerate(kinds):
        units = by_kind.get(kind, ZERO)
        if units <= 0:
            continue
        upper, lower = _y(below + units, top), _y(below, top)
        below += units
        bars.append(
            Bar(
                x=round(LEFT + n * step + step * 0.14, 1),
                y=upper,
                width=round(step * 0.72, 1),
                height=round(max(lower - upper, 0.5), 1),
                css=_css(rank, kind),
                title=_title(name, kind, units),
            )
        )
    return bars


def _css(rank: int, kind: str) -> str:
    return "s-others" if kind == OTHERS and rank == KINDS_MAX - 1 else f"s{rank}"


def _y(value: Decimal, top: Decimal, bottom: Decimal = ZERO) -> float:
    return round(HEIGHT - BOTTOM - float((value - bottom) / (top - bottom)) * (HEIGHT - BOTTOM - TOP), 1)


Figures = Sequence[tuple[str, Mapping[str, Decimal]]]
"""A name, and its figure of each kind; a kind may be missing or below zero."""


def side_by_side(days: Figures, kinds: Sequence[str]) -> Chart:
    """For each day a bar of every kind, one beside the other, down from zero where it is below."""
    bottom, top, marks = _scale(days)
    step = (WIDTH - LEFT) / max(len(days), 1)
    width = step * 0.8 / max(len(kinds), 1)
    every = max(1, -(-len(days) // 8))
    bars = [
        Bar(
            x=round(LEFT + (n + 0.1) * step + rank * width, 1),
            y=_y(max(value, ZERO), top, bottom),
            width=round(width, 1),
            height=round(abs(_y(value, top, bottom) - _y(ZERO, top, bottom)), 1),
            css=f"s{rank}",
            title=_title(day, kind, value),
        )
        for n, (day, by_kind) in enumerate(days)
        for rank, kind in enumerate(kinds)
        if (value := by_kind.get(kind, ZERO))
    ]
    names = [
        Label(x=round(LEFT + (n + 0.5) * step, 1), y=HEIGHT - 8, text=day)
        for n, (day, _) in enumerate(days)
        if n % every == 0
    ]
    scale = [Label(x=LEFT - 8, y=_y(mark, top, bottom), text=short(mark)) for mark in marks]
    return _chart(days, kinds, bars=bars, names=names, scale=scale)


def in_rows(groups: Figures, kinds: Sequence[str]) -> Chart:
    """For each group its name, and below it a bar of every kind, to the left of zero where it is below; the scale is at the foot."""
    bottom, top, marks = _scale(groups)
    row = ROW_LABEL + len(kinds) * ROW_BAR + ROW_GAP
    height = len(groups) * row + BOTTOM

    def x(value: Decimal) -> float:
        return round(ROW_EDGE + float((value - bottom) / (top - bottom)) * (WIDTH - 2 * ROW_EDGE), 1)

    bars = [
        Bar(
            x=x(min(value, ZERO)),
            y=n * row + ROW_LABEL + rank * ROW_BAR,
            width=round(max(abs(x(value) - x(ZERO)), 0.5), 1),
            height=ROW_BAR - 1,
            css=f"s{rank}",
            title=_title(name, kind, value),
        )
        for n, (name, by_kind) in enumerate(groups)
        for rank, kind in enumerate(kinds)
        if (value := by_kind.get(kind, ZERO))
    ]
    names = [Label(x=0, y=n * row + ROW_LABEL - 6, text=name) for n, (name, _) in enumerate(groups)]
    scale = [Label(x=x(mark), y=height - 6, text=short(mark)) for mark in marks]
    return _chart(groups, kinds, bars=bars, names=names, scale=scale, height=height)


def _scale(figures: Figures) -> tuple[Decimal, Decimal, list[Decimal]]:
    """The lowest and the highest figure of a scale around zero, and what is marked on it."""
    values = [value for _, by_kind in figures for value in by_kind.values()]
    top = top_of_scale(max(map(abs, values), default=ZERO))
    step = top / STEPS
    below = -int((min([*values, ZERO]) / step).to_integral_value(ROUND_FLOOR))
    return -below * step, top, [number * step for number in range(-below, STEPS + 1)]


def _chart(
    figures: Figures,
    kinds: Sequence[str],
    *,
    bars: Iterable[Bar],
    names: Iterable[Label],
    scale: Iterable[Label],
    height: float = HEIGHT,
) -> Chart:
    return Chart(
        bars=tuple(bars),
        names=tuple(names),
        scale=tuple(scale),
        legend=tuple((f"s{rank}", kind) for rank, kind in enumerate(kinds)),
        kinds=tuple(kinds),
        rows=tuple((name, tuple(by_kind.get(kind, ZERO) for kind in kinds)) for name, by_kind in figures),
        total=sum((abs(value) for _, by_kind in figures for value in by_kind.values()), ZERO),
        height=height,
    )


def _title(name: str, kind: str, value: Decimal) -> str:
    return f"{name}, {kind}: {value.normalize():,f}"
