"""Fees: what is saved of them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from uuid import UUID

import psycopg
import pytest

from permille.core.invoice.draft import Line
from permille.store import fees
from tests.core.test_invoice_draft import customer, draft, fee, plan


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
