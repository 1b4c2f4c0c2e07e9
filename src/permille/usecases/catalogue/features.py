"""Features are added, changed and removed, and plans and subscriptions grant them."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.contract.plan import Plan, sold_plan_id
from permille.core.contract.subscription import Subscription
from permille.core.errors import Invalid, NotFound
from permille.core.feature import (
    Entitlement,
    Feature,
    Grant,
    Grants,
    Privilege,
    ValueType,
    entitlements,
    merge_privileges,
    with_own_values,
    with_values,
    without_feature,
    without_privilege,
)
from permille.core.record import replace
from permille.database import locks
from permille.store import features as store, plans, webhooks
from permille.usecases.by_code import ByCode

Values = Mapping[str, Mapping[str, Any]]
"""Feature code -> privilege code -> value, as it was sent."""


_BY_CODE = ByCode("feature", store.by_code)
by_code, to_change = _BY_CODE.one, _BY_CODE.to_change


def add(conn: Connection[Any], feature: Feature) -> None:
    """Raises Invalid when the code is taken."""
    locks.change_catalogue(conn, feature.organization_id)
    if not store.add(conn, feature):
        raise Invalid({"code": ["value_already_exist"]})
    webhooks.enqueue_of(
        conn, "feature.created", feature.organization_id, [feature.id], now=feature.created_at
    )


def change(
    conn: Connection[Any],
    before: Feature,
    *,
    changes: Mapping[str, Any],
    privileges: Sequence[Privilege],
    now: datetime,
) -> Feature:
    """Names change, and privileges and options are added."""
    after = replace(before, **changes, privileges=merge_privileges(before.privileges, privileges))
    store.replace(conn, after, now=now)
    _notify_of_change(conn, after, now=now)
    return after


def remove_privilege(conn: Connection[Any], before: Feature, code: str, *, now: datetime) -> Feature:
    """No plan and no subscription grants it any more. Raises NotFound."""
    if before.privilege(code) is None:
        raise NotFound("privilege")
    after = replace(before, privileges=tuple(each for each in before.privileges if each.code != code))
    store.forget_privilege(conn, after.id, code, now=now)
    store.replace(conn, after, now=now)
    _notify_of_change(conn, after, now=now)
    return after


def remove(conn: Connection[Any], feature: Feature, *, payload: Mapping[str, Any], now: datetime) -> None:
    """No plan and no subscription grants it any more. The webhook shows `payload`: there is nothing to render later."""
    granting = store.plans_granting(conn, feature.id)
    store.delete(conn, feature.id)
    webhooks.enqueue(
        conn,
        organization_id=feature.organization_id,
        webhook_type="feature.deleted",
        object_type="feature",
        object_ids=[feature.id],
        payload=payload,
        now=now,
    )
    webhooks.enqueue_of(conn, "plan.updated", feature.organization_id, granting, now=now)


def _notify_of_change(conn: Connection[Any], feature: Feature, *, now: datetime) -> None:
    webhooks.enqueue_of(conn, "feature.updated", feature.organization_id, [feature.id], now=now)
    granting = store.plans_granting(conn, feature.id)
    webhooks.enqueue_of(conn, "plan.updated", feature.organization_id, granting, now=now)


def of_plan(conn: Connection[Any], plan: Plan) -> list[Entitlement]:
    """What a plan grants."""
    return of_plans(conn, [plan])[plan.id]


def of_plans(conn: Connection[Any], known: Collection[Plan]) -> dict[UUID, list[Entitlement]]:
    """What each plan grants: a plan of a subscription's own what the one does that it is a copy of. Set-based."""
    sold = {plan.id: sold_plan_id(plan) for plan in known}
    granted = store.of_plans(conn, set(sold.values()))
    features = _features_of(conn, granted.values())
    return {plan_id: entitlements(features, granted[sold_id], {}) for plan_id, sold_id in sold.items()}


def _features_of(conn: Connection[Any], every: Iterable[Grants]) -> dict[UUID, Feature]:
    wanted = {feature_id for grants in every for feature_id in grants}
    return store.by_ids(conn, wanted) if wanted else {}


def of_subscriptions(
    conn: Connection[Any], rows: Collection[Subscription], known: Mapping[UUID, Plan]
) -> dict[UUID, list[Entitlement]]:
    """What each subscription has; `known` are their plans. Set-based."""
    sold = {row.id: sold_plan_id(known[row.plan_id]) for row in rows}
    granted = store.of_plans(conn, set(sold.values()))
    own = store.of_subscriptions(conn, sold.keys())
    features = _features_of(conn, (*granted.values(), *own.values()))
    return {row_id: entitlements(features, granted[plan_id], own[row_id]) for row_id, plan_id in sold.items()}


