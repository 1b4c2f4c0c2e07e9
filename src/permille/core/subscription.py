"""The subscription: a customer on a plan, and how far it is billed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from uuid import UUID


@dataclass(frozen=True, slots=True, kw_only=True)
class Subscription:
    """One row of an external_id's history. `status`: pending, active, terminated or canceled.

    next_billing_at, activates_at and ends_at say what is due and when; fee_billed_until and
    charges_billed_until (exclusive ends) say what is billed already.
    """

    id: UUID
    organization_id: UUID
    customer_id: UUID
    plan_id: UUID
    previous_subscription_id: UUID | None
    external_id: str
    name: str | None
    status: str
    billing_time: str
    subscription_at: datetime
    started_at: datetime | None
    activated_at: datetime | None
    trial_ended_at: datetime | None
    ending_at: datetime | None
    terminated_at: datetime | None
    canceled_at: datetime | None
    on_termination_credit_note: str | None
    on_termination_invoice: str
    consolidate_invoice: bool
    purchase_order_number: str | None
    progressive_billing_disabled: bool
    created_at: datetime
    updated_at: datetime
    next_billing_at: datetime | None
    activates_at: datetime | None
    ends_at: datetime | None
    fee_billed_until: datetime | None
    charges_billed_until: datetime | None
