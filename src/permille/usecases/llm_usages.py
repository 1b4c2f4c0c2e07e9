"""Usage of language models: read, given to who pays for it, counted once, or kept aside with the reason."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.contract.subscription import Subscription, running_at
from permille.core.errors import Invalid, NotFound
from permille.core.llm.call import (
    METRICS,
    Listed,
    PreparedCall,
    Problem,
    SentCall,
    attributed,
    events_of,
    unknown_models,
)
from permille.core.llm.model_name import Aliases, provider_name
from permille.core.llm.parts import Metric, UnreadableUsage, Usage, Warned, identity_of
from permille.core.llm.read import read_usage, without_content
from permille.events.calls import requests_of
from permille.events.engine import event_log
from permille.events.log import ChangingError
from permille.http.refusals import try_again
from permille.ids import new_id
from permille.store import billable_metrics, held_usages, model_aliases, subscriptions
from permille.store.held_usages import HeldUsage
from permille.usecases import unknown_models as unknown_model_calls

IDENTITY_MAX = 200
"""Leaves room for what the transaction ids of its events have after it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Payers:
    """Who may pay for calls, as they were sent."""

    histories: Mapping[str, Sequence[Subscription]]
    of_customers: Mapping[str, Sequence[tuple[str, bool]]]

    def find(self, call: SentCall) -> str | Problem:
        """The external id of the subscription that pays, or why none does."""
        name = call.external_subscription_id
        if name is None and call.external_customer_id is None:
            return Problem(
                code="subscription_missing",
                message="Nobody was named who pays: send external_subscription_id or external_customer_id.",
            )
        if name is not None and (history := self.histories.get(name)):
            if running_at(history, call.at) is not None:
                return name
            return Problem(
                code="subscription_not_running",
                message=f"The subscription {name} was not running at the time.",
            )
        return self._of_customer(call.external_customer_id or name or "", is_named=name is None)

    def _of_customer(self, customer: str, *, is_named: bool) -> str | Problem:
        running = self.of_customers.get(customer, ())
        priced = [name for name, is_priced in running if is_priced]
        names = priced if len(running) > 1 else [name for name, _ in running]
        if len(names) == 1:
            return names[0]
        if len(running) > 1:
            return Problem(
                code="subscription_ambiguous",
                message=f"The customer {customer} has {len(running)} running subscriptions: name one.",
            )
        what = "customer" if is_named else "subscription"
        return Problem(
            code=f"{what}_not_found", message=f"There is no running subscription of the {what} {customer}."
        )


def prepare(conn: Connection[Any], organization_id: UUID, calls: Sequence[SentCall]) -> list[PreparedCall]:
    """What becomes of each call: events, or a repetition, or a problem. Nothing is stored."""
    payers = _payers(conn, organization_id, calls)
    metrics = billable_metrics.by_codes(conn, organization_id, METRICS)
    listed: Listed = {code: metric.filters for code, metric in metrics.items()}
    aliases = model_aliases.of_organization(conn, organization_id)
    looked = [_looked_at(call, aliases, listed, payers) for call in calls]
    known = event_log.known_transactions(
        conn, organization_id, [each.identity for each in looked if each.identity]
    )
    seen: set[str] = set()
    found: list[PreparedCall] = []
    for each in looked:
        is_repeated = each.identity in known or each.identity in seen
        if each.identity and each.problem is None:
            seen.add(each.identity)
        found.append(
            replace(each, is_repeated=True, problem=None, events=(), shared=()) if is_repeated else each
        )
    if str(Metric.TOKENS) in metrics:
        return found
    return [replace(each, warnings=(*each.warnings, _NO_METRIC)) if each.events else each for each in found]


_NO_METRIC = Warned(
    code="metric_missing",
    message="There is no metric llm_tokens yet, so nothing has a price: POST /api/v1/llm/setup makes it",
)


def _payers(conn: Connection[Any], organization_id: UUID, calls: Sequence[SentCall]) -> _Payers:
    names = {call.external_subscription_id for call in calls if call.external_subscription_id}
    histories = subscriptions.histories(conn, organization_id, names) if names else {}
    customers = {call.external_customer_id for call in calls if call.external_customer_id}
    customers |= names - histories.keys()
    return _Payers(
        histories=histories,
        of_customers=held_usages.subscriptions_of_customers(conn, organization_id, customers, METRICS)
        if customers
        else {},
    )


def _looked_at(call: SentCall, aliases: Aliases, listed: Listed, payers: _Payers) -> PreparedCall:
    try:
        usage = read_usage(call.usage, aliases)
    except UnreadableUsage as error:
        problem = Problem(code=error.code, message=error.message)
        return PreparedCall(sent=call, identity=_identity_as_sent(call), problem=problem)
    identity = usage.identity
    looked = PreparedCall(sent=call, identity=identity, warnings=usage.warnings)
    if identity is None:
        return replace(looked, problem=_NO_ID)
    if len(identity) > IDENTITY_MAX:
        problem = Problem(code="id_too_long", message=f"The id is longer than {IDENTITY_MAX} characters.")
        return replace(looked, identity=None, problem=problem)
    payer = payers.find(call)
    if isinstance(payer, Problem):
        return replace(looked, problem=payer)
    return _with_events(looked, usage, identity, payer, listed)


