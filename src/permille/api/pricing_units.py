"""Pricing units, and reading `applied_pricing_unit` of charges. semantics-metering.md sections 5.1 and 5.14.

Lago has them without endpoints of its REST API; these are ours, in the manner of its others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.api.http import Call
from permille.api.objects import pricing_unit as objects
from permille.api.render import instant
from permille.api.validation import LONG_TEXT, MANDATORY, OUT_OF_RANGE, Fields
from permille.core.money import PRECISE_DIGITS, decimal_text
from permille.core.rating.pricing_unit import AppliedPricingUnit, PricingUnit
from permille.store import pricing_units
from permille.usecases.catalogue import pricing_units as catalogue

SHORT_NAME_MAX = 3
CONVERSION_RATE_MAX = 10**9


def create_pricing_unit(call: Call) -> dict[str, Any]:
    """POST /pricing_units."""
    columns = read_new_unit(Fields(call.root("pricing_unit")))
    made = catalogue.add(call.conn, call.organization.id, columns=columns, now=call.now)
    return {"pricing_unit": render_pricing_unit(made)}


def read_new_unit(fields: Fields) -> dict[str, Any]:
    """The columns of a new unit. Raises Invalid."""
    columns = {
        "code": fields.text("code", mandatory=True),
        "name": fields.text("name", mandatory=True),
        "short_name": fields.text("short_name", mandatory=True, limit=SHORT_NAME_MAX),
        "description": fields.text("description", limit=LONG_TEXT),
    }
    fields.check()
    return columns


def list_pricing_units(call: Call) -> dict[str, Any]:
    """GET /pricing_units."""
    page = call.page()
    rows, total = pricing_units.listing(
        call.conn, call.organization.id, limit=page.per_page, offset=page.offset
    )
    return {"pricing_units": [render_pricing_unit(row) for row in rows], "meta": page.meta(total)}


def show_pricing_unit(call: Call) -> dict[str, Any]:
    """GET /pricing_units/{code}."""
    found = catalogue.by_code(call.conn, call.organization.id, call.path["code"])
    return {"pricing_unit": render_pricing_unit(found)}


def update_pricing_unit(call: Call) -> dict[str, Any]:
    """PUT /pricing_units/{code}: fees that are made stay as they are."""
    before = catalogue.to_change(call.conn, call.organization.id, call.path["code"])
    changes = read_unit_changes(Fields(call.root("pricing_unit")))
    after = catalogue.change(call.conn, call.organization.id, before, changes=changes, now=call.now)
    return {"pricing_unit": render_pricing_unit(after)}


def read_unit_changes(fields: Fields) -> dict[str, Any]:
    """The columns of a unit that are sent. Raises Invalid."""
    changes: dict[str, Any] = {}
    for name in ("code", "name"):
        if fields.has(name):
            changes[name] = fields.text(name, mandatory=True) or ""
    if fields.has("short_name"):
        changes["short_name"] = fields.text("short_name", mandatory=True, limit=SHORT_NAME_MAX) or ""
    if fields.has("description"):
        changes["description"] = fields.text("description", limit=LONG_TEXT)
    fields.check()
    return changes


def delete_pricing_unit(call: Call) -> dict[str, Any]:
    """DELETE /pricing_units/{code}. Raises NotAllowed while a plan's charge is priced in it."""
    gone = catalogue.to_change(call.conn, call.organization.id, call.path["code"])
    catalogue.remove(call.conn, gone, now=call.now)
    return {"pricing_unit": render_pricing_unit(gone)}


def render_pricing_unit(unit: PricingUnit) -> objects.PricingUnit:
    return objects.PricingUnit(
        lago_id=unit.id,
        code=unit.code,
        name=unit.name,
        short_name=unit.short_name,
        description=unit.description,
        created_at=instant(unit.created_at),
    )


def known_pricing_units(
    conn: Connection[Any], organization_id: UUID, entries: Iterable[Fields]
) -> Mapping[str, PricingUnit]:
    """The units that any of these charges names in `applied_pricing_unit`, as far as there are such."""
    given = [entry.given.get("applied_pricing_unit") for entry in entries]
    codes = [each.get("code") for each in given if isinstance(each, dict)]
    wanted = {code for code in codes if isinstance(code, str) and "\0" not in code}
    return pricing_units.by_codes(conn, organization_id, wanted) if wanted else {}


def read_pricing_unit(
    entry: Fields, before: AppliedPricingUnit | None, known: Mapping[str, PricingUnit], *, is_fixed: bool
) -> AppliedPricingUnit | None:
    """The unit of a charge and its rate. Of a charge that is fixed only the rate changes, if it has a unit."""
    if not entry.has("applied_pricing_unit") or (is_fixed and before is None):
        return before
    given = entry.nested("applied_pricing_unit")
    if given is None or not given.given:
        return before if is_fixed else None
    unit = before.unit if before else None
    if not is_fixed and (unit is None or given.has("code")):
        code = given.text("code", mandatory=True)
        unit = known.get(code) if code else None
        if code and unit is None:
            entry.refuse("applied_pricing_unit", "pricing_unit_not_found")
    rate = _rate(given, before.conversion_rate if before else None)
    return before if unit is None or rate is None else AppliedPricingUnit(unit=unit, conversion_rate=rate)


def _rate(given: Fields, before: Decimal | None) -> Decimal | None:
    """The rate of a request, or the one before; None for one that is refused."""
    if given.given.get("conversion_rate") is None:
        if before is None:
            given.refuse("conversion_rate", MANDATORY)
        return before
    rate = given.decimal("conversion_rate", minimum=0, maximum=CONVERSION_RATE_MAX, places=PRECISE_DIGITS)
    if rate == 0:
        given.refuse("conversion_rate", OUT_OF_RANGE)
        return None
    return rate


def render_applied(applied: AppliedPricingUnit | None) -> objects.AppliedPricingUnit | None:
    """The `applied_pricing_unit` of a charge."""
    if applied is None:
        return None
    return objects.AppliedPricingUnit(
        code=applied.unit.code, conversion_rate=decimal_text(applied.conversion_rate)
    )
