"""Dunning campaigns, and how far each customer's dunning has come."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row, dict_row
from psycopg.types.json import Jsonb

from permille.core.invoice.dunning import DunningCampaign, DunningState
from permille.core.record import Record
from permille.database.bulk import columns_of
from permille.ids import new_id
from permille.store.billing_holds import NOT_HELD

_COLUMNS = columns_of(DunningCampaign)


def _campaign(row: Mapping[str, Any]) -> DunningCampaign:
    thresholds = {each["currency"]: int(each["amount_cents"]) for each in row["thresholds"]}
    return DunningCampaign(**{**row, "thresholds": thresholds})


def _stored(columns: Mapping[str, Any]) -> dict[str, Any]:
    found = dict(columns)
    if "thresholds" in found:
        listed = [{"currency": each, "amount_cents": cents} for each, cents in found["thresholds"].items()]
        found["thresholds"] = Jsonb(listed)
    return found


def add(
    conn: Connection[Any], *, organization_id: UUID, columns: Mapping[str, Any], now: datetime
) -> UUID | None:
    """A new campaign, None where its code is taken. The names of columns come from code."""
    campaign_id = new_id(now)
    inserted = {
        "id": campaign_id,
        "organization_id": organization_id,
        "created_at": now,
        "updated_at": now,
        **_stored(columns),
    }
    names, places = ", ".join(inserted), ", ".join(f"%({name})s" for name in inserted)
    row = conn.execute(
        f"insert into dunning_campaign ({names}) values ({places})"
        " on conflict (organization_id, code) do nothing returning id",
        inserted,
    ).fetchone()
    return campaign_id if row else None


def update(conn: Connection[Any], campaign_id: UUID, columns: Mapping[str, Any], *, now: datetime) -> None:
    """Set the given columns; the names come from code."""
    changed = {**_stored(columns), "updated_at": now}
    changes = ", ".join(f"{name} = %({name})s" for name in changed)
    conn.execute(
        f"update dunning_campaign set {changes} where id = %(where_id)s", {**changed, "where_id": campaign_id}
    )


def delete(conn: Connection[Any], campaign_id: UUID) -> None:
    """Delete a campaign; those that it was applied to have none then."""
    for table in ("billing_entity", "customer"):
        conn.execute(
            f"update {table} set dunning_campaign_id = null where dunning_campaign_id = %s", [campaign_id]
        )
    conn.execute("delete from dunning_campaign where id = %s", [campaign_id])


def by_code(conn: Connection[Any], organization_id: UUID, code: str) -> DunningCampaign | None:
    with conn.cursor(row_factory=dict_row) as cursor:
        row = cursor.execute(
            f"select {_COLUMNS} from dunning_campaign where organization_id = %s and code = %s",
            [organization_id, code],
        ).fetchone()
    return _campaign(row) if row else None


def listing(
    conn: Connection[Any], organization_id: UUID, *, limit: int, offset: int
) -> tuple[list[DunningCampaign], int]:
    """Campaigns, newest first, and how many there are."""
    with conn.cursor(row_factory=dict_row) as cursor:
        rows = cursor.execute(
            f"select {_COLUMNS} from dunning_campaign where organization_id = %s"
            " order by created_at desc, id limit %s offset %s",
            [organization_id, limit, offset],
        ).fetchall()
    row = conn.execute(
        "select count(*) from dunning_campaign where organization_id = %s", [organization_id]
    ).fetchone()
    return [_campaign(each) for each in rows], row[0] if row else 0


def of_customers(conn: Connection[Any], customer_ids: Collection[UUID]) -> dict[UUID, DunningCampaign]:
    """Customer -> the campaign that applies to it: its own, or else its billing entity's, unless it is excluded."""
    rows = conn.execute(
        "select c.id, coalesce(c.dunning_campaign_id, b.dunning_campaign_id) from customer c"
        " join billing_entity b on b.id = c.billing_entity_id where c.id = any(%s) and c.deleted_at is null"
        " and not c.exclude_from_dunning_campaign and c.account_type <> 'partner'"
        " and coalesce(c.dunning_campaign_id, b.dunning_campaign_id) is not null",
        [list(customer_ids)],
    ).fetchall()
    chosen: dict[UUID, UUID] = dict(rows)
    with conn.cursor(row_factory=dict_row) as cursor:
        found = cursor.execute(
            f"select {_COLUMNS} from dunning_campaign where id = any(%s)", [list(set(chosen.values()))]
        ).fetchall()
    known = {row["id"]: _campaign(row) for row in found}
    return {customer_id: known[campaign_id] for customer_id, campaign_id in chosen.items()}


def wake(conn: Connection[Any], invoice_ids: Collection[UUID], *, now: datetime) -> None:
    """Look at the customers of invoices that are overdue since now, where a campaign may apply."""
    conn.execute(
        "insert into dunning (customer_id, organization_id, due_at)"
        " select distinct c.id, c.organization_id, %(now)s::timestamptz from customer c"
        " join billing_entity b on b.id = c.billing_entity_id"
        " where c.id in (select customer_id from invoice where id = any(%(ids)s))"
        " and coalesce(c.dunning_campaign_id, b.dunning_campaign_id) is not null"
        " on conflict (customer_id) do update set due_at = excluded.due_at",
        {"ids": list(invoice_ids), "now": now},
    )


