"""Coupons, those of customers, and the entries of what they took off invoices."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from functools import lru_cache
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import dict_row

from permille.core.coupon import (
    AppliedCoupon,
    Coupon,
    CouponStatus,
    CouponType,
    Discount,
    Frequency,
    in_order,
    status_at,
)
from permille.core.invoice.credit import CreditKind, InvoiceCredit
from permille.core.invoice.draft import InvoiceDraft
from permille.core.record import Record, names_of
from permille.database.bulk import hex_array, instant_array, int_array, uuid_array
from permille.ids import id_texts
from permille.store import page_sizes


class StoredAppliedCoupon(Record, kw_only=True):
    """A customer's coupon with what has become of it, and of the coupon that it is a copy of."""

    applied: AppliedCoupon
    external_customer_id: str
    status: CouponStatus
    created_at: datetime
    terminated_at: datetime | None
    coupon_expiration_at: datetime | None
    coupon_deleted_at: datetime | None

    def coupon_status(self, now: datetime) -> CouponStatus:
        """Whether the coupon can still be applied to others."""
        return status_at(self.coupon_expiration_at, self.coupon_deleted_at, now)


class AppliedCouponSearch(Record, kw_only=True):
    """What a list is narrowed to; None narrows nothing."""

    external_customer_id: str | None = None
    status: str | None = None
    coupon_codes: Sequence[str] | None = None


_DISCOUNT = "coupon_type, amount_cents, amount_currency, percentage_rate, frequency, frequency_duration"
_COUPON = (
    f"id, organization_id, name, code, description, {_DISCOUNT}, reusable, expiration_at, plan_ids,"
    " billable_metric_ids, created_at, deleted_at"
)


def _discount(row: Mapping[str, Any]) -> Discount:
    return _discount_of(**{name: row[name] for name in _DISCOUNT_FIELDS})


_DISCOUNT_FIELDS = names_of(Discount)


@lru_cache(maxsize=1024)
def _discount_of(
    *,
    coupon_type: str,
    amount_cents: int | None,
    amount_currency: str | None,
    percentage_rate: Decimal | None,
    frequency: str,
    frequency_duration: int | None,
) -> Discount:
    """One for all customers who have the same."""
    return Discount(
        coupon_type=CouponType(coupon_type),
        amount_cents=amount_cents,
        amount_currency=amount_currency,
        percentage_rate=percentage_rate,
        frequency=Frequency(frequency),
        frequency_duration=frequency_duration,
    )


def _coupon(row: Mapping[str, Any]) -> Coupon:
    return Coupon(
        id=row["id"],
        organization_id=row["organization_id"],
        name=row["name"],
        code=row["code"],
        description=row["description"],
        discount=_discount(row),
        reusable=row["reusable"],
        expiration_at=row["expiration_at"],
        plan_ids=tuple(row["plan_ids"]),
        billable_metric_ids=tuple(row["billable_metric_ids"]),
        created_at=row["created_at"],
        deleted_at=row["deleted_at"],
    )


def _columns(coupon: Coupon) -> dict[str, Any]:
    """The columns of a coupon that change, and its discount."""
    return {
        "name": coupon.name,
        "code": coupon.code,
        "description": coupon.description,
        **_discount_columns(coupon.discount),
        "reusable": coupon.reusable,
        "expiration_at": coupon.expiration_at,
        "plan_ids": list(coupon.plan_ids),
        "billable_metric_ids": list(coupon.billable_metric_ids),
    }


def _discount_columns(discount: Discount) -> dict[str, Any]:
    return {
        "coupon_type": discount.coupon_type,
        "amount_cents": discount.amount_cents,
        "amount_currency": discount.amount_currency,
        "percentage_rate": discount.percentage_rate,
        "frequency": discount.frequency,
        "frequency_duration": discount.frequency_duration,
    }


def _coupons(conn: Connection[Any], condition: str, values: Sequence[Any]) -> list[Coupon]:
    with conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(f"select {_COUPON} from coupon where {condition}", values).fetchall()
    return list(map(_coupon, rows))


