"""Billable metrics are added, changed and removed, with all that follows from it; the catalogue is locked meanwhile."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from functools import partial
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.contract.dimension_edit import follow_metric
from permille.core.contract.plan import Charge, Plan, filter_name
from permille.core.contract.price_versions import change_charges
from permille.core.errors import Invalid
from permille.core.metering.billable_metric import BillableMetric
from permille.core.record import replace
from permille.database import locks
from permille.store import (
    alerts,
    billable_metrics,
    llm_intakes,
    plans,
    webhooks,
)
from permille.usecases import metering
from permille.usecases.by_code import ByCode
from permille.usecases.price_change import prices_changed

REFUSED_SHOWN = 20


_BY_CODE = ByCode("billable_metric", billable_metrics.by_code)
by_code, to_change = _BY_CODE.one, _BY_CODE.to_change


def is_code_taken(conn: Connection[Any], organization_id: UUID, code: str) -> bool:
    """Whether a metric or an intake of the organization has the code; the answer holds while the catalogue is locked.

    What a metric counts and an intake too would be billed twice.
    """
    locks.change_catalogue(conn, organization_id)
    return billable_metrics.by_code(conn, organization_id, code) is not None or llm_intakes.has_code(
        conn, organization_id, [code]
    )


def add(conn: Connection[Any], metric: BillableMetric) -> None:
    """Add a metric whose code is not taken."""
    is_new = billable_metrics.add(conn, metric)
    assert is_new, "nobody else changes the catalogue meanwhile"
    _after_change(conn, metric, "created", plan_ids=(), now=metric.created_at)


def change(conn: Connection[Any], before: BillableMetric, after: BillableMetric) -> None:
    """Store a changed metric; filters of charges follow its dimensions. Raises Invalid."""
    billable_metrics.replace(conn, after)
    if after.filters != before.filters:
        _follow_dimensions(conn, before, after)
    if after.code != before.code:
        metering.refresh(conn, organization_id=after.organization_id, code=before.code)
    plan_ids = plans.ids_of_metric(conn, after.id)
    _after_change(conn, after, "updated", plan_ids=plan_ids, now=after.updated_at)


def remove(conn: Connection[Any], metric: BillableMetric, *, now: datetime) -> None:
    """Remove a metric with its charges and alerts; its events are kept."""
    plan_ids = plans.ids_of_metric(conn, metric.id)
    alerts.delete_of_metric(conn, metric.id)
    billable_metrics.delete(conn, billable_metric_id=metric.id, now=now)
    _after_change(conn, metric, "deleted", plan_ids=plan_ids, now=now)


def _follow_dimensions(conn: Connection[Any], before: BillableMetric, after: BillableMetric) -> None:
    """Dimension values that are gone go from the charge filters too, in every version of prices. Raises Invalid.

    Where somebody is subscribed this prices no event otherwise whose own values are still listed as they were.
    """
    found = plans.plans_of_metric(conn, after.id)
    subscribed = plans.subscribed_among(conn, [plan.id for plan in found])
    refused: list[str] = []

    def followed(charge: Charge, plan: Plan) -> Charge:
        if charge.metric.id != after.id:
            return charge
        edited = follow_metric(replace(charge, metric=before), after)
        if plan.id in subscribed:
            refused.extend(
                f"Plan {plan.code}, charge {charge.code}, filter {filter_name(entry)}"
                for entry in edited.repriced_by
            )
        return edited.charge

    for plan in found:
        edited = change_charges(plan, partial(followed, plan=plan))
        plans.save_prices(conn, before=plan, after=edited, now=after.updated_at)
    if refused:
        shown = list(dict.fromkeys(refused))[:REFUSED_SHOWN]
        raise Invalid({"filters": ["would_reprice_other_values", *shown]})


def _after_change(
    conn: Connection[Any], metric: BillableMetric, what: str, *, plan_ids: Collection[UUID], now: datetime
) -> None:
    """What follows prices follows the metric, events are kept as it now needs them, and the webhook is queued."""
    prices_changed(conn, metric.organization_id, plan_ids=plan_ids, now=now)
    metering.refresh(conn, organization_id=metric.organization_id, code=metric.code)
    webhooks.enqueue_of(conn, f"billable_metric.{what}", metric.organization_id, [metric.id], now=now)
