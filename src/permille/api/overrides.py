"""Reading the plan that a subscription has of its own. semantics-billing.md section 2.2."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from decimal import Decimal
from types import MappingProxyType
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.api.charge_input import read_overridden_charge
from permille.api.commitments import read_commitment
from permille.api.fixed_charge_input import read_own_fixed_charges
from permille.api.metadata import read_metadata
from permille.api.taxes import known_taxes, read_taxes
from permille.api.usage_thresholds import read_thresholds
from permille.api.validation import INVALID, LONG_TEXT, Fields
from permille.core.contract.plan import Charge, Plan
from permille.core.errors import NotFound
from permille.core.record import replace
from permille.usecases.catalogue.fixed_units import with_own_units
from permille.usecases.catalogue.own_plans import own_copy

TRIAL_DAYS_MAX = 36_500


def read_overrides(
    conn: Connection[Any],
    fields: Fields,
    plan: Plan,
    *,
    own_units: Mapping[UUID, Decimal] = MappingProxyType({}),
    now: datetime,
) -> tuple[Plan, Plan]:
    """The plan, a copy if it is nobody's own yet, and the same with what the request's `plan_overrides` says.

    `own_units` are what the subscription has of its own of the plan's fixed charges. Problems gather in the fields. Raises
    NotFound for a charge that the plan does not have.
    """
    given = fields.given.get("plan_overrides")
    if not isinstance(given, dict):
        fields.refuse("plan_overrides", INVALID)
        return plan, plan
    child = plan if plan.parent_id is not None else with_own_units(own_copy(plan, now=now), own_units)
    entry = Fields(given, fields)
    return child, replace(
        child,
        **_columns(conn, entry, child, now=now),
        charges=_charges(conn, entry, child, now=now),
        fixed_charges=read_own_fixed_charges(conn, entry, child),
    )


def _columns(conn: Connection[Any], entry: Fields, child: Plan, *, now: datetime) -> dict[str, Any]:
    read: dict[str, Any] = {
        "minimum_commitment": read_commitment(conn, entry, child, now=now),
        "usage_thresholds": read_thresholds(entry, child.usage_thresholds, now=now),
    }
    if entry.given.get("amount_cents") is not None:
        read["amount_cents"] = entry.whole("amount_cents", minimum=0) or 0
    if entry.given.get("amount_currency") is not None:
        read["amount_currency"] = entry.currency("amount_currency", mandatory=True) or ""
    if entry.given.get("name") is not None:
        read["name"] = entry.text("name", mandatory=True) or ""
    if entry.has("invoice_display_name"):
        read["invoice_display_name"] = entry.text("invoice_display_name")
    if entry.has("description"):
        read["description"] = entry.text("description", limit=LONG_TEXT)
    if entry.has("trial_period"):
        read["trial_period"] = entry.decimal("trial_period", minimum=0, maximum=TRIAL_DAYS_MAX)
    if entry.has("metadata"):
        read["metadata"] = read_metadata(entry)
    if (own := read_taxes(entry, known_taxes(conn, child.organization_id, [entry]))) is not None:
        read["taxes"] = own
    return read


def _charges(conn: Connection[Any], entry: Fields, child: Plan, *, now: datetime) -> tuple[Charge, ...]:
    entries = entry.objects("charges") or []
    taxes = known_taxes(conn, child.organization_id, entries)
    changed: dict[UUID, Charge] = {}
    for one in entries:
        before = _named(child, one.uuid("id"))
        changed[before.id] = read_overridden_charge(one, before, now=now, taxes=taxes)
    return tuple(changed.get(charge.id, charge) for charge in child.charges)


def _named(child: Plan, charge_id: UUID | None) -> Charge:
    """By its own id, or by that of the charge it is a copy of."""
    for charge in child.charges:
        if charge_id is not None and charge_id in (charge.id, charge.parent_id):
            return charge
    raise NotFound("charge")
