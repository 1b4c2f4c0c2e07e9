"""What of an organization decides the events of calls of models, beside the calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, LiteralString
from uuid import UUID

from psycopg import Connection

from permille.core.llm.plan import CallTerms
from permille.store.billable_metrics import filters_of

COLUMNS: LiteralString = "t.t::json, md5(t.t)"
"""What `call_terms(organization) t` answers, and its digest, which `count_calls` compares with."""


def of_organization(conn: Connection[Any], organization_id: UUID) -> CallTerms:
    """As they are now."""
    row = conn.execute(f"select {COLUMNS} from call_terms(%s) t", [organization_id]).fetchone()
    assert row is not None, "a function answers one row"
    return from_row(*row)


def from_row(terms: Mapping[str, Any], stamp: str) -> CallTerms:
    """From COLUMNS."""
    listed = {code: filters_of(each or {}) for code, each in (terms["listed"] or {}).items()}
    return CallTerms(
        listed=listed,
        aliases=terms["aliases"] or {},
        has_payer_rules=terms["has_payer_rules"],
        stamp=stamp,
    )
