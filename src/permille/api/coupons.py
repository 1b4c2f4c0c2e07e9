"""Coupons, and coupons of customers. Source: semantics-billing.md sections 5.2 and 11.10."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.api.customers import customer_of
from permille.api.http import Call
from permille.api.invoices import render_credit
from permille.api.objects import coupon as objects
from permille.api.render import instant
from permille.api.validation import BIGINT_MAX, LONG_TEXT, MANDATORY, Fields, parse_uuid, query_texts
from permille.core.coupon import Coupon, CouponType, Discount, Expiration, Frequency
from permille.core.errors import NotAllowed, NotFound
from permille.core.money import decimal_text
from permille.core.record import replace
from permille.ids import new_id
from permille.store import billable_metrics, coupons, invoices
from permille.store.coupons import AppliedCouponSearch, StoredAppliedCoupon
from permille.usecases import coupons as usecase
from permille.usecases.catalogue import customers as catalogue

DURATION_MAX = 9_999


def create_coupon(call: Call) -> dict[str, Any]:
    """POST /coupons."""
    fields = Fields(call.root("coupon"))
    made = read_coupon(call.conn, call.organization.id, fields, now=call.now)
    usecase.add(call.conn, made)
    return {"coupon": render_coupons(call.conn, [made], now=call.now)[0]}


def list_coupons(call: Call) -> dict[str, Any]:
    """GET /coupons."""
    page = call.page()
    rows, total = coupons.listing(call.conn, call.organization.id, limit=page.per_page, offset=page.offset)
    return {"coupons": render_coupons(call.conn, rows, now=call.now), "meta": page.meta(total)}


def show_coupon(call: Call) -> dict[str, Any]:
    """GET /coupons/{code}."""
    found = usecase.by_code(call.conn, call.organization.id, call.path["code"])
    return {"coupon": render_coupons(call.conn, [found], now=call.now)[0]}


def update_coupon(call: Call) -> dict[str, Any]:
    """PUT /coupons/{code}: of a coupon that was applied, only name, description and expiry change."""
    before = usecase.to_change(call.conn, call.organization.id, call.path["code"])
    fields = Fields(call.root("coupon"))
    after = read_changed_coupon(call.conn, fields, before, now=call.now)
    usecase.change(call.conn, after, now=call.now)
    return {"coupon": render_coupons(call.conn, [after], now=call.now)[0]}


def delete_coupon(call: Call) -> dict[str, Any]:
    """DELETE /coupons/{code}: those of customers end with it."""
    gone = usecase.to_change(call.conn, call.organization.id, call.path["code"])
    usecase.remove(call.conn, gone, now=call.now)
    return {"coupon": render_coupons(call.conn, [replace(gone, deleted_at=call.now)], now=call.now)[0]}


def read_coupon(conn: Connection[Any], organization_id: UUID, fields: Fields, *, now: datetime) -> Coupon:
    """A new coupon. Raises Invalid, NotFound and NotAllowed."""
    plan_ids, metric_ids = _limits(conn, organization_id, fields) or ((), ())
    made = _new_coupon(organization_id, fields, now=now)
    fields.check()
    return replace(made, plan_ids=plan_ids, billable_metric_ids=metric_ids)


def _new_coupon(organization_id: UUID, fields: Fields, *, now: datetime) -> Coupon:
    """A new coupon for all fees; problems gather in `fields`."""
    reusable = fields.flag("reusable")
    return Coupon(
        id=new_id(now),
        organization_id=organization_id,
        name=fields.text("name", mandatory=True) or "",
        code=fields.text("code", mandatory=True) or "",
        description=fields.text("description", limit=LONG_TEXT),
        discount=_discount(fields),
        reusable=True if reusable is None else reusable,
        expiration_at=_expiration(fields, None, now),
        plan_ids=(),
        billable_metric_ids=(),
        created_at=now,
    )


def read_changed_coupon(conn: Connection[Any], fields: Fields, before: Coupon, *, now: datetime) -> Coupon:
    """The changed coupon; what isn't sent stays. Raises Invalid, NotFound and NotAllowed."""
    after = before
    if fields.has("name"):
        after = replace(after, name=fields.text("name", mandatory=True) or "")
    if fields.has("description"):
        after = replace(after, description=fields.text("description", limit=LONG_TEXT))
    if fields.has("expiration") or fields.has("expiration_at"):
        expiration = (
            Expiration.TIME_LIMIT if before.expiration_at or fields.given.get("expiration_at") else None
        )
        given = Fields(
            {"expiration": expiration, "expiration_at": instant(before.expiration_at), **fields.given}, fields
        )
        after = replace(after, expiration_at=_expiration(given, before.expiration_at, now))
    if not coupons.is_applied(conn, before.id):
        after = _changed_terms(conn, fields, after)
    fields.check()
    return after


