"""The life of a subscription: it starts, what is due for it is kept as data, and it ends.

Each function works inside the caller's transaction and bills what is due at that very moment.
Source: semantics-billing.md sections 3.1 to 3.4.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.contract.activation import CANCELLATION_REASONS, PAYMENT, ActivationRule, RuleStatus
from permille.core.contract.override import same_terms
from permille.core.contract.plan import Plan, is_too_large, sold_plan_id, yearly_amount_cents
from permille.core.contract.price_versions import in_force
from permille.core.contract.subscription import (
    Start,
    Subscription,
    due,
    next_end_alert,
    owes_at_start,
    plan_period_end,
    start_of,
)
from permille.core.contract.threshold import (
    UsageThreshold,
    same_thresholds,
    threshold_json,
    thresholds_of_json,
)
from permille.core.custom_section import SectionChoice
from permille.core.customer import Customer
from permille.core.errors import Invalid
from permille.core.period import INSTANT
from permille.core.record import Record, field, replace
from permille.database import locks
from permille.events.engine import event_log
from permille.events.log import EventSearch
from permille.ids import new_id
from permille.store import (
    activation_rules,
    customers,
    fixed_charges,
    invoices,
    plans,
    progressive,
    section_choices,
    subscriptions,
    wallets,
    webhooks,
)
from permille.usecases import coupons
from permille.usecases.invoices import advance, credit_notes, run
from permille.usecases.invoices.run import PlanChange
from permille.usecases.price_change import amounts_changed
from permille.usecases.wallets import transactions as prepaid


class SubscriptionTerms(Record, kw_only=True):
    """What a request to subscribe asks for, validated."""

    external_id: str
    name: str | None
    billing_time: str
    subscription_at: datetime
    ending_at: datetime | None
    on_termination_credit_note: str | None
    on_termination_invoice: str
    consolidate_invoice: bool
    purchase_order_number: str | None
    progressive_billing_disabled: bool
    own_units: Mapping[UUID, Decimal] = field(default_factory=dict)
    """Units of the plan's fixed charges that are the subscription's own."""
    usage_thresholds: tuple[UsageThreshold, ...] | None = None
    """Thresholds of its own; None where nothing is said of them."""
    section_choice: SectionChoice | None = None
    """What its invoices print instead of its customer's sections; None where nothing is said of it."""
    billing_entity_id: UUID | None = None
    """Who issues its invoices; None where nothing is said of it."""
    payment_timeout_hours: int | None = None
    """Where it only runs once its first invoice is paid: for how long it waits for that."""


def subscribe(
    conn: Connection[Any],
    *,
    customer: Customer,
    plan: Plan,
    terms: SubscriptionTerms,
    now: datetime,
    is_agreed: bool = False,
) -> Subscription:
    """The customer's subscription to the plan: the one that there is already, or a new one.

    Another plan takes over at once when its fee is not lower by the year, else at the period's end; until then the
    running subscription is returned. One that has to be paid first takes over with its payment. So do other terms of the same plan (`plan` is then of the subscription's own),
    unless they are `is_agreed`: what the subscription has already. A plan of its own is stored when it is used.
    Raises Invalid when another customer has the external id.
    """
    locks.change_subscription(conn, customer.organization_id, terms.external_id)
    known = subscriptions.history(conn, customer.organization_id, terms.external_id)
    rows = subscriptions.for_update(conn, [row.id for row in known]).values()
    living = [row for row in rows if row.status == "active" or row.is_waiting]
    if any(row.customer_id != customer.id for row in living):
        raise Invalid({"external_id": ["value_already_exist"]})
    if any(row.status == "incomplete" for row in rows):
        raise Invalid({"subscription": ["subscription_incomplete"]})
    if customer.currency is None:
        customers.update(conn, customer_id=customer.id, columns={"currency": plan.amount_currency}, now=now)
    if not living:
        _store_own(conn, plan)
        return _begin(conn, customer=customer, plan=plan, terms=terms, rows=rows, now=now)
    (current,) = living
    current_plan = plans.plan_by_id(conn, current.plan_id)
    if sold_plan_id(current_plan) == sold_plan_id(plan) and (plan.parent_id is None or is_agreed):
        _choose_sections(conn, current, terms.section_choice)
        current = _billed_by(conn, current, terms.billing_entity_id, now=now)
        return _with_thresholds(conn, current, terms.usage_thresholds, now=now)
    following = [
        row for row in rows if row.previous_subscription_id == current.id and row.status == "pending"
    ]
    if plan.parent_id is not None and any(
        same_terms(in_force(plans.plan_by_id(conn, row.plan_id), now), plan) for row in following
    ):
        return current
    _store_own(conn, plan)
    if current.is_waiting:
        return _sell_another(conn, current, plan, terms, now=now)
    for row in following:
        cancel(conn, row, now=now)
    new = replace(
        pending(customer, plan, terms, now),
        previous_subscription_id=current.id,
        billing_time=current.billing_time,
        subscription_at=current.subscription_at,
        ending_at=terms.ending_at or current.ending_at,
        billing_entity_id=terms.billing_entity_id or current.billing_entity_id,
    )
    subscriptions.add(conn, new)
    set_payment_rule(conn, new, terms.payment_timeout_hours, now=now)
    fixed_charges.set_own_units(conn, new.id, terms.own_units)
    before = section_choices.of(conn, [current.id]).get(current.id)
    _choose_sections(conn, new, terms.section_choice or before)
    if takes_over_at_once(current_plan, plan, now=now):
        return _take_over(conn, current, new, now=now, upgraded=True)
    schedule(conn, new, now=now)
    _queue_webhooks(conn, "subscription.updated", [current], now)
    return current


