"""A run bills many subscriptions together, and what those of a cohort share once: every row is what it is when each is alone."""

from __future__ import annotations

from random import Random
from typing import Any
from uuid import UUID

import psycopg

from permille.core.contract.plan import Plan
from permille.usecases.invoices import run

from .world import Filter, World, make_world, ts

ZONES = ("UTC", "Asia/Tokyo", "America/Los_Angeles")
UNTIL = ts(2024, 4, 2)

# Identifiers, what says when another statement ran, and what depends on the order of arrival in the whole database.
_OWN = [
    *(
        "id",
        "organization_id",
        "billing_entity_id",
        "customer_id",
        "invoice_id",
        "subscription_id",
        "charge_id",
    ),
    *("charge_filter_id", "plan_id", "webhook_endpoint_id", "object_id", "wallet_id", "applied_coupon_id"),
    *("coupon_id", "true_up_parent_fee_id", "since", "position", "counted_to", "seen_to"),
    *("inbound_id", "outbound_id"),
]
_OF_CUSTOMER = {
    "invoice": "t.customer_id",
    "fee": "t.customer_id",
    "subscription": "t.customer_id",
    "invoice_sequence": "t.customer_id",
    "wallet": "t.customer_id",
    "wallet_to_refresh": "t.customer_id",
    "applied_coupon": "t.customer_id",
    "wallet_transaction": "(select customer_id from wallet where id = t.wallet_id)",
    "wallet_consumption": "(select w.customer_id from wallet w join wallet_transaction o on o.wallet_id = w.id"
    " where o.id = t.outbound_id)",
    "coupon_credit": "(select customer_id from applied_coupon where id = t.applied_coupon_id)",
    "invoice_subscription": "(select customer_id from subscription where id = t.subscription_id)",
    "webhook": "(select customer_id from invoice where id = t.object_id)",
}
_COUPON = (
    "insert into coupon (id, organization_id, name, code, coupon_type, percentage_rate, frequency,"
    " frequency_duration, reusable, created_at, updated_at) values (gen_random_uuid(), %(organization)s, 'Seventh',"
    " 'seventh', 'percentage', 14.3, 'recurring', 2, true, %(now)s, %(now)s)"
)
_APPLIED = (
    "insert into applied_coupon (id, organization_id, customer_id, coupon_id, status, coupon_type, percentage_rate,"
    " frequency, frequency_duration, uses_left, created_at, updated_at) select gen_random_uuid(), organization_id,"
    " %(customer)s, id, 'active', 'percentage', 14.3, 'recurring', 2, 2, %(now)s, %(now)s from coupon"
    " where organization_id = %(organization)s"
)
_WALLET = (
    "with made as (insert into wallet (id, organization_id, customer_id, status, currency, code, priority, rate_amount,"
    " invoice_requires_successful_payment, fee_types, billable_metric_ids, balance_cents, credits_balance,"
    " consumed_amount_cents, consumed_credits, ongoing_usage_balance_cents, is_depleted, created_at, updated_at)"
    " values (gen_random_uuid(), %(organization)s, %(customer)s, 'active', 'USD', 'main', 1, 1, false, %(fees)s, '{}',"
    " 2500, 25, 0, 0, 0, false, %(now)s, %(now)s) returning id)"
    " insert into wallet_transaction (id, organization_id, wallet_id, transaction_type, transaction_status, status,"
    " source, amount_cents, credit_amount, remaining_amount_cents, priority, invoice_requires_successful_payment,"
    " metadata, settled_at, created_at) select gen_random_uuid(), %(organization)s, id, 'inbound', 'granted',"
    " 'settled', 'manual', 2500, 25, 2500, 1, false, '{}', %(now)s, %(now)s from made"
)
_COMMITMENT = (
    "insert into commitment (id, organization_id, plan_id, amount_cents, tax_ids, created_at, updated_at)"
    " values (gen_random_uuid(), %(organization)s, %(plan)s, 9000, '{}', %(now)s, %(now)s)"
)
_TAX = (
    "insert into tax (id, organization_id, name, code, rate, applied_to_organization, created_at, updated_at)"
    " values (gen_random_uuid(), %(organization)s, 'VAT', 'vat', 8.875, true, %(now)s, %(now)s)",
    "update billing_entity set tax_ids = array(select id from tax where organization_id = %(organization)s)"
    " where organization_id = %(organization)s",
)
_ENDPOINT = (
    "insert into webhook_endpoint (id, organization_id, webhook_url, created_at, updated_at)"
    " values (gen_random_uuid(), %(organization)s, 'http://127.0.0.1:9/hook', %(now)s, %(now)s)"
)