def by_code(conn: Connection[Any], organization_id: UUID, code: str, *, lock: bool = False) -> Coupon | None:
    """The coupon with this code; with `lock` nobody else changes or applies it until the transaction ends."""
    condition = "organization_id = %s and code = %s and deleted_at is null"
    found = _coupons(conn, condition + (" for update" if lock else ""), [organization_id, code])
    return found[0] if found else None


def by_codes(conn: Connection[Any], organization_id: UUID, codes: Collection[str]) -> dict[str, Coupon]:
    """Code -> coupon, as far as there are such."""
    condition = "organization_id = %s and code = any(%s) and deleted_at is null"
    return {one.code: one for one in _coupons(conn, condition, [organization_id, list(codes)])}


_COUNT_TARGETS = "select sum(cardinality(plan_ids) + cardinality(billable_metric_ids)) from coupon where id = any(%(ids)s::uuid[])"


def listing(
    conn: Connection[Any], organization_id: UUID, *, limit: int, offset: int
) -> tuple[list[Coupon], int]:
    """Coupons, newest first, and how many there are. Raises Invalid for a page too large."""
    rows = _coupons(
        conn,
        "organization_id = %s and deleted_at is null order by created_at desc, id limit %s offset %s",
        [organization_id, limit, offset],
    )
    page_sizes.refuse_large(conn, _COUNT_TARGETS, [row.id for row in rows])
    row = conn.execute(
        "select count(*) from coupon where organization_id = %s and deleted_at is null", [organization_id]
    ).fetchone()
    return rows, row[0] if row else 0


def add(conn: Connection[Any], coupon: Coupon) -> bool:
    """Insert a coupon; False when its code is taken."""
    columns = {
        "id": coupon.id,
        "organization_id": coupon.organization_id,
        **_columns(coupon),
        "created_at": coupon.created_at,
        "updated_at": coupon.created_at,
    }
    done = conn.execute(
        f"insert into coupon ({', '.join(columns)}) values ({', '.join(f'%({name})s' for name in columns)})"
        " on conflict (organization_id, code) where deleted_at is null do nothing",
        columns,
    )
    return done.rowcount == 1


def replace(conn: Connection[Any], coupon: Coupon, *, now: datetime) -> bool:
    """Save a changed coupon; False when its code is another's."""
    columns = _columns(coupon)
    done = conn.execute(
        f"update coupon set {', '.join(f'{name} = %({name})s' for name in columns)}, updated_at = %(now)s"
        " where id = %(id)s and not exists (select from coupon o where o.organization_id = coupon.organization_id"
        " and o.code = %(code)s and o.id <> coupon.id and o.deleted_at is null)",
        {**columns, "id": coupon.id, "now": now},
    )
    return done.rowcount == 1


def delete(conn: Connection[Any], coupon_id: UUID, *, now: datetime) -> None:
    """Delete a coupon; those of customers end with it."""
    conn.execute(
        "update coupon set deleted_at = %(now)s, updated_at = %(now)s where id = %(id)s",
        {"now": now, "id": coupon_id},
    )
    _terminate(conn, "coupon_id = %(id)s", coupon_id, now)


def terminate(conn: Connection[Any], applied_id: UUID, *, now: datetime) -> None:
    """End a customer's coupon."""
    _terminate(conn, "id = %(id)s", applied_id, now)


def terminate_of_customer(conn: Connection[Any], customer_id: UUID, *, now: datetime) -> None:
    """End all coupons of a customer."""
    _terminate(conn, "customer_id = %(id)s", customer_id, now)


def _terminate(conn: Connection[Any], condition: str, owner_id: UUID, now: datetime) -> None:
    conn.execute(
        "update applied_coupon set status = 'terminated', terminated_at = %(now)s, updated_at = %(now)s"
        f" where status = 'active' and {condition}",
        {"now": now, "id": owner_id},
    )


def limits_of(conn: Connection[Any], wanted: Iterable[Coupon]) -> tuple[dict[UUID, str], dict[UUID, str]]:
    """The codes of the plans and of the metrics that these coupons are for; those that are deleted are missing."""
    plan_ids, metric_ids = set(), set()
    for coupon in wanted:
        plan_ids |= set(coupon.plan_ids)
        metric_ids |= set(coupon.billable_metric_ids)
    return _codes(conn, "plan", plan_ids), _codes(conn, "billable_metric", metric_ids)


