"""Which custom sections subscriptions, wallets and what tops these up have chosen."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.custom_section import SectionChoice
from permille.database.bulk import uuid_array
from permille.store import custom_sections


def of(conn: Connection[Any], owner_ids: Collection[UUID]) -> dict[UUID, SectionChoice]:
    """Owner -> its choice, of those that have one."""
    if not owner_ids:
        return {}
    rows = conn.execute(
        f"select c.owner_id, c.skips, c.created_at, {custom_sections.column('c')}"
        " from custom_section_choice c where c.owner_id = any(%s)",
        [uuid_array(owner_ids)],
    ).fetchall()
    return {
        owner_id: SectionChoice(skips=skips, sections=custom_sections.of_json(found), chosen_at=chosen_at)
        for owner_id, skips, chosen_at, found in rows
    }


def choose(conn: Connection[Any], organization_id: UUID, owner_id: UUID, choice: SectionChoice) -> None:
    """Set the choice of an owner, which has none where the choice says nothing."""
    if choice.says_nothing:
        conn.execute("delete from custom_section_choice where owner_id = %s", [owner_id])
        return
    conn.execute(
        "insert into custom_section_choice (owner_id, organization_id, skips, custom_section_ids, created_at)"
        " values (%s, %s, %s, %s, %s) on conflict (owner_id) do update set"
        " skips = excluded.skips, custom_section_ids = excluded.custom_section_ids, created_at = excluded.created_at",
        [
            owner_id,
            organization_id,
            choice.skips,
            [section.id for section in choice.sections],
            choice.chosen_at,
        ],
    )