def restart(conn: Connection[Any], customer_ids: Collection[UUID], *, now: datetime) -> None:
    """Begin the dunning of customers that were asked before, or have overdue invoices, again, with all attempts left."""
    conn.execute(
        "insert into dunning (customer_id, organization_id, due_at)"
        " select c.id, c.organization_id, %(now)s::timestamptz from customer c where c.id = any(%(ids)s)"
        " and (exists (select from invoice i where i.customer_id = c.id and i.payment_overdue)"
        " or exists (select from dunning d where d.customer_id = c.id))"
        " on conflict (customer_id) do update set due_at = excluded.due_at, last_attempt_at = null,"
        " attempts = '{}', is_finished = false",
        {"ids": list(customer_ids), "now": now},
    )


def customers_of_campaign(conn: Connection[Any], campaign_id: UUID) -> list[UUID]:
    """The customers that a campaign is applied to, by themselves or by their billing entity."""
    rows = conn.execute(
        "select c.id from customer c join billing_entity b on b.id = c.billing_entity_id"
        " where coalesce(c.dunning_campaign_id, b.dunning_campaign_id) = %s and c.deleted_at is null",
        [campaign_id],
    ).fetchall()
    return [customer_id for (customer_id,) in rows]


def customers_of_entity(conn: Connection[Any], billing_entity_id: UUID) -> list[UUID]:
    """The customers of a billing entity that have no campaign of their own."""
    rows = conn.execute(
        "select id from customer where billing_entity_id = %s and dunning_campaign_id is null"
        " and deleted_at is null",
        [billing_entity_id],
    ).fetchall()
    return [customer_id for (customer_id,) in rows]


def give_back_attempts(conn: Connection[Any], invoice_ids: Collection[UUID], *, now: datetime) -> None:
    """Give back the attempts in the currencies of invoices that are paid or void, and that a campaign had requested."""
    conn.execute(
        "update dunning d set attempts = d.attempts - w.currencies, due_at = %(now)s"
        " from (select i.customer_id, array_agg(distinct i.currency) as currencies from invoice i"
        " join payment_request_invoice p on p.invoice_id = i.id"
        " join payment_request r on r.id = p.payment_request_id and r.dunning_campaign_id is not null"
        " where i.id = any(%(ids)s) group by i.customer_id) w where d.customer_id = w.customer_id",
        {"ids": list(invoice_ids), "now": now},
    )


def claim(
    conn: Connection[Any], organization_id: UUID, *, until: datetime, limit: int, wait: bool
) -> dict[UUID, DunningState]:
    """Lock customers that are to be looked at; how far each has come. Locked rows are skipped unless `wait` is set."""
    rows = conn.execute(
        "select c.id, d.last_attempt_at, d.attempts, d.is_finished from dunning d"
        " join customer c on c.id = d.customer_id"
        f" where d.organization_id = %(organization)s and d.due_at <= %(until)s and d.{NOT_HELD}"
        " order by d.due_at, c.id"
        f" limit %(limit)s for no key update of c, d {'' if wait else 'skip locked'}",
        {"organization": organization_id, "until": until, "limit": limit},
    ).fetchall()
    return {
        customer_id: DunningState(
            last_attempt_at=last,
            attempts={currency: int(count) for currency, count in attempts.items()},
            is_finished=is_finished,
        )
        for customer_id, last, attempts, is_finished in rows
    }


def save(conn: Connection[Any], states: Mapping[UUID, tuple[DunningState, datetime | None]]) -> None:
    """How far each customer has come, and when to look at it again."""
    with conn.cursor() as cursor:
        cursor.executemany(
            "update dunning set last_attempt_at = %s, attempts = %s, is_finished = %s, due_at = %s"
            " where customer_id = %s",
            [
                (state.last_attempt_at, Jsonb(dict(state.attempts)), state.is_finished, due_at, customer_id)
                for customer_id, (state, due_at) in states.items()
            ],
        )


class OverdueInvoice(Record, kw_only=True):
    """An invoice that is not paid in time."""

    id: UUID
    customer_id: UUID
    billing_entity_id: UUID
    currency: str
    total_amount_cents: int
    due_amount_cents: int


def overdue(conn: Connection[Any], customer_ids: Collection[UUID]) -> list[OverdueInvoice]:
    """The overdue invoices of customers, the oldest first."""
    with conn.cursor(row_factory=class_row(OverdueInvoice)) as cursor:
        return cursor.execute(
            "select id, customer_id, billing_entity_id, currency, total_amount_cents,"
            " total_amount_cents - total_paid_amount_cents - offset_amount_cents as due_amount_cents"
            " from invoice where customer_id = any(%s) and payment_overdue order by created_at, id",
            [list(customer_ids)],
        ).fetchall()