def _filled(world: World, seed: int) -> None:
    """Customers of any kind, most of them like others; each world of a seed is the same."""
    chance = Random(seed)
    values: dict[str, Any] = {"organization": world.id, "now": ts(2024, 1, 1)}
    for statement in (*_TAX, _COUPON, _ENDPOINT):
        world.conn.execute(statement, values)
    plans = _plans(world)
    world.conn.execute(_COMMITMENT, {**values, "plan": plans[0].id})
    for number in range(14):
        zone, plan = chance.choice(ZONES), chance.choice(plans)
        settings = {"net_payment_term": chance.choice([None, 0, 30])}
        customer_id = world.customer(f"cus-{number}", timezone=zone, **settings)
        _credited(world, customer_id, chance, values)
        for name in ("a", "b")[: chance.choice([1, 1, 2])]:
            subscribed_at = ts(2024, 1, 3 + chance.randrange(20), chance.randrange(24))
            external_id, by = f"{number}-{name}", chance.choice(["calendar", "calendar", "anniversary"])
            world.subscribe(customer_id, plan, external_id, now=subscribed_at, billing_time=by)
            for month in range(1, 4):
                kind, amount = chance.choice(["in", "out", "other"]), chance.randrange(1, 4000)
                world.use(external_id, "tokens", amount, at=ts(2024, month, 27, number), kind=kind)


def _plans(world: World) -> list[Plan]:
    metric = world.metric(filters={"kind": ("in", "out")})
    tiers = [
        {"from_value": 0, "to_value": 1000, "per_unit_amount": "0.013", "flat_amount": "1"},
        {"from_value": 1000, "to_value": None, "per_unit_amount": "0.0021", "flat_amount": "0"},
    ]
    filters = (Filter(values={"kind": ("in",)}, properties={"amount": "0.0031"}),)
    priced = {"properties": {"amount": "0.007"}, "filters": filters, "min_amount_cents": 700}
    graduated = {"charge_model": "graduated", "properties": {"graduated_ranges": tiers}}
    return [
        world.plan("committed", amount_cents=1999, charges=[(metric, {**priced, "min_amount_cents": 0})]),
        world.plan("ahead", amount_cents=777, pay_in_advance=True, charges=[(metric, graduated)]),
        world.plan("least", interval="weekly", amount_cents=100, charges=[(metric, priced)]),
    ]


def _credited(world: World, customer_id: UUID, chance: Random, values: dict[str, Any]) -> None:
    own = {**values, "customer": customer_id, "fees": chance.choice([[], ["charge"]])}
    for statement, share in ((_APPLIED, 0.5), (_WALLET, 0.4)):
        if chance.random() < share:
            world.conn.execute(statement, own)


def _rows(world: World) -> dict[str, list[tuple[Any, ...]]]:
    """Table -> its rows, without what is one world's own."""
    return {
        table: world.rows(
            "select c.external_id, row from (select c.external_id,"
            r""" regexp_replace((to_jsonb(t) - %s::text[])::text, '"lago_(tax_)?id": "[^"]*"', '', 'g') as row"""
            f" from {table} t join customer c on c.id = {owner} where c.organization_id = %s) c order by 1, 2",
            _OWN,
            world.id,
        )
        for table, owner in _OF_CUSTOMER.items()
    }


def _writes(world: World) -> dict[str, int]:
    """Table -> how many of its rows this transaction has written so far."""
    return dict(
        world.rows(
            "select relname, n_tup_ins + n_tup_upd + n_tup_del from pg_stat_xact_user_tables order by 1"
        )
    )


def test_rows_are_the_same_as_one_subscription_at_a_time(db: psycopg.Connection[Any]) -> None:
    found = []
    for limit in (1, 100):
        world = make_world(db, name=f"by {limit}")
        _filled(world, seed=11)
        before = _writes(world)
        while run.bill_due(db, organization_id=world.id, until=UNTIL, limit=limit):
            pass
        written = {table for table, count in _writes(world).items() if count > before.get(table, 0)}
        assert written - {"procrastinate_jobs"} == _OF_CUSTOMER.keys()
        found.append(_rows(world))
    alone, together = found
    for table, rows in alone.items():
        assert rows, table
        assert together[table] == rows, table
