"""API keys: whose they are, what they may do and until when."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from enum import StrEnum
from uuid import UUID

from permille.core.errors import Forbidden
from permille.core.organization import Organization
from permille.core.record import Record


class Mode(StrEnum):
    """What is done with a kind of object."""

    READ = "read"
    WRITE = "write"


RESOURCES = (
    "event",
    "customer_usage",
    "customer",
    "subscription",
    "invoice",
    "fee",
    "credit_note",
    "wallet",
    "payment",
    "payment_request",
    "payment_receipt",
    "dunning_campaign",
    "late_usage",
    "alert",
    "feature",
    "analytics",
    "billable_metric",
    "plan",
    "coupon",
    "applied_coupon",
    "add_on",
    "invoice_custom_section",
    "pricing_unit",
    "tax",
    "webhook_endpoint",
    "organization",
    "activity_log",
    "api_log",
)
"""The kinds of objects that permissions name."""

Permissions = Mapping[str, Sequence[str]]
"""Kind of object -> the modes that are allowed; what is not named is not allowed."""

EVENTS_ONLY: Permissions = {"event": [Mode.WRITE.value]}
READ_ONLY: Permissions = {resource: [Mode.READ.value] for resource in RESOURCES}


class ApiKey(Record, kw_only=True):
    """A key that opens an organization. `permissions` None: all of them."""

    id: UUID
    organization: Organization
    permissions: Permissions | None
    expires_at: datetime | None

    def require(self, resource: str, mode: Mode) -> None:
        """Raises Forbidden, which names what the key may not do."""
        if self.permissions is not None and mode.value not in self.permissions.get(resource, ()):
            raise Forbidden(f"{mode.value}_action_not_allowed_for_{resource}")
