"""Minimum commitments, a part of plans. semantics-billing.md sections 2.1 and 6.2."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from psycopg import Connection

from permille.api.objects import plan as objects
from permille.api.render import instant
from permille.api.taxes import known_taxes, read_taxes, render_tax
from permille.api.validation import MANDATORY, Fields
from permille.core.contract.commitment import MinimumCommitment
from permille.core.contract.plan import Plan
from permille.core.record import replace
from permille.ids import new_id


def read_commitment(
    conn: Connection[Any], fields: Fields, plan: Plan, *, now: datetime
) -> MinimumCommitment | None:
    """The plan's minimum commitment as its `minimum_commitment` wants it: null leaves it, {} takes it away.

    What is not sent of it stays. Raises NotFound for a tax that there is not.
    """
    known, entry = plan.minimum_commitment, fields.nested("minimum_commitment")
    if entry is None:
        return known
    if not entry.given:
        return None
    before = known or MinimumCommitment(
        id=new_id(now), amount_cents=0, invoice_display_name=None, created_at=now, updated_at=now
    )
    read: dict[str, Any] = {}
    if entry.given.get("amount_cents") is not None:
        read["amount_cents"] = entry.whole("amount_cents", minimum=1) or 0
    elif known is None:
        entry.refuse("amount_cents", MANDATORY)
    if entry.has("invoice_display_name"):
        read["invoice_display_name"] = entry.text("invoice_display_name") or None
    if (own := read_taxes(entry, known_taxes(conn, plan.organization_id, [entry]))) is not None:
        read["taxes"] = own
    after = replace(before, **read)
    return before if after == known else replace(after, updated_at=now)


def render_commitment(plan: Plan) -> objects.MinimumCommitment | None:
    """The object; None where the plan has none."""
    found = plan.minimum_commitment
    if found is None:
        return None
    return objects.MinimumCommitment(
        lago_id=found.id,
        plan_code=plan.code,
        invoice_display_name=found.invoice_display_name,
        interval=plan.interval,
        amount_cents=found.amount_cents,
        created_at=instant(found.created_at),
        updated_at=instant(found.updated_at),
        taxes=[render_tax(tax) for tax in found.taxes],
    )
