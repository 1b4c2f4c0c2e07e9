"""The plan: a subscription fee per interval, and charges that price metrics."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from permille.core.billable_metric import BillableMetric


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanFilter:
    """The price of one combination of dimension values, as stored: `values` keeps __ALL_FILTER_VALUES__."""

    id: UUID
    invoice_display_name: str | None
    values: Mapping[str, tuple[str, ...]]
    properties: Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Charge:
    """A price attached to a plan's metric. Amounts inside `properties` are decimal texts in major units."""

    id: UUID
    plan_id: UUID
    parent_id: UUID | None
    metric: BillableMetric
    code: str
    invoice_display_name: str | None
    charge_model: str
    pay_in_advance: bool
    prorated: bool
    invoiceable: bool
    regroup_paid_fees: str | None
    min_amount_cents: int
    accepts_target_wallet: bool
    properties: Mapping[str, Any]
    filters: tuple[PlanFilter, ...]
    created_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`amount_cents` is the subscription fee for one `interval`; `trial_period` is in days."""

    id: UUID
    organization_id: UUID
    parent_id: UUID | None
    code: str
    name: str
    invoice_display_name: str | None
    description: str | None
    interval: str
    amount_cents: int
    amount_currency: str
    pay_in_advance: bool
    trial_period: Decimal | None
    bill_charges_monthly: bool | None
    bill_fixed_charges_monthly: bool | None
    metadata: Mapping[str, Any] | None
    charges: tuple[Charge, ...]
    created_at: datetime
