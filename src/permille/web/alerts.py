"""Alerts of a subscription: the list, one to add or to delete, and what they have fired."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from permille.api.alerts import read_alert
from permille.api.validation import Fields
from permille.core.alert import SUBSCRIPTION_TYPES, AlertOwner, AlertType, Threshold
from permille.core.contract.subscription import Subscription
from permille.core.errors import Invalid
from permille.core.record import Record
from permille.store import alerts as store, billable_metrics, customers, plans
from permille.usecases.catalogue import alerts, subscriptions
from permille.usecases.catalogue.alerts import UnableToAddError
from permille.web.charge_form import MENU_MAX, to_cents
from permille.web.shown import in_path
from permille.web.typed_number import plain_number
from permille.web.visit import Done, Form, HtmlPage, Visit

TITLES = {
    AlertType.USAGE_AMOUNT: "Usage of the period, as an amount",
    AlertType.METRIC_AMOUNT: "Usage of a metric, as an amount",
    AlertType.METRIC_UNITS: "Usage of a metric, in units",
    AlertType.LIFETIME_AMOUNT: "Usage since the start, as an amount",
}
ROWS = 4
"""Thresholds that the form has room for."""
FIRINGS_SHOWN = 50


def alerts_url(external_id: str) -> str:
    return f"/app/alerts/{in_path(external_id)}"


class Watched(Record, kw_only=True):
    """A value as it is shown: an amount in its currency, or units."""

    value: Decimal
    currency: str
    """Empty for units."""


class ShownAlert(Record, kw_only=True):
    """A row of the list."""

    code: str
    name: str | None
    title: str
    metric: str | None
    now: Watched
    thresholds: Sequence[tuple[str | None, Watched, bool]]
    """Name, value, and whether it repeats."""


class ShownFiring(Record, kw_only=True):
    """A row of what was fired."""

    at: datetime
    code: str
    before: Watched
    now: Watched
    crossed: Sequence[tuple[str | None, Watched, bool]]


def _subscription(visit: Visit) -> tuple[Subscription, AlertOwner, str]:
    """The subscription, what its alerts are kept by, and its currency. Raises NotFound."""
    row, _ = subscriptions.newest(visit.conn, visit.here.id, visit.path["external_id"], status="active")
    currency = plans.plan_by_id(visit.conn, row.plan_id).amount_currency
    return row, AlertOwner(external_subscription_id=row.external_id), currency


def detail(visit: Visit) -> HtmlPage:
    """GET /app/alerts/{external_id}."""
    row, owner, currency = _subscription(visit)
    found = store.of_owner(visit.conn, visit.here.id, owner)
    metrics = billable_metrics.by_ids(
        visit.conn, {each.billable_metric_id for each in found if each.billable_metric_id}
    )
    choices, _ = billable_metrics.listing(visit.conn, visit.here.id, limit=MENU_MAX, offset=0)
    firings = store.newest_firings(visit.conn, visit.here.id, owner, limit=FIRINGS_SHOWN)
    context = {
        "subscription": row,
        "customer": customers.by_ids(visit.conn, [row.customer_id])[row.customer_id],
        "currency": currency,
        "alerts": [
            ShownAlert(
                code=each.code,
                name=each.name,
                title=TITLES[each.alert_type],
                metric=metrics[each.billable_metric_id].name if each.billable_metric_id else None,
                now=_watched(each.previous_value, each.alert_type, currency),
                thresholds=_thresholds(each.thresholds, each.alert_type, currency),
            )
            for each in found
        ],
        "firings": [
            ShownFiring(
                at=each.triggered_at,
                code=each.alert_code,
                before=_watched(each.previous_value, each.alert_type, currency),
                now=_watched(each.current_value, each.alert_type, currency),
                crossed=_thresholds(each.crossed_thresholds, each.alert_type, currency),
            )
            for each in firings
        ],
        "types": [(each.value, TITLES[each]) for each in SUBSCRIPTION_TYPES],
        "metrics": [("", "–"), *((each.code, each.name) for each in choices)],
        "rows": range(1, ROWS + 1),
    }
    return HtmlPage(template="alerts.html", context=context)


def _watched(value: Decimal, alert_type: AlertType, currency: str) -> Watched:
    return Watched(value=value, currency=currency if alert_type.is_amount else "")


def _thresholds(
    thresholds: Sequence[Threshold], alert_type: AlertType, currency: str
) -> list[tuple[str | None, Watched, bool]]:
    return [(each.code, _watched(each.value, alert_type, currency), each.recurring) for each in thresholds]


def create(visit: Visit) -> Done:
    """POST /app/alerts/{external_id}."""
    row, owner, currency = _subscription(visit)
    body = _read(visit.form, currency)
    fields = Fields(body)
    wanted = read_alert(visit.conn, visit.here.id, fields, SUBSCRIPTION_TYPES)
    fields.check()
    assert wanted is not None, "what is wrong with it was refused"
    try:
        alerts.add(visit.conn, visit.here.id, owner, [wanted], now=visit.now)
    except UnableToAddError as refused:
        raise Invalid(refused.errors[0]) from refused
    to = f"{alerts_url(row.external_id)}?said=created"
    return Done(action="created alert", subject=wanted.code, to=to, details=body)


def _read(form: Form, currency: str) -> dict[str, Any]:
    """The form as the API takes an alert: amounts in the smallest unit."""
    alert_type = form.get("alert_type")
    is_amount = alert_type.endswith("_amount")

    def value(name: str) -> Any:
        text = form.get(name)
        return to_cents(text, currency) if is_amount else plain_number(text)

    steps = [
        {"code": form.get(f"code{number}") or None, "value": value(f"value{number}")}
        for number in range(1, ROWS + 1)
        if form.get(f"value{number}")
    ]
    if form.get("step"):
        steps.append({"code": form.get("step_code") or None, "value": value("step"), "recurring": True})
    body: dict[str, Any] = {"alert_type": alert_type, "code": form.get("code"), "thresholds": steps}
    if form.get("name"):
        body["name"] = form.get("name")
    if form.get("billable_metric_code"):
        body["billable_metric_code"] = form.get("billable_metric_code")
    return body


def delete(visit: Visit) -> Done:
    """POST /app/delete-alert/{external_id}."""
    row, owner, _ = _subscription(visit)
    gone = alerts.to_change(visit.conn, visit.here.id, owner, visit.form.get("code"))
    alerts.remove(visit.conn, [gone])
    to = f"{alerts_url(row.external_id)}?said=deleted"
    return Done(action="deleted alert", subject=gone.code, to=to)
