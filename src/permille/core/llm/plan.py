"""Plans: how the events of answers of one shape are made of their counts, learned from how one of them is read.

The reader stays the only definition: it reads an answer whose counts remember what becomes of them (traced.py). A plan
fits an answer of the same shape whose counts would take the same way through the reader, and no other.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import InvalidOperation
from types import FunctionType
from typing import Any

from permille.core.llm.call import IDENTITY_MAX, Listed, events_of, unknown_models
from permille.core.llm.litellm import other_identities
from permille.core.llm.model_name import Aliases
from permille.core.llm.parts import Metric, UnreadableUsage
from permille.core.llm.read import SentUsage, read_usage
from permille.core.llm.shape import ID_PLACE, SPAN, Shape, TracedAnswer
from permille.core.llm.traced import NUMBER_PLACE, Trace, Untraceable
from permille.core.record import Record

_SUBSCRIPTION, _PROPERTIES = "\ue004", "\ue005"
_ID = f"(?:{SPAN})?{ID_PLACE}".format("(\\d+)")
_TIME = "\ue006"
_PLACE = re.compile(f"{NUMBER_PLACE}|%s|{_SUBSCRIPTION}|{_PROPERTIES}|{_TIME}".format("(\\d+)") % _ID)
_IS_PLACE = re.compile("[\ue000-\ue006]")

Fits = Callable[[Sequence[int], Sequence[str]], bool]
Write = Callable[[Sequence[int], Sequence[str], str, str, str], str]


class CallTerms(Record, kw_only=True):
    """What of an organization decides the events of a call and who pays, beside the call and subscriptions."""

    listed: Listed
    aliases: Aliases
    has_payer_rules: bool = False
    stamp: str = ""
    """A digest of all of it, by which it is seen whether they are still these."""


class Plan(Record, kw_only=True):
    """Makes the events of answers of a shape."""

    fits: Fits
    """Whether it is a plan for these counts and ids."""
    write: Write
    """Counts and ids that it fits, the subscription, free properties and the time as JSON -> the events, with a comma between them."""
    count: int
    """How many events."""
    before_id: str
    id_place: int
    provider_sent: str
    model_sent: str | None

    def identity(self, shape: Shape) -> str:
        """What a call is known by."""
        return f"{self.before_id}{shape.ids[self.id_place]}"


def plan_of(
    sent: SentUsage, shape: Shape, terms: CallTerms, encode: Callable[[Any], str], *, model_sent: str | None
) -> Plan | None:
    """How answers of a shape are read, learned from one of them, which is without content. `encode` makes JSON.

    None where more than counts and ids decides it, or where there is more to say than events.
    """
    trace = Trace()
    answer = TracedAnswer(trace)
    try:
        identity, events = _read(_traced(sent, answer), terms)
        read = [_in_json(each, encode) for each in _read(sent, terms)[1]]
    except (UnreadableUsage, Untraceable, InvalidOperation):
        return None
    if trace.values != shape.counts or answer.ids != shape.ids or not events:
        return None
    written = [_in_json(each, encode) for each in events]
    made = _compiled(trace, written, identity, provider_sent=sent.provider, model_sent=model_sent)
    if made is None or not made.fits(shape.counts, shape.ids):
        return None
    if made.write(shape.counts, shape.ids, _SUBSCRIPTION, _PROPERTIES, _TIME) != ",".join(read):
        return None
    return made


def _traced(sent: SentUsage, answer: TracedAnswer) -> SentUsage:
    texts = (sent.provider, sent.api, sent.model, sent.tier)
    if any(_IS_PLACE.search(each) for each in texts if each):
        raise Untraceable
    own = None if sent.response_id is None else answer.id(sent.response_id)
    return SentUsage(
        provider=sent.provider,
        api=sent.api,
        model=sent.model,
        tier=sent.tier,
        response_id=own,
        response=None if sent.response is None else answer.answer(sent.response),
        usage=None if sent.usage is None else answer.counts(sent.usage),
    )


def _read(sent: SentUsage, terms: CallTerms) -> tuple[str, list[Mapping[str, Any]]]:
    """The call's identity and events. Raises Untraceable where there is anything else."""
    usage = read_usage(sent, terms.aliases)
    if str(Metric.TOKENS) not in terms.listed:
        raise Untraceable
    if usage.identity is None or usage.warnings or usage.cost is not None or other_identities(usage):
        raise Untraceable
    events, shared = events_of(usage, usage.identity, terms.listed, {})
    if shared or unknown_models(usage, events):
        raise Untraceable
    return usage.identity, [
        {"transaction_id": each.transaction_id, "code": each.code, "properties": each.properties}
        for each in events
    ]


def _in_json(event: Mapping[str, Any], encode: Callable[[Any], str]) -> str:
    """An event as it is answered, with the places of what differs."""
    properties = encode(event["properties"]).removeprefix("{")
    return (
        f'{{"transaction_id":{encode(event["transaction_id"])},"code":{encode(event["code"])}'
        f',"external_subscription_id":{_SUBSCRIPTION},"timestamp":{_TIME},"properties":{{{_PROPERTIES}{properties}}}'
    )


def _compiled(
    trace: Trace, events: Sequence[str], identity: str, *, provider_sent: str, model_sent: str | None
) -> Plan | None:
    text = ",".join(events)
    before_id, number, after_id = re.split(_ID, identity)
    if _IS_PLACE.search(_PLACE.sub("", text)) or after_id:
        return None
    guards = [*trace.guards, f"len(i[{number}])<={IDENTITY_MAX - len(before_id)}"]
    return Plan(
        fits=_function(f"lambda c,i:{' and '.join(guards)}"),
        write=_writer(trace, text),
        count=len(events),
        before_id=before_id,
        id_place=int(number),
        provider_sent=provider_sent,
        model_sent=model_sent,
    )


def _writer(trace: Trace, text: str) -> Write:
    """A function that puts together the pieces of a text and what goes into its places."""
    source, at = "", 0
    pieces: dict[str, str] = {}
    for place in _PLACE.finditer(text):
        if at < place.start():
            name = f"piece {len(pieces)}"
            pieces[name] = text[at : place.start()]
            source += name
        source += f"{{{_argument(trace, place)}}}"
        at = place.end()
    pieces["end"] = text[at:]
    made: Write = _function(f"lambda c,i,s,p,t:f'{source}end'", pieces)
    return made


def _argument(trace: Trace, place: re.Match[str]) -> str:
    """What goes into a place."""
    count, own_id = place.groups()
    if count is not None:
        return trace.number(int(count))
    if own_id is not None:
        return f"i[{own_id}]"
    return {_SUBSCRIPTION: "s", _PROPERTIES: "p", _TIME: "t"}[place[0]]


def _function(source: str, texts: Mapping[str, str] | None = None) -> Any:
    """A function of sums and comparisons, with texts in the places of their names: there is nothing in the source that came in."""
    (code, *_) = compile(source, "<plan>", "eval").co_consts
    if texts:
        code = code.replace(co_consts=tuple([texts.get(each, each) for each in code.co_consts]))
    return FunctionType(code, {})
