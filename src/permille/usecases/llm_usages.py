"""Usage of language models: read, given to who pays for it, counted once, or kept aside with the reason."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any, LiteralString
from uuid import UUID

from psycopg import Connection

from permille.core.contract.subscription import Run, running_at
from permille.core.errors import Invalid, NotFound
from permille.core.llm import held as held_codes
from permille.core.llm.call import (
    IDENTITY_MAX,
    METRICS,
    PreparedCall,
    Problem,
    SentCall,
    attributed,
    events_of,
    unknown_models,
)
from permille.core.llm.detail import says_more
from permille.core.llm.litellm import other_identities
from permille.core.llm.model_name import Aliases, provider_name
from permille.core.llm.parts import Metric, UnreadableUsage, Usage, Warned, identity_of
from permille.core.llm.payer import PayerRule, PayerRules, rule_for
from permille.core.llm.plan import CallTerms
from permille.core.llm.read import read_usage, without_content
from permille.core.record import Record, replace
from permille.database import locks
from permille.database.bulk import text_array
from permille.database.connections import LoopConnections
from permille.events.calls import UNACCEPTABLE, outcome_of, requests_of
from permille.events.engine import event_log
from permille.events.log import ChangingError, UnacceptableError
from permille.http.refusals import try_again
from permille.ids import new_id
from permille.store import call_terms, held_usages, model_aliases, payer_rules, subscriptions
from permille.store.held_usages import HeldUsage
from permille.usecases import unknown_models as unknown_model_calls


class _Payers(Record, kw_only=True):
    """Who may pay for calls, as they were sent."""

    rules: PayerRules
    histories: Mapping[str, Sequence[Run]]
    of_customers: Mapping[str, Sequence[tuple[str, bool]]]

    def find(self, call: SentCall) -> str | Problem:
        """The external id of the subscription that pays, or why none does."""
        if call.is_payer_requested and (rule := rule_for(call.payer_names, self.rules, overriding=True)):
            return self._ruled(rule, call)
        found = self._as_sent(call)
        is_open = isinstance(found, Problem) and found.code in held_usages.NOBODY_PAYS
        if is_open and (rule := rule_for(call.payer_names, self.rules, overriding=False)):
            return self._ruled(rule, call)
        return found

    def _ruled(self, rule: PayerRule, call: SentCall) -> str | Problem:
        return self._as_sent(
            attributed(
                call,
                external_subscription_id=rule.external_subscription_id,
                external_customer_id=rule.external_customer_id,
            )
        )

    def _as_sent(self, call: SentCall) -> str | Problem:
        return self.named(call.external_subscription_id, call.external_customer_id, call.at)

    def named(self, name: str | None, customer: str | None, at: datetime) -> str | Problem:
        """Who pays for what names this subscription and customer."""
        if name is None and customer is None:
            return Problem(
                code="subscription_missing",
                message="Nobody was named who pays: send external_subscription_id or external_customer_id,"
                " or make a payer rule about its key, team or user.",
            )
        if name is not None and (history := self.histories.get(name)):
            if running_at(history, at) is not None:
                return name
            return Problem(
                code="subscription_not_running",
                message=f"The subscription {name} was not running at the time.",
            )
        return self._of_customer(customer or name or "", is_named=name is None)

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
    terms = call_terms.of_organization(conn, organization_id)
    looked = [_looked_at(call, terms, payers) for call in calls]
    seen = event_log.known_transactions(
        conn, organization_id, [name for each in looked for name in each.names]
    )
    found: list[PreparedCall] = []
    for each in looked:
        is_repeated = not each.names.isdisjoint(seen)
        if each.problem is None and not is_repeated:
            seen |= each.names
        found.append(
            replace(each, is_repeated=True, problem=None, events=(), shared=()) if is_repeated else each
        )
    if str(Metric.TOKENS) in terms.listed:
        return found
    return [replace(each, warnings=(*each.warnings, _NO_METRIC)) if each.events else each for each in found]


_NO_METRIC = Warned(
    code="metric_missing",
    message="There is no metric llm_tokens yet, so nothing has a price: POST /api/v1/llm/setup makes it",
)


def _payers(conn: Connection[Any], organization_id: UUID, calls: Sequence[SentCall]) -> _Payers:
    said = {(kind, name) for call in calls for kind, found in call.payer_names.items() for name in found}
    rules = payer_rules.about(conn, organization_id, said) if said else {}
    named: list[SentCall | PayerRule] = [*calls, *rules.values()]
    return _named_payers(
        conn,
        organization_id,
        rules,
        subscription_names={each.external_subscription_id for each in named if each.external_subscription_id},
        customer_names={each.external_customer_id for each in named if each.external_customer_id},
    )


def _named_payers(
    conn: Connection[Any],
    organization_id: UUID,
    rules: PayerRules,
    *,
    subscription_names: Collection[str],
    customer_names: Collection[str],
) -> _Payers:
    histories = subscriptions.runs(conn, organization_id, subscription_names) if subscription_names else {}
    customers = {*customer_names, *(set(subscription_names) - histories.keys())}
    return _Payers(
        rules=rules,
        histories=histories,
        of_customers=held_usages.subscriptions_of_customers(conn, organization_id, customers, METRICS)
        if customers
        else {},
    )


class Look(Record, kw_only=True):
    """What is known of calls before they are read."""

    terms: CallTerms
    counted: Collection[str]
    """Those of the identities that were counted before."""
    payers: _Payers

    def payer(self, subscription: str | None, customer: str | None, at: datetime) -> str | Problem:
        """The external id of the subscription that pays for what is sent with these, or why none does."""
        return self.payers.named(subscription, customer, at)


def look(
    conn: Connection[Any],
    organization_id: UUID,
    *,
    identities: Sequence[str],
    subscriptions: Collection[str],
    customers: Collection[str],
) -> Look:
    """What is known of calls with these identities that name these subscriptions and customers."""
    return Look(
        terms=call_terms.of_organization(conn, organization_id),
        counted=event_log.known_transactions(conn, organization_id, identities),
        payers=_named_payers(
            conn, organization_id, {}, subscription_names=subscriptions, customer_names=customers
        ),
    )


_NONE_KNOWN: LiteralString = "select '' where false"
"""In its place is the event log's own query."""
_LOOK: LiteralString = f"""
select {call_terms.COLUMNS}, r.names, r.started_ats, r.terminated_ats, array({_NONE_KNOWN})
from call_terms(%s) t, (
    select array_agg(s.external_id order by s.created_at desc, s.id desc) as names,
        array_agg(s.started_at order by s.created_at desc, s.id desc) as started_ats,
        array_agg(s.terminated_at order by s.created_at desc, s.id desc) as terminated_ats
    from subscription s where s.organization_id = %s and s.external_id = any(%s::text[])
) r
"""


