"""Plans for usage of language models that the intake has learned, of each organization, and the usages that they fit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any
from uuid import UUID

from permille import accelerator
from permille.core.llm.call import OWN_PROPERTIES
from permille.core.llm.payer import PayerName
from permille.core.llm.plan import CallTerms, Plan, plan_of
from permille.core.llm.redact import COUNTS, IDS, NAMES, NESTED
from permille.core.llm.shape import Shape, shape_of
from permille.ingest.decoders.llm_usage import call_of, called_at, problems
from permille.ingest.planned_call import PlannedCall, in_json

PLANS_MAX = 4_000
"""All organizations together, some 25 MB. Then all are forgotten: they are learned again within a request or two."""
SEEN_MAX = 100_000
"""Likewise for shapes that came."""
TRIES = 3
"""A shape that can't be learned is tried so often: other counts of it may be read otherwise."""
PLANS_OF_SHAPE = 8
"""Counts of one shape may be read in several ways, for example above and below a bound of the context."""
PAUSE_MAX = 63
LEARNED_AT_ONCE = 20
"""How many shapes of a request are learned: what is left is learned when it comes again."""

_FIELDS = frozenset(
    [
        "provider",
        "api",
        "model",
        "id",
        "tier",
        "response",
        "usage",
        "external_subscription_id",
        "external_customer_id",
        "timestamp",
        "properties",
        "payer_names",
        "payer_requested",
        "client",
    ]
)
_PAYER_NAMES = frozenset(map(str, PayerName))


class _Pause:
    """How often something is left out after it was done in vain: the longer, the oftener that was."""

    __slots__ = ("_left", "_next")

    def __init__(self) -> None:
        self._left = self._next = 0

    def is_over(self) -> bool:
        """Whether it is to be done this time."""
        if self._left:
            self._left -= 1
            return False
        return True

    def went(self, *, well: bool) -> None:
        self._left = self._next = 0 if well else min(2 * self._next + 1, PAUSE_MAX)


@dataclass(slots=True)
class _OfOne:
    """What was learned of an organization, under these terms."""

    terms: CallTerms
    plans: dict[tuple[Any, ...], tuple[Plan, ...]] = field(default_factory=dict)
    seen: dict[int, int] = field(default_factory=dict)
    """Hashes of shapes that came, and how often they were learned in vain."""
    planning: _Pause = field(default_factory=_Pause)
    """After requests that plans fit and that were read all the same some are not looked at."""
    presuming: _Pause = field(default_factory=_Pause)
    """After requests that were not as was taken for granted some are asked about before."""


