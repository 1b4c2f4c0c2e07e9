"""Alerts on usage and balances. semantics-billing.md sections 9.3 and 9.4."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.api.billable_metrics import render_billable_metric
from permille.api.customers import customer_of
from permille.api.http import Call, Endpoint
from permille.api.objects import alert as objects
from permille.api.render import instant
from permille.api.subscriptions import asked_row
from permille.api.validation import INVALID, MANDATORY, Fields
from permille.core.alert import (
    SUBSCRIPTION_TYPES,
    WALLET_TYPES,
    Alert,
    AlertOwner,
    AlertType,
    Threshold,
    threshold_errors,
)
from permille.core.errors import BadRequest, Invalid, NotFound
from permille.core.money import ZERO, decimal_text
from permille.core.record import Record, replace
from permille.core.wallet import Wallet
from permille.store import alerts as store, billable_metrics, wallets
from permille.store.alerts import TriggeredAlert
from permille.usecases.alerts import wallet_value
from permille.usecases.catalogue import alerts as catalogue
from permille.usecases.catalogue.alerts import NewAlert, UnableToAddError

THRESHOLD_MAX = 10**18
THRESHOLD_PLACES = 15
BATCH_MAX = 100


class AlertEndpoints(Record, kw_only=True):
    """The operations on alerts of one kind of owner."""

    create: Endpoint
    listing: Endpoint
    show: Endpoint
    update: Endpoint
    delete: Endpoint
    delete_all: Endpoint


OwnerOf = Callable[[Call], AlertOwner]
ValueOf = Callable[[AlertType], Decimal]


def _nothing(_type: AlertType) -> Decimal:
    return ZERO


def endpoints(
    owner_of: OwnerOf, types: Sequence[AlertType], value_of: Callable[[Call], ValueOf] | None = None
) -> AlertEndpoints:
    """The operations on alerts of the owner that a path names."""

    def create(call: Call) -> dict[str, Any]:
        """`alert`, or `alerts` for several, all or none, errors by their index."""
        owner = owner_of(call)
        is_batch = isinstance(call.body, dict) and "alerts" in call.body
        sent = _several(call) if is_batch else [call.root("alert")]
        begins_with = value_of(call) if value_of else _nothing
        wanted = _read(call, sent, types, begins_with, is_batch=is_batch)
        shown = render_alerts(call.conn, _add(call, owner, wanted, is_batch=is_batch))
        return {"alerts": shown} if is_batch else {"alert": shown[0]}

    def listing(call: Call) -> dict[str, Any]:
        page = call.page()
        found, total = store.listing(
            call.conn, call.organization.id, owner_of(call), limit=page.per_page, offset=page.offset
        )
        return {"alerts": render_alerts(call.conn, found), "meta": page.meta(total)}

    def show(call: Call) -> dict[str, Any]:
        return _shown(
            call, catalogue.by_code(call.conn, call.organization.id, owner_of(call), call.path["code"])
        )

    def update(call: Call) -> dict[str, Any]:
        return _change(call, to_change(call))

    def delete(call: Call) -> dict[str, Any]:
        gone = to_change(call)
        shown = _shown(call, gone)
        catalogue.remove(call.conn, [gone])
        return shown

    def to_change(call: Call) -> Alert:
        return catalogue.to_change(call.conn, call.organization.id, owner_of(call), call.path["code"])

    def delete_all(call: Call) -> dict[str, Any]:
        owner = owner_of(call)
        catalogue.lock_owner(call.conn, call.organization.id, owner)
        gone = store.of_owner(call.conn, call.organization.id, owner)
        catalogue.remove(call.conn, gone)
        return {"alerts": render_alerts(call.conn, gone)}

    return AlertEndpoints(
        create=create,
        listing=listing,
        show=show,
        update=update,
        delete=delete,
        delete_all=delete_all,
    )


def _subscription(call: Call) -> AlertOwner:
    row, _ = asked_row(call)
    return AlertOwner(external_subscription_id=row.external_id)


def _wallet(call: Call) -> AlertOwner:
    return AlertOwner(wallet_id=_wallet_row(call).id)


def _wallet_row(call: Call) -> Wallet:
    """The active wallet that the path names. Raises NotFound (customer, wallet)."""
    found = wallets.active_by_code(call.conn, customer_of(call).id, call.path["wallet_code"])
    if found is None:
        raise NotFound("wallet")
    return found


def _wallet_value(call: Call) -> ValueOf:
    """An alert of a wallet begins with what it has."""
    row = _wallet_row(call)
    return lambda alert_type: wallet_value(row, alert_type)


OF_SUBSCRIPTIONS = endpoints(_subscription, SUBSCRIPTION_TYPES)
OF_WALLETS = endpoints(_wallet, WALLET_TYPES, _wallet_value)


def _several(call: Call) -> list[Any]:
    sent = call.body["alerts"]
    if not isinstance(sent, list) or not sent:
        raise BadRequest("param is missing or the value is empty or invalid: alerts")
    if len(sent) > BATCH_MAX:
        raise Invalid({"alerts": ["too_many_alerts"]})
    return sent


def _read(
    call: Call, sent: Sequence[Any], types: Sequence[AlertType], begins_with: ValueOf, *, is_batch: bool
) -> list[NewAlert]:
    """Raises Invalid and NotFound."""
    errors: dict[int, Mapping[str, list[str]]] = {}
    allowed: dict[str, tuple[str, ...]] = {}
    wanted = []
    for index, given in enumerate(sent):
        fields = Fields(given if isinstance(given, dict) else {})
        found = read_alert(call.conn, call.organization.id, fields, types)
        if found is not None:
            wanted.append(replace(found, value=begins_with(found.alert_type)))
        if fields.errors:
            errors[index] = fields.errors
            allowed |= fields.allowed
    if errors:
        raise _refusal(errors, allowed, is_batch=is_batch)
    return wanted


def _add(call: Call, owner: AlertOwner, wanted: Sequence[NewAlert], *, is_batch: bool) -> list[Alert]:
    """Raises Invalid."""
    try:
        return catalogue.add(call.conn, call.organization.id, owner, wanted, now=call.now)
    except UnableToAddError as refused:
        raise _refusal(refused.errors, {}, is_batch=is_batch) from refused


def _refusal(
    errors: Mapping[int, Mapping[str, list[str]]],
    allowed: Mapping[str, tuple[str, ...]],
    *,
    is_batch: bool,
) -> Invalid:
    if is_batch:
        return Invalid({str(index): each for index, each in sorted(errors.items())})
    return Invalid(errors[0], allowed=allowed)


def read_alert(
    conn: Connection[Any], organization_id: UUID, fields: Fields, types: Sequence[AlertType]
) -> NewAlert | None:
    """A new alert, None when its fields are wrong. Raises NotFound for an unknown metric."""
    alert_type = _type(fields, types)
    code = fields.text("code", mandatory=True)
    name = fields.text("name")
    thresholds = _thresholds(fields)
    metric_id = _metric(conn, organization_id, fields, alert_type) if alert_type else None
    if fields.errors or alert_type is None or not code:
        return None
    return NewAlert(
        alert_type=alert_type,
        code=code,
        name=name,
        billable_metric_id=metric_id,
        thresholds=thresholds,
    )


def _type(fields: Fields, types: Sequence[AlertType]) -> AlertType | None:
    given = fields.given.get("alert_type")
    if given in (None, ""):
        fields.refuse("alert_type", MANDATORY)
        fields.refuse("alert_type", INVALID, allowed=types)
        return None
    chosen = fields.choice("alert_type", types, code="invalid_type")
    return AlertType(chosen) if chosen else None


def _metric(
    conn: Connection[Any], organization_id: UUID, fields: Fields, alert_type: AlertType
) -> UUID | None:
    code = fields.text("billable_metric_code", mandatory=alert_type.needs_metric)
    if not alert_type.needs_metric and code:
        fields.refuse("billable_metric_code", "value_must_be_blank")
    if fields.errors or not code:
        return None
    found = billable_metrics.by_code(conn, organization_id, code)
    if found is None:
        raise NotFound("billable_metric")
    return found.id


def _thresholds(fields: Fields) -> tuple[Threshold, ...]:
    given = fields.objects("thresholds")
    if not given:
        if "thresholds" not in fields.errors:
            fields.refuse("thresholds", MANDATORY)
        return ()
    found = tuple(_threshold(fields, each.given) for each in given)
    if "thresholds:value" not in fields.errors:
        for code in threshold_errors(found):
            fields.refuse("thresholds", code)
    return found


def _threshold(fields: Fields, given: Mapping[str, Any]) -> Threshold:
    own = Fields(given)
    code = own.text("code")
    recurring = own.flag("recurring") or False
    value = own.decimal("value", minimum=-THRESHOLD_MAX, maximum=THRESHOLD_MAX, places=THRESHOLD_PLACES)
    if value is None and "value" not in own.errors:
        own.refuse("value", MANDATORY)
    if recurring and value is not None and value <= 0:
        own.refuse("value", "recurring_value_is_negative" if value < 0 else INVALID)
    for name, codes in own.errors.items():
        fields.errors.setdefault(f"thresholds:{name}", []).extend(codes)
    return Threshold(code=code, value=value or Decimal(0), recurring=recurring)


def read_alert_changes(
    conn: Connection[Any], organization_id: UUID, fields: Fields, before: Alert
) -> dict[str, Any]:
    """The fields of an alert that are sent. Raises Invalid and NotFound."""
    changes: dict[str, Any] = {}
    if fields.has("code"):
        changes["code"] = fields.text("code", mandatory=True) or ""
    if fields.has("name"):
        changes["name"] = fields.text("name")
    if fields.has("thresholds"):
        changes["thresholds"] = _thresholds(fields)
    if fields.has("billable_metric_code") and before.alert_type.needs_metric:
        changes["billable_metric_id"] = _metric(conn, organization_id, fields, before.alert_type)
    fields.check()
    return changes


def _change(call: Call, before: Alert) -> dict[str, Any]:
    changes = read_alert_changes(call.conn, call.organization.id, Fields(call.root("alert")), before)
    try:
        after = catalogue.change(call.conn, before, changes=changes, now=call.now)
    except UnableToAddError as refused:
        raise Invalid(refused.errors[0]) from refused
    return _shown(call, after)


def _shown(call: Call, alert: Alert) -> dict[str, Any]:
    return {"alert": render_alerts(call.conn, [alert])[0]}


def render_alerts(conn: Connection[Any], alerts: Sequence[Alert]) -> list[objects.Alert]:
    """Alerts with their metrics."""
    metrics = billable_metrics.by_ids(
        conn, {each.billable_metric_id for each in alerts if each.billable_metric_id}
    )
    owners = wallets.by_ids(conn, {each.wallet_id for each in alerts if each.wallet_id})
    return [
        objects.Alert(
            lago_id=each.id,
            lago_organization_id=str(each.organization_id),
            external_subscription_id=each.external_subscription_id,
            subscription_external_id=each.external_subscription_id,
            lago_wallet_id=str(each.wallet_id) if each.wallet_id else None,
            wallet_code=owners[each.wallet_id].code if each.wallet_id else None,
            alert_type=each.alert_type,
            code=each.code,
            name=each.name,
            direction=each.alert_type.direction,
            previous_value=decimal_text(each.previous_value),
            last_processed_at=instant(each.last_processed_at),
            thresholds=_render_thresholds(each.thresholds),
            billable_metric=render_billable_metric(metrics[each.billable_metric_id])
            if each.billable_metric_id
            else None,
            created_at=instant(each.created_at),
        )
        for each in alerts
    ]


def _render_thresholds(thresholds: Sequence[Threshold]) -> list[objects.AlertThreshold]:
    return [
        objects.AlertThreshold(code=each.code, value=decimal_text(each.value), recurring=each.recurring)
        for each in thresholds
    ]


def render_triggered_alert(firing: TriggeredAlert) -> objects.TriggeredAlert:
    """What the webhook shows."""
    return objects.TriggeredAlert(
        lago_id=firing.id,
        lago_organization_id=str(firing.organization_id),
        lago_alert_id=str(firing.alert_id),
        lago_subscription_id=str(firing.subscription_id) if firing.subscription_id else None,
        external_subscription_id=firing.external_subscription_id,
        subscription_external_id=firing.external_subscription_id,
        lago_wallet_id=str(firing.wallet_id) if firing.wallet_id else None,
        external_customer_id=firing.external_customer_id,
        customer_external_id=firing.external_customer_id,
        billable_metric_code=firing.billable_metric_code,
        alert_name=firing.alert_name,
        alert_code=firing.alert_code,
        alert_type=firing.alert_type,
        current_value=decimal_text(firing.current_value),
        previous_value=decimal_text(firing.previous_value),
        crossed_thresholds=_render_thresholds(firing.crossed_thresholds),
        triggered_at=instant(firing.triggered_at),
    )


def render_triggered_alerts(conn: Connection[Any], ids: Sequence[UUID]) -> dict[UUID, Any]:
    """What the webhooks of these firings show."""
    return {
        firing_id: render_triggered_alert(firing) for firing_id, firing in store.firings(conn, ids).items()
    }