async def look_at_once(
    conns: LoopConnections,
    organization_id: UUID,
    *,
    identities: Sequence[str],
    subscriptions: Collection[str],
) -> Look | None:
    """As `look` in one statement, of calls that name subscriptions alone; None where one of them is a customer or nobody."""
    known, values = event_log.known_transactions_query(organization_id, identities)
    terms, stamp, names, started_ats, terminated_ats, counted = await conns.row(
        _LOOK.replace(_NONE_KNOWN, known),
        [*values, organization_id, organization_id, text_array(subscriptions)],
    )
    histories: dict[str, list[Run]] = {}
    for name, started_at, terminated_at in zip(
        names or (), started_ats or (), terminated_ats or (), strict=True
    ):
        histories.setdefault(name, []).append(Run(started_at, terminated_at))
    if histories.keys() != set(subscriptions):
        return None
    return Look(
        terms=call_terms.from_row(terms, stamp),
        counted=set(counted),
        payers=_Payers(rules={}, histories=histories, of_customers={}),
    )


def _looked_at(call: SentCall, terms: CallTerms, payers: _Payers) -> PreparedCall:
    try:
        usage = read_usage(call.usage, terms.aliases)
    except UnreadableUsage as error:
        problem = Problem(code=error.code, message=error.message)
        return PreparedCall(sent=call, identity=_identity_as_sent(call), problem=problem)
    identity = usage.identity
    if identity is None:
        return PreparedCall(sent=call, identity=None, warnings=usage.warnings, problem=_NO_ID)
    if len(identity) > IDENTITY_MAX:
        problem = Problem(code="id_too_long", message=f"The id is longer than {IDENTITY_MAX} characters.")
        return PreparedCall(sent=call, identity=None, warnings=usage.warnings, problem=problem)
    others = other_identities(usage)
    payer = payers.find(call)
    if isinstance(payer, Problem):
        return PreparedCall(
            sent=call, identity=identity, other_identities=others, warnings=usage.warnings, problem=payer
        )
    events, shared = events_of(usage, identity, terms.listed, call.properties)
    return PreparedCall(
        sent=call,
        identity=identity,
        other_identities=others,
        warnings=usage.warnings,
        external_subscription_id=payer,
        events=events,
        shared=shared,
        unknown_models=unknown_models(usage, (*events, *shared)),
    )


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


def hold(
    conn: Connection[Any], organization_id: UUID, calls: Sequence[PreparedCall], *, now: datetime
) -> list[PreparedCall]:
    """Keep those with a problem aside; each then says where."""
    rows = {
        index: _held(organization_id, call, call.problem, now=now)
        for index, call in enumerate(calls)
        if call.problem is not None
    }
    locks.keep_calls_aside(conn, organization_id)
    kept = held_usages.add(conn, list(rows.values()), finer=_finer(conn, organization_id, rows.values()))
    return [
        replace(call, held_id=kept[rows[index].identity or rows[index].id]) if index in rows else call
        for index, call in enumerate(calls)
    ]


