"""Reading and showing fixed charges. semantics-billing.md sections 6.1 and 11.6.

Problems gather in the fields that are read; what is returned then is not to be used.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.api.charge_input import next_code
from permille.api.objects import fixed_charge as objects
from permille.api.objects.base import Number
from permille.api.render import exact_numbers, instant
from permille.api.taxes import known_taxes, read_taxes, render_tax
from permille.api.validation import INVALID, Fields, storable
from permille.core.add_on import AddOn
from permille.core.contract.fixed_charge import MODELS, FixedCharge, incompatibilities
from permille.core.contract.plan import Plan
from permille.core.errors import Forbidden, NotFound
from permille.core.money import decimal_text
from permille.core.rating import models as pricing
from permille.core.rating.models import ChargeModel
from permille.core.record import Record, replace
from permille.core.tax import Tax
from permille.ids import new_id
from permille.store import add_ons
from permille.usecases.catalogue import fixed_units
from permille.usecases.catalogue.fixed_units import UnitsWanted

UNITS_MAX = 10**15
UNITS_ALONE = {"id", "units", "apply_units_immediately"}
"""The fields of an override that are kept with the subscription, without a plan of its own."""


class _AddOns(Record, kw_only=True):
    """The add-ons that a request names."""

    by_id: Mapping[UUID, AddOn]
    by_code: Mapping[str, AddOn]

    def named(self, entry: Fields) -> AddOn:
        """Raises NotFound."""
        add_on_id, code = entry.uuid("add_on_id"), entry.given.get("add_on_code")
        found = self.by_id.get(add_on_id) if add_on_id else self.by_code.get(str(code))
        if found is None:
            raise NotFound("add_ons")
        return found


def _known_add_ons(conn: Connection[Any], organization_id: UUID, entries: Sequence[Fields]) -> _AddOns:
    ids = {found for entry in entries if (found := entry.uuid("add_on_id"))}
    sent = [entry.given.get("add_on_code") for entry in entries]
    codes = {code for code in sent if isinstance(code, str) and "\0" not in code}
    return _AddOns(
        by_id={each.id: each for each in add_ons.by_ids(conn, organization_id, ids)} if ids else {},
        by_code={each.code: each for each in add_ons.by_codes(conn, organization_id, codes)} if codes else {},
    )


def read_fixed_charges(
    conn: Connection[Any], fields: Fields, plan: Plan, *, is_subscribed: bool, now: datetime
) -> tuple[FixedCharge, ...]:
    """The whole list of a plan: with the id of an existing one it is changed, else it is new. Raises NotFound."""
    entries = fields.objects("fixed_charges")
    if entries is None:
        return plan.fixed_charges
    return _read(conn, entries, plan, is_subscribed=is_subscribed, now=now)


def read_added(conn: Connection[Any], entry: Fields, plan: Plan, *, now: datetime) -> tuple[FixedCharge, ...]:
    """The plan's fixed charges with one more. Raises NotFound and Invalid."""
    kept = [Fields({"id": str(charge.id)}, entry) for charge in plan.fixed_charges]
    fresh = Fields({name: value for name, value in entry.given.items() if name != "id"}, entry)
    found = _read(conn, [*kept, fresh], plan, is_subscribed=True, now=now)
    entry.check()
    return found


def _read(
    conn: Connection[Any], entries: Sequence[Fields], plan: Plan, *, is_subscribed: bool, now: datetime
) -> tuple[FixedCharge, ...]:
    known = {charge.id: charge for charge in plan.fixed_charges}
    fresh = [entry for entry in entries if entry.uuid("id") not in known]
    named = _known_add_ons(conn, plan.organization_id, fresh)
    taxes = known_taxes(conn, plan.organization_id, entries)
    found: list[FixedCharge] = []
    for entry in entries:
        charge_id = entry.uuid("id")
        before = known.pop(charge_id, None) if charge_id else None
        if before is None:
            taken = {charge.code for charge in (*found, *known.values())}
            blank = _blank(entry, named.named(entry), plan, taken, now)
            found.append(read_fixed_charge(entry, blank, is_subscribed=False, taxes=taxes))
        else:
            found.append(read_fixed_charge(entry, before, is_subscribed=is_subscribed, taxes=taxes))
    codes = [charge.code for charge in found]
    if len(set(codes)) < len(codes):
        entries[0].refuse("code", "value_already_exist")
    return tuple(found)


def _blank(entry: Fields, add_on: AddOn, plan: Plan, taken: set[str], now: datetime) -> FixedCharge:
    return FixedCharge(
        id=new_id(now),
        plan_id=plan.id,
        parent_id=None,
        add_on=add_on,
        code=next_code(add_on.code, taken),
        invoice_display_name=None,
        charge_model=_model(entry) or ChargeModel.STANDARD,
        pay_in_advance=False,
        prorated=False,
        properties={},
        units=Decimal(0),
        created_at=now,
    )


def read_fixed_charge(
    entry: Fields, before: FixedCharge, *, is_subscribed: bool, taxes: Mapping[str, Tax]
) -> FixedCharge:
    """The fixed charge as the entry wants it; of a plan with subscriptions only names, units, prices and taxes change."""
    charge = before if is_subscribed else _restructured(entry, before)
    if entry.has("invoice_display_name"):
        charge = replace(charge, invoice_display_name=entry.text("invoice_display_name"))
    units = entry.decimal("units", minimum=0, maximum=UNITS_MAX)
    if units is not None:
        charge = replace(charge, units=units)
    entry.flag("apply_units_immediately")
    if (own := read_taxes(entry, taxes)) is not None:
        charge = replace(charge, taxes=own)
    if "charge_model" in entry.errors:
        return charge
    charge = replace(charge, properties=_properties(entry, before, charge))
    for name, code in incompatibilities(charge):
        entry.refuse(name, code)
    return charge


