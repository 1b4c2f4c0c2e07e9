"""Organizations, their default billing entity and their clocks."""

from __future__ import annotations

import secrets
from collections.abc import Collection
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row

from permille.core.organization import Organization
from permille.core.record import Record
from permille.ids import new_id
from permille.store import billing_entities, catalogue_versions

COLUMNS = "o.id, o.name, o.test_mode, o.test_now, o.hmac_key, o.created_at, o.requires_second_factor, o.auto_approve_prices"
"""Those of an Organization."""


def by_id(conn: Connection[Any], organization_id: UUID) -> Organization | None:
    with conn.cursor(row_factory=class_row(Organization)) as cursor:
        return cursor.execute(
            f"select {COLUMNS} from organization o where o.id = %s", [organization_id]
        ).fetchone()


def by_name(conn: Connection[Any], name: str) -> list[Organization]:
    with conn.cursor(row_factory=class_row(Organization)) as cursor:
        return cursor.execute(
            f"select {COLUMNS} from organization o where o.name = %s order by o.created_at", [name]
        ).fetchall()


def named(conn: Connection[Any], name_or_id: str) -> list[Organization]:
    """The organization with this id, else all with this name, the oldest first."""
    try:
        found = by_id(conn, UUID(name_or_id))
    except ValueError:
        found = None
    return [found] if found else by_name(conn, name_or_id)


def listing(conn: Connection[Any], *, limit: int, offset: int) -> tuple[list[Organization], int]:
    """Organizations, newest first, and how many there are."""
    with conn.cursor(row_factory=class_row(Organization)) as cursor:
        rows = cursor.execute(
            f"select {COLUMNS} from organization o order by o.created_at desc, o.id limit %s offset %s",
            [limit, offset],
        ).fetchall()
    row = conn.execute("select count(*) from organization").fetchone()
    return rows, row[0] if row else 0


def of_user(
    conn: Connection[Any], user_id: UUID, *, limit: int, offset: int
) -> tuple[list[Organization], int]:
    """The organizations that the user has a role in, newest first, and how many they are."""
    chosen = "from membership m join organization o on o.id = m.organization_id where m.user_id = %s"
    with conn.cursor(row_factory=class_row(Organization)) as cursor:
        rows = cursor.execute(
            f"select {COLUMNS} {chosen} order by o.created_at desc, o.id limit %s offset %s",
            [user_id, limit, offset],
        ).fetchall()
    row = conn.execute(f"select count(*) {chosen}", [user_id]).fetchone()
    return rows, row[0] if row else 0


def add(
    conn: Connection[Any],
    *,
    name: str,
    test_now: datetime | None,
    entity: dict[str, Any],
    now: datetime,
) -> Organization:
    """A new organization with its default billing entity. `test_now` makes it a test-mode one.

    `entity` holds columns of billing_entity that were asked for, by name.
    """
    organization = Organization(
        id=new_id(now),
        name=name,
        test_mode=test_now is not None,
        test_now=test_now,
        hmac_key=_draw_hmac_key(),
        created_at=test_now or now,
    )
    conn.execute(
        "insert into organization (id, name, test_mode, test_now, hmac_key, created_at, updated_at)"
        " values (%(id)s, %(name)s, %(test_mode)s, %(test_now)s, %(hmac_key)s, %(created_at)s, %(created_at)s)",
        {
            "id": organization.id,
            "name": name,
            "test_mode": organization.test_mode,
            "test_now": test_now,
            "hmac_key": organization.hmac_key,
            "created_at": organization.created_at,
        },
    )
    columns = {"code": "default", "name": name, "is_default": True, **entity}
    billing_entities.add(conn, organization_id=organization.id, columns=columns, now=organization.created_at)
    catalogue_versions.adopt_shipped(conn, [organization.id], now=organization.created_at)
    return organization


def _draw_hmac_key() -> str:
    return secrets.token_urlsafe(32)


def roll_hmac_key(conn: Connection[Any], *, organization_id: UUID, now: datetime) -> str:
    """Replace the key that signs webhooks by a new one: every later delivery is signed with it."""
    key = _draw_hmac_key()
    conn.execute(
        "update organization set hmac_key = %s, updated_at = %s where id = %s", [key, now, organization_id]
    )
    return key


class TestClock(Record):
    """A test clock: what it shows, and where it is on its way to, None when it stays."""

    now: datetime
    target: datetime | None


def clock(conn: Connection[Any], organization_id: UUID) -> TestClock | None:
    """The test clock; a live organization has none."""
    return _clock(conn, organization_id, "")


def lock_clock(conn: Connection[Any], organization_id: UUID, *, wait: bool = True) -> TestClock | None:
    """The test clock, locked against other movers until the transaction ends; None when one has it, unless `wait`."""
    return _clock(conn, organization_id, f"for no key update{'' if wait else ' skip locked'}")


def hold_clock(conn: Connection[Any], organization_id: UUID, *, system_now: datetime) -> datetime | None:
    """The organization's instant; a test clock isn't moved on until the transaction ends. None when it is being moved."""
    organization = by_id(conn, organization_id)
    if organization is None:
        return None
    if not organization.test_mode:
        return system_now
    clock = _clock(conn, organization_id, "for share skip locked")
    return clock.now if clock else None


def _clock(conn: Connection[Any], organization_id: UUID, how: str) -> TestClock | None:
    row = conn.execute(
        f"select test_now, test_target from organization where id = %s and test_mode {how}", [organization_id]
    ).fetchone()
    return TestClock(*row) if row else None


def set_clock(conn: Connection[Any], *, organization_id: UUID, now: datetime) -> None:
    conn.execute("update organization set test_now = %s where id = %s", [now, organization_id])


def set_target(conn: Connection[Any], *, organization_id: UUID, target: datetime | None) -> None:
    """Where the test clock is on its way to."""
    conn.execute("update organization set test_target = %s where id = %s", [target, organization_id])


def on_their_way(conn: Connection[Any]) -> list[UUID]:
    """The organizations whose test clock is being moved."""
    rows = conn.execute("select id from organization where test_target is not null order by id")
    return [organization_id for (organization_id,) in rows]


def auto_approve_prices(conn: Connection[Any], organization_id: UUID, *, is_on: bool) -> None:
    conn.execute("update organization set auto_approve_prices = %s where id = %s", [is_on, organization_id])


def that_auto_approve_prices(conn: Connection[Any], organization_ids: Collection[UUID]) -> list[Organization]:
    """Those of the organizations that have versions of the price catalogue approved as they come in."""
    with conn.cursor(row_factory=class_row(Organization)) as cursor:
        return cursor.execute(
            f"select {COLUMNS} from organization o where o.id = any(%s) and o.auto_approve_prices order by o.id",
            [list(organization_ids)],
        ).fetchall()


def require_second_factor(conn: Connection[Any], organization_id: UUID, *, is_required: bool) -> None:
    conn.execute(
        "update organization set requires_second_factor = %s where id = %s", [is_required, organization_id]
    )
