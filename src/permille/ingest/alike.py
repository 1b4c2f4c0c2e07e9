"""Spans that are read alike as usages, without being read: what was learned of one of them, and what differs."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta
from typing import Any

from permille.core.instants import EPOCH
from permille.core.llm.call import OWN_PROPERTIES
from permille.core.llm.otlp.alike import OWN_ID, AlikeSpan, read_alike, text_in_place
from permille.core.llm.otlp.calls import calls_in, dropped_spans
from permille.core.llm.otlp.spans import Span
from permille.core.llm.shape import Shape
from permille.core.record import Record
from permille.events.columns import OnDemand
from permille.ingest.pause import Pause
from permille.ingest.planned_call import ShapedUsage, in_json
from permille.ingest.shaped import has_payer_names, shape_of_usage, shaped
from permille.ingest.usage_format import CallBatch, UsageFormat

LEARNED_AT_ONCE = 20
"""How many shapes of a request are learned: what is left is learned when it comes again."""


class AlikeCalls(Record, kw_only=True):
    """How spans of one key are calls. Places are those of their counts and texts."""

    shape_key: tuple[Any, ...]
    counts: tuple[int, ...]
    id: int | None
    """None: the span's own id."""
    subscription: int | None
    customer: int | None
    properties: str
    """As the beginning of an object in JSON, with %s for each text."""
    property_texts: tuple[int, ...]
    has_payer_names: bool
    client: str

    def usage(self, span: AlikeSpan, now: datetime) -> ShapedUsage:
        """A span of the key."""
        counts, texts = span.counts, span.texts
        return ShapedUsage(
            shape=Shape(
                self.shape_key,
                [counts[place] for place in self.counts],
                [span.own_id if self.id is None else texts[self.id]],
            ),
            external_subscription_id=None if self.subscription is None else texts[self.subscription],
            external_customer_id=None if self.customer is None else texts[self.customer],
            has_payer_names=self.has_payer_names,
            client=self.client,
            at=EPOCH + timedelta(microseconds=span.ended_at // 1_000) if span.ended_at else now,
            properties=self.properties % tuple([texts[place] for place in self.property_texts]),
        )


Alike = AlikeCalls | tuple[str, str]
"""What spans of a key are: calls, or dropped: by whose instrumentation, and why."""


class SpanMemory:
    """What was learned of an organization's spans, by their keys."""

    def __init__(self) -> None:
        self._known: dict[bytes, Alike] = {}
        self._seen: dict[int, bool] = {}
        """Hashes of keys that came, and whether they are still to be learned."""
        self._pause = Pause()
        """After requests of which nothing was known or learned, so many are not looked at."""

    def batch(self, wire: UsageFormat, body: bytes, media_type: str, now: datetime) -> CallBatch | None:
        """The usages of a body; None unless all of its spans are known."""
        if not self._pause.is_over():
            return None
        spans = wire.alike(body, media_type)
        if not spans:
            return None
        usages: list[ShapedUsage] = []
        dropped: Counter[tuple[str, str]] = Counter()
        for span in spans:
            found = self._known.get(span[0])
            if found is None:
                return None
            if isinstance(found, AlikeCalls):
                usages.append(found.usage(span, now))
            else:
                dropped[found] += 1
        self._pause.went(well=True)
        return CallBatch(
            usages=OnDemand(len(usages), lambda: wire.decode(body, media_type).usages),
            shaped=usages,
            media_type=media_type,
            dropped=dropped_spans(dropped),
        )

    def learn(self, wire: UsageFormat, body: bytes, media_type: str, now: datetime) -> tuple[int, int]:
        """Learn keys that came before. How many came for the first time, and how many were learned."""
        if self._pause.left:
            return 0, 0
        taken = wire.alike(body, media_type)
        if taken and all(each.key in self._known for each in taken):  # learned while this one waited
            self._pause.went(well=True)
            return 0, 0
        seen, known = len(self._seen), len(self._known)
        left = LEARNED_AT_ONCE
        for span, each in zip(wire.spans(body), taken, strict=True) if taken else ():
            number = hash(each.key)
            if number not in self._seen:
                self._seen[number] = True
            elif left and self._seen[number]:
                left -= 1
                self._seen[number] = False
                if found := _learned(span, each, now):
                    self._known[each.key] = found
        learned = len(self._known) - known
        self._pause.went(well=learned > 0)
        return len(self._seen) - seen, learned


def _learned(span: Span, taken: AlikeSpan, now: datetime) -> Alike | None:
    """What all spans of the key of this one are; None where that isn't known by it."""
    found = read_alike(span)
    if found is None or found.missing:
        return None
    if found.dropped:
        return span.scope, found.dropped[0].code
    calls = _calls(found.usages[0], span)
    return calls if calls and calls.usage(taken, now) == _read(span, now) else None


def _read(span: Span, now: datetime) -> ShapedUsage | None:
    (usage,) = calls_in([span]).usages
    return shaped(usage, now, names_clients=True)


def _calls(traced: dict[str, Any], span: Span) -> AlikeCalls | None:
    """From a usage of places, and a span of which it is made."""
    places = {text_in_place(place): place for place in range(len(span.attributes))}
    (usage,) = calls_in([span]).usages
    own, shape = shape_of_usage(usage), shape_of_usage(traced)
    properties = {
        name: places.get(value)
        for name, value in traced.get("properties", {}).items()
        if name not in OWN_PROPERTIES
    }
    if own is None or shape is None or None in properties.values() or len(shape.ids) != 1:
        return None
    (id_,) = shape.ids
    if id_ != OWN_ID and id_ not in places:
        return None
    return AlikeCalls(
        shape_key=own.key,
        counts=tuple(each - 1 for each in shape.counts),
        id=places.get(id_),
        subscription=places.get(traced.get("external_subscription_id", "")),
        customer=places.get(traced.get("external_customer_id", "")),
        properties="".join([f'{in_json(name).replace("%", "%%")}:"%s",' for name in properties]),
        property_texts=tuple(place for place in properties.values() if place is not None),
        has_payer_names=has_payer_names(traced),
        client=span.scope,
    )