def _codes(conn: Connection[Any], table: str, ids: Collection[UUID]) -> dict[UUID, str]:
    if not ids:
        return {}
    return dict(
        conn.execute(
            f"select id, code from {table} where id = any(%s) and deleted_at is null", [list(ids)]
        ).fetchall()
    )


def plan_ids_of(conn: Connection[Any], organization_id: UUID, codes: Collection[str]) -> dict[str, UUID]:
    """Code -> plan of the catalogue, as far as there are such."""
    return dict(
        conn.execute(
            "select code, id from plan where organization_id = %s and code = any(%s)"
            " and deleted_at is null and parent_id is null and version_of is null",
            [organization_id, list(codes)],
        ).fetchall()
    )


def is_applied(conn: Connection[Any], coupon_id: UUID) -> bool:
    """Whether it was ever applied."""
    row = conn.execute(
        "select exists (select from applied_coupon where coupon_id = %s)", [coupon_id]
    ).fetchone()
    return bool(row and row[0])


_APPLIED_COLUMNS = (
    "a.id, a.customer_id, a.coupon_id, a.coupon_type, a.amount_cents, a.amount_currency, a.percentage_rate, a.frequency,"
    " a.frequency_duration, a.amount_left_cents, a.uses_left, c.code, c.name, c.description, c.plan_ids,"
    " c.billable_metric_ids"
)
_IS_KEPT = (
    "not exists (select from coupon_credit b where b.invoice_id = e.invoice_id"
    " and b.applied_coupon_id = e.applied_coupon_id and b.amount_cents < 0)"
)
"""SQL for whether what an entry e took off an invoice has not come back."""


def _applied(row: Mapping[str, Any]) -> AppliedCoupon:
    return AppliedCoupon(
        id=row["id"],
        customer_id=row["customer_id"],
        coupon_id=row["coupon_id"],
        code=row["code"],
        name=row["name"],
        description=row["description"],
        discount=_discount(row),
        amount_left_cents=row["amount_left_cents"],
        uses_left=row["uses_left"],
        plan_ids=tuple(row["plan_ids"]),
        billable_metric_ids=tuple(row["billable_metric_ids"]),
    )


def active(conn: Connection[Any], customer_ids: Collection[UUID]) -> dict[UUID, Sequence[AppliedCoupon]]:
    """Customer -> the coupons that still take something off, in the order in which they do, locked."""
    with conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            f"select {_APPLIED_COLUMNS} from applied_coupon a join coupon c on c.id = a.coupon_id"
            " where a.customer_id = any(%s) and a.status = 'active'"
            " order by a.created_at, a.position for no key update of a",
            [uuid_array(customer_ids)],
        ).fetchall()
    found: dict[UUID, list[AppliedCoupon]] = defaultdict(list)
    for row in rows:
        found[row["customer_id"]].append(_applied(row))
    return {customer_id: in_order(coupons) for customer_id, coupons in found.items()}


def apply(conn: Connection[Any], organization_id: UUID, applied: AppliedCoupon, *, now: datetime) -> None:
    """Insert a customer's coupon."""
    columns = {
        "id": applied.id,
        "organization_id": organization_id,
        "customer_id": applied.customer_id,
        "coupon_id": applied.coupon_id,
        "status": CouponStatus.ACTIVE,
        **_discount_columns(applied.discount),
        "amount_left_cents": applied.amount_left_cents,
        "uses_left": applied.uses_left,
        "created_at": now,
        "updated_at": now,
    }
    names = ", ".join(columns)
    conn.execute(
        f"insert into applied_coupon ({names}) values ({', '.join(f'%({name})s' for name in columns)})",
        columns,
    )