_NO_ID = Problem(
    code="id_missing",
    message="The answer has no id, so it could be counted twice: send `id`, for example the header x-request-id.",
)


def _identity_as_sent(call: SentCall) -> str | None:
    """The identity of a call that can't be read, where it is known."""
    from_answer = (call.usage.response or {}).get("id")
    name = call.usage.response_id or (from_answer if isinstance(from_answer, str) else None)
    found = identity_of(provider_name(call.usage.provider), name) if name else None
    return found if found is None or len(found) <= IDENTITY_MAX else None


def _with_events(
    looked: PreparedCall, usage: Usage, identity: str, payer: str, listed: Listed
) -> PreparedCall:
    events, shared = events_of(usage, identity, listed, looked.sent.properties)
    return replace(
        looked,
        external_subscription_id=payer,
        events=events,
        shared=shared,
        unknown_models=unknown_models(usage, (*events, *shared)),
    )


def hold(
    conn: Connection[Any], organization_id: UUID, calls: Sequence[PreparedCall], *, now: datetime
) -> list[PreparedCall]:
    """Keep those with a problem aside; each then says where."""
    rows = {
        index: _held(organization_id, call, call.problem, now=now)
        for index, call in enumerate(calls)
        if call.problem is not None
    }
    kept = held_usages.add(conn, list(rows.values()))
    return [
        replace(call, held_id=kept[rows[index].identity or rows[index].id]) if index in rows else call
        for index, call in enumerate(calls)
    ]


def _held(organization_id: UUID, call: PreparedCall, problem: Problem, *, now: datetime) -> HeldUsage:
    sent = call.sent
    bare = without_content(sent.usage)
    return HeldUsage(
        id=new_id(now),
        organization_id=organization_id,
        identity=call.identity,
        provider=bare.provider,
        model=sent.model_sent,
        code=problem.code,
        message=problem.message,
        external_subscription_id=sent.external_subscription_id,
        external_customer_id=sent.external_customer_id,
        at=sent.at,
        properties=sent.properties,
        sent=held_usages.sent_of(bare),
        created_at=now,
    )


def counted(
    conn: Connection[Any], organization_id: UUID, calls: Sequence[PreparedCall], *, now: datetime
) -> None:
    """Note that calls are counted: some may have been kept aside when they came before."""
    payers = {
        call.identity: call.external_subscription_id or call.sent.external_subscription_id or ""
        for call in calls
        if call.identity
    }
    held_usages.counted(conn, organization_id, payers, now=now)
    unknown_model_calls.note(conn, organization_id, calls)


def by_id(conn: Connection[Any], organization_id: UUID, held_id: UUID) -> HeldUsage:
    """Raises NotFound."""
    found = held_usages.by_id(conn, organization_id, held_id)
    if found is None:
        raise NotFound("held_usage")
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Attribution:
    """Who pays for a usage that was kept aside, and what its answer did not say."""

    external_subscription_id: str | None
    external_customer_id: str | None
    model: str | None
    response_id: str | None


def attribute(
    conn: Connection[Any], organization_id: UUID, held_id: UUID, said: Attribution, *, now: datetime
) -> HeldUsage:
    """Count a usage that was kept aside. Raises NotFound, and Invalid where it still can't be counted."""
    held = held_usages.for_update(conn, organization_id, held_id)
    if held is None:
        raise NotFound("held_usage")
    if held.counted_at is not None:
        raise Invalid({"held_usage": ["usage_is_counted"]})
    call = attributed(
        held.call,
        external_subscription_id=said.external_subscription_id,
        external_customer_id=said.external_customer_id,
        model=said.model,
        response_id=said.response_id or (None if held.identity else str(held.id)),
    )
    prepared = prepare(conn, organization_id, [call])[0]
    if prepared.problem is not None:
        raise Invalid({"held_usage": [prepared.problem.code]})
    if not prepared.is_repeated:
        prepared = _stored(conn, organization_id, prepared, now=now)
    payer = prepared.external_subscription_id or call.external_subscription_id or ""
    held_usages.count_one(conn, held, payer, now=now)
    unknown_model_calls.note(conn, organization_id, [prepared])
    return replace(held, counted_at=now, counted_for=payer)


def _stored(
    conn: Connection[Any], organization_id: UUID, call: PreparedCall, *, now: datetime
) -> PreparedCall:
    """Its events are appended in the caller's transaction."""
    for index, request in enumerate(requests_of(organization_id, call, now=now)):
        try:
            event_log.append(conn, request)
        except ChangingError as error:
            raise try_again() from error
        if request.is_refused:
            raise Invalid({"held_usage": ["cannot_be_stored"]})
        if index == 0 and request.duplicates:
            return replace(call, is_repeated=True, events=(), shared=())
    return call