def read_values(conn: Connection[Any], organization_id: UUID, sent: Values) -> dict[UUID, dict[str, str]]:
    """What is sent, by features and as it is kept. Raises NotFound (feature, privilege), Invalid."""
    known = store.by_codes(conn, organization_id, sent.keys())
    errors: dict[str, list[str]] = {}
    found: dict[UUID, dict[str, str]] = {}
    for code, values in sent.items():
        if code not in known:
            raise NotFound("feature")
        kept = found.setdefault(known[code].id, {})
        for privilege_code, given in values.items():
            privilege = known[code].privilege(privilege_code)
            if privilege is None:
                raise NotFound("privilege")
            text = privilege.text_of(given)
            if text is None:
                errors[f"{privilege_code}_privilege_value"] = ["value_is_invalid"]
            elif privilege.value_type is ValueType.SELECT and text not in privilege.select_options:
                errors[f"{privilege_code}_privilege_value"] = ["value_not_in_select_options"]
            else:
                kept[privilege_code] = text
    if errors:
        raise Invalid(errors)
    return found


def grant_by_plan(conn: Connection[Any], plan: Plan, sent: Values, *, replaces: bool, now: datetime) -> None:
    """Let a plan grant these, beside or instead of what it grants. Raises NotFound, Invalid."""
    values = read_values(conn, plan.organization_id, sent)
    _set_of_plan(conn, plan, with_values({} if replaces else _granted(conn, plan), values), now=now)


def drop_from_plan(
    conn: Connection[Any], plan: Plan, code: str, privilege_code: str | None, *, now: datetime
) -> None:
    """A feature, or a privilege of it, is granted no more. Raises NotFound."""
    granted = dict(_granted(conn, plan))
    feature = by_code(conn, plan.organization_id, code)
    if feature.id not in granted:
        raise NotFound("feature")
    if privilege_code is None:
        del granted[feature.id]
    else:
        values = dict(granted[feature.id].values)
        if values.pop(privilege_code, None) is None:
            raise NotFound("privilege")
        granted[feature.id] = replace(granted[feature.id], values=values)
    _set_of_plan(conn, plan, granted, now=now)


def _granted(conn: Connection[Any], plan: Plan) -> Grants:
    return store.of_plans(conn, [sold_plan_id(plan)])[sold_plan_id(plan)]


def _set_of_plan(conn: Connection[Any], plan: Plan, grants: Mapping[UUID, Grant], *, now: datetime) -> None:
    plan_id = sold_plan_id(plan)
    store.set_grants(conn, plan.organization_id, list(grants.values()), plan_id=plan_id, now=now)
    webhooks.enqueue_of(conn, "plan.updated", plan.organization_id, [plan_id], now=now)


def grant_by_subscription(conn: Connection[Any], row: Subscription, sent: Values, *, now: datetime) -> None:
    """Give a subscription values of its own, and back what was taken from it. Raises NotFound, Invalid."""
    values = read_values(conn, row.organization_id, sent)
    plan, own = _grants_of(conn, row)
    _set_of_subscription(conn, row, with_own_values(plan, own, values), now=now)


def drop_from_subscription(
    conn: Connection[Any], row: Subscription, code: str, privilege_code: str | None, *, now: datetime
) -> None:
    """Take a feature, or a privilege of it, away from a subscription. Raises NotFound."""
    feature = by_code(conn, row.organization_id, code)
    plan, own = _grants_of(conn, row)
    found = entitlements({feature.id: feature}, plan, own)
    if not found:
        raise NotFound("feature")
    if privilege_code is None:
        after = without_feature(plan, own, feature.id)
    elif privilege_code in {each.privilege.code for each in found[0].privileges}:
        after = without_privilege(plan, own, feature.id, privilege_code)
    else:
        raise NotFound("privilege")
    _set_of_subscription(conn, row, after, now=now)


def _grants_of(conn: Connection[Any], row: Subscription) -> tuple[Grants, Grants]:
    """What its plan grants, and what it has of its own."""
    plan = plans.plan_by_id(conn, row.plan_id)
    return _granted(conn, plan), store.of_subscriptions(conn, [row.id])[row.id]


def _set_of_subscription(
    conn: Connection[Any], row: Subscription, grants: Mapping[UUID, Grant], *, now: datetime
) -> None:
    store.set_grants(conn, row.organization_id, list(grants.values()), subscription_id=row.id, now=now)
    webhooks.enqueue_of(conn, "subscription.updated", row.organization_id, [row.id], now=now)
