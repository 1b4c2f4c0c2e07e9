"""Minimum commitments: at most one row a plan, loaded and saved with it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.contract.commitment import MinimumCommitment
from permille.core.contract.plan import Plan
from permille.store import taxes

COLUMN = (
    "(select jsonb_build_object('id', k.id, 'amount_cents', k.amount_cents, 'created_at', k.created_at,"
    " 'updated_at', k.updated_at, 'invoice_display_name', k.invoice_display_name, 'taxes', k.taxes)"
    f" from (select m.*, {taxes.column('m')} from commitment m where m.plan_id = p.id) as k)"
    " as minimum_commitment"
)
"""The commitment of a plan p, for a select; `of_json` reads it."""


def of_json(found: Mapping[str, Any] | None) -> MinimumCommitment | None:
    """What `COLUMN` selects."""
    if found is None:
        return None
    return MinimumCommitment(
        id=UUID(found["id"]),
        amount_cents=found["amount_cents"],
        invoice_display_name=found["invoice_display_name"],
        created_at=datetime.fromisoformat(found["created_at"]),
        updated_at=datetime.fromisoformat(found["updated_at"]),
        taxes=taxes.of_json(found["taxes"]),
    )


def save(conn: Connection[Any], *, before: MinimumCommitment | None, plan: Plan) -> None:
    """Make the commitment of a plan what the plan says."""
    after = plan.minimum_commitment
    if after == before:
        return
    if after is None:
        conn.execute("delete from commitment where plan_id = %s", [plan.id])
        return
    conn.execute(
        "insert into commitment (id, organization_id, plan_id, amount_cents, invoice_display_name, tax_ids,"
        " created_at, updated_at) values (%s, %s, %s, %s, %s, %s, %s, %s) on conflict (plan_id) do update set"
        " amount_cents = excluded.amount_cents, invoice_display_name = excluded.invoice_display_name,"
        " tax_ids = excluded.tax_ids, updated_at = excluded.updated_at",
        [
            after.id,
            plan.organization_id,
            plan.id,
            after.amount_cents,
            after.invoice_display_name,
            taxes.ids(after.taxes),
            after.created_at,
            after.updated_at,
        ],
    )