def _changed_terms(conn: Connection[Any], fields: Fields, coupon: Coupon) -> Coupon:
    """What may change as long as the coupon was not applied."""
    given = Fields({**_shown_discount(coupon.discount), **fields.given}, fields)
    coupon = replace(coupon, discount=_discount(given))
    if fields.has("code"):
        coupon = replace(coupon, code=fields.text("code", mandatory=True) or "")
    if (reusable := fields.flag("reusable")) is not None:
        coupon = replace(coupon, reusable=reusable)
    limits = _limits(conn, coupon.organization_id, fields)
    if limits is not None:
        coupon = replace(coupon, plan_ids=limits[0], billable_metric_ids=limits[1])
    return coupon


def _discount(fields: Fields) -> Discount:
    """The discount; problems gather in `fields`."""
    is_percentage = fields.choice("coupon_type", list(CouponType), mandatory=True) == CouponType.PERCENTAGE
    frequency = fields.choice("frequency", list(Frequency), mandatory=True)
    wanted = ["percentage_rate"] if is_percentage else ["amount_cents", "amount_currency"]
    if frequency == Frequency.RECURRING:
        wanted.append("frequency_duration")
    for name in wanted:
        if fields.given.get(name) in (None, ""):
            fields.refuse(name, MANDATORY)
    rate = fields.decimal("percentage_rate", minimum=0, maximum=100) if is_percentage else None
    if rate is not None and not rate:
        fields.refuse("percentage_rate", "value_is_out_of_range")
    return Discount(
        coupon_type=CouponType.PERCENTAGE if is_percentage else CouponType.FIXED_AMOUNT,
        amount_cents=None if is_percentage else fields.whole("amount_cents", minimum=1, maximum=BIGINT_MAX),
        amount_currency=None if is_percentage else fields.currency("amount_currency"),
        percentage_rate=rate,
        frequency=Frequency(frequency or Frequency.ONCE),
        frequency_duration=fields.whole("frequency_duration", minimum=1, maximum=DURATION_MAX)
        if frequency == Frequency.RECURRING
        else None,
    )


def _expiration(fields: Fields, before: datetime | None, now: datetime) -> datetime | None:
    """When it expires, None for never: in the future, or as it was before."""
    if fields.choice("expiration", list(Expiration), mandatory=True) != Expiration.TIME_LIMIT:
        return None
    at = fields.instant("expiration_at")
    if "expiration_at" not in fields.errors and (at is None or (at <= now and at != before)):
        fields.refuse("expiration_at", "invalid_date")
    return at


def _limits(
    conn: Connection[Any], organization_id: UUID, fields: Fields
) -> tuple[tuple[UUID, ...], tuple[UUID, ...]] | None:
    """The plans and the metrics that it is limited to, None where the request doesn't say. Raises NotFound and NotAllowed."""
    given = fields.nested("applies_to")
    if given is None:
        return None
    plan_codes, metric_codes = given.texts("plan_codes"), given.texts("billable_metric_codes")
    if plan_codes and metric_codes:
        raise NotAllowed("only_one_limitation_type_per_coupon_allowed")
    plan_ids = coupons.plan_ids_of(conn, organization_id, plan_codes) if plan_codes else {}
    metrics = billable_metrics.by_codes(conn, organization_id, metric_codes) if metric_codes else {}
    if set(plan_codes or ()) - plan_ids.keys():
        raise NotFound("plans")
    if set(metric_codes or ()) - metrics.keys():
        raise NotFound("billable_metrics")
    return tuple(plan_ids.values()), tuple(metric.id for metric in metrics.values())


def render_coupons(conn: Connection[Any], rows: Sequence[Coupon], *, now: datetime) -> list[objects.Coupon]:
    """Coupons as they are at an instant."""
    plan_codes, metric_codes = coupons.limits_of(conn, rows)
    return [
        objects.Coupon(
            lago_id=row.id,
            name=row.name,
            code=row.code,
            description=row.description,
            **_shown_discount(row.discount),
            reusable=row.reusable,
            limited_plans=bool(row.plan_ids),
            plan_codes=sorted(plan_codes[key] for key in row.plan_ids if key in plan_codes),
            limited_billable_metrics=bool(row.billable_metric_ids),
            billable_metric_codes=sorted(
                metric_codes[key] for key in row.billable_metric_ids if key in metric_codes
            ),
            expiration=Expiration.TIME_LIMIT if row.expiration_at else Expiration.NO_EXPIRATION,
            expiration_at=instant(row.expiration_at),
            created_at=instant(row.created_at),
            terminated_at=instant(row.terminated_at(now)),
        )
        for row in rows
    ]


def _shown_discount(discount: Discount) -> dict[str, Any]:
    return {
        "coupon_type": discount.coupon_type,
        **_shown_terms(discount),
    }


def _shown_terms(discount: Discount) -> dict[str, Any]:
    rate = discount.percentage_rate
    return {
        "amount_cents": discount.amount_cents,
        "amount_currency": discount.amount_currency,
        "percentage_rate": None if rate is None else decimal_text(rate),
        "frequency": discount.frequency,
        "frequency_duration": discount.frequency_duration,
    }


