"""The table of an API: where its usage objects have their counts, and how the counts relate to each other.

A count is the whole of those that are inside it, and is beside the others. What is inside is taken out of the whole,
so that the parts never overlap.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal, InvalidOperation
from enum import Enum
from functools import cache
from typing import Any

from permille.core.llm.parts import (
    MeasureType,
    Metric,
    Modality,
    Tier,
    TokenType,
    Type,
    UnreadableUsage,
    UsagePart,
)
from permille.core.money import ZERO
from permille.core.once import Once
from permille.core.record import Record, field

Obj = Mapping[str, Any]
Split = dict[tuple[TokenType, Modality], Decimal]

_MODALITIES = {
    "text": Modality.TEXT,
    "audio": Modality.AUDIO,
    "image": Modality.IMAGE,
    "document": Modality.IMAGE,
    "video": Modality.VIDEO,
}


def at(found: Any, path: str) -> Any:
    """What is at a dotted path, None where there is nothing. The empty path is the whole."""
    for name in names_of(path):
        if not isinstance(found, dict):
            return None
        found = found.get(name)
    return found


@cache
def names_of(path: str) -> tuple[str, ...]:
    """The names of a dotted path."""
    return tuple(path.split(".")) if path else ()


def first_at(found: Any, paths: Sequence[str]) -> Any:
    """What is at the first of the paths that has something."""
    for path in paths:
        value = at(found, path)
        if value is not None:
            return value
    return None


def has_any(found: Any, paths: Iterable[str]) -> bool:
    """Whether there is something at any of the paths."""
    for path in paths:  # noqa: SIM110 -- a generator takes twice as long, and this is asked of each answer
        if at(found, path) is not None:
            return True
    return False


def text_at(found: Any, paths: Sequence[str]) -> str | None:
    """The text at the first of the paths that has one that isn't empty."""
    for path in paths:
        value = at(found, path)
        if isinstance(value, str) and value:
            return value
    return None


def quantity(value: Any, path: str) -> Decimal | None:
    """A count. Raises UnreadableUsage for what is no number of zero or more."""
    if value is None:
        return None
    if type(value) is int and value >= 0:
        return Decimal(value)
    try:
        number = Decimal(value) if isinstance(value, int | str) else value
    except InvalidOperation:
        number = None
    if not isinstance(number, Decimal) or isinstance(value, bool) or not number.is_finite() or number < 0:
        raise UnreadableUsage("invalid_count", f"{path} is not a number of zero or more")
    return number


class ByField(Record):
    """Modalities as fields `text_tokens`, `audio_tokens`, ... of an object; `fields` where they are called otherwise."""

    base: str
    fields: Mapping[str, str] = field(
        default_factory=lambda: {name: f"{name}_tokens" for name in ("text", "audio", "image", "video")}
    )

    def read(self, usage: Obj) -> dict[Modality, Decimal]:
        found = at(usage, self.base)
        if not isinstance(found, dict):
            return {}
        counts: dict[Modality, Decimal] = {}
        for name, key in self.fields.items():
            count = quantity(found.get(key), f"{self.base}.{key}") if key in found else None
            if count is not None:
                counts[_MODALITIES[name]] = count
        return counts

    def paths(self) -> Iterator[str]:
        return (f"{self.base}.{key}" for key in self.fields.values())


class ByList(Record):
    """Modalities as a list of objects: `[{modality: TEXT, tokenCount: 742}, ...]`."""

    base: str
    name: str = "modality"
    count: str = "tokenCount"
    other: str = ""
    """Where the list is in an answer that calls it otherwise."""

    def read(self, usage: Obj) -> dict[Modality, Decimal]:
        counts: dict[Modality, Decimal] = {}
        for each in usage.get(self.base) or usage.get(self.other) or ():
            kind = str(each.get(self.name, "")).lower() if isinstance(each, Mapping) else ""
            if kind not in _MODALITIES and kind not in ("", "modality_unspecified"):
                raise UnreadableUsage(
                    "unknown_modality", f"{self.base} has a modality that is not known: {kind}"
                )
            modality = _MODALITIES.get(kind, Modality.TEXT)
            number = quantity(each.get(self.count), f"{self.base}.{self.count}") if kind else None
            counts[modality] = counts.get(modality, ZERO) + (number or ZERO)
        return counts

    def paths(self) -> Iterator[str]:
        yield self.base
        yield self.other


