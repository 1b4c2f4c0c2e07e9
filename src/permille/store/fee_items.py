"""What the charge fees of invoices are for: charge, filter and metric, also when these are deleted since."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, fields
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from permille.core.contract.fixed_charge import FixedCharge
from permille.core.contract.plan import Charge
from permille.core.rating.filters import Id
from permille.core.rating.models import ChargeModel
from permille.database.typed_rows import typed_row


@dataclass(frozen=True, slots=True, kw_only=True)
class FeeItem:
    """What one charge fee is for. `filter_id` is None for what no filter wants; `filter_values` are as they were sent."""

    fee_id: UUID
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


def item_of(fee_id: UUID, charge: Charge, filter_id: Id | None) -> FeeItem:
    """The item of a fee that is not stored."""
    chosen = next((each for each in charge.filters if each.id == filter_id), None)
    return FeeItem(
        fee_id=fee_id,
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
    "fee_id": "f.id",
    "charge_id": "c.id",
    "charge_code": "c.code",
    "charge_invoice_display_name": "coalesce(f.own_name, c.invoice_display_name)",
    "charge_invoiceable": "c.invoiceable",
    "charge_has_filters": "exists (select from charge_filter o where o.charge_id = c.id)",
    "metric_id": "m.id",
    "metric_name": "m.name",
    "metric_description": "m.description",
    "metric_code": "m.code",
    "filter_id": "x.id",
    "filter_invoice_display_name": "case when x.id is not null then coalesce(f.own_name, x.invoice_display_name) end",
    "filter_values": "x.values",
}
_SELECTED = ", ".join(f"{_COLUMNS.get(one.name, one.name)} as {one.name}" for one in fields(FeeItem))


def of_invoices(conn: Connection[Any], invoice_ids: Collection[UUID]) -> dict[UUID, FeeItem]:
    """Fee id -> item, of every charge fee of these invoices."""
    return _select(conn, "f.invoice_id = any(%s)", invoice_ids)


def of_fees(conn: Connection[Any], fee_ids: Collection[UUID]) -> dict[UUID, FeeItem]:
    """Fee id -> item, of the charge fees among these."""
    return _select(conn, "f.id = any(%s)", fee_ids)


@dataclass(frozen=True, slots=True, kw_only=True)
class AddOnItem:
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


def _select(conn: Connection[Any], condition: str, ids: Collection[UUID]) -> dict[UUID, FeeItem]:
    with conn.cursor(row_factory=typed_row(FeeItem)) as cursor:
        rows = cursor.execute(
            f"select {_SELECTED} from fee f join charge c on c.id = f.charge_id"
            " join billable_metric m on m.id = c.billable_metric_id"
            " left join charge_filter x on x.id = f.charge_filter_id"
            f" where {condition} and f.fee_type = 'charge'",
            [list(ids)],
        ).fetchall()
    return {row.fee_id: row for row in rows}