def takes_over_at_once(before: Plan, after: Plan, *, now: datetime) -> bool:
    """Whether the plan after replaces the one before at once, as its fee is not lower by the year; else at the period's end."""
    return yearly_amount_cents(in_force(after, now)) >= yearly_amount_cents(in_force(before, now))


def _sell_another(
    conn: Connection[Any], waiting: Subscription, plan: Plan, terms: SubscriptionTerms, *, now: datetime
) -> Subscription:
    """A subscription that has not started yet on another plan."""
    set_payment_rule(conn, waiting, terms.payment_timeout_hours, now=now)
    columns = {
        "plan_id": plan.id,
        "name": waiting.name if terms.name is None else terms.name,
        "on_termination_credit_note": note_on_termination(waiting.on_termination_credit_note, plan),
        "billing_entity_id": terms.billing_entity_id or waiting.billing_entity_id,
    }
    fixed_charges.set_own_units(conn, waiting.id, terms.own_units)
    _choose_sections(conn, waiting, terms.section_choice)
    return subscriptions.update(conn, subscription_id=waiting.id, columns=columns, now=now)


def _with_thresholds(
    conn: Connection[Any],
    row: Subscription,
    wanted: tuple[UsageThreshold, ...] | None,
    *,
    now: datetime,
) -> Subscription:
    """The subscription with other usage thresholds of its own; None leaves them."""
    if wanted is None or same_thresholds(wanted, thresholds_of_json(row.usage_thresholds)):
        return row
    columns = {"usage_thresholds": [threshold_json(each) for each in wanted]}
    changed = subscriptions.update(conn, subscription_id=row.id, columns=columns, now=now)
    progressive.mark(conn, {(row.organization_id, row.external_id)})
    return changed


def _billed_by(
    conn: Connection[Any], row: Subscription, billing_entity_id: UUID | None, *, now: datetime
) -> Subscription:
    """The subscription on the invoices of this entity from now on; None leaves it where it is."""
    if billing_entity_id is None or billing_entity_id == row.billing_entity_id:
        return row
    columns = {"billing_entity_id": billing_entity_id}
    changed = subscriptions.update(conn, subscription_id=row.id, columns=columns, now=now)
    _follow_entity(conn, row, changed, now=now)
    return changed


def _follow_entity(
    conn: Connection[Any], before: Subscription, after: Subscription, *, now: datetime
) -> None:
    """What waits to take over is billed by the new entity too, and usage has its taxes."""
    if after.billing_entity_id == before.billing_entity_id:
        return
    following = [
        row.id
        for row in subscriptions.following(conn, [after.id])
        if row.billing_entity_id == before.billing_entity_id
    ]
    if following:
        columns = {"billing_entity_id": after.billing_entity_id}
        subscriptions.update_all(conn, following, columns=columns, now=now)
    amounts_changed(conn, [after])


def _choose_sections(conn: Connection[Any], row: Subscription, choice: SectionChoice | None) -> None:
    """Set what the subscription prints on its invoices; None leaves what it has chosen."""
    if choice is not None:
        section_choices.choose(conn, row.organization_id, row.id, choice)


