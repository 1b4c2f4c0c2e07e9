"""Plans with their charges, the metrics that these price, and the filters of the charges."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import dict_row
from psycopg.types.json import Json, Jsonb

from permille.core.contract.fixed_charge import FixedCharge
from permille.core.contract.plan import Charge, Plan, PlanFilter, PriceVersion
from permille.core.contract.price_versions import latest, versions_of
from permille.core.contract.threshold import threshold_json, thresholds_of_json
from permille.core.llm.catalogue.prices import PriceSource
from permille.core.rating.models import ChargeModel
from permille.core.record import names_of, replace as replace_fields
from permille.database.bulk import uuid_array
from permille.database.typed_rows import with_enums
from permille.ids import new_id
from permille.store import (
    billable_metrics,
    catalogue_versions,
    commitments,
    fixed_charges,
    page_sizes,
    pricing_units,
    taxes,
)

_COMPONENTS = (
    "charges",
    "taxes",
    "price_versions",
    "minimum_commitment",
    "fixed_charges",
    "inherited_thresholds",
)
_PLAN = tuple(name for name in names_of(Plan) if name not in _COMPONENTS)
_SOLD = "p.parent_id is null and p.version_of is null and p.deleted_at is null"
"""The condition on a plan p that is in the catalogue."""
_VERSION = "from plan v where v.version_of = p.id and v.deleted_at is null order by v.valid_until"
_EARLIER = ", ".join(
    f"array(select v.{column} {_VERSION}) as version_{name}"
    for column, name in (
        ("id", "ids"),
        ("valid_until", "ends"),
        ("amount_cents", "amounts"),
        ("said", "said"),
    )
)
"""The versions of a plan's prices that have an end, in their order."""
_FILTERS_ONCE = f"case when row_number() over (partition by m.id) = 1 then {billable_metrics.FILTERS} end"
"""A metric that many charges price has its values read once."""
_COUNT_IN_THEM = """
with priced as (
    select id from plan where id = any(%(ids)s::uuid[])
    union all select id from plan where version_of = any(%(ids)s::uuid[]) and deleted_at is null
)
select count(*) from (
    select 1 from priced p join charge c on c.plan_id = p.id and c.deleted_at is null
    union all
    select 1 from priced p join charge c on c.plan_id = p.id and c.deleted_at is null
    join charge_filter f on f.charge_id = c.id and f.deleted_at is null
    union all
    select 1 from entitlement where plan_id = any(%(ids)s::uuid[])
    limit %(most)s
) found
"""
_HAS_FIXED_CHARGES = (
    "exists (select from fixed_charge f where f.plan_id = p.id and f.deleted_at is null) as has_fixed_charges"
)
_INHERITED = "(select o.usage_thresholds from plan o where o.id = p.parent_id) as inherited_thresholds"
_PARTS = ("metric", "filters", "taxes", "applied_pricing_unit", "catalogue")
_CHARGE = tuple(name for name in names_of(Charge) if name not in _PARTS)


def plan_by_id(conn: Connection[Any], plan_id: UUID) -> Plan:
    """The plan, also when it is deleted. Raises KeyError for an unknown id, which is a bug."""
    return plans_by_ids(conn, [plan_id])[plan_id]


def plans_by_ids(conn: Connection[Any], ids: Collection[UUID]) -> dict[UUID, Plan]:
    """Plans by id, deleted ones too, in three statements whatever their number.

    Charges are in the order of the plan, and deleted charges and filters are left out.
    """
    plans = _select(conn, "p.id = any(%s)", [list(ids)])
    return {plan.id: plan for plan in plans}


def plan_by_code(conn: Connection[Any], organization_id: UUID, code: str) -> Plan | None:
    """The plan that has a code of its own, i.e. no override, and is not deleted."""
    found = _select(
        conn,
        f"p.organization_id = %s and p.code = %s and {_SOLD}",
        [organization_id, code],
    )
    return found[0] if found else None