def take(conn: Connection[Any], drafts: Iterable[InvoiceDraft]) -> None:
    """Save what coupons took off these invoices, and what is left of them; set-based."""
    entries = [(draft, credit) for draft in drafts for credit in draft.coupons]
    if not entries:
        return
    add_entries(
        conn, [(draft.id, credit.left.id, credit.amount_cents, draft.at) for draft, credit in entries]
    )
    last = {
        credit.left.id: (credit.left, credit.left.status_by_use, draft.made_at)
        for draft, credit in entries
        if credit.left.is_counted
    }
    if last:
        save_rests(conn, list(last.values()))


def add_entries(conn: Connection[Any], entries: Sequence[tuple[UUID, UUID, int, datetime]]) -> None:
    """Insert entries: (invoice, applied coupon, cents, instant)."""
    ids = {at: id_texts(at) for _, _, _, at in entries}
    conn.execute(
        "insert into coupon_credit (id, invoice_id, applied_coupon_id, amount_cents, created_at)"
        " select * from unnest(%s::uuid[], %s::uuid[], %s::uuid[], %s::bigint[], %s::timestamptz[])",
        [
            hex_array(next(ids[at]) for _, _, _, at in entries),
            uuid_array(invoice_id for invoice_id, _, _, _ in entries),
            uuid_array(applied_id for _, applied_id, _, _ in entries),
            int_array(cents for _, _, cents, _ in entries),
            instant_array(at for _, _, _, at in entries),
        ],
    )


def save_rests(conn: Connection[Any], rests: Sequence[tuple[AppliedCoupon, CouponStatus, datetime]]) -> None:
    """Save what is left of coupons that are locked, and their status: (coupon, status, instant)."""
    conn.execute(
        "update applied_coupon a set amount_left_cents = w.amount_left_cents, uses_left = w.uses_left,"
        " status = w.status, updated_at = w.at,"
        " terminated_at = case when w.status = 'terminated' then coalesce(a.terminated_at, w.at) end"
        " from unnest(%s::uuid[], %s::bigint[], %s::bigint[], %s::text[], %s::timestamptz[])"
        " as w (id, amount_left_cents, uses_left, status, at) where a.id = w.id",
        [
            uuid_array(coupon.id for coupon, _, _ in rests),
            [coupon.amount_left_cents for coupon, _, _ in rests],
            [coupon.uses_left for coupon, _, _ in rests],
            [status for _, status, _ in rests],
            instant_array(at for _, _, at in rests),
        ],
    )


class Returned(Record, kw_only=True):
    """What a coupon took off an invoice that is void, with the coupon's state."""

    invoice_id: UUID
    amount_cents: int
    coupon: AppliedCoupon
    status: CouponStatus
    can_be_active: bool
    """Whether its coupon has neither expired nor been deleted."""


def to_give_back(conn: Connection[Any], invoice_ids: Collection[UUID], *, now: datetime) -> list[Returned]:
    """What coupons took off these invoices and what has not come back yet; the customers' coupons are locked."""
    with conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            f"select {_APPLIED_COLUMNS}, a.status, e.invoice_id, e.amount_cents as taken_cents,"
            " c.deleted_at is null and (c.expiration_at is null or c.expiration_at > %(now)s) as can_be_active"
            " from coupon_credit e join applied_coupon a on a.id = e.applied_coupon_id join coupon c on c.id = a.coupon_id"
            f" where e.invoice_id = any(%(invoices)s) and e.amount_cents > 0 and {_IS_KEPT}"
            " order by a.id, e.invoice_id for no key update of a",
            {"invoices": list(invoice_ids), "now": now},
        ).fetchall()
    return [
        Returned(
            invoice_id=row["invoice_id"],
            amount_cents=row["taken_cents"],
            coupon=_applied(row),
            status=CouponStatus(row["status"]),
            can_be_active=row["can_be_active"],
        )
        for row in rows
    ]


