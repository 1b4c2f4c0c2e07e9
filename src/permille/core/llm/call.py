"""A call of a model as it is sent to be billed, and the events that are made of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from permille.core.llm.cost import COST_SOURCE, FROM_PROVIDER
from permille.core.llm.fold import fold
from permille.core.llm.model_name import alias_name
from permille.core.llm.parts import Metric, ModelRequest, Usage, UsagePart, Warned
from permille.core.llm.payer import PayerNames
from permille.core.llm.read import SentUsage
from permille.core.llm.table import decimal
from permille.core.record import Record, field, replace

SUBSCRIPTION_NAMES = ("subscription", "subscription_id", "external_subscription_id")
"""Names under which the metadata of a trace or of a gateway says which subscription pays; the first goes before others."""

IDENTITY_MAX = 200
"""Leaves room for what the transaction ids of a call's events have after its identity."""

METRICS = tuple(str(each) for each in Metric)
"""Codes of the metrics that calls are counted by."""


class SentCall(Record, kw_only=True):
    """A usage, who pays for it, when it was, and free properties that its events get."""

    usage: SentUsage
    external_subscription_id: str | None
    external_customer_id: str | None
    at: datetime
    properties: Mapping[str, Any]
    payer_names: PayerNames = field(default_factory=dict)
    """The key, team, user and the like, for rules that say who pays."""
    is_payer_requested: bool = False
    """Whether the request of an end user named the subscription or customer, so that rules may go before it."""
    client: str | None = None
    """The instrumentation of a trace, by the name that it gives itself."""

    @property
    def model_sent(self) -> str | None:
        """The model's name as it was sent, if that is seen without reading the answer."""
        model = self.usage.model or (self.usage.response or {}).get("model")
        return model if isinstance(model, str) else None


class UsageStatus(StrEnum):
    """What became of something that came in."""

    COUNTED = "counted"
    REPEATED = "repeated"
    HELD = "held"
    DROPPED = "dropped"
    REFUSED = "refused"


class CallSource(Record, kw_only=True):
    """Where and when a request with calls came in."""

    road: str
    """The address that it came to."""
    client: str | None
    """The program that sent it, as it calls itself."""
    at: datetime


class DroppedSpans(Record, kw_only=True):
    """Spans of one instrumentation that are not counted, and why."""

    client: str
    code: str
    message: str
    count: int


class Problem(Record, kw_only=True):
    """Why a call is kept aside instead of being counted."""

    code: str
    message: str


class CallEvent(Record, kw_only=True):
    """An event of a call, of which the subscription and the time are the call's."""

    transaction_id: str
    code: str
    properties: dict[str, Any]


class PreparedCall(Record, kw_only=True):
    """A call that was looked at. It has events, or it was counted before, or there is a problem with it."""

    sent: SentCall
    identity: str | None
    other_identities: frozenset[str] = frozenset()
    """What it may be known by if it comes by another road."""
    external_subscription_id: str | None = None
    events: tuple[CallEvent, ...] = ()
    """They are counted together or not at all."""
    shared: tuple[CallEvent, ...] = ()
    """Each is counted once, whichever call comes first with it."""
    warnings: tuple[Warned, ...] = ()
    problem: Problem | None = None
    is_repeated: bool = False
    held_id: UUID | None = None
    """Where it is kept aside."""
    unknown_models: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """Names that say nothing about the model, with the transaction ids of the events that have them."""

    @property
    def names(self) -> frozenset[str]:
        """All that it may be known by: a call that has any of them is the same."""
        return self.other_identities if self.identity is None else self.other_identities | {self.identity}

    @property
    def events_count(self) -> int:
        """How many events it has."""
        return len(self.events) + len(self.shared)

    @property
    def status(self) -> UsageStatus:
        """What became of it."""
        if self.problem is not None:
            return UsageStatus.HELD
        return UsageStatus.REPEATED if self.is_repeated else UsageStatus.COUNTED


Listed = Mapping[str, Mapping[str, Sequence[str]]]
"""Code of a metric -> its dimensions, each with the values that it lists."""


