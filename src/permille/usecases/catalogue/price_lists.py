"""Price lists: metrics and a plan that come with Permille, to start from.

A list is a file in permille/price_lists, named by its slug. Its plan has the slug as its code.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from importlib.resources import files
from typing import Any, Literal
from uuid import UUID

import msgspec
import psycopg
from psycopg import Connection

from permille.clock import system_now
from permille.config import Config
from permille.core.contract.plan import Charge, Plan, PlanFilter, incompatibilities
from permille.core.errors import Invalid, NotFound, Refusal
from permille.core.metering.aggregations import aggregation_of
from permille.core.metering.billable_metric import BillableMetric
from permille.core.organization import Organization
from permille.core.period import Interval
from permille.core.rating import models as pricing
from permille.core.rating.models import ChargeModel
from permille.core.rating.unlisted import UnlistedValues
from permille.core.record import Record, replace
from permille.database import locks
from permille.ids import new_id
from permille.store import billable_metrics, organizations, plans
from permille.store.activity import ActorKind
from permille.usecases import activity
from permille.usecases.catalogue import metrics as catalogue, plans as catalogue_plans

_SUFFIX = ".toml"


class MetricOfList(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A billable metric as the file states it; `filters` are its dimensions."""

    name: str
    code: str
    description: str
    aggregation_type: str
    field_name: str | None = None
    filters: Mapping[str, tuple[str, ...]] = {}