def _store_own(conn: Connection[Any], plan: Plan) -> None:
    """A plan that is a copy for this subscription alone. Raises Invalid for one that is too large."""
    if plan.parent_id is not None:
        if is_too_large(plan):
            raise Invalid({"charges": ["too_many_prices"]})
        plans.add(conn, plan)


def start_all(conn: Connection[Any], rows: Sequence[Subscription], *, now: datetime) -> None:
    """Pending subscriptions whose day has come: they start, or take over from what they follow; set-based.

    One whose predecessor has ended meanwhile never starts. Each has its own invoices, in the order of `rows`.
    """
    for some in _rounds(rows, lambda row: row.previous_subscription_id is not None):
        activate_all(conn, [row for row in some if row.previous_subscription_id is None], now=now)
        following = {row.previous_subscription_id: row for row in some if row.previous_subscription_id}
        before = subscriptions.for_update(conn, following) if following else {}
        for row_id, row in following.items():
            if before[row_id].status != "active":
                cancel(conn, row, now=now)
        changes = [(before[row_id], row) for row_id, row in following.items()]
        running = [(old, new) for old, new in changes if old.status == "active"]
        _take_over_all(conn, running, now=now, upgraded=False)


def _rounds(
    rows: Iterable[Subscription], is_alone: Callable[[Subscription], bool]
) -> list[list[Subscription]]:
    """Rows that are done together, in their order: a row that `is_alone` is the only one of its customer in its round.

    What is credited of one subscription pays the next invoice of its customer, and not one before.
    """
    rounds: list[list[Subscription]] = []
    last: dict[UUID, tuple[int, bool]] = {}
    for row in rows:
        alone = is_alone(row)
        nth, was_alone = last.get(row.customer_id, (-1, True))
        nth = nth + 1 if alone or was_alone else nth
        last[row.customer_id] = nth, alone
        if nth == len(rounds):
            rounds.append([])
        rounds[nth].append(row)
    return rounds


def _take_over_all(
    conn: Connection[Any],
    changes: Sequence[tuple[Subscription, Subscription]],
    *,
    now: datetime,
    upgraded: bool,
) -> None:
    """Let plans take over from others, but for those that have to be paid first: of these the old ones go on."""
    gate = _gate(conn, [new for _, new in changes], now=now, started_at=now)
    gated = {row.id for row in (*gate.waiting, *gate.paid)}
    if gated:
        # Until it takes over, usage is of the other one.
        subscriptions.update_all(conn, list(gated), columns={"started_at": None}, now=now)
    _change(conn, [each for each in changes if each[1].id not in gated], now=now, upgraded=upgraded)
    paid = {row.id for row in gate.paid}
    _change(conn, [each for each in changes if each[1].id in paid], now=now, upgraded=upgraded, is_paid=True)


def _change(
    conn: Connection[Any],
    changes: Sequence[tuple[Subscription, Subscription]],
    *,
    now: datetime,
    upgraded: bool,
    is_paid: bool = False,
) -> list[Subscription]:
    """End plans and start the next at the same instant, each two billed together; the rows that run now.

    With `is_paid` what the new ones cost from their start on was billed before.
    """
    if not changes:
        return []
    organization_id = changes[0][0].organization_id
    advance.bill_customers(conn, organization_id, {old.customer_id for old, _ in changes}, now=now)
    run.bill_missed(conn, [old.id for old, _ in changes], until=now)
    ended = subscriptions.update_all(
        conn, [old.id for old, _ in changes], columns={**_ended(now), "upgraded": upgraded}, now=now
    )
    credit_notes.credit_unused(
        conn, [row for row in ended if row.on_termination_credit_note is not None], at=now
    )
    started_at = max([now, *(old.started_at for old, _ in changes if old.started_at is not None)])
    running = _run(conn, [new for _, new in changes], now=now, started_at=started_at)
    owing = set() if is_paid else _owing_at_start(conn, running, now)
    run.bill_changes(
        conn,
        [
            PlanChange(old_id=old.id, new_id=new.id, owes_at_start=new.id in owing)
            for old, new in zip(ended, running, strict=True)
        ],
        at=now,
    )
    _queue_webhooks(conn, "subscription.terminated", ended, now)
    _queue_webhooks(conn, "subscription.started", running, now)
    return running


