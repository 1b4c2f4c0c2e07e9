"""What fees are for."""

from __future__ import annotations

from enum import StrEnum


class FeeKind(StrEnum):
    """What a fee is for. Source: semantics-billing.md section 4."""

    SUBSCRIPTION = "subscription"
    """A plan's own amount for a period."""
    CHARGE = "charge"
    """Usage."""
    FIXED_CHARGE = "fixed_charge"
    COMMITMENT = "commitment"
    """What a period's fees lack of the plan's minimum."""
    ADD_ON = "add_on"
    CREDIT = "credit"
    """Credits of a wallet that are bought."""
