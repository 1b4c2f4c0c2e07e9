"""Features: the list, one to make, to change or to delete; and what plans and subscriptions grant of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from permille.api.features import read_feature_changes, read_new_feature, read_privileges, removed_payload
from permille.api.validation import Fields
from permille.core.errors import NotFound
from permille.core.feature import Entitlement, Feature, Privilege, ValueType
from permille.store import features as store, plans
from permille.usecases.catalogue import features, plans as plan_catalogue, subscriptions
from permille.web.shown import in_path
from permille.web.visit import Done, Form, HtmlPage, Visit

LISTING = "/app/features"
FEATURES_SHOWN = 200
"""Features that the page of what is granted has room for."""


def listing(visit: Visit) -> HtmlPage:
    """GET /app/features."""
    page = visit.page()
    found, total = store.listing(
        visit.conn, visit.here.id, search=None, limit=page.per_page, offset=page.offset
    )
    return HtmlPage(template="features.html", context={"features": found, "meta": page.meta(total)})


def blank(_visit: Visit) -> HtmlPage:
    """GET /app/new-feature."""
    return HtmlPage(template="feature_form.html", context={"before": None, "privileges": ""})


def create(visit: Visit) -> Done:
    """POST /app/new-feature."""
    body = _read(visit.form)
    fields = Fields(body)
    made = read_new_feature(fields, visit.here.id, now=visit.now)
    fields.check()
    features.add(visit.conn, made)
    return Done(action="created feature", subject=made.code, to=f"{LISTING}?said=created", details=body)


def before(visit: Visit) -> HtmlPage:
    """GET /app/edit-feature/{code}."""
    found = features.by_code(visit.conn, visit.here.id, visit.path["code"])
    lines = "\n".join(map(_line, found.privileges))
    return HtmlPage(template="feature_form.html", context={"before": found, "privileges": lines})


def update(visit: Visit) -> Done:
    """POST /app/edit-feature/{code}: privileges are added, never taken away."""
    body = _read(visit.form)
    known = features.to_change(visit.conn, visit.here.id, visit.path["code"])
    fields = Fields(body)
    changes, privileges = read_feature_changes(fields), read_privileges(fields, known.privileges)
    fields.check()
    features.change(visit.conn, known, changes=changes, privileges=privileges, now=visit.now)
    return Done(action="changed feature", subject=known.code, to=f"{LISTING}?said=saved", details=body)


def delete(visit: Visit) -> Done:
    """POST /app/delete-feature/{code}."""
    gone = features.to_change(visit.conn, visit.here.id, visit.path["code"])
    features.remove(visit.conn, gone, payload=removed_payload(gone), now=visit.now)
    return Done(action="deleted feature", subject=gone.code, to=f"{LISTING}?said=deleted")


def _line(privilege: Privilege) -> str:
    """A privilege as it is typed: its code, its type, and the options of a select."""
    return " ".join([privilege.code, privilege.value_type, *privilege.select_options])


def _read(form: Form) -> dict[str, Any]:
    """The form as the API takes a feature."""
    privileges = []
    for line in form.get("privileges").splitlines():
        code, *rest = line.split() or [""]
        if code:
            value_type, *options = rest or [ValueType.STRING.value]
            config = {"config": {"select_options": options}} if options else {}
            privileges.append({"code": code, "value_type": value_type, **config})
    return {
        "code": form.get("code"),
        "name": form.get("name") or None,
        "description": form.get("description") or None,
        "privileges": privileges,
    }


def plan_grants(visit: Visit) -> HtmlPage:
    """GET /app/entitlements/{code}: what a plan grants."""
    plan = plan_catalogue.by_code(visit.conn, visit.here.id, visit.path["code"], now=visit.now)
    back = {"path": f"/app/plans/{in_path(plan.code)}", "name": plan.name}
    return _grants(visit, features.of_plan(visit.conn, plan), back)


def set_plan_grants(visit: Visit) -> Done:
    """POST /app/entitlements/{code}: what isn't ticked is granted no more."""
    plan = plan_catalogue.to_change(visit.conn, visit.here.id, visit.path["code"], now=visit.now)
    sent = _sent(visit)
    features.grant_by_plan(visit.conn, plan, sent, replaces=True, now=visit.now)
    to = f"/app/entitlements/{in_path(plan.code)}?said=saved"
    return Done(action="set entitlements of plan", subject=plan.code, to=to, details=sent)


def own_grants(visit: Visit) -> HtmlPage:
    """GET /app/own-entitlements/{external_id}: what a subscription has."""
    row, _ = subscriptions.newest(visit.conn, visit.here.id, visit.path["external_id"], status="active")
    known = plans.plans_by_ids(visit.conn, [row.plan_id])
    found = features.of_subscriptions(visit.conn, [row], known)[row.id]
    back = {"path": f"/app/own-plan/{in_path(row.external_id)}", "name": row.external_id}
    return _grants(visit, found, back)


def set_own_grants(visit: Visit) -> Done:
    """POST /app/own-entitlements/{external_id}: what isn't ticked is taken away, what the plan granted too."""
    row = subscriptions.to_change(visit.conn, visit.here.id, visit.path["external_id"], status="active")
    known = plans.plans_by_ids(visit.conn, [row.plan_id])
    sent = _sent(visit)
    features.grant_by_subscription(visit.conn, row, sent, now=visit.now)
    for each in features.of_subscriptions(visit.conn, [row], known)[row.id]:
        if each.feature.code not in sent:
            features.drop_from_subscription(visit.conn, row, each.feature.code, None, now=visit.now)
    to = f"/app/own-entitlements/{in_path(row.external_id)}?said=saved"
    return Done(action="set entitlements of subscription", subject=row.external_id, to=to, details=sent)


def _grants(visit: Visit, granted: Sequence[Entitlement], back: Mapping[str, str]) -> HtmlPage:
    known, _ = store.listing(visit.conn, visit.here.id, search=None, limit=FEATURES_SHOWN, offset=0)
    values = {
        each.feature.code: {one.privilege.code: one.value for one in each.privileges} for each in granted
    }
    context = {"features": sorted(known, key=lambda each: each.code), "granted": values, "back": back}
    return HtmlPage(template="entitlements.html", context=context)


def _sent(visit: Visit) -> dict[str, dict[str, str]]:
    """The features that are ticked, with the values that are typed. Raises NotFound."""
    ticked = visit.form.all("feature")
    known = store.by_codes(visit.conn, visit.here.id, ticked)
    if len(known) < len(set(ticked)):
        raise NotFound("feature")
    return {code: _typed(visit.form, feature) for code, feature in known.items()}


def _typed(form: Form, feature: Feature) -> dict[str, str]:
    """The values of a feature's privileges; what is empty is left out."""
    names = {each.code: f"{feature.code}:{each.code}" for each in feature.privileges}
    return {code: form.get(name) for code, name in names.items() if form.get(name)}
