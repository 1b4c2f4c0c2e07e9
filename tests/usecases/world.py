"""A small world to bill: an organization, its catalogue, customers, subscriptions and events, by the stores."""

from __future__ import annotations

import hashlib
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any
from uuid import UUID

from psycopg import Connection
from psycopg.types.json import Jsonb

from permille.core.contract.plan import Charge, Plan, PlanFilter
from permille.core.contract.subscription import Subscription
from permille.core.metering.aggregations import aggregation_of
from permille.core.metering.billable_metric import BillableMetric
from permille.core.organization import Organization
from permille.ids import new_id
from permille.store import billable_metrics, billing_entities, customers, organizations, plans, subscriptions
from permille.usecases import subscriptions as life
from permille.usecases.due import due

START = datetime(2024, 1, 1, tzinfo=UTC)

_events = itertools.count(1)


def ts(*parts: Any) -> datetime:
    return datetime(*parts).replace(tzinfo=UTC)


@dataclass(frozen=True, kw_only=True)
class Filter:
    """A charge's price for some values of the dimensions."""

    values: Mapping[str, tuple[str, ...]]
    properties: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class World:
    conn: Connection[Any]
    organization: Organization

    @property
    def id(self) -> UUID:
        return self.organization.id

    def set_entity(self, **columns: Any) -> None:
        changes = ", ".join(f"{name} = %({name})s" for name in columns)
        self.conn.execute(
            f"update billing_entity set {changes} where organization_id = %(organization)s",
            {**columns, "organization": self.id},
        )

    def metric(
        self,
        code: str = "tokens",
        aggregation_type: str = "sum_agg",
        filters: Mapping[str, tuple[str, ...]] | None = None,
        **fields: Any,
    ) -> BillableMetric:
        made = BillableMetric(
            **{
                "id": new_id(START),
                "organization_id": self.id,
                "name": code,
                "code": code,
                "description": None,
                "aggregation": aggregation_of(aggregation_type),
                "field_name": None if aggregation_type == "count_agg" else "amount",
                "recurring": False,
                "rounding_function": None,
                "rounding_precision": None,
                "weighted_interval": None,
                "expression": None,
                "filters": dict(filters or {}),
                "created_at": START,
                "updated_at": START,
                **fields,
            }
        )
        assert billable_metrics.add(self.conn, made)
        return made

    def plan(
        self, code: str = "pro", *, charges: Sequence[tuple[BillableMetric, Any]] = (), **fields: Any
    ) -> Plan:
        """Charges are (metric, price): the amount of a standard one, or the fields of any."""
        plan_id = new_id(START)
        made = Plan(
            **{
                "id": plan_id,
                "organization_id": self.id,
                "parent_id": None,
                "code": code,
                "name": code,
                "invoice_display_name": None,
                "description": None,
                "interval": "monthly",
                "amount_cents": 0,
                "amount_currency": "USD",
                "pay_in_advance": False,
                "trial_period": None,
                "bill_charges_monthly": None,
                "bill_fixed_charges_monthly": None,
                "metadata": None,
                "charges": tuple(
                    _charge(plan_id, metric, f"{metric.code}_{place}", price)
                    for place, (metric, price) in enumerate(charges)
                ),
                "created_at": START,
                **fields,
            }
        )
        assert plans.add(self.conn, made)
        return made

    def customer(self, external_id: str = "cus", **columns: Any) -> UUID:
        entity = billing_entities.default(self.conn, self.id)
        return customers.add(
            self.conn,
            organization_id=self.id,
            external_id=external_id,
            slug_prefix=entity.document_number_prefix,
            columns={"billing_entity_id": entity.id, "currency": "USD", **columns},
            now=START,
        )

    def subscribe(
        self, customer_id: UUID, plan: Plan, external_id: str = "sub", *, now: datetime = START, **fields: Any
    ) -> Subscription:
        """By the use case, at an instant; the subscription starts at it unless told otherwise."""
        terms = {
            "external_id": external_id,
            "name": None,
            "billing_time": "calendar",
            "subscription_at": now,
            "ending_at": None,
            "on_termination_credit_note": None,
            "on_termination_invoice": "generate",
            "consolidate_invoice": True,
            "purchase_order_number": None,
            "progressive_billing_disabled": False,
            **fields,
        }
        customer = customers.by_ids(self.conn, [customer_id])[customer_id]
        return life.subscribe(
            self.conn, customer=customer, plan=plan, terms=life.SubscriptionTerms(**terms), now=now
        )

    def terminate(self, external_id: str = "sub", *, at: datetime) -> None:
        row = subscriptions.active(self.conn, self.id, external_id)
        assert row is not None, external_id
        life.terminate(self.conn, row, at=at)

    def use(
        self,
        external_id: str,
        code: str,
        amount: Decimal | float | str | None,
        *,
        at: datetime,
        **dimensions: str,
    ) -> None:
        """An event as the intake stores it, not rolled up."""
        identity = self._text_id("series", external_id, code, *map(str, sorted(dimensions.items())))
        self.conn.execute(
            "insert into series (organization_id, external_subscription_id, code, metering_version, value_key,"
            " dimensions, identity) values (%s, %s, %s, 1, 'amount', %s, %s) on conflict (identity) do nothing",
            [self.id, external_id, code, Jsonb(dimensions), identity],
        )
        nth = next(_events)
        self.conn.execute(
            "insert into event (series_id, at, created_at, identity, value, transaction_id)"
            " select id, %s, %s, %s, %s, %s from series where identity = %s",
            [
                at,
                at,
                self._text_id("event", str(nth)),
                None if amount is None else Decimal(str(amount)),
                f"event-{nth}",
                identity,
            ],
        )

    def _text_id(self, *parts: str) -> UUID:
        return UUID(hashlib.md5("|".join([str(self.id), *parts]).encode()).hexdigest())

    def rows(self, query: str, *values: Any) -> list[tuple[Any, ...]]:
        return self.conn.execute(query, values).fetchall()