def _restructured(entry: Fields, charge: FixedCharge) -> FixedCharge:
    """The changes that are allowed while nobody is subscribed."""
    if entry.has("charge_model") and "charge_model" not in entry.errors:
        charge = replace(charge, charge_model=_model(entry) or charge.charge_model)
    if entry.given.get("code") is not None:
        charge = replace(charge, code=entry.text("code", mandatory=True) or "")
    flags = {name: entry.flag(name) for name in ("pay_in_advance", "prorated")}
    given: dict[str, Any] = {name: flag for name, flag in flags.items() if flag is not None}
    return replace(charge, **given)


def _model(entry: Fields) -> ChargeModel | None:
    """The model that the entry names, None where it names none that fixed charges have."""
    name = entry.choice("charge_model", MODELS, mandatory=True)
    return None if name is None else ChargeModel(name)


def _properties(entry: Fields, before: FixedCharge, charge: FixedCharge) -> Mapping[str, Any]:
    model = charge.charge_model
    sent = entry.given.get("properties")
    if not sent:
        keeps = before.charge_model == charge.charge_model and before.properties
        return before.properties if keeps else pricing.defaults(model)
    if not isinstance(sent, dict) or not storable(sent):
        entry.refuse("properties", INVALID)
        return {}
    cleaned = pricing.clean(model, {name: value for name, value in sent.items() if name in _keys(model)})
    for code in pricing.validate(model, cleaned):
        entry.refuse("properties", code)
    return cleaned


def _keys(model: ChargeModel) -> Collection[str]:
    return pricing.model_of(model).keys


def read_own_fixed_charge(entry: Fields, before: FixedCharge, *, taxes: Mapping[str, Tax]) -> FixedCharge:
    """The fixed charge as it is to be for one subscription: its units, price, name and taxes. Raises Forbidden."""
    if entry.given.get("charge_model") not in (None, before.charge_model):
        raise Forbidden("cannot_override_charge_model")
    entry.refuse_changed(code=before.code)
    return read_fixed_charge(entry, before, is_subscribed=True, taxes=taxes)


def read_own_fixed_charges(conn: Connection[Any], fields: Fields, plan: Plan) -> tuple[FixedCharge, ...]:
    """The fixed charges of a subscription's own plan, as `plan_overrides` wants them. Raises NotFound."""
    entries = fields.objects("fixed_charges") or []
    taxes = known_taxes(conn, plan.organization_id, entries)
    changed: dict[UUID, FixedCharge] = {}
    for entry in entries:
        before = fixed_units.named(plan, entry.uuid("id"))
        changed[before.id] = read_own_fixed_charge(entry, before, taxes=taxes)
    return tuple(changed.get(charge.id, charge) for charge in plan.fixed_charges)


def units_at_once(fields: Fields, charges: Sequence[FixedCharge]) -> set[UUID]:
    """The fixed charges, read from these fields, whose units count from now on."""
    entries = fields.objects("fixed_charges") or []
    by_id = {charge_id: charge for charge in charges for charge_id in charge.ids}
    named = [by_id.get(found) if (found := entry.uuid("id")) else None for entry in entries]
    in_order: Iterable[FixedCharge | None] = charges if len(charges) == len(entries) else named
    return {
        charge.id
        for entry, known, placed in zip(entries, named, in_order, strict=True)
        if entry.flag("apply_units_immediately") and (charge := known or placed)
    }


def read_units_alone(fields: Fields, plan: Plan) -> dict[UUID, UnitsWanted] | None:
    """The units that a subscription is to have of its own, None where the overrides say anything else. Raises NotFound."""
    given = fields.given.get("plan_overrides")
    if not isinstance(given, dict) or given.keys() != {"fixed_charges"}:
        return None
    entries = Fields(given, fields).objects("fixed_charges") or []
    if plan.parent_id is not None or not all(is_of_units_alone(entry) for entry in entries):
        return None
    return {
        fixed_units.named(plan, entry.uuid("id")).id: wanted
        for entry in entries
        if (wanted := read_units(entry))
    }


def is_of_units_alone(entry: Fields) -> bool:
    """Whether an entry says nothing but how many units there are."""
    return entry.given.keys() <= UNITS_ALONE and entry.given.get("units") is not None


def read_units(entry: Fields) -> UnitsWanted | None:
    """The units of an entry, None where they are refused."""
    units = entry.decimal("units", minimum=0, maximum=UNITS_MAX)
    at_once = entry.flag("apply_units_immediately") or False
    return None if units is None else UnitsWanted(units, at_once)


def render_fixed_charge(charge: FixedCharge) -> objects.FixedCharge:
    return objects.FixedCharge(
        lago_id=charge.id,
        lago_add_on_id=charge.add_on.id,
        code=charge.code,
        invoice_display_name=charge.invoice_display_name or "",
        add_on_code=charge.add_on.code,
        created_at=instant(charge.created_at),
        charge_model=charge.charge_model,
        pay_in_advance=charge.pay_in_advance,
        prorated=charge.prorated,
        properties={key: exact_numbers(value) for key, value in charge.properties.items()},
        units=Number(decimal_text(charge.units)),
        lago_parent_id=charge.parent_id,
        taxes=[render_tax(tax) for tax in charge.taxes],
    )
