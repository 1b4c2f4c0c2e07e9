"""What charges ask of the way in which events are kept."""

from __future__ import annotations

from collections.abc import Sequence

from permille.api.http import Call
from permille.core.contract.plan import Charge
from permille.usecases import metering


def meter(call: Call, charges: Sequence[Charge]) -> None:
    """Events are kept as the charges' grouping keys now need them."""
    for code in sorted({charge.metric.code for charge in charges}):
        metering.refresh(call.conn, organization_id=call.organization.id, code=code)