def children(conn: Connection[Any], plan_id: UUID) -> list[Plan]:
    """The plans of single subscriptions that are copies of this one."""
    return _select(conn, "p.parent_id = %s and p.deleted_at is null order by p.created_at, p.id", [plan_id])


def listing(
    conn: Connection[Any], organization_id: UUID, *, limit: int, offset: int
) -> tuple[list[Plan], int]:
    """Plans that are no overrides, newest first, and how many there are. Raises Invalid for a page too large."""
    condition = f"p.organization_id = %s and {_SOLD}"
    page = f"{condition} order by p.created_at desc, p.id limit %s offset %s"
    values = [organization_id, limit, offset]
    ids = [found[0] for found in conn.execute(f"select p.id from plan p where {page}", values)]
    page_sizes.refuse_large(conn, _COUNT_IN_THEM, ids)
    plans = _select(conn, page, values)
    row = conn.execute(f"select count(*) from plan p where {condition}", [organization_id]).fetchone()
    return plans, row[0] if row else 0


def terms_by_ids(conn: Connection[Any], ids: Collection[UUID]) -> dict[UUID, Plan]:
    """As `plans_by_ids`, without charges: where many plans are looked at, of which any may have thousands."""
    return {plan.id: plan for plan in _select(conn, "p.id = any(%s)", [list(ids)], with_charges=False)}


def menu(conn: Connection[Any], organization_id: UUID, *, limit: int) -> list[Plan]:
    """The newest plans to choose from, without their charges."""
    condition = f"p.organization_id = %s and {_SOLD} order by p.created_at desc, p.id limit %s"
    return _select(conn, condition, [organization_id, limit], with_charges=False)


def _select(
    conn: Connection[Any], condition: str, values: Sequence[Any], *, with_charges: bool = True
) -> list[Plan]:
    columns = ", ".join(f"p.{name}" for name in _PLAN)
    with conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            f"select {columns}, {taxes.column('p')}, {commitments.COLUMN}, {_HAS_FIXED_CHARGES}, {_INHERITED},"
            f" {_EARLIER} from plan p where {condition}",
            values,
        ).fetchall()
    charges: Mapping[UUID, Sequence[Charge]] = defaultdict(list)
    if with_charges:
        charges = _charges(conn, [each for row in rows for each in (row["id"], *row["version_ids"])])
    with_fixed = [row["id"] for row in rows if row.pop("has_fixed_charges")]
    fixed = fixed_charges.of_plans(conn, with_fixed) if with_fixed else {}
    return [_plan(row, charges, fixed) for row in rows]


def _plan(
    row: dict[str, Any],
    charges: Mapping[UUID, Sequence[Charge]],
    fixed: Mapping[UUID, Sequence[FixedCharge]],
) -> Plan:
    earlier = zip(*(row.pop(f"version_{name}") for name in ("ids", "ends", "amounts", "said")), strict=True)
    return Plan(
        **with_enums(Plan, row)
        | {
            "taxes": taxes.of_json(row["taxes"]),
            "minimum_commitment": commitments.of_json(row["minimum_commitment"]),
            "usage_thresholds": thresholds_of_json(row["usage_thresholds"]),
            "inherited_thresholds": thresholds_of_json(row["inherited_thresholds"] or ()),
        },
        charges=tuple(charges[row["id"]]),
        fixed_charges=tuple(fixed.get(row["id"], ())),
        price_versions=_versions(row, list(earlier), charges),
    )


def _versions(
    row: Mapping[str, Any],
    earlier: Sequence[tuple[UUID, datetime, int, Sequence[tuple[str | None, str]]]],
    charges: Mapping[UUID, Sequence[Charge]],
) -> tuple[PriceVersion, ...]:
    if not earlier:
        return ()
    plan_id = row["id"]
    last = plan_id, None, row["amount_cents"], ()
    return tuple(
        PriceVersion(
            id=version_id,
            valid_until=valid_until,
            amount_cents=amount_cents,
            charges=tuple(replace_fields(charge, plan_id=plan_id) for charge in charges[version_id]),
            said=frozenset((UUID(item) if item else None, name) for item, name in said),
        )
        for version_id, valid_until, amount_cents, said in (*earlier, last)
    )