def _take_over(
    conn: Connection[Any], old: Subscription, new: Subscription, *, now: datetime, upgraded: bool
) -> Subscription:
    """Let one plan take over from another; the new row, which may have to be paid first."""
    _take_over_all(conn, [(old, new)], now=now, upgraded=upgraded)
    return subscriptions.by_ids(conn, [new.id])[new.id]


def follow_amounts(conn: Connection[Any], plan_id: UUID, *, now: datetime) -> None:
    """Call it after a change of a plan's amount: a downgrade that waits and is none any more happens now.

    Where the running plan has become cheaper it is called off instead.
    """
    waiting = subscriptions.downgrades_of_plan(conn, plan_id)
    known = subscriptions.for_update(
        conn, {each for row in waiting for each in (row.id, row.previous_subscription_id) if each}
    )
    known_plans = plans.plans_by_ids(conn, {row.plan_id for row in known.values()})
    for row in waiting:
        old = known[row.previous_subscription_id] if row.previous_subscription_id else None
        if old is None or old.status != "active":
            continue
        to, from_ = (in_force(known_plans[each.plan_id], now) for each in (row, old))
        if yearly_amount_cents(to) < yearly_amount_cents(from_):
            continue
        if plan_id not in (to.id, to.parent_id):
            cancel(conn, row, now=now)
        else:
            _take_over(conn, old, row, now=now, upgraded=True)


def note_on_termination(wanted: str | None, plan: Plan) -> str | None:
    """What happens at the end to a fee paid in advance; there is none on a plan that is paid in arrears."""
    return (wanted or "credit") if plan.pay_in_advance else None


def _begin(
    conn: Connection[Any],
    *,
    customer: Customer,
    plan: Plan,
    terms: SubscriptionTerms,
    rows: Iterable[Subscription],
    now: datetime,
) -> Subscription:
    """A new row, running at once unless its day is to come."""
    made = pending(customer, plan, terms, now)
    subscriptions.add(conn, made)
    fixed_charges.set_own_units(conn, made.id, terms.own_units)
    _choose_sections(conn, made, terms.section_choice)
    set_payment_rule(conn, made, terms.payment_timeout_hours, now=now)
    start = start_of(terms.subscription_at, now=now, timezone=customer.applicable_timezone)
    if start is Start.FUTURE:
        return schedule(conn, made, now=now)
    return activate(conn, made, now=now, started_at=_first_unbilled(conn, made, rows))


def _first_unbilled(conn: Connection[Any], made: Subscription, rows: Iterable[Subscription]) -> datetime:
    """When a subscription starts whose day has come: after what ends of others with its external id have billed.

    An end bills the events of its very instant. Where there are any the subscription starts right after it.
    """
    invoiced = [row.terminated_at for row in rows if row.on_termination_invoice == "generate"]
    ends = [end for end in invoiced if end is not None]
    started_at = max([made.subscription_at, *ends])
    if started_at in ends:
        search = EventSearch(organization_id=made.organization_id, external_subscription_id=made.external_id)
        billed, _ = event_log.page(conn, search, from_=started_at, to=started_at + INSTANT, limit=1, offset=0)
        return started_at + INSTANT if billed else started_at
    return started_at


def pending(customer: Customer, plan: Plan, terms: SubscriptionTerms, now: datetime) -> Subscription:
    """The subscription that is asked for, before it starts."""
    return Subscription(
        id=new_id(now),
        organization_id=customer.organization_id,
        customer_id=customer.id,
        plan_id=plan.id,
        previous_subscription_id=None,
        external_id=terms.external_id,
        name=terms.name,
        status="pending",
        billing_time=terms.billing_time,
        subscription_at=terms.subscription_at,
        started_at=None,
        activated_at=None,
        trial_ended_at=None,
        ending_at=terms.ending_at,
        terminated_at=None,
        canceled_at=None,
        on_termination_credit_note=note_on_termination(terms.on_termination_credit_note, plan),
        on_termination_invoice=terms.on_termination_invoice,
        consolidate_invoice=terms.consolidate_invoice,
        purchase_order_number=terms.purchase_order_number,
        progressive_billing_disabled=terms.progressive_billing_disabled,
        billing_entity_id=terms.billing_entity_id,
        created_at=now,
        updated_at=now,
        next_billing_at=None,
        activates_at=None,
        ends_at=None,
        fee_billed_until=None,
        charges_billed_until=None,
        usage_thresholds=[threshold_json(each) for each in terms.usage_thresholds or ()],
    )