class PlanMemory:
    """All of it is on one event loop."""

    def __init__(self) -> None:
        self._known: dict[UUID, _OfOne] = {}
        self._plans = self._seen = 0

    def terms(self, organization_id: UUID) -> CallTerms | None:
        """Under which terms the organization's plans were learned."""
        known = self._known.get(organization_id)
        return None if known is None else known.terms

    def begin(self, organization_id: UUID, terms: CallTerms) -> None:
        """Forget what was learned under other terms."""
        self._make_room()
        self._known[organization_id] = _OfOne(terms)

    def hold_under(self, organization_id: UUID, terms: CallTerms) -> bool:
        """Whether what was learned holds under these terms; else it is forgotten."""
        known = self._known.get(organization_id)
        if known is None or (known.terms.listed, known.terms.aliases) != (terms.listed, terms.aliases):
            self.begin(organization_id, terms)
            return False
        known.terms = terms
        return True

    def _make_room(self) -> None:
        if self._plans >= PLANS_MAX or self._seen >= SEEN_MAX:
            self._known, self._plans, self._seen = {}, 0, 0

    def planned(
        self, organization_id: UUID, usages: Sequence[Any], now: datetime, *, names_clients: bool
    ) -> dict[int, PlannedCall]:
        """The usages of a request that plans fit, by their places. Calls without a time are of `now`.

        Which of them are one call, and whether all are well-formed, must be known without reading: where it isn't, none is
        planned. Of those that are the same call only the first is.
        """
        known = self._known.get(organization_id)
        if known is None or not known.plans or not known.planning.is_over():
            return {}
        found: dict[int, PlannedCall] = {}
        identities: set[str] = set()
        others: set[str] = set()
        for place, usage in enumerate(usages):
            shape = _shape(usage)
            if shape is None or problems(usage):
                return {}
            call = _planned(known.plans, usage, shape, now, names_clients=names_clients)
            if call is None:
                others.update(shape.ids)
            elif call.identity not in identities:
                identities.add(call.identity)
                found[place] = call
        are_apart = all(others.isdisjoint(call.shape.ids) for call in found.values())
        return found if are_apart else {}

    def went(self, organization_id: UUID, *, is_usual: bool) -> None:
        """Whether a request that plans fit went their way."""
        if known := self._known.get(organization_id):
            known.planning.went(well=is_usual)

    def presumes(self, organization_id: UUID) -> bool:
        """Whether to store a request at once, taking for granted that its calls are new and that their subscriptions run."""
        known = self._known.get(organization_id)
        return known is not None and known.presuming.is_over()

    def presumed(self, organization_id: UUID, *, rightly: bool) -> None:
        """Whether that was so."""
        if known := self._known.get(organization_id):
            known.presuming.went(well=rightly)

    def learn(self, organization_id: UUID, usages: Sequence[Any], now: datetime) -> None:
        """Learn from usages that were read without their plans: of each shape that came before."""
        known = self._known.get(organization_id)
        if known is None:
            return
        left = LEARNED_AT_ONCE
        for usage in usages:
            shape = _shape(usage)
            if shape is None or _plan(known.plans.get(shape.key, ()), shape):
                continue
            number = hash(shape.key)
            tries = known.seen.get(number)
            if tries is None:
                known.seen[number] = 0
                self._seen += 1
            elif left and tries < TRIES:
                left -= 1
                known.seen[number] += not self._is_learned(known, usage, shape, now)
        self._make_room()

    def _is_learned(self, known: _OfOne, usage: Mapping[str, Any], shape: Shape, now: datetime) -> bool:
        before = known.plans.get(shape.key, ())
        if len(before) >= PLANS_OF_SHAPE or problems(usage):
            return False
        call = call_of(usage, now)
        plan = plan_of(call.usage, shape, known.terms, in_json, model_sent=call.model_sent)
        if plan is None:
            return False
        known.plans[shape.key] = (*before, plan)
        self._plans += 1
        return True


def _planned(
    plans: Mapping[tuple[Any, ...], tuple[Plan, ...]],
    usage: Mapping[str, Any],
    shape: Shape,
    now: datetime,
    *,
    names_clients: bool,
) -> PlannedCall | None:
    """A usage without problems as a call that a plan fits."""
    plan = _plan(plans.get(shape.key, ()), shape)
    subscription, customer = usage.get("external_subscription_id"), usage.get("external_customer_id")
    if plan is None or (subscription or customer) is None:
        return None
    sent, names = usage.get("properties"), usage.get("payer_names")
    return PlannedCall(
        plan=plan,
        identity=plan.identity(shape),
        external_subscription_id=subscription,
        external_customer_id=customer,
        has_payer_names=bool(names or (sent and not _PAYER_NAMES.isdisjoint(sent))),
        client=usage.get("client") if names_clients else None,
        at=called_at(usage, now),
        properties=_properties(sent) if sent else "",
        shape=shape,
    )


def _shape(usage: Any) -> Shape | None:
    if type(usage) is not dict or not usage.keys() <= _FIELDS or usage.get("provider") == "litellm":
        return None
    if (usage.get("response") is None) is (usage.get("usage") is None):
        return None
    found = accelerator.usual.shape_of(usage, COUNTS, NESTED, IDS, NAMES) if accelerator.IS_BUILT else None
    return shape_of(usage) if found is None else Shape(*found)


def _plan(plans: Sequence[Plan], shape: Shape) -> Plan | None:
    """The one that fits."""
    for plan in plans:
        if plan.fits(shape.counts, shape.ids):
            return plan
    return None


def _properties(sent: Mapping[str, Any]) -> str:
    """Free properties as the beginning of an object in JSON."""
    free = {name: value for name, value in sent.items() if name not in OWN_PROPERTIES}
    return f"{in_json(free)[1:-1]}," if free else ""
