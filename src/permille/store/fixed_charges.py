"""Fixed charges of plans, and how many units of them each subscription has from when on."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from permille.core.contract.fixed_charge import FixedCharge
from permille.core.invoice.facts import PaidInAdvance
from permille.core.period import Period, days_in
from permille.core.rating.fixed_charge import UnitsChange
from permille.core.record import Record, names_of
from permille.database.bulk import instant_array, uuid_array
from permille.database.typed_rows import with_enums
from permille.store import add_ons, taxes

_OWN = tuple(name for name in names_of(FixedCharge) if name not in ("add_on", "taxes"))
_PAID = "f.fee_type = 'fixed_charge' and f.pay_in_advance and f.from_at <= %(at)s and f.to_at > %(at)s"
"""Fees f in advance of a period that runs at an instant."""


def of_plans(conn: Connection[Any], plan_ids: Collection[UUID]) -> dict[UUID, list[FixedCharge]]:
    """Plan -> its fixed charges in their order."""
    columns = ", ".join(f"c.{name}" for name in _OWN)
    with conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            f"select {columns}, c.add_on_id, {taxes.column('c')} from fixed_charge c"
            " where c.plan_id = any(%s) and c.deleted_at is null order by c.position, c.id",
            [list(plan_ids)],
        ).fetchall()
    known = add_ons.of_any(conn, {row["add_on_id"] for row in rows}) if rows else {}
    found: dict[UUID, list[FixedCharge]] = defaultdict(list)
    for row in rows:
        own = with_enums(FixedCharge, {name: row[name] for name in _OWN})
        charge = FixedCharge(**own, add_on=known[row["add_on_id"]], taxes=taxes.of_json(row["taxes"]))
        found[charge.plan_id].append(charge)
    return found


def save(
    conn: Connection[Any],
    organization_id: UUID,
    *,
    before: Sequence[FixedCharge],
    after: Sequence[FixedCharge],
    now: datetime,
) -> None:
    """Make the fixed charges of a plan what `after` says: rows are added, changed or soft-deleted by id."""
    if before == after:
        return
    gone = {charge.id for charge in before} - {charge.id for charge in after}
    conn.execute(
        "update fixed_charge set deleted_at = %s, updated_at = %s where id = any(%s)", [now, now, list(gone)]
    )
    rows = [_columns(organization_id, charge, place, now) for place, charge in enumerate(after)]
    if not rows:
        return
    names = list(rows[0])
    places = ", ".join(f"%({name})s" for name in names)
    changes = ", ".join(f"{name} = excluded.{name}" for name in names if name not in ("id", "created_at"))
    with conn.cursor() as cursor:
        cursor.executemany(
            f"insert into fixed_charge ({', '.join(names)}) values ({places})"
            f" on conflict (id) do update set {changes}",
            rows,
        )


def _columns(organization_id: UUID, charge: FixedCharge, place: int, now: datetime) -> dict[str, Any]:
    return {
        **{name: getattr(charge, name) for name in _OWN},
        "organization_id": organization_id,
        "add_on_id": charge.add_on.id,
        "properties": Jsonb(charge.properties),
        "tax_ids": taxes.ids(charge.taxes),
        "position": place,
        "updated_at": now,
        "deleted_at": None,
    }


def own_units(conn: Connection[Any], subscription_id: UUID) -> dict[UUID, Decimal]:
    """Fixed charge -> the units that the subscription has of its own."""
    rows = conn.execute(
        "select fixed_charge_id, units from fixed_charge_own_units where subscription_id = %s",
        [subscription_id],
    ).fetchall()
    return dict(rows)


def set_own_units(conn: Connection[Any], subscription_id: UUID, units: Mapping[UUID, Decimal]) -> None:
    """Give a subscription units of its own."""
    if not units:
        return
    with conn.cursor() as cursor:
        cursor.executemany(
            "insert into fixed_charge_own_units (subscription_id, fixed_charge_id, units) values (%s, %s, %s)"
            " on conflict (subscription_id, fixed_charge_id) do update set units = excluded.units",
            [(subscription_id, charge_id, wanted) for charge_id, wanted in units.items()],
        )


def start_units(conn: Connection[Any], subscription_ids: Collection[UUID]) -> None:
    """Write down how many units subscriptions that start have of their plans' fixed charges.

    What is written down of one that waited for its payment stays.
    """
    conn.execute(
        "insert into fixed_charge_units (subscription_id, fixed_charge_id, units, effective_at)"
        " select s.id, c.id, coalesce(o.units, c.units), s.started_at"
        " from subscription s join fixed_charge c on c.plan_id = s.plan_id and c.deleted_at is null"
        " left join fixed_charge_own_units o on o.subscription_id = s.id and o.fixed_charge_id = c.id"
        " where s.id = any(%s) and not exists (select from fixed_charge_units u"
        "   where u.subscription_id = s.id and u.fixed_charge_id = c.id) order by c.position, s.id",
        [list(subscription_ids)],
    )


class NewUnits(Record, kw_only=True):
    """The units of a subscription from an instant on."""

    subscription_id: UUID
    charge_id: UUID
    units: Decimal
    at: datetime
    at_once: bool
    """Whether that is when they are set."""


def add_units(conn: Connection[Any], changes: Sequence[NewUnits]) -> None:
    """Write down changes of units, in the order in which they are made."""
    conn.execute(
        "insert into fixed_charge_units (subscription_id, fixed_charge_id, units, effective_at, at_once)"
        " select * from unnest(%s::uuid[], %s::uuid[], %s::numeric[], %s::timestamptz[], %s::boolean[])",
        [
            uuid_array(each.subscription_id for each in changes),
            uuid_array(each.charge_id for each in changes),
            [each.units for each in changes],
            instant_array(each.at for each in changes),
            [each.at_once for each in changes],
        ],
    )


def units_of(
    conn: Connection[Any], subscription_ids: Collection[UUID]
) -> dict[UUID, dict[UUID, list[UnitsChange]]]:
    """Subscription -> fixed charge -> its units, in the order in which they were set."""
    rows = conn.execute(
        "select subscription_id, fixed_charge_id, units, effective_at, at_once from fixed_charge_units"
        " where subscription_id = any(%s) order by id",
        [list(subscription_ids)],
    ).fetchall()
    found: dict[UUID, dict[UUID, list[UnitsChange]]] = defaultdict(lambda: defaultdict(list))
    for subscription_id, charge_id, units, at, at_once in rows:
        found[subscription_id][charge_id].append(UnitsChange(units, at, at_once))
    return found


def still_to_come(
    conn: Connection[Any], subscription_ids: Collection[UUID], charge_ids: Collection[UUID], *, at: datetime
) -> set[tuple[UUID, UUID]]:
    """(Subscription, fixed charge) of these charges whose units that were set last do not count yet at an instant."""
    if not charge_ids:
        return set()
    rows = conn.execute(
        "select subscription_id, fixed_charge_id from ("
        "select distinct on (subscription_id, fixed_charge_id) subscription_id, fixed_charge_id, effective_at"
        " from fixed_charge_units where subscription_id = any(%s) and fixed_charge_id = any(%s)"
        " order by subscription_id, fixed_charge_id, id desc"
        ") last where effective_at > %s",
        [list(subscription_ids), list(charge_ids), at],
    ).fetchall()
    return {(subscription_id, charge_id) for subscription_id, charge_id in rows}


def with_own_units(conn: Connection[Any], charge_ids: Collection[UUID]) -> set[tuple[UUID, UUID]]:
    """(Subscription, fixed charge) of these charges where the subscription has units of its own."""
    rows = conn.execute(
        "select subscription_id, fixed_charge_id from fixed_charge_own_units where fixed_charge_id = any(%s)",
        [list(charge_ids)],
    ).fetchall()
    return {(subscription_id, charge_id) for subscription_id, charge_id in rows}


def units_billed(
    conn: Connection[Any], subscription_ids: Collection[UUID], *, at: datetime
) -> dict[tuple[UUID, UUID], Decimal]:
    """(Subscription, fixed charge) -> the units that are billed in advance for the period that runs at an instant."""
    rows = conn.execute(
        "select f.subscription_id, f.item_id, sum(f.units) from fee f join invoice i on i.id = f.invoice_id"
        f" where f.subscription_id = any(%(ids)s) and {_PAID} and i.status <> 'voided' group by 1, 2",
        {"ids": list(subscription_ids), "at": at},
    ).fetchall()
    return {(subscription_id, charge_id): units for subscription_id, charge_id, units in rows}


def paid_before(
    conn: Connection[Any], taken_over: Iterable[tuple[UUID, UUID, datetime, str]]
) -> dict[tuple[UUID, UUID], PaidInAdvance]:
    """(Subscription, add-on) -> what was paid of it, prorated, under the plan before for a period that was cut short.

    `taken_over` are the subscriptions, those that they follow, the instants of the change and the timezones.
    """
    found: dict[tuple[UUID, UUID], PaidInAdvance] = {}
    for subscription_id, previous_id, at, timezone in taken_over:
        rows = conn.execute(
            "select c.add_on_id, f.amount_cents, f.from_at, f.to_at from fee f"
            " join fixed_charge c on c.id = f.item_id join invoice i on i.id = f.invoice_id"
            f" where f.subscription_id = %(id)s and {_PAID} and c.prorated and i.status <> 'voided' order by f.id",
            {"id": previous_id, "at": at},
        ).fetchall()
        for add_on_id, amount_cents, from_at, to_at in rows:
            key = subscription_id, add_on_id
            days = days_in(Period(from_at, to_at), timezone)
            found[key] = found.get(key, PaidInAdvance(0, days)).and_more(amount_cents, days)
    return found