class FilterOfList(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The price of a combination of dimension values."""

    invoice_display_name: str
    values: Mapping[str, tuple[str, ...]]
    properties: Mapping[str, Any]


class ChargeOfList(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A price of one of the list's metrics."""

    billable_metric_code: str
    invoice_display_name: str
    charge_model: ChargeModel
    properties: Mapping[str, Any]
    filters: tuple[FilterOfList, ...] = ()


class PlanOfList(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A plan without a fee of its own: what is used is what is paid."""

    name: str
    interval: Interval
    amount_currency: str
    charges: tuple[ChargeOfList, ...]
    amount_cents: Literal[0] = 0


class PriceList(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A file of permille/price_lists; `slug` is its name."""

    description: str
    billable_metrics: tuple[MetricOfList, ...]
    plan: PlanOfList
    slug: str = ""


class Applied(Record, kw_only=True):
    """What a price list came to in an organization: codes, and whether each was created or there already."""

    slug: str
    billable_metrics: Mapping[str, bool]
    plan_code: str
    plan_created: bool


def list_price_lists() -> list[PriceList]:
    """Every price list that comes with Permille, by slug."""
    folder = files("permille") / "price_lists"
    found = {
        entry.name.removesuffix(_SUFFIX): entry for entry in folder.iterdir() if entry.name.endswith(_SUFFIX)
    }
    return [
        msgspec.structs.replace(msgspec.toml.decode(found[slug].read_bytes(), type=PriceList), slug=slug)
        for slug in sorted(found)
    ]


def apply(
    conn: Connection[Any],
    *,
    organization: Organization,
    slug: str,
    now: datetime,
    unlisted_values: UnlistedValues = UnlistedValues.FREE,
) -> Applied:
    """Make the list's metrics and plan, as far as the organization does not have them yet.

    `unlisted_values` is the choice on its charges. What has the code already is left as it is. Raises NotFound for an unknown slug, Invalid when a metric
    of that code measures something else.
    """
    price_list = next((each for each in list_price_lists() if each.slug == slug), None)
    if price_list is None:
        raise NotFound("price_list")
    return apply_list(
        conn, organization=organization, wanted=price_list, now=now, unlisted_values=unlisted_values
    )


def apply_list(
    conn: Connection[Any],
    *,
    organization: Organization,
    wanted: PriceList,
    now: datetime,
    unlisted_values: UnlistedValues,
) -> Applied:
    """Make the metrics and the plan of a list that need not come with Permille. Raises Invalid as `apply` does."""
    slug = wanted.slug
    locks.change_catalogue(conn, organization.id)
    plan = plans.plan_by_code(conn, organization.id, slug)
    if plan is not None:
        return Applied(
            slug=slug,
            billable_metrics={charge.metric.code: False for charge in plan.charges},
            plan_code=slug,
            plan_created=False,
        )
    metrics, created = _metrics(conn, organization.id, wanted, now)
    blank = catalogue_plans.blank(conn, organization.id, now=now)
    made = _plan(wanted, metrics, blank, now)
    charges = tuple(replace(charge, unlisted_values=unlisted_values) for charge in made.charges)
    catalogue_plans.add(conn, replace(made, charges=charges))
    return Applied(slug=slug, billable_metrics=created, plan_code=slug, plan_created=True)


def _metrics(
    conn: Connection[Any], organization_id: UUID, price_list: PriceList, now: datetime
) -> tuple[dict[str, BillableMetric], dict[str, bool]]:
    """The list's metrics by code, and which of them are new."""
    metrics: dict[str, BillableMetric] = {}
    created: dict[str, bool] = {}
    for wanted in price_list.billable_metrics:
        found = billable_metrics.by_code(conn, organization_id, wanted.code)
        if found is not None and not _measures(found, wanted):
            raise Invalid({"code": ["value_already_exist"]})
        metrics[wanted.code] = found or _add_metric(conn, _metric(wanted, organization_id, now))
        created[wanted.code] = found is None
    return metrics, created


def _measures(metric: BillableMetric, wanted: MetricOfList) -> bool:
    """Whether the metric that is there counts the same, along the same dimensions at least."""
    return (metric.aggregation_type, metric.field_name, metric.recurring) == (
        wanted.aggregation_type,
        wanted.field_name,
        False,
    ) and all(set(values) <= set(metric.filters.get(key, ())) for key, values in wanted.filters.items())


def _metric(wanted: MetricOfList, organization_id: UUID, now: datetime) -> BillableMetric:
    return BillableMetric(
        id=new_id(now),
        organization_id=organization_id,
        name=wanted.name,
        code=wanted.code,
        description=wanted.description,
        aggregation=aggregation_of(wanted.aggregation_type),
        field_name=wanted.field_name,
        recurring=False,
        rounding_function=None,
        rounding_precision=None,
        weighted_interval=None,
        expression=None,
        filters=wanted.filters,
        created_at=now,
        updated_at=now,
    )


def _add_metric(conn: Connection[Any], metric: BillableMetric) -> BillableMetric:
    catalogue.add(conn, metric)
    return metric


def _plan(price_list: PriceList, metrics: Mapping[str, BillableMetric], blank: Plan, now: datetime) -> Plan:
    wanted = price_list.plan
    return replace(
        blank,
        code=price_list.slug,
        name=wanted.name,
        description=price_list.description,
        interval=wanted.interval,
        amount_cents=wanted.amount_cents,
        amount_currency=wanted.amount_currency,
        charges=tuple(
            _charge(charge, blank.id, metrics[charge.billable_metric_code], now) for charge in wanted.charges
        ),
    )


def _charge(wanted: ChargeOfList, plan_id: UUID, metric: BillableMetric, now: datetime) -> Charge:
    charge = Charge(
        id=new_id(now),
        plan_id=plan_id,
        parent_id=None,
        metric=metric,
        code=metric.code,
        invoice_display_name=wanted.invoice_display_name,
        charge_model=wanted.charge_model,
        pay_in_advance=False,
        prorated=False,
        invoiceable=True,
        regroup_paid_fees=None,
        min_amount_cents=0,
        accepts_target_wallet=False,
        properties=pricing.clean(wanted.charge_model, wanted.properties),
        filters=tuple(
            PlanFilter(
                id=new_id(now),
                invoice_display_name=each.invoice_display_name,
                values=each.values,
                properties=pricing.clean(wanted.charge_model, each.properties),
            )
            for each in wanted.filters
        ),
        created_at=now,
    )
    problems = list(_problems(charge))
    assert not problems, (wanted, problems)
    return charge


def _problems(charge: Charge) -> Iterator[str]:
    """What the catalogue would refuse."""
    for properties in [charge.properties, *(each.properties for each in charge.filters)]:
        yield from pricing.validate(charge.charge_model, properties)
    yield from (code for _, code in incompatibilities(charge))


def apply_from_command_line(config: Config, *, slug: str, organization: str | None) -> int:
    """Apply a list to the organization of that name or id, or to the only one there is; the exit code."""
    return command(
        config,
        lambda conn, found, now: apply(conn, organization=found, slug=slug, now=now),
        operation=f"permille templates apply {slug}",
        organization=organization,
        reason=lambda refusal: _reason(refusal, slug),
    )


def command(
    config: Config,
    make: Callable[[Connection[Any], Organization, datetime], Applied],
    *,
    operation: str,
    organization: str | None,
    reason: Callable[[Refusal], str],
) -> int:
    """Make metrics and a plan in the organization of that name or id, or in the only one there is; the exit code."""
    return command_in_organization(
        config,
        lambda conn, found, now: list(_summary(make(conn, found, now))),
        operation=operation,
        organization=organization,
        reason=reason,
    )


def command_in_organization(
    config: Config,
    work: Callable[[Connection[Any], Organization, datetime], Sequence[str]],
    *,
    operation: str,
    organization: str | None,
    reason: Callable[[Refusal], str],
) -> int:
    """Do something in the organization of that name or id, or in the only one there is, and print its lines; the exit code."""
    assert config.database_url is not None, "the command line gives one"
    with psycopg.connect(config.database_url) as conn:
        found = _organizations(conn, organization)
        if len(found) != 1:
            print(_which(found, organization), file=sys.stderr)
            return 1
        try:
            now = system_now()
            activity.begin(conn, ActorKind.COMMAND_LINE, operation, organization=found[0], now=now)
            lines = work(conn, found[0], found[0].now(now))
        except Refusal as refusal:
            print(f"permille: {reason(refusal)}", file=sys.stderr)
            return 1
    print("\n".join(lines))
    return 0


def _organizations(conn: Connection[Any], wanted: str | None) -> list[Organization]:
    if wanted is None:
        return organizations.listing(conn, limit=1_000, offset=0)[0]
    return organizations.named(conn, wanted)


def _which(found: Sequence[Organization], wanted: str | None) -> str:
    if not found:
        return (
            "There is no organization yet. Make one in the web admin or with POST /admin/v1/organizations."
            if wanted is None
            else f"There is no organization {wanted!r}."
        )
    names = "\n".join(f"  {each.id}  {each.name}" for each in found)
    return f"Say which one with --organization:\n{names}"


def _reason(refusal: Refusal, slug: str) -> str:
    if isinstance(refusal, NotFound):
        return f"there is no price list {slug!r}; `permille templates` lists them"
    return f"{slug} needs a billable metric whose code is taken by one that measures something else"


def _summary(applied: Applied) -> Iterator[str]:
    for code, created in applied.billable_metrics.items():
        yield f"billable metric {code}: {'created' if created else 'was there already'}"
    yield f"plan {applied.plan_code}: {'created' if applied.plan_created else 'was there already'}"