def _charges(conn: Connection[Any], plan_ids: Sequence[UUID]) -> dict[UUID, list[Charge]]:
    """Plan or version of its prices -> charges, which have the same ids in all versions."""
    columns = ", ".join(f"c.{name} as c_{name}" for name in _CHARGE)
    with conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            f"select {columns}, c.version_of, {billable_metrics.COLUMNS}, {_FILTERS_ONCE} as filters,"
            f" {taxes.column('c')}, {pricing_units.COLUMNS}"
            " from charge c join billable_metric m on m.id = c.billable_metric_id"
            " where c.plan_id = any(%s) and c.deleted_at is null order by c.position, c.id",
            [list(plan_ids)],
        ).fetchall()
    metrics = {row["id"]: billable_metrics.from_row(row) for row in rows if row["filters"] is not None}
    filters = _filters(conn, [row["c_id"] for row in rows])
    by_catalogue = {row["organization_id"] for row in rows if row["c_charge_model"] == ChargeModel.CATALOGUE}
    catalogues = catalogue_versions.catalogues_of(conn, by_catalogue) if by_catalogue else {}
    charges: dict[UUID, list[Charge]] = defaultdict(list)
    for row in rows:
        charge = Charge(
            **with_enums(Charge, {name: row[f"c_{name}"] for name in _CHARGE if name != "id"}),
            id=row["version_of"] or row["c_id"],
            metric=metrics[row["id"]],
            filters=tuple(filters[row["c_id"]]),
            taxes=taxes.of_json(row["taxes"]),
            applied_pricing_unit=pricing_units.of_row(row),
        )
        charges[charge.plan_id].append(_with_prices(charge, catalogues.get(row["organization_id"])))
    return charges


def _with_prices(charge: Charge, catalogue: PriceSource | None) -> Charge:
    is_by_catalogue = charge.charge_model is ChargeModel.CATALOGUE
    return replace_fields(charge, catalogue=catalogue) if is_by_catalogue else charge


def _filters(conn: Connection[Any], charge_ids: Sequence[UUID]) -> dict[UUID, list[PlanFilter]]:
    with conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            "select coalesce(version_of, id) as id, charge_id, invoice_display_name, values, properties from charge_filter"
            " where charge_id = any(%s) and deleted_at is null order by position, id",
            [list(charge_ids)],
        ).fetchall()
    filters: dict[UUID, list[PlanFilter]] = defaultdict(list)
    for row in rows:
        charge_id = row.pop("charge_id")
        values = {key: tuple(allowed) for key, allowed in row.pop("values").items()}
        filters[charge_id].append(PlanFilter(**row, values=values))
    return filters


def filter_values(
    conn: Connection[Any], charge_id: UUID, filter_id: UUID
) -> Mapping[str, Sequence[str]] | None:
    """The values of a charge's filter, None when there is no such."""
    row = conn.execute(
        "select values from charge_filter where id = %s and charge_id = %s", [filter_id, charge_id]
    ).fetchone()
    return row[0] if row else None


def is_subscribed(conn: Connection[Any], plan_id: UUID) -> bool:
    """Whether a subscription of any status has the plan, or a copy of its own of it."""
    row = conn.execute(
        "select exists (select from subscription where plan_id = %(id)s)"
        " or exists (select from plan where parent_id = %(id)s)",
        {"id": plan_id},
    ).fetchone()
    return row is not None and row[0]


