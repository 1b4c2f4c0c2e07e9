"""Changes of a plan's prices that are still to reach somebody: shown with the plan, and cancelled. docs/price-changes.md."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from permille.api.validation import parse_uuid
from permille.core.contract.plan import Charge, Plan
from permille.core.contract.price_versions import FEE, PriceChange, changes_to_show, versions_of
from permille.core.record import Record
from permille.store import billing_entities, plans as store
from permille.usecases.catalogue import plans as catalogue
from permille.web.shown import values_text
from permille.web.visit import Done, Visit


class Upcoming(Record, kw_only=True):
    """What is another price from an instant on, or one that is set for it and is the same before."""

    id: UUID
    at: datetime
    amount_cents: int | None
    """The subscription fee; None where nothing sets it."""
    charges: tuple[Charge, ...]
    """Those that are new, or whose prices are set."""
    gone: tuple[Charge, ...]

    @property
    def prices(self) -> list[tuple[Charge, list[tuple[str, Any]]]]:
        """Each charge with its prices: what for, and the properties."""
        return [(charge, _prices_of(charge)) for charge in self.charges]


def upcoming(plan: Plan, now: datetime) -> list[Upcoming]:
    """What is still to reach somebody, in its order."""
    before = {each.id: each for each in versions_of(plan)}
    return [
        _upcoming(before[each.id].amount_cents, before[each.id].charges, each)
        for each in changes_to_show(plan, now)
    ]


def _upcoming(fee: int, before: tuple[Charge, ...], change: PriceChange) -> Upcoming:
    left = {charge.id for charge in change.charges}
    said = {item for item, _ in change.said}
    return Upcoming(
        id=change.id,
        at=change.at,
        amount_cents=None if change.amount_cents == fee and FEE not in change.said else change.amount_cents,
        charges=tuple(
            charge
            for charge in change.charges
            if charge not in before or said & {charge.id, *(each.id for each in charge.filters)}
        ),
        gone=tuple(charge for charge in before if charge.id not in left),
    )


def _prices_of(charge: Charge) -> list[tuple[str, Any]]:
    found = [
        (each.invoice_display_name or values_text(each.values), each.properties) for each in charge.filters
    ]
    return [*found, ("everything else" if found else "all", charge.properties)]


def shown(visit: Visit, plan: Plan) -> dict[str, Any]:
    """What the page of a plan needs for its changes to come."""
    found = upcoming(plan, visit.now)
    if not found:
        return {"upcoming": found}
    return {
        "upcoming": found,
        "followers": 0 if plan.parent_id else len(store.children(visit.conn, plan.id)),
        "timezone": billing_entities.default(visit.conn, visit.here.id).timezone,
    }


def named(visit: Visit, plan: Plan) -> PriceChange:
    """The change that the form names. Raises NotFound."""
    return catalogue.scheduled_change(plan, parse_uuid(visit.form.get("change")))


def cancelled(visit: Visit, plan: Plan, change: PriceChange, *, subject: str, back: str) -> Done:
    """Let the prices go on as before the change. `plan` was locked to be changed."""
    cascades = visit.form.has("cascade")
    catalogue.cancel_scheduled(visit.conn, plan, change, cascades=cascades, now=visit.now)
    details = {"at": change.at.isoformat(), "cascade": cascades}
    to = f"{back}?said=change_cancelled"
    return Done(action="cancelled price change", subject=subject, to=to, details=details)
