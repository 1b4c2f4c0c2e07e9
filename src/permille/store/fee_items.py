"""What the charge fees of invoices are for: charge, filter and metric, also when these are deleted since."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from permille.core.contract.fixed_charge import FixedCharge
from permille.core.contract.plan import Charge
from permille.core.fee_kind import FeeKind
from permille.core.rating.filters import Id
from permille.core.rating.models import ChargeModel
from permille.core.record import Record, names_of, replace
from permille.database.typed_rows import typed_row
from permille.store.fees import StoredFee


class FeeItem(Record, kw_only=True):
    """What charge fees are for. `filter_id` is None for what no filter wants; `filter_values` are as they were sent."""

    charge_id: UUID
    charge_code: str
    charge_model: ChargeModel
    charge_invoice_display_name: str | None
    charge_invoiceable: bool
    charge_has_filters: bool
    metric_id: UUID
    metric_name: str
    metric_description: str | None
    metric_code: str
    aggregation_type: str
    field_name: str | None
    filter_id: UUID | None
    filter_invoice_display_name: str | None
    filter_values: Mapping[str, list[str]] | None


def item_of(charge: Charge, filter_id: Id | None) -> FeeItem:
    """The item of a fee that is not stored."""
    chosen = next((each for each in charge.filters if each.id == filter_id), None)
    return FeeItem(
        charge_id=charge.id,
        charge_code=charge.code,
        charge_model=charge.charge_model,
        charge_invoice_display_name=charge.invoice_display_name,
        charge_invoiceable=charge.invoiceable,
        charge_has_filters=bool(charge.filters),
        metric_id=charge.metric.id,
        metric_name=charge.metric.name,
        metric_description=charge.metric.description,
        metric_code=charge.metric.code,
        aggregation_type=charge.metric.aggregation_type,
        field_name=charge.metric.field_name,
        filter_id=chosen.id if chosen else None,
        filter_invoice_display_name=chosen.invoice_display_name if chosen else None,
        filter_values={key: list(listed) for key, listed in chosen.values.items()} if chosen else None,
    )


_COLUMNS = {
    "charge_id": "c.id",
    "charge_code": "c.code",
    "charge_invoice_display_name": "c.invoice_display_name",
    "charge_invoiceable": "c.invoiceable",
    "charge_has_filters": "exists (select from charge_filter o where o.charge_id = c.id)",
    "metric_id": "m.id",
    "metric_name": "m.name",
    "metric_description": "m.description",
    "metric_code": "m.code",
    "filter_id": "x.id",
    "filter_invoice_display_name": "x.invoice_display_name",
    "filter_values": "x.values",
}
_SELECTED = ", ".join(f"{_COLUMNS.get(name, name)} as {name}" for name in names_of(FeeItem))


_SELECT = f"""
select {_SELECTED}
from unnest(%(charges)s::uuid[], %(filters)s::uuid[]) as f (charge_id, filter_id)
join charge c on c.id = f.charge_id
join billable_metric m on m.id = c.billable_metric_id
left join charge_filter x on x.id = f.filter_id
"""


def of_fees(conn: Connection[Any], fees: Iterable[StoredFee]) -> dict[UUID, FeeItem]:
    """Fee id -> item, of the charge fees among these. Fees of one charge, filter and name share their item."""
    named: dict[tuple[UUID, UUID | None, str | None], list[UUID]] = {}
    for fee in fees:
        if fee.fee_type is FeeKind.CHARGE and fee.charge_id is not None:
            key = (fee.charge_id, fee.charge_filter_id, fee.own_name)
            named.setdefault(key, []).append(fee.id)
    if not named:
        return {}
    known = _items(conn, {(charge_id, filter_id) for charge_id, filter_id, _ in named})
    found: dict[UUID, FeeItem] = {}
    for (charge_id, filter_id, own_name), fee_ids in named.items():
        item = known.get((charge_id, filter_id))
        if item is not None:
            found |= dict.fromkeys(fee_ids, item if own_name is None else _renamed(item, own_name))
    return found


def _items(
    conn: Connection[Any], wanted: Collection[tuple[UUID, UUID | None]]
) -> dict[tuple[UUID, UUID | None], FeeItem]:
    values = {
        "charges": [charge_id for charge_id, _ in wanted],
        "filters": [filter_id for _, filter_id in wanted],
    }
    with conn.cursor(row_factory=typed_row(FeeItem)) as cursor:
        rows = cursor.execute(_SELECT, values).fetchall()
    return {(row.charge_id, row.filter_id): row for row in rows}


def _renamed(item: FeeItem, name: str) -> FeeItem:
    """The item of a fee that has a name of its own."""
    return replace(
        item,
        charge_invoice_display_name=name,
        filter_invoice_display_name=None if item.filter_id is None else name,
    )


class AddOnItem(Record, kw_only=True):
    """What a fee of an add-on is for, or that of a fixed charge of it."""

    fee_id: UUID
    fixed_charge_id: UUID | None
    add_on_id: UUID
    code: str
    name: str
    description: str | None
    display_name: str


def add_ons_of_fees(conn: Connection[Any], fee_ids: Collection[UUID]) -> dict[UUID, AddOnItem]:
    """Fee id -> item, of the fees of add-ons and of fixed charges among these."""
    with conn.cursor(row_factory=class_row(AddOnItem)) as cursor:
        rows = cursor.execute(
            "select f.id as fee_id, c.id as fixed_charge_id, a.id as add_on_id, a.code, a.name, a.description,"
            " coalesce(c.invoice_display_name, a.invoice_display_name, a.name) as display_name"
            " from fee f left join fixed_charge c on c.id = f.item_id and f.fee_type = 'fixed_charge'"
            " join add_on a on a.id = coalesce(c.add_on_id, f.item_id)"
            " where f.id = any(%s) and f.fee_type in ('fixed_charge', 'add_on')",
            [list(fee_ids)],
        ).fetchall()
    return {row.fee_id: row for row in rows}


def add_on_of(fee_id: UUID, charge: FixedCharge) -> AddOnItem:
    """The item of a fee of a fixed charge that is not stored."""
    return AddOnItem(
        fee_id=fee_id,
        fixed_charge_id=charge.id,
        add_on_id=charge.add_on.id,
        code=charge.add_on.code,
        name=charge.add_on.name,
        description=charge.add_on.description,
        display_name=charge.display_name,
    )
