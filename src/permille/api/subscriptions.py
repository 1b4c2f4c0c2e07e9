"""Subscriptions: a customer on a plan. semantics-billing.md sections 3 and 11.3."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.api.activation_rules import NAME as ACTIVATION_RULES, read_payment_timeout, show_rules
from permille.api.custom_sections import read_choice, show_choices
from permille.api.customers import customer_of, render_customer
from permille.api.features import render_subscription_entitlement
from permille.api.fixed_charge_input import read_units_alone, units_at_once
from permille.api.http import Call
from permille.api.objects import subscription as objects
from permille.api.overrides import read_overrides
from permille.api.payment_method import PAYMENT_METHOD, refuse_other_payment_method
from permille.api.plans import render_plan, render_plans
from permille.api.price_changes import read_since
from permille.api.price_preview import previewable
from permille.api.render import instant, instant_milliseconds, last_instant
from permille.api.usage_thresholds import NAME as THRESHOLDS, read_thresholds, refuse_twice, render_applicable
from permille.api.validation import Fields, query_texts
from permille.core.contract.override import same_terms
from permille.core.contract.plan import Plan, sold_plan_id
from permille.core.contract.price_versions import edit_prices, in_force
from permille.core.contract.subscription import Subscription, current_period, thresholds_on
from permille.core.contract.threshold import threshold_json, thresholds_of_json
from permille.core.customer import Customer
from permille.core.errors import NotAllowed, NotFound
from permille.core.period import BillingTime, local_date
from permille.core.record import replace
from permille.database import locks
from permille.ids import new_id
from permille.store import customers, fixed_charges, plans, subscriptions
from permille.store.subscriptions import ALONE, Neighbours, SubscriptionSearch
from permille.usecases.catalogue import (
    billing_entities,
    features,
    fixed_units,
    own_plans,
    subscriptions as catalogue,
)
from permille.usecases.catalogue.fixed_units import UnitsWanted
from permille.usecases.catalogue.subscriptions import NewSubscription
from permille.usecases.subscriptions import SubscriptionTerms

BILLING_TIMES = tuple(BillingTime)
ENTITY = "billing_entity_code"


def create_subscription(call: Call) -> dict[str, Any]:
    """POST /subscriptions: the same plan again changes nothing; an unknown customer is made."""
    fields = Fields(call.root("subscription"))
    Fields(call.body, fields).refuse_unbuilt("authorization")
    wanted = read_subscription(call.conn, call.organization.id, fields, now=call.now)
    made = catalogue.subscribe(call.conn, call.organization.id, wanted, now=call.now)
    return _shown(call, made)


def read_subscription(
    conn: Connection[Any], organization_id: UUID, fields: Fields, *, now: datetime
) -> NewSubscription:
    """Who is to subscribe to which plan. Raises Invalid and NotFound."""
    customer_id = fields.text("external_customer_id", mandatory=True) or ""
    plan_code = fields.text("plan_code") or ""
    _refuse_unbuilt(fields)
    terms = replace(
        _terms(fields, now=now),
        section_choice=read_choice(conn, organization_id, fields, now=now),
        billing_entity_id=billing_entities.named(conn, organization_id, fields.text(ENTITY)),
    )
    locks.use_catalogue(conn, organization_id)
    plan = plans.plan_by_code(conn, organization_id, plan_code)
    plan = in_force(plan, now) if plan else None
    locks.change_customer(conn, organization_id, customer_id)
    customer = customers.by_external_id(conn, organization_id, customer_id)
    timezone = customer.applicable_timezone if customer else "UTC"
    _check_ending(fields, terms.ending_at, subscription_at=terms.subscription_at, now=now, timezone=timezone)
    is_agreed = False
    own_units = read_units_alone(fields, plan) if plan is not None else None
    if own_units is not None:
        terms = replace(terms, own_units={each: wanted.units for each, wanted in own_units.items()})
    elif plan is not None and fields.given.get("plan_overrides"):
        is_agreed = _has_overrides(conn, fields, plan, terms.external_id, now=now)
        copy, overridden = read_overrides(conn, fields, plan, now=now)
        plan = edit_prices(copy, overridden, since=None, now=now, version_id=new_id(now))
    fields.check()
    if plan is None:
        raise NotFound("plan")
    return NewSubscription(
        external_customer_id=customer_id, customer=customer, plan=plan, terms=terms, is_agreed=is_agreed
    )


def _terms(fields: Fields, *, now: datetime) -> SubscriptionTerms:
    return SubscriptionTerms(
        external_id=(fields.text("external_id", mandatory=True) or "").strip(),
        subscription_at=fields.instant("subscription_at") or now,
        name=fields.text("name"),
        billing_time=fields.choice("billing_time", BILLING_TIMES) or BillingTime.CALENDAR,
        ending_at=fields.instant("ending_at"),
        on_termination_credit_note=_option(fields, "on_termination_credit_note", objects.CREDIT_NOTES),
        on_termination_invoice=_option(fields, "on_termination_invoice", objects.INVOICES) or "generate",
        consolidate_invoice=fields.flag("consolidate_invoice") is not False,
        purchase_order_number=fields.text("purchase_order_number"),
        progressive_billing_disabled=fields.flag("progressive_billing_disabled") or False,
        usage_thresholds=read_thresholds(fields, (), now=now) if fields.given.get(THRESHOLDS) else None,
        payment_timeout_hours=read_payment_timeout(fields),
    )


def _has_overrides(
    conn: Connection[Any], fields: Fields, plan: Plan, external_id: str, *, now: datetime
) -> bool:
    """Whether all that `plan_overrides` says is so already, where the subscription is on this plan."""
    locks.change_subscription(conn, plan.organization_id, external_id)
    rows = subscriptions.history(conn, plan.organization_id, external_id)
    living = next((row for row in rows if row.status == "active" or row.is_waiting), None)
    if living is None:
        return False
    current = in_force(plans.plan_by_id(conn, living.plan_id), now)
    return sold_plan_id(current) == plan.id and same_terms(
        read_overrides(conn, Fields(fields.given), current, now=now)[1], current
    )


def _refuse_unbuilt(fields: Fields) -> None:
    refuse_twice(fields)
    refuse_other_payment_method(fields)


def _option(fields: Fields, name: str, allowed: Sequence[str]) -> str | None:
    return fields.choice(name, allowed, code="invalid_value")


def _check_ending(
    fields: Fields, ending_at: datetime | None, *, subscription_at: datetime, now: datetime, timezone: str
) -> None:
    """A subscription ends on a later day than today, and than the day on which it starts."""
    if ending_at is None:
        return
    ends = local_date(ending_at, timezone)
    if ends <= local_date(now, timezone) or ends <= local_date(subscription_at, timezone):
        fields.refuse("ending_at", "invalid_date")


def list_subscriptions(call: Call) -> dict[str, Any]:
    """GET /subscriptions: the active ones, unless statuses are named."""
    customer_id = call.query.get("external_customer_id")
    return _listing(call, customer_id or None)


def list_customer_subscriptions(call: Call) -> dict[str, Any]:
    """GET /customers/{external_id}/subscriptions."""
    return _listing(call, customer_of(call).external_id)


def _listing(call: Call, external_customer_id: str | None) -> dict[str, Any]:
    statuses = query_texts(call.query, "status") or ["active"]
    search = SubscriptionSearch(
        statuses=statuses if set(statuses) <= set(objects.STATUSES) else (),
        external_customer_id=external_customer_id,
        plan_code=call.query.get("plan_code") or None,
        currencies=query_texts(call.query, "currency"),
        billing_entity_codes=query_texts(call.query, "billing_entity_codes"),
    )
    page = call.page()
    rows, total = subscriptions.listing(
        call.conn, call.organization.id, search, limit=page.per_page, offset=page.offset
    )
    shown = render_subscriptions(call.conn, rows, now=call.now)
    return {"subscriptions": shown, "meta": page.meta(total)}


def show_subscription(call: Call) -> dict[str, Any]:
    """GET /subscriptions/{external_id}: the active row, or the newest of the `status` asked for."""
    found, _ = asked_row(call)
    return _shown(call, found)


def asked_row(call: Call) -> tuple[Subscription, list[Subscription]]:
    """The active row of the path's external_id, or the newest of the `status` asked for, and all rows of it.

    Raises NotFound (subscription).
    """
    status = call.query.get("subscription_status") or call.query.get("status") or "active"
    return catalogue.newest(call.conn, call.organization.id, call.path["external_id"], status=status)


@previewable
def update_subscription(call: Call) -> dict[str, Any]:
    """PUT /subscriptions/{external_id}."""
    before = catalogue.to_change(
        call.conn, call.organization.id, call.path["external_id"], status=_status_to_update(call)
    )
    if before.status == "incomplete":
        raise NotAllowed("subscription_incomplete")
    fields = Fields(call.root("subscription"))
    _refuse_unbuilt(fields)
    columns, since = _changes(call, fields, before), read_since(call)
    own_plan, own_units, at_once = _own_terms(call, fields, before, since=since)
    if since is not None:
        _refuse_scheduled(fields, before, columns, with_units=own_units is not None)
    timeout_hours = read_payment_timeout(fields)
    fields.check()
    if "purchase_order_number" in columns and before.status not in ("pending", "active"):
        raise NotAllowed("purchase_order_number_not_editable")
    sets_rule = fields.given.get(ACTIVATION_RULES) is not None
    if sets_rule and before.status != "pending":
        raise NotAllowed("activation_rules_not_editable")
    after = catalogue.change(
        call.conn,
        before,
        columns=columns,
        section_choice=read_choice(call.conn, call.organization.id, fields, now=call.now),
        sets_rule=sets_rule,
        payment_timeout_hours=timeout_hours,
        own_plan=own_plan,
        own_units=own_units,
        units_at_once=at_once,
        since=since,
        now=call.now,
    )
    return _shown(call, after)


def _refuse_scheduled(
    fields: Fields, before: Subscription, columns: Mapping[str, Any], *, with_units: bool
) -> None:
    """Prices alone can change from an instant on."""
    changed = [name for name, value in columns.items() if getattr(before, name) != value]
    for name in [*changed, *(["fixed_charges"] if with_units else [])]:
        fields.refuse(name, "cannot_be_scheduled")


def _own_terms(
    call: Call, fields: Fields, before: Subscription, *, since: datetime | None
) -> tuple[tuple[Plan, Plan] | None, dict[UUID, UnitsWanted] | None, set[UUID]]:
    """What `plan_overrides` changes: the plan, or units of fixed charges alone, and which units count at once."""
    if not fields.given.get("plan_overrides"):
        return None, None, set()
    plan = own_plans.current(call.conn, before, since=since, now=call.now)
    if (units := read_units_alone(fields, plan)) is not None:
        return None, units, set()
    had = fixed_charges.own_units(call.conn, before.id)
    copy, after = read_overrides(call.conn, fields, plan, own_units=had, now=call.now)
    given = fields.given["plan_overrides"]
    entries = Fields(given if isinstance(given, dict) else {}, fields)
    return (copy, after), None, units_at_once(entries, after.fixed_charges)


def _status_to_update(call: Call) -> str:
    body = call.body if isinstance(call.body, dict) else {}
    return row_status(body.get("status") or call.query.get("status"))


def row_status(asked: Any) -> str:
    """Which row of the external id is meant: the active one, unless it is said."""
    return asked if asked in ("pending", "incomplete") else "active"


def _changes(call: Call, fields: Fields, before: Subscription) -> dict[str, Any]:
    """The columns that the request changes. What cannot change any more is ignored, as in Lago."""
    customer = customers.by_ids(call.conn, [before.customer_id])[before.customer_id]
    plan = plans.plan_by_id(call.conn, before.plan_id)
    columns: dict[str, Any] = {
        name: fields.text(name) for name in ("name", "purchase_order_number") if fields.has(name)
    }
    for name in ("consolidate_invoice", "progressive_billing_disabled"):
        if (flag := fields.flag(name)) is not None:
            columns[name] = flag
    if fields.given.get(THRESHOLDS) is not None:
        known = thresholds_of_json(before.usage_thresholds)
        wanted = read_thresholds(fields, known, now=call.now)
        columns["usage_thresholds"] = [threshold_json(each) for each in wanted]
    note = _option(fields, "on_termination_credit_note", objects.CREDIT_NOTES)
    if note is not None and plan.pay_in_advance:
        columns["on_termination_credit_note"] = note
    if (invoice := _option(fields, "on_termination_invoice", objects.INVOICES)) is not None:
        columns["on_termination_invoice"] = invoice
    subscription_at = fields.instant("subscription_at") if before.is_waiting else None
    if subscription_at is not None:
        columns["subscription_at"] = subscription_at
    if fields.has("ending_at"):
        columns["ending_at"] = fields.instant("ending_at")
    if columns.keys() & {"subscription_at", "ending_at"}:
        _check_ending(
            fields,
            columns.get("ending_at", before.ending_at),
            subscription_at=subscription_at or before.subscription_at,
            now=call.now,
            timezone=customer.applicable_timezone,
        )
    if fields.has(ENTITY):
        columns["billing_entity_id"] = billing_entities.named(
            call.conn, call.organization.id, fields.text(ENTITY)
        )
    return columns


def terminate_subscription(call: Call) -> dict[str, Any]:
    """DELETE /subscriptions/{external_id}: ends the active row, or cancels the one with `status` pending or incomplete."""
    status = row_status(call.query.get("status"))
    row = catalogue.to_end(call.conn, call.organization.id, call.path["external_id"], status=status)
    note, invoice = _termination_options(call) if status == "active" else (None, None)
    ended = catalogue.end(
        call.conn, row, on_termination_invoice=invoice, on_termination_credit_note=note, now=call.now
    )
    return {"subscription": render_subscriptions(call.conn, [ended], now=call.now)[0]}


def _termination_options(call: Call) -> tuple[str | None, str | None]:
    """What happens to the fee paid in advance, and to what is not billed yet."""
    fields = Fields(call.query)
    note = _option(fields, "on_termination_credit_note", objects.CREDIT_NOTES)
    invoice = _option(fields, "on_termination_invoice", objects.INVOICES)
    fields.check()
    return note, invoice


def _shown(call: Call, row: Subscription) -> dict[str, Any]:
    (shown,) = render_subscriptions(call.conn, [row], now=call.now)
    plan = plans.plan_by_id(call.conn, row.plan_id)
    if plan.fixed_charges and plan.parent_id is None:
        plan = fixed_units.with_own_units(plan, fixed_charges.own_units(call.conn, row.id))
    (shown.plan,) = render_plans(call.conn, [plan], now=call.now)
    return {"subscription": shown}


def render_subscriptions(
    conn: Connection[Any], rows: Sequence[Subscription], *, now: datetime
) -> list[objects.Subscription]:
    """Subscriptions as lists show them: without their plans and customers."""
    known_plans = plans.terms_by_ids(conn, {row.plan_id for row in rows})
    payers = customers.of_subscriptions(conn, rows)
    around = subscriptions.neighbours(conn, [row.id for row in rows])
    shown = [
        render_subscription(
            row,
            payers[row.id],
            known_plans[row.plan_id],
            now=now,
            around=around.get(row.id, ALONE),
        )
        for row in rows
    ]
    show_entitlements(conn, rows, known_plans, shown)
    show_choices(conn, shown)
    show_rules(conn, shown)
    return shown


def show_entitlements(
    conn: Connection[Any],
    rows: Sequence[Subscription],
    known_plans: Mapping[UUID, Plan],
    shown: Sequence[objects.Subscription],
) -> None:
    """Let objects show which features their subscriptions have."""
    found = features.of_subscriptions(conn, rows, known_plans)
    for row, each in zip(rows, shown, strict=True):
        each.entitlements = [render_subscription_entitlement(one) for one in found[row.id]]


def render_subscription(
    subscription: Subscription,
    payer: Customer,
    plan: Plan,
    *,
    now: datetime,
    around: Neighbours = ALONE,
) -> objects.Subscription:
    """The object without its plan and its customer; see whole_subscription.

    `payer` is the customer as the subscription's billing entity bills it.
    """
    takes_over_at = around.takes_over_at
    period = current_period(subscription, plan, timezone=payer.applicable_timezone, now=now)
    return objects.Subscription(
        lago_id=subscription.id,
        external_id=subscription.external_id,
        lago_customer_id=payer.id,
        external_customer_id=payer.external_id,
        billing_entity_code=payer.billing_entity.code,
        name=subscription.name,
        plan_code=plan.code,
        plan_amount_cents=in_force(plan, now).amount_cents,
        plan_amount_currency=plan.amount_currency,
        status=subscription.status,
        billing_time=subscription.billing_time,
        subscription_at=instant(subscription.subscription_at),
        started_at=instant_milliseconds(subscription.started_at),
        activated_at=instant(subscription.activated_at),
        trial_ended_at=instant(subscription.trial_ended_at),
        ending_at=instant(subscription.ending_at),
        terminated_at=instant(subscription.terminated_at),
        canceled_at=instant(subscription.canceled_at),
        created_at=instant(subscription.created_at),
        previous_plan_code=around.previous_plan_code,
        next_plan_code=around.next_plan_code,
        downgrade_plan_date=local_date(takes_over_at, payer.applicable_timezone) if takes_over_at else None,
        current_billing_period_started_at=instant(period.from_) if period else None,
        current_billing_period_ending_at=last_instant(period.to) if period else None,
        on_termination_credit_note=subscription.on_termination_credit_note,
        on_termination_invoice=subscription.on_termination_invoice,
        progressive_billing_disabled=subscription.progressive_billing_disabled,
        consolidate_invoice=subscription.consolidate_invoice,
        purchase_order_number=subscription.purchase_order_number,
        cancellation_reason=subscription.cancellation_reason,
        payment_method=PAYMENT_METHOD,
        entitlements=[],
        usage_threshold=None,
        applicable_usage_thresholds=render_applicable(thresholds_on(subscription, plan)),
        applied_invoice_custom_sections=[],
        activation_rules=[],
    )


def whole_subscription(
    conn: Connection[Any], subscription: Subscription, plan: Plan, *, now: datetime, around: Neighbours
) -> objects.Subscription:
    """The object with its plan and its customer, as webhooks carry it."""
    known = customers.by_ids(conn, [subscription.customer_id])
    payer = customers.of_subscriptions(conn, [subscription], known)[subscription.id]
    shown = render_subscription(subscription, payer, plan, now=now, around=around)
    shown.plan = render_plan(plan, now=now)
    shown.customer = render_customer(known[subscription.customer_id])
    return shown