def activate(
    conn: Connection[Any],
    subscription: Subscription,
    *,
    now: datetime,
    started_at: datetime | None = None,
) -> Subscription:
    """Let a pending subscription run, from `started_at` or from now.

    A plan paid in advance is billed at once, unless the start is on a past day or in the free days.
    """
    (running,) = activate_all(conn, [subscription], now=now, started_at=started_at)
    return running


def activate_all(
    conn: Connection[Any],
    rows: Sequence[Subscription],
    *,
    now: datetime,
    started_at: datetime | None = None,
) -> list[Subscription]:
    """As activate, for many at once. Those that have to be paid first wait for it."""
    gate = _gate(conn, rows, now=now, started_at=started_at or now)
    _run_first(conn, gate.paid, now=now)
    gated = {row.id for row in (*gate.waiting, *gate.paid)}
    free = [row for row in rows if row.id not in gated]
    running = _run(conn, free, now=now, started_at=started_at or now) if free else []
    if running:
        _queue_webhooks(conn, "subscription.started", running, now)
        owing = _owing_at_start(conn, running, now)
        if owing:
            run.bill_starts(conn, [row.id for row in running if row.id in owing], at=now)
    found = {row.id: row for row in running} | (subscriptions.by_ids(conn, gated) if gated else {})
    return [found[row.id] for row in rows]


def set_payment_rule(
    conn: Connection[Any], row: Subscription, timeout_hours: int | None, *, now: datetime
) -> None:
    """Let a subscription that has not started yet wait for its first payment; None leaves what it waits for."""
    if timeout_hours is None:
        return
    activation_rules.put(
        conn,
        ActivationRule(
            id=new_id(now),
            organization_id=row.organization_id,
            subscription_id=row.id,
            type=PAYMENT,
            timeout_hours=timeout_hours,
            status=RuleStatus.INACTIVE,
            expires_at=None,
            invoice_id=None,
            created_at=now,
            updated_at=now,
        ),
    )


class _Gate(Record, kw_only=True):
    """Those of subscriptions that start of which something is to be paid before they run."""

    waiting: Sequence[Subscription] = ()
    paid: Sequence[Subscription] = ()
    """Those of which credits have paid all of it."""


def _gate(
    conn: Connection[Any], rows: Sequence[Subscription], *, now: datetime, started_at: datetime
) -> _Gate:
    """Bill those that only run once that is paid. One of which nothing is to be paid has no gate."""
    rules = activation_rules.of_subscriptions(conn, [row.id for row in rows])
    if not rules:
        return _Gate()
    columns = {"status": "incomplete", "started_at": started_at, "activates_at": None}
    started = subscriptions.update_all(
        conn, [row.id for row in rows if row.id in rules], columns=columns, now=now
    )
    owing = _owing_at_start(conn, started, now)
    free = [rules[row.id].id for row in started if row.id not in owing]
    activation_rules.end(conn, free, RuleStatus.NOT_APPLICABLE, now=now)
    gated = [row for row in started if row.id in owing]
    if not gated:
        return _Gate()
    fixed_charges.start_units(conn, owing)
    run.bill_activations(conn, gated, at=now)
    to_pay = activation_rules.open_invoices(conn, owing)
    billed = subscriptions.by_ids(conn, owing)
    paid_until = {
        row.id: row.fee_billed_until or row.fixed_charges_paid_until
        for row in billed.values()
        if row.previous_subscription_id is not None
    }
    waits = [
        rule.waiting(to_pay[key], now=now, until=paid_until.get(key))
        for key, rule in rules.items()
        if key in to_pay
    ]
    activation_rules.wait(conn, waits)
    waiting = [row for row in gated if row.id in to_pay]
    if waiting:
        _queue_webhooks(conn, "subscription.incomplete", waiting, now)
    paid = [row for row in gated if row.id not in to_pay]
    activation_rules.end(conn, [rules[row.id].id for row in paid], RuleStatus.SATISFIED, now=now)
    return _Gate(waiting=waiting, paid=paid)