def apply_coupon(call: Call) -> dict[str, Any]:
    """POST /applied_coupons."""
    fields = Fields(call.root("applied_coupon"))
    customer_id, code = fields.text("external_customer_id"), fields.text("coupon_code")
    customer = catalogue.by_external_id(call.conn, call.organization.id, customer_id or "")
    coupon = usecase.to_apply(call.conn, call.organization.id, code or "", now=call.now)
    discount = read_own_discount(fields, coupon)
    fields.check()
    applied = usecase.apply(call.conn, customer, coupon.code, discount, now=call.now)
    return {"applied_coupon": render_applied_coupon(applied, now=call.now)}


def read_own_discount(fields: Fields, coupon: Coupon) -> Discount:
    """The discount of a coupon with what a request says otherwise; problems gather in `fields`."""
    given = {name: value for name, value in fields.given.items() if value not in (None, "")}
    known = _shown_discount(coupon.discount)
    return _discount(Fields({**known, **given, "coupon_type": known["coupon_type"]}, fields))


def read_previewed_coupons(call: Call, fields: Fields) -> list[Coupon] | None:
    """The `coupons` of a preview: one of ours by its code, or one that doesn't exist. Raises NotFound."""
    entries = fields.objects("coupons")
    if not entries:
        return None
    codes = [entry.text("code", mandatory=True) or "" for entry in entries]
    known = coupons.by_codes(call.conn, call.organization.id, codes)
    return [known.get(code) or _imagined(call, entry) for code, entry in zip(codes, entries, strict=True)]


def _imagined(call: Call, entry: Fields) -> Coupon:
    if not entry.given.get("coupon_type"):
        raise NotFound("coupon")
    frequency = Frequency.RECURRING if entry.given.get("frequency_duration") else Frequency.ONCE
    given = {"name": entry.given.get("code"), "frequency": frequency, "expiration": Expiration.NO_EXPIRATION}
    return _new_coupon(call.organization.id, Fields({**given, **entry.given}, entry), now=call.now)


def list_applied_coupons(call: Call) -> dict[str, Any]:
    """GET /applied_coupons, newest first."""
    return _applied(call, call.query.get("external_customer_id") or None)


def list_customer_applied_coupons(call: Call) -> dict[str, Any]:
    """GET /customers/{external_id}/applied_coupons."""
    return _applied(call, customer_of(call).external_id)


def _applied(call: Call, external_customer_id: str | None) -> dict[str, Any]:
    search = AppliedCouponSearch(
        external_customer_id=external_customer_id,
        status=call.query.get("status") or None,
        coupon_codes=query_texts(call.query, "coupon_code") or None,
    )
    page = call.page()
    rows, total = coupons.applied_listing(
        call.conn, call.organization.id, search, limit=page.per_page, offset=page.offset
    )
    return {"applied_coupons": _with_credits(call, rows), "meta": page.meta(total)}


def _with_credits(call: Call, rows: Sequence[StoredAppliedCoupon]) -> list[objects.AppliedCouponWithCredits]:
    taken = coupons.credits_of_applied(call.conn, [row.applied.id for row in rows])
    known = invoices.invoices_by_ids(call.conn, {one.invoice_id for own in taken.values() for one in own})
    return [
        objects.AppliedCouponWithCredits(
            **_shown_applied(row, call.now),
            credits=[render_credit(one, known[one.invoice_id]) for one in taken.get(row.applied.id, ())],
        )
        for row in rows
    ]


def end_applied_coupon(call: Call) -> dict[str, Any]:
    """DELETE /customers/{external_id}/applied_coupons/{lago_id}."""
    customer = customer_of(call)
    ended = usecase.end(call.conn, customer, parse_uuid(call.path["lago_id"]), now=call.now)
    return {"applied_coupon": render_applied_coupon(ended, now=call.now)}


def render_applied_coupon(row: StoredAppliedCoupon, *, now: datetime) -> objects.AppliedCoupon:
    """A customer's coupon, without what it took off invoices."""
    return objects.AppliedCoupon(**_shown_applied(row, now))


def _shown_applied(row: StoredAppliedCoupon, now: datetime) -> Mapping[str, Any]:
    applied = row.applied
    is_recurring = applied.discount.frequency is Frequency.RECURRING
    return {
        "lago_id": applied.id,
        "lago_coupon_id": applied.coupon_id,
        "coupon_code": applied.code,
        "coupon_name": applied.name,
        "coupon_description": applied.description,
        "coupon_status": row.coupon_status(now),
        "coupon_deleted_at": instant(row.coupon_deleted_at),
        "lago_customer_id": applied.customer_id,
        "external_customer_id": row.external_customer_id,
        "status": row.status,
        **_shown_terms(applied.discount),
        "amount_cents_remaining": applied.amount_left_cents,
        "frequency_duration_remaining": applied.uses_left if is_recurring else None,
        "expiration_at": instant(row.coupon_expiration_at),
        "created_at": instant(row.created_at),
        "terminated_at": instant(row.terminated_at),
    }