def subscribed_among(conn: Connection[Any], plan_ids: Collection[UUID]) -> set[UUID]:
    """Those of the plans that a subscription of any status has, copies of them not counted."""
    rows = conn.execute(
        "select id from unnest(%s::uuid[]) as w (id)"
        " where exists (select from subscription s where s.plan_id = w.id)",
        [list(plan_ids)],
    ).fetchall()
    return {plan_id for (plan_id,) in rows}


def add(conn: Connection[Any], plan: Plan) -> bool:
    """The plan with its charges. False when the code is taken."""
    columns = {**_plan_columns(plan), "updated_at": plan.created_at}
    places = ", ".join(f"%({name})s" for name in columns)
    cursor = conn.execute(
        f"insert into plan ({', '.join(columns)}) values ({places})"
        " on conflict (organization_id, code)"
        " where parent_id is null and version_of is null and deleted_at is null do nothing",
        columns,
    )
    if cursor.rowcount == 1:
        without_charges = replace_fields(plan, charges=(), price_versions=(), fixed_charges=())
        save_prices(conn, before=without_charges, after=plan, now=plan.created_at)
        commitments.save(conn, before=None, plan=plan)
    return cursor.rowcount == 1


def code_is_taken(conn: Connection[Any], plan: Plan) -> bool:
    """Whether another plan has the code."""
    row = conn.execute(
        f"select exists (select from plan p where p.organization_id = %s and p.code = %s and {_SOLD}"
        " and p.id <> %s)",
        [plan.organization_id, plan.code, plan.id],
    ).fetchone()
    return row is not None and row[0]


def replace(conn: Connection[Any], *, before: Plan, after: Plan, now: datetime) -> None:
    """Write every field of an existing plan, and its charges as they are to be."""
    columns = {**_plan_columns(after), "updated_at": now}
    changes = ", ".join(f"{name} = %({name})s" for name in columns if name != "id")
    conn.execute(f"update plan set {changes} where id = %(id)s", columns)
    save_prices(conn, before=before, after=after, now=now)
    commitments.save(conn, before=before.minimum_commitment, plan=after)


def set_metadata(
    conn: Connection[Any], *, plan_id: UUID, metadata: Mapping[str, Any] | None, now: datetime
) -> None:
    """Write this one field of a plan."""
    conn.execute(
        "update plan set metadata = %s, updated_at = %s where id = %s",
        [None if metadata is None else Jsonb(metadata), now, plan_id],
    )


def _plan_columns(plan: Plan) -> dict[str, Any]:
    columns = {name: getattr(plan, name) for name in _PLAN}
    columns["amount_cents"] = latest(plan).amount_cents
    columns["tax_ids"] = taxes.ids(plan.taxes)
    columns["usage_thresholds"] = Jsonb([threshold_json(each) for each in plan.usage_thresholds])
    columns["metadata"] = None if plan.metadata is None else Jsonb(plan.metadata)
    return columns


def save_prices(conn: Connection[Any], *, before: Plan, after: Plan, now: datetime) -> None:
    """Make the charges of a plan what `after` says, in every version."""
    fixed_charges.save(
        conn, after.organization_id, before=before.fixed_charges, after=after.fixed_charges, now=now
    )
    _save_charges(conn, before=latest(before).charges, after=latest(after).charges, now=now)
    if before.price_versions or after.price_versions:
        _save_identities(conn, after, now)
        _save_earlier_versions(conn, after, now)
    _note_changes(conn, before, after, now)


def _note_changes(conn: Connection[Any], before: Plan, after: Plan, now: datetime) -> None:
    """A charge has changed where it is something else in any version: a change of one leaves others what they are."""
    ids = {charge.id for each in versions_of(after) for charge in each.charges}
    changed = [found for found in ids if _terms_of(before, found) != _terms_of(after, found)]
    conn.execute("update charge set updated_at = %s where id = any(%s::uuid[])", [now, uuid_array(changed)])