def run_paid(
    conn: Connection[Any],
    rows: Mapping[UUID, Subscription],
    rules: Collection[ActivationRule],
    *,
    now: datetime,
) -> None:
    """Let subscriptions run whose first invoice was paid; `rows` has them, and those from which they take over.

    What a plan was paid for before it took over is given back.
    """
    activation_rules.end(conn, [rule.id for rule in rules], RuleStatus.SATISFIED, now=now)
    paid = [rows[rule.subscription_id] for rule in rules]
    _run_first(conn, [row for row in paid if row.previous_subscription_id is None], now=now)
    changes = [
        (rows[row.previous_subscription_id], row) for row in paid if row.previous_subscription_id is not None
    ]
    billed_on = {rule.subscription_id: rule.invoice_id for rule in rules if rule.invoice_id is not None}
    started = _change(conn, changes, now=now, upgraded=True, is_paid=True)
    credit_notes.credit_days_before(conn, started, billed_on, at=now)


def _run_first(conn: Connection[Any], rows: Sequence[Subscription], *, now: datetime) -> None:
    """Let subscriptions run that have been paid and follow no other; periods that are over by now are billed next."""
    if not rows:
        return
    for started_at in {row.started_at for row in rows}:
        ids = [row.id for row in rows if row.started_at == started_at]
        columns = {"status": "active", "activated_at": now, "next_billing_at": started_at}
        subscriptions.update_all(conn, ids, columns=columns, now=now)
    reschedule(conn, rows, now=now)
    event_log.look_again(
        conn, rows[0].organization_id, external_subscription_ids={row.external_id for row in rows}
    )
    amounts_changed(conn, rows)
    _queue_webhooks(conn, "subscription.started", rows, now)


def give_up(
    conn: Connection[Any], rules: Collection[ActivationRule], status: RuleStatus, *, now: datetime
) -> None:
    """Cancel subscriptions that wait for their payment; their customers are locked. Set-based.

    Their invoices give back what they took, and are never shown.
    """
    if not rules:
        return
    ids = sorted(rule.subscription_id for rule in rules)
    subscriptions.for_update(conn, ids)
    columns = {
        "status": "canceled",
        "canceled_at": now,
        "cancellation_reason": CANCELLATION_REASONS.get(status),
        "started_at": None,
        "on_termination_credit_note": None,
    }
    canceled = subscriptions.update_all(conn, ids, columns=columns, now=now)
    activation_rules.end(conn, [rule.id for rule in rules], status, now=now)
    invoice_ids = [rule.invoice_id for rule in rules if rule.invoice_id is not None]
    for give_back in GIVEN_BACK:
        give_back(conn, invoice_ids, now)
    invoices.close(conn, invoice_ids, now=now)
    _queue_webhooks(conn, "subscription.canceled", canceled, now)
    going_on = subscriptions.by_ids(
        conn, {row.previous_subscription_id for row in canceled if row.previous_subscription_id}
    )
    active = [row for row in going_on.values() if row.status == "active"]
    if active:
        _queue_webhooks(conn, "subscription.updated", active, now)


def decline(conn: Connection[Any], ids: Collection[UUID], *, now: datetime) -> None:
    """Give up subscriptions that wait for their payment because somebody wants that; their customers are locked."""
    rules = activation_rules.of_subscriptions(conn, ids).values()
    give_up(conn, rules, RuleStatus.DECLINED, now=now)


GIVEN_BACK = (coupons.give_back, prepaid.give_back, credit_notes.give_back)
"""What an invoice took that is never paid: all of it comes back."""


def _run(
    conn: Connection[Any], rows: Sequence[Subscription], *, now: datetime, started_at: datetime
) -> list[Subscription]:
    ids = [row.id for row in rows]
    columns = {"status": "active", "started_at": started_at, "activated_at": now}
    running = subscriptions.update_all(conn, ids, columns=columns, now=now)
    fixed_charges.start_units(conn, ids)
    reschedule(conn, running, now=now)
    event_log.look_again(
        conn, running[0].organization_id, external_subscription_ids={row.external_id for row in running}
    )
    scheduled = subscriptions.by_ids(conn, ids)
    amounts_changed(conn, scheduled.values())
    return [scheduled[row_id] for row_id in ids]


