"""A further credit is one entry of `BALANCES`: every way in which an invoice is made saves what it took of it."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import psycopg
import pytest

from permille.core.invoice.draft import InvoiceDraft
from permille.core.record import replace
from permille.usecases.invoices import balances

from .world import make_world, move

JANUARY = datetime(2024, 1, 1, tzinfo=UTC)


class Ledger:
    """Notes who was looked up, and which invoices took from it."""

    def __init__(self) -> None:
        self.asked: set[UUID] = set()
        self.taken: list[UUID] = []

    def load(self, _conn: Any, customer_ids: Collection[UUID]) -> dict[Any, Any]:
        self.asked |= set(customer_ids)
        return {}

    def take(self, _conn: Any, drafts: Iterable[InvoiceDraft]) -> None:
        self.taken += [draft.id for draft in drafts]


@pytest.fixture
def ledger(monkeypatch: pytest.MonkeyPatch) -> Ledger:
    made = Ledger()
    entry = replace(balances.BALANCES[0], load=made.load, take=made.take)
    monkeypatch.setattr(balances, "BALANCES", (*balances.BALANCES, entry))
    return made


@pytest.mark.parametrize("grace", [0, 3])
def test_bills_and_drafts_that_become_final_take_from_every_balance(
    db: psycopg.Connection[Any], ledger: Ledger, grace: int
) -> None:
    world = make_world(db, test_now=JANUARY)
    world.set_entity(invoice_grace_period=grace)
    plan = world.plan("pro", charges=[(world.metric("tokens"), "1")], amount_cents=3_100)
    customer = world.customer()
    world.subscribe(customer, plan, now=JANUARY)
    move(world, 2024, 2, 2)
    assert ledger.asked == (set() if grace else {customer})
    move(world, 2024, 2, 10)
    final = world.rows("select id from invoice where status = 'finalized' and organization_id = %s", world.id)
    assert len(final) == 1
    assert ledger.asked == {customer}
    assert {row[0] for row in final} <= set(ledger.taken)