def _terms_of(plan: Plan, charge_id: UUID) -> list[tuple[datetime | None, Charge | None]]:
    """What a charge is and until when, by all versions of the plan's prices."""
    found: list[tuple[datetime | None, Charge | None]] = []
    for version in versions_of(plan):
        terms = next((charge for charge in version.charges if charge.id == charge_id), None)
        if found and found[-1][1] == terms:
            found.pop()
        found.append((version.valid_until, terms))
    return found


def _save_identities(conn: Connection[Any], plan: Plan, now: datetime) -> None:
    """Charges and filters that are in earlier versions alone have rows too: fees are of them."""
    charges = {charge.id: charge for each in plan.price_versions[:-1] for charge in each.charges}
    rows = [{**_charge_columns(charge, 0, now), "deleted_at": now} for charge in charges.values()]
    filters = {
        entry.id: _filter_columns(charge, entry, 0, now)
        for each in plan.price_versions[:-1]
        for charge in each.charges
        for entry in charge.filters
    }
    _insert(conn, "charge", rows, "do nothing")
    gone = [{**row, "deleted_at": now} for row in filters.values()]
    _insert(conn, "charge_filter", gone, "do nothing")


def _save_earlier_versions(conn: Connection[Any], plan: Plan, now: datetime) -> None:
    """Write the versions that have an end again: each is a plan's row, with rows of charges and filters of its own."""
    earlier = versions_of(plan)[:-1]
    conn.execute(
        "update charge set deleted_at = %s, updated_at = %s where deleted_at is null"
        " and plan_id in (select id from plan where version_of = %s)",
        [now, now, plan.id],
    )
    conn.execute(
        "update plan set deleted_at = %s, updated_at = %s"
        " where version_of = %s and deleted_at is null and id <> all(%s)",
        [now, now, plan.id, [each.id for each in earlier]],
    )
    shared = {**_plan_columns(plan), "parent_id": None, "version_of": plan.id, "updated_at": now}
    rows = [
        {
            **shared,
            "id": each.id,
            "valid_until": each.valid_until,
            "amount_cents": each.amount_cents,
            "said": Jsonb([(item and str(item), name) for item, name in each.said]),
        }
        for each in earlier
    ]
    changes = "amount_cents = excluded.amount_cents, said = excluded.said"
    _insert(conn, "plan", rows, f"(id) do update set {changes}")
    for each in earlier:
        _add_version_charges(conn, each, now)


def _add_version_charges(conn: Connection[Any], version: PriceVersion, now: datetime) -> None:
    charges, filters = [], []
    for place, charge in enumerate(version.charges):
        row = {**_charge_columns(charge, place, now), "id": new_id(now), "plan_id": version.id}
        charges.append({**row, "version_of": charge.id})
        filters += [
            {
                **_filter_columns(charge, entry, number, now),
                "id": new_id(now),
                "charge_id": row["id"],
                "version_of": entry.id,
            }
            for number, entry in enumerate(charge.filters)
        ]
    _insert(conn, "charge", charges, "do nothing")
    _insert(conn, "charge_filter", filters, "do nothing")


def _save_charges(
    conn: Connection[Any], *, before: Sequence[Charge], after: Sequence[Charge], now: datetime
) -> None:
    """Make the charges of a plan what `after` says: rows are added, changed or soft-deleted by id."""
    kept = {charge.id for charge in after}
    _delete(conn, "charge", [charge.id for charge in before if charge.id not in kept], now)
    filters_before = [entry.id for charge in before for entry in charge.filters]
    filters_kept = {entry.id for charge in after for entry in charge.filters}
    _delete(conn, "charge_filter", [found for found in filters_before if found not in filters_kept], now)
    _upsert(conn, "charge", [_charge_columns(charge, place, now) for place, charge in enumerate(after)])
    _upsert(
        conn,
        "charge_filter",
        [
            _filter_columns(charge, entry, place, now)
            for charge in after
            for place, entry in enumerate(charge.filters)
        ],
    )