def _owing_at_start(conn: Connection[Any], rows: Sequence[Subscription], now: datetime) -> set[UUID]:
    """Those of running subscriptions that owe their plan's fee from the start on."""
    known_plans = plans.plans_by_ids(conn, {row.plan_id for row in rows})
    payers = customers.by_ids(conn, {row.customer_id for row in rows})
    first_starts = subscriptions.first_starts(conn, [row.id for row in rows])
    return {
        row.id
        for row in rows
        if owes_at_start(
            row,
            known_plans[row.plan_id],
            timezone=payers[row.customer_id].applicable_timezone,
            first_started_at=first_starts[row.id],
            now=now,
        )
    }


def schedule(conn: Connection[Any], subscription: Subscription, *, now: datetime) -> Subscription:
    """Write down what is due and when: at a start, and whenever the timezone or the dates have changed."""
    reschedule(conn, [subscription], now=now)
    return subscriptions.by_ids(conn, [subscription.id])[subscription.id]


def reschedule(conn: Connection[Any], rows: Iterable[Subscription], *, now: datetime) -> None:
    """As schedule, for many rows at once, as they are when nothing else is at work on them."""
    rows = subscriptions.for_update(conn, [row.id for row in rows]).values()
    known_plans = plans.plans_by_ids(conn, {row.plan_id for row in rows})
    payers = customers.by_ids(conn, {row.customer_id for row in rows})
    first_starts = subscriptions.first_starts(conn, [row.id for row in rows])
    take_overs = _take_overs(conn, rows, now=now)
    found = {
        row.id: due(
            row,
            known_plans[row.plan_id],
            timezone=payers[row.customer_id].applicable_timezone,
            first_started_at=first_starts.get(row.id),
            takes_over_at=take_overs.get(row.id),
            now=min(now, row.next_billing_at or now),  # what is due and not billed yet stays due
        )
        for row in rows
    }
    subscriptions.set_due(conn, found, now=now)


def _take_overs(
    conn: Connection[Any], rows: Collection[Subscription], *, now: datetime
) -> dict[UUID, datetime]:
    """Row -> the end of the period of the other row that it waits for."""
    waiting = {row.id: row.previous_subscription_id for row in rows if row.status == "pending"}
    late = {
        row.id: row.activates_at - INSTANT for row in rows if row.activates_at and row.activates_at <= now
    }
    before = subscriptions.by_ids(conn, {each for each in waiting.values() if each})
    known_plans = plans.plans_by_ids(conn, {row.plan_id for row in before.values()})
    payers = customers.by_ids(conn, {row.customer_id for row in before.values()})
    return {
        row_id: plan_period_end(
            before[previous],
            known_plans[before[previous].plan_id],
            timezone=payers[before[previous].customer_id].applicable_timezone,
            now=late.get(row_id, now),
        )
        for row_id, previous in waiting.items()
        if previous
    }


def update(
    conn: Connection[Any],
    subscription: Subscription,
    *,
    columns: Mapping[str, Any],
    section_choice: SectionChoice | None = None,
    sets_rule: bool = False,
    payment_timeout_hours: int | None = None,
    now: datetime,
) -> Subscription:
    """Change a subscription; one that waits starts at once when its new day is today or past.

    With `sets_rule` it waits for its first payment, or with a timeout of None for nothing.
    """
    _choose_sections(conn, subscription, section_choice)
    if sets_rule:
        activation_rules.remove(conn, subscription.id)
        set_payment_rule(conn, subscription, payment_timeout_hours, now=now)
    changed = subscriptions.update(conn, subscription_id=subscription.id, columns=columns, now=now)
    _follow_entity(conn, subscription, changed, now=now)
    changed = schedule(conn, changed, now=now)
    if changed.is_waiting and "subscription_at" in columns:
        customer = customers.by_ids(conn, [changed.customer_id])[changed.customer_id]
        start = start_of(changed.subscription_at, now=now, timezone=customer.applicable_timezone)
        if start is not Start.FUTURE:
            changed = activate(conn, changed, now=now, started_at=changed.subscription_at)
    _queue_webhooks(conn, "subscription.updated", [changed], now)
    return changed


def terminate(
    conn: Connection[Any],
    subscription: Subscription,
    *,
    at: datetime,
    on_termination_invoice: str | None = None,
    on_termination_credit_note: str | None = None,
) -> Subscription:
    """End a running subscription and bill what it still owes, unless `skip` says otherwise.

    None keeps what the subscription says itself. Events that wait for their fee have it first.
    """
    columns: dict[str, str] = {}
    if on_termination_invoice is not None:
        columns["on_termination_invoice"] = on_termination_invoice
    if on_termination_credit_note is not None and subscription.on_termination_credit_note is not None:
        columns["on_termination_credit_note"] = on_termination_credit_note
    _terminate(conn, [subscription], at=at, columns=columns)
    return subscriptions.by_ids(conn, [subscription.id])[subscription.id]