def _finer(conn: Connection[Any], organization_id: UUID, rows: Collection[HeldUsage]) -> list[UUID]:
    """Those that say more than what waits of the same call: nothing of it is billed, so its counts may still be replaced."""
    by_identity = {row.identity: row for row in rows if row.identity and row.code in held_codes.NOBODY_PAYS}
    waiting = held_usages.waiting(conn, organization_id, by_identity.keys()) if by_identity else []
    if not waiting:
        return []
    aliases = model_aliases.of_organization(conn, organization_id)
    found = []
    for before in waiting:
        row = by_identity[before.identity or ""]
        if row.sent != before.sent:
            new, old = (_readable(each.call, aliases) for each in (row, before))
            if new and (old is None or says_more(new, old)):
                found.append(row.id)
    return found


def _readable(call: SentCall, aliases: Aliases) -> Usage | None:
    try:
        return read_usage(call.usage, aliases)
    except UnreadableUsage:
        return None


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
        payer_names=sent.payer_names,
        is_payer_requested=sent.is_payer_requested,
        sent=held_usages.sent_of(bare),
        created_at=now,
    )


def counted(
    conn: Connection[Any], organization_id: UUID, calls: Sequence[PreparedCall], *, now: datetime
) -> None:
    """Note that calls are counted: some may have been kept aside when they came before."""
    payers = {
        name: call.external_subscription_id or call.sent.external_subscription_id or ""
        for call in calls
        for name in call.names
    }
    held_usages.counted(conn, organization_id, payers, now=now)
    unknown_model_calls.note(conn, organization_id, calls)


def by_id(conn: Connection[Any], organization_id: UUID, held_id: UUID) -> HeldUsage:
    """Raises NotFound."""
    found = held_usages.by_id(conn, organization_id, held_id)
    if found is None:
        raise NotFound("held_usage")
    return found


class Attribution(Record, kw_only=True):
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
    (stored,) = _appended(conn, organization_id, [prepared], now=now)
    if stored.problem is not None:
        raise Invalid({"held_usage": [stored.problem.code]})
    payer = stored.external_subscription_id or call.external_subscription_id or ""
    held_usages.count_these(conn, {held.id: payer}, now=now)
    unknown_model_calls.note(conn, organization_id, [stored])
    return replace(held, counted_at=now, counted_for=payer)


HELD_AT_ONCE = 500
ATTRIBUTED_MAX = 10_000


def attribute_by_rule(conn: Connection[Any], rule: PayerRule, *, now: datetime) -> int:
    """Count what was kept aside for want of who pays and has the rule's name; how many those are.

    ATTRIBUTED_MAX at most: the rest is counted when the rule is saved again.
    """
    total, after = 0, None
    while total < ATTRIBUTED_MAX:
        waiting = held_usages.waiting_for(conn, rule, after=after, limit=HELD_AT_ONCE)
        total += _count_held(conn, rule.organization_id, waiting, now=now)
        if len(waiting) < HELD_AT_ONCE:
            break
        after = waiting[-1].id
    return total


def _count_held(
    conn: Connection[Any], organization_id: UUID, waiting: Sequence[HeldUsage], *, now: datetime
) -> int:
    """Count those of these usages that can be counted now; how many those are."""
    prepared = prepare(conn, organization_id, [each.call for each in waiting])
    stored = _appended(conn, organization_id, prepared, now=now)
    counted_now = [(held, call) for held, call in zip(waiting, stored, strict=True) if call.problem is None]
    payers = {
        held.id: call.external_subscription_id or call.sent.external_subscription_id or ""
        for held, call in counted_now
    }
    held_usages.count_these(conn, payers, now=now)
    unknown_model_calls.note(conn, organization_id, [call for _, call in counted_now])
    return len(payers)


def _appended(
    conn: Connection[Any], organization_id: UUID, calls: Sequence[PreparedCall], *, now: datetime
) -> list[PreparedCall]:
    """What became of each call: its events are stored in the caller's transaction, together or not at all."""
    requests = [requests_of(organization_id, call, now=now) for call in calls]
    try:
        event_log.append(conn, [each for group in requests for each in group])
    except ChangingError as error:
        raise try_again() from error
    except UnacceptableError:
        if len(calls) == 1:
            return [replace(calls[0], problem=UNACCEPTABLE, events=(), shared=())]
        return [stored for call in calls for stored in _appended(conn, organization_id, [call], now=now)]
    return [outcome_of(call, group) for call, group in zip(calls, requests, strict=True)]
