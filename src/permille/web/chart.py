"""Charts as SVG, drawn here: bars by day, stacked by kind. Colours are classes of the style sheet."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal

from permille.events.usage import OTHERS

KINDS_MAX = 8  # as many as there are colours; the rest is one kind

WIDTH, HEIGHT = 760, 240
LEFT, BOTTOM, TOP = 56, 28, 12
_STEPS = (Decimal(1), Decimal(2), Decimal("2.5"), Decimal(5), Decimal(10))


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A rectangle; `css` is the class of its colour."""

    x: float
    y: float
    width: float
    height: float
    css: str
    title: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Label:
    x: float
    y: float
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """What the template draws, and the same as a table for who cannot see it."""

    bars: tuple[Bar, ...]
    days: tuple[Label, ...]
    scale: tuple[Label, ...]
    legend: tuple[tuple[str, str], ...]
    """(class, kind)"""
    kinds: tuple[str, ...]
    rows: tuple[tuple[str, tuple[Decimal, ...]], ...]
    """(day, units by kind)"""
    total: Decimal


def short(value: Decimal) -> str:
    """1250000 -> 1.25M, exactly."""
    for size, letter in ((10**12, "T"), (10**9, "G"), (10**6, "M"), (10**3, "k")):
        if value >= size:
            return f"{(value / size).normalize():f}{letter}"
    return f"{value.normalize():f}"


def top_of_scale(highest: Decimal) -> Decimal:
    """The round number at or above the highest bar."""
    if highest <= 0:
        return Decimal(1)
    power = Decimal(10) ** highest.adjusted()
    return next(step * power for step in _STEPS if step * power >= highest)


def stacked(days: Sequence[tuple[str, Mapping[str, Decimal]]], order: Sequence[str] = ()) -> Chart:
    """A bar for each (day, kind -> units), kinds stacked in their order, others after them by name."""
    kinds, days = _kinds(days, order)
    top = top_of_scale(max((sum(by_kind.values(), Decimal(0)) for _, by_kind in days), default=Decimal(0)))
    step = (WIDTH - LEFT) / max(len(days), 1)
    every = max(1, -(-len(days) // 8))
    return Chart(
        bars=tuple(bar for n, day in enumerate(days) for bar in _column(n, day, kinds, top, step)),
        days=tuple(
            Label(x=round(LEFT + (n + 0.5) * step, 1), y=HEIGHT - 8, text=day)
            for n, (day, _) in enumerate(days)
            if n % every == 0
        ),
        scale=tuple(
            Label(x=LEFT - 8, y=_y(top * part / 4, top), text=short(top * part / 4)) for part in range(5)
        ),
        legend=tuple((_css(n, kind), kind) for n, kind in enumerate(kinds)),
        kinds=kinds,
        rows=tuple((day, tuple(by_kind.get(kind, Decimal(0)) for kind in kinds)) for day, by_kind in days),
        total=sum((units for _, by_kind in days for units in by_kind.values()), Decimal(0)),
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
            totals[kind] = totals.get(kind, Decimal(0)) + units
    ranked = sorted(totals.keys() - {OTHERS}, key=lambda kind: (-totals[kind], kind))
    if len(ranked) <= KINDS_MAX and OTHERS not in totals:
        return tuple(sorted(ranked, key=in_order)), list(days)
    kept = sorted(ranked[: KINDS_MAX - 1], key=in_order)
    folded: list[tuple[str, Mapping[str, Decimal]]] = []
    for day, by_kind in days:
        own = {kind: units for kind, units in by_kind.items() if kind in kept}
        rest = sum((units for kind, units in by_kind.items() if kind not in kept), Decimal(0))
        folded.append((day, {**own, OTHERS: rest}))
    return (*kept, OTHERS), folded


def _by_name(kind: str) -> list[tuple[int, str]]:
    """8K before 32K: digits count as a number."""
    return [(int(part) if part.isdecimal() else -1, part) for part in re.split(r"(\d{1,18})", kind)]


def _column(
    n: int, day: tuple[str, Mapping[str, Decimal]], kinds: Sequence[str], top: Decimal, step: float
) -> list[Bar]:
    name, by_kind = day
    bars, below = [], Decimal(0)
    for rank, kind in enumerate(kinds):
        units = by_kind.get(kind, Decimal(0))
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
                title=f"{name}, {kind}: {units.normalize():,f}",
            )
        )
    return bars


def _css(rank: int, kind: str) -> str:
    return "s-others" if kind == OTHERS and rank == KINDS_MAX - 1 else f"s{rank}"


def _y(value: Decimal, top: Decimal) -> float:
    return round(HEIGHT - BOTTOM - float(value / top) * (HEIGHT - BOTTOM - TOP), 1)