def applied_listing(
    conn: Connection[Any], organization_id: UUID, search: AppliedCouponSearch, *, limit: int, offset: int
) -> tuple[list[StoredAppliedCoupon], int]:
    """Coupons of customers, newest first, and how many there are."""
    conditions = {
        "a.customer_id in (select id from customer where organization_id = %(organization)s"
        " and external_id = %(external_customer_id)s and deleted_at is null)": search.external_customer_id,
        "a.status = %(status)s": search.status,
        "c.code = any(%(coupon_codes)s)": search.coupon_codes,
    }
    chosen = [condition for condition, value in conditions.items() if value is not None]
    where = " and ".join(["a.organization_id = %(organization)s", *chosen])
    values = {
        "organization": organization_id,
        "external_customer_id": search.external_customer_id,
        "status": search.status,
        "coupon_codes": search.coupon_codes and list(search.coupon_codes),
        "limit": limit,
        "offset": offset,
    }
    found = _stored(
        conn, f"{where} order by a.created_at desc, a.position desc limit %(limit)s offset %(offset)s", values
    )
    row = conn.execute(
        f"select count(*) from applied_coupon a join coupon c on c.id = a.coupon_id where {where}", values
    ).fetchone()
    return found, row[0] if row else 0


def applied_by_id(
    conn: Connection[Any], organization_id: UUID, applied_id: UUID
) -> StoredAppliedCoupon | None:
    values = {"organization": organization_id, "id": applied_id}
    found = _stored(conn, "a.organization_id = %(organization)s and a.id = %(id)s", values)
    return found[0] if found else None


def _stored(conn: Connection[Any], condition: str, values: Mapping[str, Any]) -> list[StoredAppliedCoupon]:
    with conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            f"select {_APPLIED_COLUMNS}, a.status, a.created_at, a.terminated_at, c.expiration_at as coupon_expiration_at,"
            " c.deleted_at as coupon_deleted_at, p.external_id from applied_coupon a join coupon c on c.id = a.coupon_id"
            f" join customer p on p.id = a.customer_id where {condition}",
            values,
        ).fetchall()
    return [
        StoredAppliedCoupon(
            applied=_applied(row),
            external_customer_id=row["external_id"],
            status=CouponStatus(row["status"]),
            created_at=row["created_at"],
            terminated_at=row["terminated_at"],
            coupon_expiration_at=row["coupon_expiration_at"],
            coupon_deleted_at=row["coupon_deleted_at"],
        )
        for row in rows
    ]


def credits_of(conn: Connection[Any], invoice_ids: Collection[UUID]) -> dict[UUID, list[InvoiceCredit]]:
    """What coupons took off each invoice, in the order in which they did; invoices without a coupon are missing."""
    found: dict[UUID, list[InvoiceCredit]] = defaultdict(list)
    for _, credit in _credits(conn, "e.invoice_id = any(%s)", invoice_ids):
        found[credit.invoice_id].append(credit)
    return found


def credits_of_applied(
    conn: Connection[Any], applied_ids: Collection[UUID]
) -> dict[UUID, list[InvoiceCredit]]:
    """What each of these coupons took off invoices, and did not come back, the first first."""
    found: dict[UUID, list[InvoiceCredit]] = defaultdict(list)
    for applied_id, credit in _credits(conn, f"e.applied_coupon_id = any(%s) and {_IS_KEPT}", applied_ids):
        found[applied_id].append(credit)
    return found


def _credits(
    conn: Connection[Any], condition: str, ids: Collection[UUID]
) -> list[tuple[UUID, InvoiceCredit]]:
    """(applied coupon, credit) of the entries that took something off an invoice."""
    rows = conn.execute(
        "select e.applied_coupon_id, e.id, e.invoice_id, c.id, c.code, c.name, c.description, e.amount_cents"
        " from coupon_credit e join applied_coupon a on a.id = e.applied_coupon_id"
        f" join coupon c on c.id = a.coupon_id where e.amount_cents > 0 and {condition} order by e.position",
        [list(ids)],
    ).fetchall()
    return [
        (
            applied_id,
            InvoiceCredit(
                id=credit_id,
                invoice_id=invoice_id,
                kind=CreditKind.COUPON,
                item_id=coupon_id,
                code=code,
                name=name,
                description=description,
                amount_cents=amount_cents,
            ),
        )
        for applied_id, credit_id, invoice_id, coupon_id, code, name, description, amount_cents in rows
    ]
