"""A live organization of LLM customers who are all due at once, made by a few set-based statements."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.types.json import Json, Jsonb

from permille.ids import new_id
from permille.store import organizations

START = datetime(2024, 1, 1, tzinfo=UTC)
DUE = datetime(2024, 2, 1, tzinfo=UTC)
TYPES = ("input", "cached_input", "output", "reasoning")
PRICES = ("0.00000125", "0.000000125", "0.00001", "0.000012")


@dataclass(frozen=True, slots=True, kw_only=True)
class Population:
    organization_id: UUID
    subscriptions: int


def populate(
    conn: Connection[Any], *, subscriptions: int, name: str, test_now: datetime | None = None
) -> Population:
    """One subscription a customer, each with usage of four token prices in January, due on 1 February.

    With `test_now` it is not billed by workers, but by the clock of the organization alone.
    """
    organization = organizations.add(conn, name=name, test_now=test_now, entity={}, now=START)
    values = {
        "organization": organization.id,
        "plan": _catalogue(conn, organization.id),
        "count": subscriptions,
        "start": START,
        "due": DUE,
        "types": list(TYPES),
    }
    for statement in _STATEMENTS:
        conn.execute(statement, values)
    conn.commit()
    return Population(organization_id=organization.id, subscriptions=subscriptions)


def _catalogue(conn: Connection[Any], organization_id: UUID) -> UUID:
    """A plan of 20.00 a month with one charge: a price for each type of token."""
    ids = {name: new_id(START) for name in ("metric", "plan", "charge")}
    values = {**ids, "organization": organization_id, "now": START, "types": list(TYPES)}
    for statement in _CATALOGUE:
        conn.execute(statement, values)
    for place, (kind, price) in enumerate(zip(TYPES, PRICES, strict=True)):
        conn.execute(
            "insert into charge_filter (id, charge_id, position, values, properties, created_at, updated_at)"
            " values (%s, %s, %s, %s, %s, %s, %s)",
            [
                new_id(START),
                ids["charge"],
                place,
                Json({"type": [kind]}),
                Jsonb({"amount": price}),
                START,
                START,
            ],
        )
    return ids["plan"]


_CATALOGUE = (
    "insert into billable_metric (id, organization_id, name, code, aggregation_type, field_name, created_at,"
    " updated_at) values (%(metric)s, %(organization)s, 'Tokens', 'tokens', 'sum_agg', 'tokens', %(now)s, %(now)s)",
    "insert into billable_metric_filter (billable_metric_id, key, values, position) values (%(metric)s, 'type', %(types)s, 0)",
    "insert into plan (id, organization_id, code, name, interval, amount_cents, amount_currency, created_at,"
    " updated_at) values (%(plan)s, %(organization)s, 'pro', 'Pro', 'monthly', 2000, 'USD', %(now)s, %(now)s)",
    "insert into charge (id, organization_id, plan_id, billable_metric_id, code, position, charge_model,"
    " properties, created_at, updated_at) values (%(charge)s, %(organization)s, %(plan)s, %(metric)s, 'tokens',"
    """ 0, 'standard', '{"amount": "0"}', %(now)s, %(now)s)""",
)

_STATEMENTS = (
    "insert into webhook_endpoint (id, organization_id, webhook_url, created_at, updated_at)"
    " values (gen_random_uuid(), %(organization)s, 'http://127.0.0.1:9/', %(start)s, %(start)s)",
    "insert into customer (id, organization_id, billing_entity_id, external_id, sequential_id, slug, currency,"
    " created_at, updated_at)"
    " select uuidv7(), %(organization)s, b.id, 'customer-' || n, n, b.document_number_prefix || '-' || n, 'USD',"
    " %(start)s, %(start)s from generate_series(1, %(count)s) n, billing_entity b"
    " where b.organization_id = %(organization)s",
    "insert into subscription (id, organization_id, customer_id, plan_id, external_id, status, billing_time,"
    " subscription_at, started_at, created_at, updated_at, next_billing_at, fee_billed_until, charges_billed_until)"
    " select uuidv7(), %(organization)s, c.id, %(plan)s, 'subscription-' || c.sequential_id, 'active', 'calendar',"
    # Each has started at another instant of the year before, and is billed up to January.
    " s.at, s.at, s.at, s.at, %(due)s, %(start)s, %(start)s from customer c cross join lateral (select"
    " %(start)s::timestamptz - interval '35 days' - (c.sequential_id %% 330) * interval '1 day'"
    " - (c.sequential_id %% 86399) * interval '1 second' as at) s"
    " where c.organization_id = %(organization)s order by c.sequential_id",
    "insert into series (organization_id, external_subscription_id, code, metering_version, value_key, dimensions,"
    " identity) select %(organization)s, s.external_id, 'tokens', 1, 'tokens', jsonb_build_object('type', t),"
    " gen_random_uuid() from subscription s, unnest(%(types)s::text[]) t"
    " where s.organization_id = %(organization)s order by s.id",
    # Every series was used in one hour of the month: a cell of each grain, as the roll-up leaves them.
    "insert into usage_cell (series_id, grain, starts_at, events_count, values_count, sum, max,"
    ' precise_amount_cents, moment) select s.id, g.grain::"char", g.starts_at, 500, 500, 1000 * (s.id %% 9973) + 7,'
    " 9000, 0, (1000 * (s.id %% 9973) + 7) * extract(epoch from %(start)s::timestamptz) from series s, (values ('m', %(start)s::timestamptz), ('d', %(start)s::timestamptz + interval '9 days'),"
    " ('h', %(start)s::timestamptz + interval '9 days 7 hours')) as g (grain, starts_at)"
    " where s.organization_id = %(organization)s order by s.id",
    "analyze customer, subscription, series, usage_cell, plan, charge, charge_filter, organization,"
    " billing_entity, webhook_endpoint, billable_metric",
)