class Count(Record, dict=True):
    """A count of tokens. Its first path that has a number is read; without one it is what is inside it."""

    path: str | tuple[str, ...]
    type: TokenType
    inside: tuple[Count, ...] = ()
    modalities: ByField | ByList | None = None
    in_total: bool = True
    """Whether the provider's total has it."""

    @Once
    def paths(self) -> tuple[str, ...]:
        """A list of one path too."""
        return (self.path,) if isinstance(self.path, str) else self.path

    def known(self) -> Iterator[str]:
        yield from self.paths
        if self.modalities is not None:
            yield from self.modalities.paths()
        for each in self.inside:
            yield from each.known()

    def split(self, usage: Obj) -> Split:
        """The count by type and modality; its sum is the whole."""
        by_modality = self.modalities.read(usage) if self.modalities is not None else {}
        inner = [each.split(usage) for each in self.inside]
        within = ZERO
        for found in inner:
            for number in found.values():
                within += number
        sent = quantity(first_at(usage, self.paths), self.paths[0])
        if not within and not any(by_modality.values()):
            return {(self.type, Modality.TEXT): sent or ZERO}
        sorted_out = sum(by_modality.values(), ZERO)
        whole = max(within, sorted_out) if sent is None else sent
        rest = whole - sorted_out
        if not sorted_out and within <= whole and (text := self._of_text(inner, whole - within)):
            return text
        if rest < 0 or within > whole:
            raise UnreadableUsage(
                "total_mismatch", f"what is in {self.paths[0]} adds up to more than {decimal(whole)}"
            )
        left = {**by_modality, Modality.TEXT: by_modality.get(Modality.TEXT, ZERO) + rest}
        parts: Split = {}
        for each, found in zip(self.inside, inner, strict=True):
            _take(left, found, parts, anywhere=each.modalities is None)
        for modality, number in left.items():
            parts[self.type, modality] = parts.get((self.type, modality), ZERO) + number
        return parts

    def _of_text(self, inner: Sequence[Split], rest: Decimal) -> Split | None:
        """The whole and what is inside it, where all of it is text; None where it is not."""
        parts: Split = {}
        for found in inner:
            for key, number in found.items():
                if number:
                    if key[1] is not Modality.TEXT:
                        return None
                    parts[key] = parts[key] + number if key in parts else number
        own = self.type, Modality.TEXT
        parts[own] = parts[own] + rest if own in parts else rest
        return parts


def _take(left: dict[Modality, Decimal], found: Split, parts: Split, *, anywhere: bool) -> None:
    """Move what is inside out of the whole. Where its modality isn't said it is text first, then the others."""
    for (kind, modality), number in found.items():
        if not number:
            continue
        rest = number
        order = [modality, *(each for each in Modality if each is not modality)] if anywhere else [modality]
        for each in order:
            taken = min(rest, left.get(each, ZERO))
            if taken:
                left[each] -= taken
                parts[kind, each] = parts.get((kind, each), ZERO) + taken
                rest -= taken
        if rest:
            raise UnreadableUsage("total_mismatch", f"more {modality} tokens are {kind} than there are")