def _charge(plan_id: UUID, metric: BillableMetric, code: str, price: Any) -> Charge:
    fields: dict[str, Any] = price if isinstance(price, dict) else {"properties": {"amount": str(price)}}
    filters = tuple(
        PlanFilter(
            id=new_id(START), invoice_display_name=None, values=each.values, properties=each.properties
        )
        for each in fields.get("filters", ())
    )
    return Charge(
        **{
            "id": new_id(START),
            "plan_id": plan_id,
            "parent_id": None,
            "metric": metric,
            "code": code,
            "invoice_display_name": None,
            "charge_model": "standard",
            "pay_in_advance": False,
            "prorated": False,
            "invoiceable": True,
            "regroup_paid_fees": None,
            "min_amount_cents": 0,
            "accepts_target_wallet": False,
            "properties": {},
            "created_at": START,
            **fields,
            "filters": filters,
        }
    )


def make_world(conn: Connection[Any], *, test_now: datetime | None = START, name: str = "Acme") -> World:
    """An organization, in test mode unless its clock is None, with nothing yet."""
    organization = organizations.add(
        conn, name=name, test_now=test_now, entity={"document_number_prefix": "ACM"}, now=START
    )
    return World(conn=conn, organization=organization)


def move(world: World, *until: int) -> None:
    due.move_clock(world.conn, organization=world.organization, until=ts(*until))


def bills(world: World, external_id: str = "sub") -> list[tuple[Any, ...]]:
    """(due instant, reason, amount in cents) of a subscription's invoices, oldest first."""
    return world.rows(
        "select p.billed_at, p.invoicing_reason, i.fees_amount_cents from invoice_subscription p"
        " join invoice i on i.id = p.invoice_id join subscription s on s.id = p.subscription_id"
        " where s.external_id = %s order by p.billed_at, i.created_at",
        external_id,
    )


def fee_lines(world: World) -> list[tuple[Any, ...]]:
    """(type, units, amount in cents) of all fees, by invoice."""
    return world.rows(
        "select fee_type, units, amount_cents from fee order by created_at, invoice_id, position"
    )


def check_invariants(world: World) -> None:
    """What must hold of all invoices, whatever made them."""
    assert not world.rows(
        "select id from invoice i where fees_amount_cents <>"
        " (select coalesce(sum(amount_cents), 0) from fee where invoice_id = i.id)"
        " or total_amount_cents <> fees_amount_cents"
        " or (payment_status = 'succeeded') <> (total_amount_cents = 0)"
    )
    assert not world.rows(
        "select customer_id from invoice where sequential_id is not null group by customer_id"
        " having max(sequential_id) <> count(*) or min(sequential_id) <> 1"
        " or count(distinct sequential_id) <> count(*)"
    )
    assert not world.rows(
        "select from (select charges_from_at as begins, lag(charges_to_at) over"
        " (partition by subscription_id order by charges_from_at) as ended from invoice_subscription"
        " where charges_from_at is not null) w where ended <> begins"
    )