def events_of(
    usage: Usage, identity: str, listed: Listed, properties: Mapping[str, Any]
) -> tuple[tuple[CallEvent, ...], tuple[CallEvent, ...]]:
    """The events of a call, in the detail that the metrics list, and those that it shares with other calls.

    The first has the identity itself as its transaction id, whatever the metrics list at the time: so a call that comes
    again after they were changed is still the same.
    """
    free = (
        {key: value for key, value in properties.items() if key not in OWN_PROPERTIES} if properties else {}
    )
    source = {} if usage.cost is None else {COST_SOURCE: FROM_PROVIDER}
    found: list[CallEvent] = []
    shared: list[CallEvent] = []
    for index, request in enumerate(usage.requests):
        said = {**free, **_dimensions(usage, request), **source}
        for part in _folded(request, listed):
            place = shared if part.once else found
            code = str(part.metric)
            if part.once:
                name = f"{usage.provider}:{part.once}"
            else:
                name = _name(identity, index, part) if found else identity
            place.append(CallEvent(transaction_id=name, code=code, properties={**said, **_values(part)}))
    if usage.cost is not None:
        said = {**free, **_dimensions(usage, usage.requests[0])}
        found.append(
            CallEvent(
                transaction_id=f"{identity}:cost" if found else identity,
                code=str(Metric.COST),
                properties={**said, "cost": decimal(usage.cost), "source": "provider"},
            )
        )
    return tuple(found), tuple(shared)


def unknown_models(usage: Usage, events: Sequence[CallEvent]) -> dict[str, list[str]]:
    """Names of a call's models that say nothing, with the transaction ids of the events that have them."""
    names = {request.model_sent for request in usage.requests if request.model is None}
    found: dict[str, list[str]] = {}
    for event in events if names else ():
        if event.properties["model"] in names:
            name = alias_name(usage.provider, event.properties["model"])
            found.setdefault(name, []).append(event.transaction_id)
    return found


OWN_PROPERTIES = frozenset(
    [
        "provider",
        "model",
        "type",
        "modality",
        "tier",
        "context",
        "region",
        "quantity",
        "cost",
        "source",
        COST_SOURCE,
        "model_raw",
        "snapshot",
        "api",
        "size",
        "quality",
    ]
)
"""Properties that events have by themselves; free ones of these names are left out."""


def _folded(request: ModelRequest, listed: Listed) -> list[UsagePart]:
    known = listed.get(Metric.TOKENS, {})
    return fold(request.parts, types=known.get("type"), modalities=known.get("modality"))


def _name(identity: str, index: int, part: UsagePart) -> str:
    words = [identity]
    if index:
        words.append(str(index + 1))
    words.append(str(part.type))
    if part.modality is not None and part.modality != "text":
        words.append(str(part.modality))
    return ":".join(words)


def _dimensions(usage: Usage, request: ModelRequest) -> dict[str, str]:
    found = {
        "provider": request.provider or usage.provider,
        "model": request.model or request.model_sent,
        "tier": str(usage.tier),
        "context": str(request.context),
    }
    if usage.region is not None:
        found["region"] = usage.region
    found["model_raw"] = request.model_sent
    if request.snapshot is not None:
        found["snapshot"] = request.snapshot
    found["api"] = usage.api
    return found


def _values(part: UsagePart) -> dict[str, str]:
    found = {"type": str(part.type), "quantity": decimal(part.quantity)}
    return found if part.modality is None else {**found, "modality": str(part.modality)}


def attributed(
    call: SentCall,
    *,
    external_subscription_id: str | None,
    external_customer_id: str | None,
    model: str | None = None,
    response_id: str | None = None,
) -> SentCall:
    """The call with who pays for it, and with what its answer did not say."""
    usage = replace(
        call.usage,
        model=model or call.usage.model,
        response_id=response_id or call.usage.response_id,
    )
    if external_subscription_id is None and external_customer_id is None:
        return replace(call, usage=usage)
    return replace(
        call,
        usage=usage,
        external_subscription_id=external_subscription_id,
        external_customer_id=external_customer_id,
        is_payer_requested=False,
    )