def terminate_all(conn: Connection[Any], rows: Sequence[Subscription], *, at: datetime) -> None:
    """As terminate, for many at once. Each has its own invoices, in the order of `rows`."""
    for some in _rounds(rows, _gives_back):
        _terminate(conn, some, at=at, columns={})


def announce_ends(conn: Connection[Any], rows: Sequence[Subscription], *, at: datetime) -> None:
    """Say that subscriptions are going to end; set-based."""
    payers = customers.by_ids(conn, {row.customer_id for row in rows})
    following = {
        row.id: next_end_alert(row.ending_at, timezone=payers[row.customer_id].applicable_timezone, after=at)
        for row in rows
    }
    subscriptions.set_end_alerts(conn, following)
    _queue_webhooks(conn, "subscription.termination_alert", rows, at)


def _gives_back(row: Subscription) -> bool:
    """Whether days that are paid and not used are credited at the end."""
    return row.on_termination_credit_note not in (None, "skip")


def _terminate(
    conn: Connection[Any], rows: Sequence[Subscription], *, at: datetime, columns: Mapping[str, str]
) -> None:
    ids, customer_ids = [row.id for row in rows], {row.customer_id for row in rows}
    advance.bill_customers(conn, rows[0].organization_id, customer_ids, now=at)
    run.bill_missed(conn, ids, until=at)
    ended = subscriptions.update_all(conn, ids, columns={**_ended(at), **columns}, now=at)
    credit_notes.credit_unused(conn, [row for row in ended if _gives_back(row)], at=at)
    run.bill_terminations(conn, ids, at=at)
    run.bill_late_usage(conn, customer_ids, at=at)
    wallets.mark_customers(conn, rows[0].organization_id, customer_ids)
    following = subscriptions.following(conn, ids)
    for row in following:
        if row.status == "pending":
            cancel(conn, row, now=at)
    decline(conn, [row.id for row in following if row.status == "incomplete"], now=at)
    _queue_webhooks(conn, "subscription.terminated", ended, at)


def _ended(at: datetime) -> dict[str, Any]:
    """What is set on a subscription that ends."""
    return {
        "status": "terminated",
        "terminated_at": at,
        "next_billing_at": None,
        "activates_at": None,
        "ends_at": None,
        "end_alert_at": None,
    }


def cancel(conn: Connection[Any], subscription: Subscription, *, now: datetime) -> Subscription:
    """Give up a subscription that has not started; nothing is billed. What it was to follow goes on."""
    columns = {
        "status": "canceled",
        "canceled_at": now,
        "activates_at": None,
        "ends_at": None,
        "end_alert_at": None,
        "on_termination_credit_note": None,
    }
    canceled = subscriptions.update(conn, subscription_id=subscription.id, columns=columns, now=now)
    _queue_webhooks(conn, "subscription.terminated", [canceled], now)
    if canceled.previous_subscription_id is not None:
        previous = subscriptions.by_ids(conn, [canceled.previous_subscription_id])
        if previous[canceled.previous_subscription_id].status == "active":
            _queue_webhooks(conn, "subscription.updated", [previous[canceled.previous_subscription_id]], now)
    return canceled


def end_all(conn: Connection[Any], rows: Collection[Subscription], *, now: datetime) -> None:
    """Terminate the running ones and cancel the waiting ones, because their customer or plan goes."""
    customers.lock_all(conn, {row.customer_id for row in rows})  # before the rows, as all that bills
    for row_id in subscriptions.for_update(conn, [row.id for row in rows]):
        row = subscriptions.by_ids(conn, [row_id])[row_id]  # the end of one may have canceled the next
        if row.status == "active":
            terminate(conn, row, at=now)
        elif row.status == "pending":
            cancel(conn, row, now=now)
        elif row.status == "incomplete":
            decline(conn, [row.id], now=now)


def _queue_webhooks(
    conn: Connection[Any], webhook_type: str, rows: Sequence[Subscription], now: datetime
) -> None:
    webhooks.enqueue_of(conn, webhook_type, rows[0].organization_id, [row.id for row in rows], now=now)
