"""Rules about who pays for calls of language models: the list, one to add, to change or to delete."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from permille.api.payer_rules import read_changed_rule, read_rule
from permille.api.validation import Fields, parse_uuid
from permille.core.errors import Invalid, NotFound
from permille.core.llm.payer import SET_BY_REQUESTS, PayerName, PayerRule
from permille.store import payer_rules as store
from permille.usecases import payer_rules as usecase
from permille.web.typed_number import plain_number
from permille.web.visit import Done, Form, HtmlPage, Visit

LISTING = "/app/payer-rules"
TITLES = {
    PayerName.KEY: "Key",
    PayerName.USER: "User",
    PayerName.TEAM: "Team",
    PayerName.ORGANIZATION: "Organization",
    PayerName.END_USER: "End user",
    PayerName.TAG: "Tag",
}


def listing(visit: Visit) -> HtmlPage:
    """GET /app/payer-rules. What to make a rule about may be in the address."""
    page = visit.page()
    found, total = store.listing(visit.conn, visit.here.id, limit=page.per_page, offset=page.offset)
    context = {
        "rules": found,
        "meta": page.meta(total),
        "titles": TITLES,
        "kinds": [(str(kind), title) for kind, title in TITLES.items()],
        "wanted": {name: visit.query.get(name, "") for name in ("field", "value")},
    }
    return HtmlPage(template="payer_rules.html", context=context)


def add(visit: Visit) -> Done:
    """POST /app/payer-rules."""
    body = {"field": visit.form.get("field"), "value": visit.form.get("value"), **_read(visit.form)}
    fields = Fields(body)
    made = read_rule(fields, visit.here.id, now=visit.now)
    fields.check()
    counted = _saved(visit, usecase.add, made)
    return _done("created payer rule", made, body, counted, said="created")


def before(visit: Visit) -> HtmlPage:
    """GET /app/edit-payer-rule/{lago_id}."""
    rule = _to_change(visit)
    context = {"rule": rule, "title": TITLES[rule.field], "may_choose": rule.field not in SET_BY_REQUESTS}
    return HtmlPage(template="payer_rule_form.html", context=context)


def update(visit: Visit) -> Done:
    """POST /app/edit-payer-rule/{lago_id}: who pays from now on, and for what waits."""
    known = _to_change(visit)
    body = _read(visit.form)
    if known.field not in SET_BY_REQUESTS:
        body["overrides_request"] = not visit.form.has("callers_choose")
    fields = Fields(body)
    after = read_changed_rule(fields, known)
    if not body["external_customer_id"] and not body["external_subscription_id"]:
        fields.refuse("external_customer_id", "value_is_mandatory")
    fields.check()
    counted = _saved(visit, usecase.change, after)
    return _done("changed payer rule", after, body, counted, said="saved")


def delete(visit: Visit) -> Done:
    """POST /app/delete-payer-rule/{lago_id}."""
    gone = _to_change(visit)
    usecase.remove(visit.conn, gone)
    return _done("deleted payer rule", gone, {}, 0, said="deleted")


def _to_change(visit: Visit) -> PayerRule:
    return usecase.to_change(visit.conn, visit.here.id, parse_uuid(visit.path["lago_id"]))


def _read(form: Form) -> dict[str, Any]:
    """Who pays, as the API takes it."""
    body: dict[str, Any] = {
        "position": plain_number(form.get("position"), whole=True) or None,
        "external_customer_id": form.get("external_customer_id") or None,
        "external_subscription_id": form.get("external_subscription_id") or None,
    }
    if form.has("callers_choose"):
        body["overrides_request"] = False
    return body


def _saved(visit: Visit, save: Callable[..., int], rule: PayerRule) -> int:
    """How many calls that waited are counted by it. Raises Invalid where there is nobody of that id."""
    try:
        return save(visit.conn, rule, now=visit.now)
    except NotFound as missing:
        raise Invalid({f"external_{missing.resource}_id": [missing.code]}) from missing


def _done(action: str, rule: PayerRule, body: dict[str, Any], counted: int, *, said: str) -> Done:
    said = "waiting_counted" if counted else said
    details = {**body, "counted_usages": counted} if body else {}
    return Done(
        action=action, subject=f"{rule.field} {rule.value}", to=f"{LISTING}?said={said}", details=details
    )
