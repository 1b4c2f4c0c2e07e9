"""How a benchmark says what it measured to the one who checks it: a line of JSON for each ratio."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import msgspec


class Ratio(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Of two things of one run; the larger it is, the better."""

    benchmark: str
    ratio: str
    value: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """A ratio and its floor. One that has no floor is fine; one that has a floor must have been measured."""

    benchmark: str
    ratio: str
    value: float | None
    floor: float | None

    @property
    def is_fine(self) -> bool:
        return self.floor is None or (self.value is not None and self.value >= self.floor)


def say(benchmark: str, ratio: str, value: float) -> None:
    """Print a ratio as a line of JSON."""
    print(msgspec.json.encode(Ratio(benchmark, ratio, round(value, 4))).decode(), flush=True)


def read(line: str) -> Ratio | None:
    """The ratio that a line says, if it says one."""
    try:
        return msgspec.json.decode(line, type=Ratio)
    except msgspec.DecodeError:
        return None


def judged(found: list[Ratio], floors: dict[str, float], benchmark: str) -> Iterator[Verdict]:
    """All that was measured and all that should have been."""
    values = {each.ratio: each.value for each in found if each.benchmark == benchmark}
    for name in dict.fromkeys([*values, *floors]):
        yield Verdict(benchmark=benchmark, ratio=name, value=values.get(name), floor=floors.get(name))