def _delete(conn: Connection[Any], table: str, ids: Sequence[UUID], now: datetime) -> None:
    if ids:
        conn.execute(
            f"update {table} set deleted_at = %s, updated_at = %s where id = any(%s)", [now, now, list(ids)]
        )


def _upsert(conn: Connection[Any], table: str, rows: Sequence[Mapping[str, Any]]) -> None:
    if not rows:
        return
    names = [name for name in rows[0] if name not in ("id", "created_at", "updated_at")]
    changes = ", ".join(f"{name} = excluded.{name}" for name in names)
    _insert(conn, table, rows, f"(id) do update set {changes}")


def _insert(conn: Connection[Any], table: str, rows: Sequence[Mapping[str, Any]], on_conflict: str) -> None:
    if not rows:
        return
    names = list(rows[0])
    places = ", ".join(f"%({name})s" for name in names)
    with conn.cursor() as cursor:
        cursor.executemany(
            f"insert into {table} ({', '.join(names)}) values ({places}) on conflict {on_conflict}",
            rows,
        )


def _charge_columns(charge: Charge, position: int, now: datetime) -> dict[str, Any]:
    return {
        **{name: getattr(charge, name) for name in _CHARGE if name != "properties"},
        "organization_id": charge.metric.organization_id,
        "billable_metric_id": charge.metric.id,
        "properties": Jsonb(charge.properties),
        "tax_ids": taxes.ids(charge.taxes),
        **pricing_units.columns(charge.applied_pricing_unit),
        "position": position,
        "updated_at": now,
        "deleted_at": None,
    }


def _filter_columns(charge: Charge, entry: PlanFilter, position: int, now: datetime) -> dict[str, Any]:
    return {
        "id": entry.id,
        "charge_id": charge.id,
        "position": position,
        "invoice_display_name": entry.invoice_display_name,
        "values": Json(entry.values),
        "properties": Jsonb(entry.properties),
        "created_at": now,
        "updated_at": now,
        "deleted_at": None,
    }


def delete(conn: Connection[Any], *, plan_id: UUID, now: datetime) -> None:
    """Soft, with its copies, its charges and filters kept for the invoices that are still to come."""
    conn.execute(
        "update plan set deleted_at = %s, updated_at = %s where %s in (id, parent_id)", [now, now, plan_id]
    )


def priced_by_catalogue(conn: Connection[Any], organization_id: UUID) -> list[UUID]:
    """The plans with charges by the price catalogue, in any version of their prices."""
    rows = conn.execute(
        "select distinct coalesce(p.version_of, p.id) from charge c join plan p on p.id = c.plan_id"
        " where p.organization_id = %s and c.charge_model = 'catalogue' and c.deleted_at is null",
        [organization_id],
    ).fetchall()
    return [plan_id for (plan_id,) in rows]


def plans_of_metric(conn: Connection[Any], billable_metric_id: UUID) -> list[Plan]:
    """The plans with charges on a metric, in any version of their prices."""
    return list(plans_by_ids(conn, ids_of_metric(conn, billable_metric_id)).values())


def ids_of_metric(conn: Connection[Any], billable_metric_id: UUID) -> list[UUID]:
    """As plans_of_metric, their ids."""
    rows = conn.execute(
        "select distinct coalesce(p.version_of, p.id) from charge c join plan p on p.id = c.plan_id"
        " where c.billable_metric_id = %s and c.deleted_at is null and (p.version_of is null or p.deleted_at is null)",
        [billable_metric_id],
    ).fetchall()
    return [plan_id for (plan_id,) in rows]


def paid_in_advance(conn: Connection[Any], charge_ids: Collection[UUID]) -> set[UUID]:
    """The charges among these of which each event makes a fee."""
    rows = conn.execute("select id from charge where id = any(%s) and pay_in_advance", [list(charge_ids)])
    return {charge_id for (charge_id,) in rows}
