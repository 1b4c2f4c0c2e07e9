"""The audit finds each kind of wrong figure, and nothing where all is well."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import psycopg
import pytest

from permille.cli.doctor import audit_report
from permille.config import from_environment
from permille.core.organization import Organization
from permille.embedded.postgres import EmbeddedPostgres
from permille.store import audit
from tests.conftest import fresh_database
from tests.usecases.world import World, make_world, move, ts


@pytest.fixture(scope="module")
def billed(postgres: EmbeddedPostgres) -> Iterator[tuple[str, Organization]]:
    """The name of a database in which nothing is wrong yet: each test breaks a copy of it."""
    with fresh_database(postgres, "billed") as url:
        with psycopg.connect(url) as conn:
            conn.execute("set timezone to 'UTC'")
            made = make_world(conn)
            plan = made.plan(charges=[(made.metric("tokens"), "0.01")], amount_cents=1_000)
            made.subscribe(made.customer(), plan)
            made.use("sub", "tokens", 500, at=ts(2024, 2, 10))
            move(made, 2024, 4, 1)
            # The database itself refuses edits of what is final, and a number that is there already.
            for table in ("invoice", "fee"):
                conn.execute(f"alter table {table} disable trigger user")
            conn.execute("drop index invoice_number")
            name = conn.info.dbname
        yield name, made.organization


@pytest.fixture
def template(billed: tuple[str, Organization]) -> str:
    return billed[0]


@pytest.fixture
def world(db: psycopg.Connection[Any], billed: tuple[str, Organization]) -> World:
    """Three months of a customer, on invoices 1 to 3."""
    return World(conn=db, organization=billed[1])


_NOTE = """insert into credit_note select gen_random_uuid(), organization_id, billing_entity_id, customer_id, id, 1,
    'CN-1', issuing_date, 'available', null, 'other', null, currency, 10, 10, 10, 0, 0, {balance}, 10, 0, 0, 0, 0,
    '{taxes}', created_at, created_at from invoice where sequential_id = 2"""

_WALLET = """insert into wallet (id, organization_id, customer_id, status, currency, code, priority, rate_amount,
    invoice_requires_successful_payment, fee_types, billable_metric_ids, balance_cents, credits_balance, consumed_amount_cents,
    consumed_credits, ongoing_usage_balance_cents, is_depleted, created_at, updated_at)
    select gen_random_uuid(), organization_id, id, 'active', 'EUR', 'w', 1, 1, false, '{}', '{}', 10, 10, 0, 0, 0, false,
    created_at, created_at from customer;"""

_LOT = """
    insert into wallet_transaction (id, organization_id, wallet_id, transaction_type, transaction_status, status, source,
    amount_cents, credit_amount, remaining_amount_cents, priority, invoice_requires_successful_payment, metadata, created_at)
    select gen_random_uuid(), organization_id, id, 'inbound', 'granted', 'settled', 'manual', 10, 10, 4, 1, false, '{}',
    created_at from"""
"""A lot of each row of a table."""

BREAKS = {
    audit.PAYMENTS_ADD_UP: "update invoice set total_paid_amount_cents = 5 where sequential_id = 2",
    audit.PAYMENTS_ARE_SPENT_ONCE: """insert into payment select gen_random_uuid(), organization_id, customer_id, 'Invoice', id, 5,
    currency, 'manual', 'paid', 'succeeded', null, created_at, created_at from invoice where sequential_id = 2""",
    audit.REQUESTS_ADD_UP: """with made as (insert into payment_request select gen_random_uuid(), organization_id, customer_id,
    billing_entity_id, null, 5, currency, 'pending', created_at, created_at from invoice where sequential_id = 2 returning *)
    insert into payment_request_invoice select m.id, i.id, 4 from made m, invoice i where i.sequential_id = 2""",
    audit.PAID_IS_NOT_OVERDUE: """update invoice set payment_overdue = true, payment_status = 'succeeded'
    where sequential_id = 2""",
    audit.FEES_CREDITED_ONCE: f"{_NOTE.format(balance=10, taxes='[]')};"
    " insert into credit_note_item select gen_random_uuid(), n.id, f.id, f.amount_cents + 1, 0, n.created_at"
    " from credit_note n, fee f",
    audit.INVOICES_CREDITED_ONCE: f"{_NOTE.format(balance=10, taxes='[]')};"
    " update credit_note set total_amount_cents = 1 + (select max(total_amount_cents) from invoice)",
    audit.PAID_AND_REFUNDED: f"{_NOTE.format(balance=10, taxes='[]')};"
    " update invoice set offset_amount_cents = 3 where sequential_id = 2",
    audit.WALLETS_ADD_UP: _WALLET,
    audit.LOTS_ADD_UP: f"{_WALLET} {_LOT} wallet",
    audit.ENTRIES_ARE_OF_SOMETHING: f"{_LOT} customer",
    audit.PREPAID_CREDITS_ADD_UP: "update invoice set prepaid_credit_amount_cents = 5 where sequential_id = 2",
    audit.GIVEN_BACK_ONCE: f"""{_WALLET} insert into wallet_transaction (id, organization_id, wallet_id, transaction_type,
    transaction_status, status, source, amount_cents, credit_amount, remaining_amount_cents, priority,
    invoice_requires_successful_payment, metadata, voided_invoice_id, created_at) select gen_random_uuid(), w.organization_id, w.id,
    'inbound', 'granted', 'settled', 'manual', 10, 10, 10, 1, false, '[]', i.id, w.created_at from wallet w, invoice i
    where i.sequential_id = 2; {_NOTE.format(balance=10, taxes="[]")}; update invoice set total_paid_amount_cents = 9,
    prepaid_credit_amount_cents = 10 where sequential_id = 2""",
    audit.FEES_ADD_UP: "update fee set amount_cents = amount_cents + 1 where id = (select min(id::text)::uuid from fee)",
    audit.TOTALS_ADD_UP: "update invoice set total_amount_cents = total_amount_cents + 1 where sequential_id = 2",
    audit.TAXES_ADD_UP: "update invoice set applied_taxes = '[{\"amount_cents\": 7}]' where sequential_id = 2",
    audit.CREDITS_ADD_UP: "update invoice set credit_notes_amount_cents = 5 where sequential_id = 2",
    audit.FEE_TAXES_ADD_UP: "update fee set applied_taxes = '[{\"amount_cents\": 7}]'",
    audit.ROUNDED_TOGETHER: "update fee set rounding = 'per_charge', precise_amount_cents = amount_cents + 1",
    audit.CREDIT_NOTES_ADD_UP: _NOTE.format(balance=10, taxes='[{"amount_cents": 1}]'),
    audit.BALANCES_ADD_UP: _NOTE.format(balance=9, taxes="[]"),
    audit.COUPONS_ADD_UP: "update invoice set coupons_amount_cents = 5 where sequential_id = 2",
    audit.COUPON_RESTS_ADD_UP: """with made as (insert into coupon select gen_random_uuid(), organization_id, 'n', 'c', null,
    'fixed_amount', 100, 'EUR', null, 'once', null, true, null, '{}', '{}', created_at, created_at from customer returning *)
    insert into applied_coupon select gen_random_uuid(), m.organization_id, c.id, m.id, 'active', coupon_type, amount_cents,
    amount_currency, null, frequency, null, 90, null, m.created_at, m.created_at from made m, customer c""",
    audit.BILLED_BEFORE_ADDS_UP: "update invoice set progressive_billing_credit_amount_cents = 5 where sequential_id = 2",
    audit.BILLED_BEFORE_ONCE: """insert into progressive_credit select gen_random_uuid(), o.id, s.id, i.id, 100000, i.created_at
    from invoice i, invoice o, subscription s where i.sequential_id = 2 and o.sequential_id = 3""",
    audit.NUMBERS_HAVE_NO_GAPS: "update invoice set sequential_id = 9 where sequential_id = 2",
    audit.ENTITY_NUMBERS_ARE_UNIQUE: "update invoice set number = (select min(number) from invoice)",
    audit.PERIODS_FOLLOW: "update invoice_subscription set charges_to_at = charges_to_at - interval '1 day'",
    audit.FIXED_UNITS_ARE_BILLED: """with seat as (insert into add_on (id, organization_id, code, name, amount_cents,
    amount_currency, created_at, updated_at) select gen_random_uuid(), organization_id, 'seat', 'Seat', 100, 'USD', created_at,
    created_at from customer returning *), made as (insert into fixed_charge (id, organization_id, plan_id, add_on_id, code,
    position, charge_model, pay_in_advance, prorated, properties, units, created_at, updated_at) select gen_random_uuid(),
    a.organization_id, p.id, a.id, 'seat', 0, 'standard', false, false, '{}', 1, a.created_at, a.created_at
    from seat a, plan p returning *), had as (insert into fixed_charge_units (subscription_id, fixed_charge_id, units,
    effective_at) select s.id, c.id, u.units, u.at::timestamptz from subscription s, made c,
    (values (4, '2024-01-01Z'), (7, '2024-02-20Z'), (6, '2024-02-10Z')) u (units, at))
    update fee set fee_type = 'fixed_charge', item_id = c.id, units = 7 from made c where from_at = '2024-02-01Z'""",
    audit.ALERTS_CROSSED: """insert into triggered_alert (id, organization_id, alert_id, alert_type, alert_code,
    external_customer_id, current_value, previous_value, crossed_thresholds, triggered_at) select gen_random_uuid(),
    organization_id, id, 'current_usage_amount', 'a', 'cus', 10, 3, '[{"value": 5}, {"value": "11"}]', created_at
    from customer""",
    audit.REPLACED_WERE_VOIDED: """update invoice set voided_invoice_id = (select id from invoice where sequential_id = 1)
    where sequential_id = 2""",
    audit.FEES_OF_PLANS_ONCE: "update fee set from_at = '2024-02-01 00:00Z', to_at = '2024-03-01 00:00Z'",
}


def test_every_check_is_broken_here() -> None:
    assert set(BREAKS) == set(audit.CHECKS)


@pytest.mark.parametrize("check", audit.CHECKS, ids=lambda check: check.sentence)
def test_a_wrong_figure_is_found(world: World, check: audit.Check) -> None:
    assert list(audit.findings(world.conn)) == []
    world.conn.execute(BREAKS[check])
    found = list(audit.findings(world.conn, organization_id=world.id))
    assert check.sentence in {one.sentence for one in found}
    stranger = make_world(world.conn, name="Stranger")
    assert list(audit.findings(world.conn, organization_id=stranger.id)) == []


@pytest.mark.parametrize(
    ("wallet", "values", "is_right"),
    [(False, (3, 5, 5), True), (False, (5, 9, 5), False), (True, (9, 5, 5), True), (True, (5, 3, 5), False)],
)
def test_a_threshold_is_crossed_by_what_comes_to_it(world: World, wallet, values, is_right) -> None:
    """`values`: before, now, and the threshold."""
    world.conn.execute(
        """insert into triggered_alert (id, organization_id, alert_id, alert_type, alert_code, wallet_id,
        external_customer_id, previous_value, current_value, crossed_thresholds, triggered_at)
        select gen_random_uuid(), organization_id, id, 't', 'a', case when %s then id end, 'cus', %s, %s,
        jsonb_build_array(jsonb_build_object('value', %s::numeric)), created_at from customer""",
        [wallet, *values],
    )
    assert bool(list(audit.findings(world.conn, organization_id=world.id))) is not is_right


def test_the_command_prints_each_sentence_and_what_breaks_it(
    world: World, dsn: str, capsys: pytest.CaptureFixture[str]
) -> None:
    config = replace(from_environment(), database_url=dsn)
    world.conn.commit()
    assert audit_report(config) == 0
    assert capsys.readouterr().out.count("ok  ") == len(audit.CHECKS) + 1
    world.conn.execute(BREAKS[audit.TOTALS_ADD_UP])
    world.conn.commit()
    assert audit_report(config) == 1
    said = capsys.readouterr().out
    assert f"FAIL  {audit.TOTALS_ADD_UP.sentence}" in said
    assert str(world.id) in said
