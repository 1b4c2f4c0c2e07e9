"""How far each of those that follow usage has looked through events, in the order of their arrival."""

from __future__ import annotations

from enum import StrEnum
from typing import Any

from psycopg import Connection


class Follows(StrEnum):
    """Who follows, by the table with its one row."""

    ALERTS = "alert_check"
    THRESHOLDS = "threshold_check"
    WALLETS = "wallet_check"


_CLAIM = {each: f"select seen_to from {each} for update skip locked" for each in Follows}
_SEEN_TO = {each: f"select seen_to from {each}" for each in Follows}
_SET_SEEN = {each: f"update {each} set seen_to = %s" for each in Follows}


def claim(conn: Connection[Any], who: Follows) -> int | None:
    """How far events were looked through, locked until the transaction ends; None where another worker is at it."""
    row = conn.execute(_CLAIM[who]).fetchone()
    return row[0] if row else None


def seen_to(conn: Connection[Any], who: Follows) -> int:
    """How far events were looked through, at least."""
    row = conn.execute(_SEEN_TO[who]).fetchone()
    assert row is not None, f"{who} has its one row from its migration on"
    return int(row[0])


def set_seen(conn: Connection[Any], who: Follows, seen: int) -> None:
    """Events up to this place in the order of arrival were looked through."""
    conn.execute(_SET_SEEN[who], [seen])
