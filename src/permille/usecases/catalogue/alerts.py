"""Alerts are added, changed and removed; what they have fired stays."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.alert import Alert, AlertOwner, AlertType, Threshold
from permille.core.errors import NotFound
from permille.core.money import ZERO
from permille.core.record import Record, replace
from permille.database import locks
from permille.ids import new_id
from permille.store import alerts as store

TAKEN = "value_already_exist"
EXISTS = "alert_already_exists"

Errors = Mapping[str, list[str]]


class NewAlert(Record, kw_only=True):
    """What an alert is to be."""

    alert_type: AlertType
    code: str
    name: str | None
    billable_metric_id: UUID | None
    thresholds: tuple[Threshold, ...]
    value: Decimal = ZERO
    """What it begins with: nothing used, or what a wallet has."""


class UnableToAddError(Exception):
    """New alerts clash with others of their owner, or with each other: index -> problems by field."""

    def __init__(self, errors: Mapping[int, Errors]) -> None:
        super().__init__(errors)
        self.errors = errors


def lock_owner(conn: Connection[Any], organization_id: UUID, owner: AlertOwner) -> None:
    """One change of the alerts of a subscription or a wallet at a time."""
    if owner.external_subscription_id is not None:
        locks.change_subscription(conn, organization_id, owner.external_subscription_id)
    else:
        locks.change_alerts_of_wallet(conn, organization_id, owner.wallet_id)


def add(
    conn: Connection[Any],
    organization_id: UUID,
    owner: AlertOwner,
    wanted: Sequence[NewAlert],
    *,
    now: datetime,
) -> list[Alert]:
    """All of these or none. Raises UnableToAddError."""
    lock_owner(conn, organization_id, owner)
    errors = _clashes(store.of_owner(conn, organization_id, owner), wanted)
    if errors:
        raise UnableToAddError(errors)
    made = [
        Alert(
            id=new_id(now),
            organization_id=organization_id,
            external_subscription_id=owner.external_subscription_id,
            wallet_id=owner.wallet_id,
            alert_type=each.alert_type,
            code=each.code,
            name=each.name,
            billable_metric_id=each.billable_metric_id,
            thresholds=each.thresholds,
            previous_value=each.value,
            period_from=None,
            last_processed_at=None,
            created_at=now,
        )
        for each in wanted
    ]
    store.add(conn, made)
    return made


def _clashes(known: Sequence[Alert], wanted: Sequence[NewAlert]) -> dict[int, Errors]:
    every: list[Alert | NewAlert] = [*known, *wanted]
    codes = Counter(each.code for each in every)
    kinds = Counter((each.alert_type, each.billable_metric_id) for each in every)
    found: dict[int, dict[str, list[str]]] = {}
    for index, each in enumerate(wanted):
        if codes[each.code] > 1:
            found.setdefault(index, {})["code"] = [TAKEN]
        if kinds[each.alert_type, each.billable_metric_id] > 1:
            found.setdefault(index, {})["base"] = [EXISTS]
    return dict(found)


def by_code(conn: Connection[Any], organization_id: UUID, owner: AlertOwner, code: str) -> Alert:
    """Raises NotFound."""
    for each in store.of_owner(conn, organization_id, owner):
        if each.code == code:
            return each
    raise NotFound("alert")


def to_change(conn: Connection[Any], organization_id: UUID, owner: AlertOwner, code: str) -> Alert:
    """The alert, with those of its owner locked until the transaction ends. Raises NotFound."""
    lock_owner(conn, organization_id, owner)
    return by_code(conn, organization_id, owner, code)


def change(conn: Connection[Any], before: Alert, *, changes: Mapping[str, Any], now: datetime) -> Alert:
    """Other thresholds hold from the next look on. Raises UnableToAddError."""
    after = replace(before, **changes)
    others = [
        each for each in store.of_owner(conn, before.organization_id, before.owner) if each.id != before.id
    ]
    wanted = NewAlert(
        alert_type=after.alert_type,
        code=after.code,
        name=after.name,
        billable_metric_id=after.billable_metric_id,
        thresholds=after.thresholds,
    )
    errors = _clashes(others, [wanted])
    if errors:
        raise UnableToAddError(errors)
    store.replace(conn, after, now=now)
    return after


def remove(conn: Connection[Any], alerts: Sequence[Alert]) -> None:
    store.delete(conn, [each.id for each in alerts])
