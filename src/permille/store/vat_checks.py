"""VAT numbers of customers to look up in VIES, and what it said of them."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from permille.core.record import Record
from permille.ids import new_id

PROBLEM_KEPT = 500
"""Characters of why an attempt decided nothing."""


class VatCheck(Record, kw_only=True):
    """A look-up of a VAT number. `is_valid` is None until it is decided."""

    id: UUID
    organization_id: UUID
    customer_id: UUID
    number: str
    attempts: int
    next_attempt_at: datetime | None
    is_valid: bool | None
    name: str | None
    address: str | None
    problem: str | None
    decided_at: datetime | None


_COLUMNS = (
    "id, organization_id, customer_id, number, attempts, next_attempt_at, is_valid, name, address, problem,"
    " decided_at"
)

# 'epoch' is due at once. In test mode nobody is asked.
_ASK = """
insert into vat_check (id, organization_id, customer_id, number, next_attempt_at, created_at)
select %(id)s, o.id, %(customer)s, %(number)s, 'epoch', %(now)s
from organization o where o.id = %(organization)s and not o.test_mode
"""


def ask(
    conn: Connection[Any], organization_id: UUID, customer_id: UUID, number: str, *, now: datetime
) -> None:
    """Have the number of a customer looked up, in place of one that still waits. Call it under locks.change_customer."""
    forget(conn, customer_id)
    conn.execute(
        _ASK,
        {
            "id": new_id(now),
            "organization": organization_id,
            "customer": customer_id,
            "number": number,
            "now": now,
        },
    )


def forget(conn: Connection[Any], customer_id: UUID) -> None:
    """Look up nothing of the customer any more."""
    conn.execute(
        "update vat_check set next_attempt_at = null where customer_id = %s and next_attempt_at is not null",
        [customer_id],
    )


def forget_of_entity(conn: Connection[Any], organization_id: UUID, billing_entity_id: UUID) -> None:
    """Look up nothing of the billing entity's customers any more."""
    conn.execute(
        "update vat_check v set next_attempt_at = null from customer c where v.organization_id = %s"
        " and v.next_attempt_at is not null and c.id = v.customer_id and c.billing_entity_id = %s",
        [organization_id, billing_entity_id],
    )


def organizations_waiting(conn: Connection[Any], *, now: datetime) -> list[UUID]:
    """Those with a look-up that is due."""
    rows = conn.execute(
        "select distinct organization_id from vat_check where next_attempt_at <= %s", [now]
    ).fetchall()
    return [row[0] for row in rows]


def claim(
    conn: Connection[Any], organization_id: UUID, *, now: datetime, lease_until: datetime
) -> VatCheck | None:
    """The look-up that has been due longest; nobody else does it before the lease is over, unless it ends the process."""
    with conn.cursor(row_factory=class_row(VatCheck)) as cursor:
        return cursor.execute(
            "update vat_check set attempts = attempts + 1, next_attempt_at = %(lease)s where id = ("
            "select id from vat_check where organization_id = %(organization)s and next_attempt_at <= %(now)s"
            " order by next_attempt_at, id limit 1 for update skip locked)"
            f" returning {_COLUMNS}",
            {"organization": organization_id, "now": now, "lease": lease_until},
        ).fetchone()


def decide(
    conn: Connection[Any],
    check: VatCheck,
    *,
    is_valid: bool,
    name: str | None,
    address: str | None,
    now: datetime,
) -> bool:
    """Record what was found out; False where the look-up was not wanted any more, or somebody else has done it."""
    done = conn.execute(
        "update vat_check set next_attempt_at = null, is_valid = %s, name = %s, address = %s, problem = null,"
        " decided_at = %s where id = %s and next_attempt_at = %s",
        [is_valid, name, address, now, check.id, check.next_attempt_at],
    )
    return done.rowcount == 1


def retry(conn: Connection[Any], check: VatCheck, *, problem: str, at: datetime) -> None:
    """Try again at an instant, as nothing was found out."""
    conn.execute(
        "update vat_check set next_attempt_at = %s, problem = %s where id = %s and next_attempt_at = %s",
        [at, problem[:PROBLEM_KEPT], check.id, check.next_attempt_at],
    )


def postpone(conn: Connection[Any], organization_id: UUID, *, now: datetime, until: datetime) -> None:
    """Let what is due of an organization wait, without counting an attempt."""
    conn.execute(
        "update vat_check set next_attempt_at = %s where organization_id = %s and next_attempt_at <= %s",
        [until, organization_id, now],
    )


def verdict(conn: Connection[Any], customer_id: UUID, number: str | None) -> bool | None:
    """What was found out last about the number of a customer; None: nothing yet."""
    row = conn.execute(
        "select is_valid from vat_check where customer_id = %s and number = %s and decided_at is not null"
        " order by decided_at desc limit 1",
        [customer_id, number],
    ).fetchone()
    return None if row is None else bool(row[0])


def by_id(conn: Connection[Any], check_id: UUID) -> VatCheck | None:
    with conn.cursor(row_factory=class_row(VatCheck)) as cursor:
        return cursor.execute(f"select {_COLUMNS} from vat_check where id = %s", [check_id]).fetchone()


def newest_of(conn: Connection[Any], customer_id: UUID, number: str | None) -> VatCheck | None:
    """The last look-up of the number of a customer, decided or not."""
    with conn.cursor(row_factory=class_row(VatCheck)) as cursor:
        return cursor.execute(
            f"select {_COLUMNS} from vat_check where customer_id = %s and number = %s"
            " order by created_at desc, id desc limit 1",
            [customer_id, number],
        ).fetchone()
