"""Fees: what is saved of them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

import psycopg
import pytest
from hypothesis import HealthCheck, example, given, settings, strategies as st

from permille.core.invoice.draft import Line
from permille.core.record import replace
from permille.core.tax import Tax, tax_fee
from permille.database.bulk import copy_lines
from permille.database.connections import exact_json
from permille.store import fees
from tests.core.test_invoice_draft import customer, draft, fee, plan

AT = datetime(2026, 2, 1, tzinfo=UTC)


@pytest.mark.parametrize("name", ["subscription_id", "charge_id", "charge_filter_id"])
def test_an_id_that_is_no_uuid_is_refused_and_not_saved_as_none(
    db: psycopg.Connection[Any], name: str
) -> None:
    payer = customer(organization_id=UUID(int=9))
    odd: dict[str, Any] = {name: "sub"}
    wrong = draft(Line(replace(fee(100), **odd), plan()), customer=payer)
    with pytest.raises(TypeError, match="'sub' is not the id of a row"):
        fees.add(db, [wrong])
    with pytest.raises(TypeError, match="'sub' is not the id of a row"):
        fees.unsaved(wrong)


ODD = 'a "quoted" back\\slash, a tab\tand ‰'


@given(
    taxes=st.lists(
        st.tuples(st.text(alphabet="ab\\\t\n\"'{}‰", max_size=8), st.decimals(0, 100, places=3)), max_size=3
    ),
    cents=st.integers(0, 2**63 - 1),
)
@example(taxes=[(ODD, Decimal("19.5"))], cents=100)
@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_taxes_in_lines_of_copy_are_those_that_are_shown(
    db: psycopg.Connection[Any], taxes: list[tuple[str, Decimal]], cents: int
) -> None:
    known = [
        Tax(
            id=UUID(int=n),
            code=f"t{n}",
            name=name,
            description=name or None,
            rate=rate,
            applied_to_organization=False,
            created_at=AT,
        )
        for n, (name, rate) in enumerate(taxes)
    ]
    taxed = tax_fee(cents, Decimal(cents), known)
    texts = fees.TaxTexts()
    db.execute("create temporary table shown (applied jsonb) on commit drop")
    copy_lines(db, "shown", "applied", [texts.of(taxed) + "\n" for _ in range(2)])
    found = [row for (row,) in db.execute("select applied from shown").fetchall()]
    db.rollback()
    wanted = json.loads(exact_json(fees.applied_taxes_json(taxed)), parse_float=Decimal, parse_int=Decimal)
    assert found == 2 * [wanted]