def decimal(number: Decimal) -> str:
    """A number in the words of a message and of an event: without an exponent, without idle zeros."""
    text = str(number)
    if "E" in text:
        text = format(number, "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


class Measure(Record):
    """A count of what is no tokens, at a path of the usage object."""

    path: str
    metric: Metric
    type: Type

    def read(self, usage: Obj) -> UsagePart | None:
        number = quantity(at(usage, self.path), self.path)
        return (
            UsagePart(metric=self.metric, type=self.type, modality=None, quantity=number) if number else None
        )


class Rest(Enum):
    """What becomes of tokens that the provider's total has and none of its counts."""

    REFUSED = "the usage is kept aside"
    OUTPUT = "they are output, with a warning"
    WARNED = "they are not counted, with a warning"


class Total(Record, kw_only=True):
    """The provider's total of tokens, to check the counts by."""

    path: str = "total_tokens"
    rest: Rest = Rest.REFUSED


class ModelUsage(Record, kw_only=True):
    """A usage object, and the model it is of."""

    model: str | None
    usage: Obj


def _one_request(_body: Obj, usage: Obj, model: str | None) -> list[ModelUsage]:
    return [ModelUsage(model=model, usage=usage)]


def by_name_alone(_answer: Obj) -> bool:
    """Marks of an API that has none of its own: it is read only where the sender names it."""
    return False


def _no_cost(_body: Obj, _usage: Obj) -> Decimal | None:
    return None


def _no_parts(_body: Obj, _usage: Obj) -> list[UsagePart]:
    return []


def last_values(chunks: Sequence[Obj]) -> Obj:
    """A stream as one object: of each field the last value that is there."""
    found: dict[str, Any] = {}
    for chunk in chunks:
        found.update({name: value for name, value in chunk.items() if value is not None})
    return found


TIERS = {
    "": Tier.STANDARD,
    "auto": Tier.STANDARD,
    "default": Tier.STANDARD,
    "standard": Tier.STANDARD,
    "on_demand": Tier.STANDARD,
    "performance": Tier.PRIORITY,
    **{str(each): each for each in Tier},
}


class Api(Record, kw_only=True, dict=True):
    """How the answers of one API of a provider are read."""

    name: str
    looks_like: Callable[[Obj], bool]
    """Whether an answer, or an event of its stream, has the marks of this API."""
    tables: tuple[tuple[Count, ...], ...] = ((),)
    """Usually one. Where providers of one API differ, the first table that adds up to the total."""
    total: Total | None = None
    measures: tuple[Measure, ...] = ()
    more_parts: Callable[[Obj, Obj], list[UsagePart]] = _no_parts
    """What is counted from elsewhere than the usage object."""
    ignored: tuple[str, ...] = ()
    """Fields of the usage object that are known and not counted; with all that is below them."""
    usage: tuple[str, ...] = ("usage",)
    model: tuple[str, ...] = ("model",)
    response_id: tuple[str, ...] = ("id",)
    tier: tuple[str, ...] = ("service_tier", "usage.service_tier")
    tiers: Mapping[str, Tier] = field(default_factory=lambda: TIERS)
    region: tuple[str, ...] = ()
    cost: Callable[[Obj, Obj], Decimal | None] = _no_cost
    requests: Callable[[Obj, Obj, str | None], list[ModelUsage]] = _one_request
    join: Callable[[Sequence[Obj]], Obj] = last_values
    """A stream as the answer that it is."""
    missing: str = "the answer has no usage"

    @Once
    def known(self) -> Mapping[str, None]:
        """Every path of the usage object that the tables speak of, counts first."""
        paths = [path for table in self.tables for count in table for path in count.known()]
        total = [self.total.path] if self.total is not None else []
        return dict.fromkeys([*paths, *total, *(each.path for each in self.measures), *self.ignored])


def unknown_fields(usage: Obj, known: Collection[str], base: str = "") -> list[str]:
    """Paths of numbers above zero that nothing is known about."""
    found: list[str] = []
    for name, value in usage.items():
        path = f"{base}{name}" if base else name
        if isinstance(value, dict):
            if path not in known or any(each.startswith(f"{path}.") for each in known):
                found += unknown_fields(value, known, f"{path}.")
        elif path not in known and isinstance(value, int | Decimal) and not isinstance(value, bool) and value:
            found.append(path)
    return found


def seconds(path: str, kind: MeasureType) -> Measure:
    """A count of seconds, at a path of the usage object."""
    return Measure(path, Metric.SECONDS, kind)
