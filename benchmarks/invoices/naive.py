"""What a first version does: a loop over subscriptions, and a query for each thing that it needs or writes."""

from __future__ import annotations

from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import dict_row

from permille.ids import new_id

from .population import DUE, START


def bill_one_by_one(conn: Connection[Any], organization_id: UUID) -> int:
    """Bill all that is due, an invoice a transaction; how many."""
    billed = 0
    with conn.cursor(row_factory=dict_row) as cursor:
        while True:
            row = cursor.execute(
                "select * from subscription where organization_id = %s and next_billing_at <= %s"
                " order by next_billing_at limit 1 for update skip locked",
                [organization_id, DUE],
            ).fetchone()
            if row is None:
                return billed
            _bill(cursor, row)
            conn.commit()
            billed += 1


def _bill(cursor: Any, row: dict[str, Any]) -> None:
    plan = cursor.execute("select * from plan where id = %s", [row["plan_id"]]).fetchone()
    customer = cursor.execute("select * from customer where id = %s", [row["customer_id"]]).fetchone()
    entity = cursor.execute(
        "select * from billing_entity where id = %s", [customer["billing_entity_id"]]
    ).fetchone()
    lines = [("subscription", None, None, Decimal(1), plan["amount_cents"])]
    charges = cursor.execute("select * from charge where plan_id = %s", [plan["id"]]).fetchall()
    for charge in charges:
        filters = cursor.execute(
            "select * from charge_filter where charge_id = %s order by position", [charge["id"]]
        ).fetchall()
        lines += [_line(cursor, row, charge, each) for each in filters]
    number = cursor.execute(
        "insert into invoice_sequence values (%s, %s, 1) on conflict (customer_id, billing_entity_id)"
        " do update set last_value = invoice_sequence.last_value + 1 returning last_value",
        [customer["id"], entity["id"]],
    ).fetchone()["last_value"]
    _write(cursor, row, customer, entity, number, lines)


def _line(cursor: Any, row: dict[str, Any], charge: dict[str, Any], price: dict[str, Any]) -> Any:
    used = cursor.execute(
        "select coalesce(sum(c.sum), 0) as units from usage_cell c join series s on s.id = c.series_id"
        " where s.organization_id = %s and s.external_subscription_id = %s and s.code = 'tokens'"
        " and s.dimensions ->> 'type' = %s and c.grain = 'd' and c.starts_at >= %s and c.starts_at < %s",
        [row["organization_id"], row["external_id"], price["values"]["type"][0], START, DUE],
    ).fetchone()["units"]
    cents = (used * Decimal(price["properties"]["amount"]) * 100).quantize(Decimal(1), ROUND_HALF_UP)
    return "charge", charge["id"], price["id"], used, int(cents)


def _write(
    cursor: Any,
    row: dict[str, Any],
    customer: dict[str, Any],
    entity: dict[str, Any],
    number: int,
    lines: list[Any],
) -> None:
    total, invoice_id = sum(line[4] for line in lines), new_id(DUE)
    cursor.execute(
        "insert into invoice (id, organization_id, billing_entity_id, customer_id, sequential_id, number,"
        " invoice_type, status, payment_status, currency, timezone, issuing_date, payment_due_date,"
        " expected_finalization_date, net_payment_term, fees_amount_cents, sub_total_excluding_taxes_amount_cents,"
        " sub_total_including_taxes_amount_cents, total_amount_cents, finalized_at, created_at, updated_at)"
        " values (%s, %s, %s, %s, %s, %s, 'subscription', 'finalized', 'pending', 'USD', 'UTC', %s, %s, %s, 0,"
        " %s, %s, %s, %s, %s, %s, %s)",
        [invoice_id, row["organization_id"], entity["id"], customer["id"], number,
         f"{customer['slug']}-{number:03}", DUE, DUE, DUE, total, total, total, total, DUE, DUE, DUE],
    )  # fmt: skip
    cursor.execute(
        "insert into invoice_subscription (invoice_id, subscription_id, invoicing_reason, recurring, billed_at,"
        " from_at, to_at, charges_from_at, charges_to_at) values (%s, %s, 'subscription_periodic', true, %s, %s,"
        " %s, %s, %s)",
        [invoice_id, row["id"], DUE, START, DUE, START, DUE],
    )
    for position, (kind, charge_id, filter_id, units, cents) in enumerate(lines):
        cursor.execute(
            "insert into fee (id, organization_id, invoice_id, customer_id, subscription_id, fee_type, charge_id,"
            " charge_filter_id, position, pay_in_advance, units, amount_cents, amount_currency,"
            " precise_amount_cents, unit_amount_cents, precise_unit_amount, from_at, to_at, created_at)"
            " values (%s, %s, %s, %s, %s, %s, %s, %s, %s, false, %s, %s, 'USD', %s, 0, 0, %s, %s, %s)",
            [new_id(DUE), row["organization_id"], invoice_id, customer["id"], row["id"], kind, charge_id,
             filter_id, position, units, cents, cents, START, DUE, DUE],
        )  # fmt: skip
    cursor.execute(
        "insert into webhook (id, organization_id, webhook_endpoint_id, webhook_type, object_type, object_id,"
        " next_attempt_at, created_at) select gen_random_uuid(), organization_id, id, 'invoice.created', 'invoice',"
        " %s, 'epoch', %s from webhook_endpoint where organization_id = %s",
        [invoice_id, DUE, row["organization_id"]],
    )
    cursor.execute(
        "update subscription set next_billing_at = next_billing_at + interval '1 month', fee_billed_until = %s,"
        " charges_billed_until = %s where id = %s",
        [DUE, DUE, row["id"]],
    )
