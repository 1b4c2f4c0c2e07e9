"""The invoice run: load what is due, plan and price it in core, write it with one statement a table.

Everything happens in the caller's transaction and as of the instant that was due, however late it is run.
What is billed is a diff (core.invoice), so that a run that is killed or repeated bills nothing twice.
Source: semantics-billing.md sections 3.10, 4.2 to 4.7; docs/decisions/007.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.billing.usage import Series, usage_windows
from permille.core.customer import Customer
from permille.core.fee import CompiledCharge, Fee, charge_fees, compile_plan_charge, true_up_fee
from permille.core.filters import Id
from permille.core.invoice import (
    InvoicePlan,
    SubscriptionFacts,
    draft_number,
    entity_invoice_number,
    expected_finalization_date,
    invoice_number,
    issuing_date,
    next_billing_at,
    payment_due_date,
    plan_invoice,
    trial_end,
)
from permille.core.period import (
    INSTANT,
    Period,
    charges_interval,
    local_date,
    period_containing,
    seconds_of,
)
from permille.core.plan import Charge, Plan
from permille.core.proration import Proration, proration_by
from permille.core.subscription import Subscription, due, facts_of
from permille.core.tax import Tax, applicable, tax_fee, tax_invoice
from permille.ids import new_id
from permille.store import customers, invoices, plans, subscriptions, usage as usage_store, webhooks
from permille.store.invoices import InvoiceSubscription, NewInvoice, Settled

BATCH = 2_000

_PERIODIC = "subscription_periodic"
_STARTING = "subscription_starting"
_TERMINATING = "subscription_terminating"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """The plans and customers of a batch, with the prices made ready."""

    plans: Mapping[UUID, Plan]
    customers: Mapping[UUID, Customer]
    charges: Mapping[UUID, Sequence[tuple[Charge, CompiledCharge]]]
    """Plan -> the charges that an invoice at a period's end has."""
    first_starts: Mapping[UUID, datetime]
    """Subscription -> when its external id first ran, where the plan has a trial."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Part:
    """What one subscription brings to an invoice."""

    row: Subscription
    plan: Plan
    customer: Customer
    facts: SubscriptionFacts
    at: datetime
    reason: str
    planned: InvoicePlan

    @property
    def recurring(self) -> bool:
        return self.reason == _PERIODIC

    @property
    def goes_with(self) -> tuple[Any, ...]:
        """Parts of which this is the same go on one invoice (semantics-billing.md section 3.10)."""
        alone = None if self.row.consolidate_invoice else self.row.id
        currency, order = self.plan.amount_currency, self.row.purchase_order_number
        return self.at, self.customer.sequential_id, currency, self.reason, str(alone or ""), order or ""


def bill_due(
    conn: Connection[Any],
    *,
    organization_id: UUID,
    until: datetime,
    limit: int = BATCH,
    wait: bool = False,
) -> int:
    """Bill the subscriptions that are due the longest, about `limit` of them; returns how many.

    A customer's subscriptions that are due at the same instant are taken together, and of several instants
    the first. What another run is at is left to it, unless told to wait. 0 when there is nothing (left).
    """
    while payers := invoices.claim_payers(conn, organization_id, until=until, limit=limit, wait=wait):
        rows = invoices.claim_due(conn, payers, until=until)
        if rows:
            _bill(conn, [(row, row.next_billing_at) for row in rows if row.next_billing_at], reason=None)
            return len(rows)
    return 0


def bill_start(conn: Connection[Any], *, subscription_ids: Collection[UUID], at: datetime) -> None:
    """Bill what plans paid in advance cost from their start on; usage is left to the period's end."""
    rows = subscriptions.for_update(conn, subscription_ids).values()
    _bill(conn, [(row, at) for row in rows], reason=_STARTING)


def bill_termination(conn: Connection[Any], *, subscription_id: UUID, at: datetime) -> None:
    """Bill what a subscription that ends at `at` still owes, unless it says that this is skipped.

    Periods that ended on an earlier day and were not billed by then, as the run came late, are billed
    before, as of their own ends.
    """
    row = subscriptions.for_update(conn, [subscription_id])[subscription_id]
    if row.on_termination_invoice != "generate":
        return
    for missed in _missed(conn, row, at):
        running = replace(row, status="active", terminated_at=None)
        _bill(conn, [(running, missed)], reason=None)
        row = subscriptions.by_ids(conn, [row.id])[row.id]
    _bill(conn, [(row, at)], reason=_TERMINATING)


def _missed(conn: Connection[Any], row: Subscription, ended_at: datetime) -> Iterator[datetime]:
    """The billing days before the day of the end that no run has come to."""
    plan = plans.plan_by_id(conn, row.plan_id)
    timezone = customers.by_ids(conn, [row.customer_id])[row.customer_id].applicable_timezone
    running = replace(row, status="active", terminated_at=None)
    first_started_at = subscriptions.first_starts(conn, [row.id]).get(row.id)
    facts = facts_of(running, plan, timezone=timezone, first_started_at=first_started_at)
    missed = due(
        running, plan, timezone=timezone, now=row.created_at, first_started_at=first_started_at
    ).next_billing_at
    while missed is not None and local_date(missed, timezone) < local_date(ended_at, timezone):
        yield missed
        missed = next_billing_at(facts, after=missed)


def _bill(
    conn: Connection[Any], due_rows: Sequence[tuple[Subscription, datetime]], *, reason: str | None
) -> None:
    """Plan, price and write. Without a reason each instant tells its own: a period's end or a trial's."""
    known = _load(conn, [row for row, _ in due_rows])
    parts = [_plan_part(row, at, reason, known) for row, at in due_rows]
    owing = [part for part in parts if not part.planned.is_empty]
    fees = _fees(conn, owing, known)
    _write(conn, owing, fees)
    settled = [_settled(part) for part in parts]
    invoices.settle(conn, settled)
    _tell_of_trials(conn, parts, settled)


def _tell_of_trials(conn: Connection[Any], parts: Sequence[_Part], settled: Sequence[Settled]) -> None:
    for part, done in zip(parts, settled, strict=True):
        if done.trial_ended_at is not None and part.row.trial_ended_at is None:
            webhooks.enqueue(
                conn,
                organization_id=part.row.organization_id,
                webhook_type="subscription.trial_ended",
                object_type="subscription",
                object_ids=[part.row.id],
                payload=None,
                now=part.at,
            )


def _load(conn: Connection[Any], rows: Sequence[Subscription]) -> _Known:
    known_plans = plans.plans_by_ids(conn, {row.plan_id for row in rows})
    with_trial = [row.id for row in rows if known_plans[row.plan_id].trial_period]
    return _Known(
        plans=known_plans,
        customers=customers.by_ids(conn, {row.customer_id for row in rows}),
        charges={plan.id: _compiled(plan) for plan in known_plans.values()},
        first_starts=subscriptions.first_starts(conn, with_trial) if with_trial else {},
    )


def _compiled(plan: Plan) -> list[tuple[Charge, CompiledCharge]]:
    return [
        (charge, compile_plan_charge(charge, currency=plan.amount_currency))
        for charge in plan.charges
        if not charge.pay_in_advance
    ]


def _plan_part(row: Subscription, at: datetime, reason: str | None, known: _Known) -> _Part:
    plan, customer = known.plans[row.plan_id], known.customers[row.customer_id]
    facts = facts_of(
        row,
        plan,
        timezone=customer.applicable_timezone,
        first_started_at=known.first_starts.get(row.id),
    )
    # A start later today is billed now.
    begins = (row.started_at or at) if reason == _STARTING else at
    planned = plan_invoice(facts, at=max(at, begins))
    ends_trial = planned.periods.charges is None and trial_end(facts) == at
    return _Part(
        row=row,
        plan=plan,
        customer=customer,
        facts=facts,
        at=at,
        reason=reason or (_STARTING if ends_trial else _PERIODIC),
        planned=planned,
    )


def _fees(conn: Connection[Any], parts: Sequence[_Part], known: _Known) -> dict[UUID, list[Fee]]:
    """Subscription -> its fees in the order of the invoice: the plan's own, then those of the charges."""
    used = _usage(conn, parts, known)
    fees: dict[UUID, list[Fee]] = {}
    for part in parts:
        own = [] if part.planned.fee is None else [part.planned.fee]
        fees[part.row.id] = own + _charge_fees(part, known, used.get(part.row.id, {}))
    return fees


def _usage(conn: Connection[Any], parts: Sequence[_Part], known: _Known) -> dict[UUID, dict[str, list[Any]]]:
    """Subscription -> code of a metric -> its series."""
    windows, owners = [], []
    for part in parts:
        period = part.planned.periods.charges
        charges = [charge for charge, _ in known.charges[part.plan.id]]
        if period is not None and charges:
            own = usage_windows(part.row, charges, period)
            windows += own
            owners += [part.row.id] * len(own)
    used: dict[UUID, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    if windows:
        for owner, found in zip(owners, usage_store.usage_of_many(conn, windows), strict=True):
            for each in found:
                used[owner][each.code].append((each.dimensions, each.partial))
    return used


def _charge_fees(part: _Part, known: _Known, used: Mapping[str, Series]) -> list[Fee]:
    period = part.planned.periods.charges
    if period is None:
        return []
    whole = _whole_period(part, period)
    upgraded = part.facts.upgraded and part.reason == _TERMINATING
    proration = proration_by(whole, part.facts.timezone, spares_last_day=upgraded)
    fees: list[Fee] = []
    for charge, compiled in known.charges[part.plan.id]:
        own = charge_fees(
            compiled,
            used.get(charge.metric.code, ()),
            subscription_id=part.row.id,
            period=period,
            period_seconds=seconds_of(whole),
            proration=proration,
            with_idle=compiled.min_amount_cents > 0,
        )
        fees += _made_up(compiled, own, period, proration)
    return fees


def _made_up(
    compiled: CompiledCharge, fees: Sequence[Fee], period: Period, proration: Proration
) -> list[Fee]:
    """The fees that an invoice shows, with the one that makes them up to the charge's least amount."""
    missing = None
    if compiled.min_amount_cents:
        missing = true_up_fee(compiled, fees, period=period, proration=proration)
    if missing is None:
        return [fee for fee in fees if not fee.is_idle]
    parent = next(fee for fee in fees if fee.charge_filter_id is None)
    return [*(fee for fee in fees if fee is parent or not fee.is_idle), missing]


def _whole_period(part: _Part, period: Period) -> Period:
    """The whole period, of which only a part may be subscribed."""
    return period_containing(
        period.to - INSTANT,
        interval=charges_interval(part.facts.interval, part.facts.bill_charges_monthly),
        billing_time=part.facts.billing_time,
        anchor=part.facts.subscription_at,
        timezone=part.facts.timezone,
    )


def _settled(part: _Part) -> Settled:
    """How far the subscription is billed now, and when it is due again."""
    row = part.row
    next_at = row.next_billing_at
    if part.reason != _TERMINATING and next_at is not None and next_at <= part.at:
        next_at = next_billing_at(part.facts, after=part.at)
    trial_ended_at = row.trial_ended_at
    if part.plan.trial_period and trial_ended_at is None:
        ends = trial_end(part.facts)
        trial_ended_at = ends if ends is not None and ends <= part.at else None
    return Settled(
        subscription_id=row.id,
        next_billing_at=next_at,
        fee_billed_until=part.planned.fee_billed_until,
        charges_billed_until=part.planned.charges_billed_until,
        trial_ended_at=trial_ended_at,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Group:
    """The parts of one invoice, in the order in which the subscriptions were made."""

    parts: Sequence[_Part]
    fees: Sequence[Fee]
    taxes: Sequence[Sequence[Tax]]
    """Of each fee."""
    fees_amount_cents: int

    @property
    def customer(self) -> Customer:
        return self.parts[0].customer

    @property
    def at(self) -> datetime:
        return self.parts[0].at

    @property
    def is_final(self) -> bool:
        """Whether it gets a number and is told of: not when it is of nothing and the customer wants none such."""
        return bool(self.fees_amount_cents) or self.customer.finalizes_zero_amount_invoice


def _write(conn: Connection[Any], parts: Sequence[_Part], fees: Mapping[UUID, Sequence[Fee]]) -> None:
    """The invoices of a batch, numbered in the order of instant and customer, and the word of them."""
    groups = _groups(parts, fees)
    if not groups:
        return
    numbers = _Numbers.take(conn, [group for group in groups if group.is_final])
    new = [_invoice(group, numbers) for group in groups]
    invoices.add(conn, new)
    told: dict[datetime, list[UUID]] = defaultdict(list)
    for invoice in new:
        if invoice.status == "finalized":
            told[invoice.at].append(invoice.id)
    for at, ids in told.items():
        webhooks.enqueue(
            conn,
            organization_id=new[0].organization_id,
            webhook_type="invoice.created",
            object_type="invoice",
            object_ids=ids,
            payload=None,
            now=at,
        )


def _groups(parts: Sequence[_Part], fees: Mapping[UUID, Sequence[Fee]]) -> list[_Group]:
    together: dict[tuple[Any, ...], list[_Part]] = defaultdict(list)
    for part in sorted(parts, key=lambda part: (part.row.created_at, part.row.id)):
        together[part.goes_with].append(part)
    groups = []
    for key in sorted(together):
        lines = [fee for part in together[key] for fee in fees[part.row.id]]
        taxes = [tax for part in together[key] for tax in _taxes(part, fees[part.row.id])]
        total = sum(fee.amount_cents for fee in lines)
        groups.append(_Group(parts=together[key], fees=lines, taxes=taxes, fees_amount_cents=total))
    return groups


def _taxes(part: _Part, fees: Sequence[Fee]) -> list[tuple[Tax, ...]]:
    """Of each fee of a part."""
    plan, customer = part.plan, part.customer
    general = applicable(plan.taxes, customer.taxes, customer.billing_entity.taxes)
    of_charge: dict[Id, tuple[Tax, ...]] = {
        charge.id: charge.taxes for charge in plan.charges if charge.taxes
    }
    return [of_charge.get(fee.charge_id, general) for fee in fees]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Numbers:
    """Numbers reserved for a batch: each (customer, entity) and each entity counts on from its last."""

    of_customer: dict[tuple[UUID, UUID], int]
    of_entity: dict[UUID, int]

    @classmethod
    def take(cls, conn: Connection[Any], groups: Sequence[_Group]) -> _Numbers:
        """Reserve one for each invoice; the rows stay locked, so that an undone run leaves no gap."""
        payers = Counter((group.customer.id, group.customer.billing_entity.id) for group in groups)
        entities = Counter(
            group.customer.billing_entity.id for group in groups if _is_numbered_by_entity(group.customer)
        )
        return cls(
            of_customer=invoices.take_customer_numbers(conn, payers) if payers else {},
            of_entity=invoices.take_entity_numbers(conn, entities) if entities else {},
        )

    def next_of(self, customer: Customer) -> tuple[int, int | None]:
        """The customer's own number, and the entity's where that is the one which is shown."""
        entity = customer.billing_entity
        self.of_customer[customer.id, entity.id] += 1
        if _is_numbered_by_entity(customer):
            self.of_entity[entity.id] += 1
        return self.of_customer[customer.id, entity.id], self.of_entity.get(entity.id)


def _is_numbered_by_entity(customer: Customer) -> bool:
    return customer.billing_entity.document_numbering == "per_billing_entity"


def _invoice(group: _Group, numbers: _Numbers) -> NewInvoice:
    first, customer, at = group.parts[0], group.customer, group.at
    entity, timezone = customer.billing_entity, customer.applicable_timezone
    own, of_entity = numbers.next_of(customer) if group.is_final else (None, None)
    issued_on = issuing_date(
        at,
        timezone=timezone,
        recurring=first.recurring,
        anchor=entity.subscription_invoice_issuing_date_anchor,
        adjustment=entity.subscription_invoice_issuing_date_adjustment,
    )
    term, invoice_id = customer.applicable_net_payment_term, new_id(at)
    return NewInvoice(
        id=invoice_id,
        organization_id=customer.organization_id,
        billing_entity_id=entity.id,
        customer_id=customer.id,
        sequential_id=own,
        billing_entity_sequential_id=of_entity,
        number=_number(customer, at, own, of_entity),
        purchase_order_number=first.row.purchase_order_number,
        status="finalized" if group.is_final else "closed",
        currency=first.plan.amount_currency,
        timezone=timezone,
        issuing_date=issued_on,
        payment_due_date=payment_due_date(issued_on, net_payment_term=term),
        expected_finalization_date=expected_finalization_date(at, timezone=timezone),
        net_payment_term=term,
        fees_amount_cents=group.fees_amount_cents,
        taxed=tax_invoice(
            [(fee.amount_cents, taxes) for fee, taxes in zip(group.fees, group.taxes, strict=True)]
        ),
        fees_taxed=[
            tax_fee(fee.amount_cents, fee.precise_amount_cents, taxes)
            for fee, taxes in zip(group.fees, group.taxes, strict=True)
        ],
        skip_charges=first.reason == _STARTING,
        at=at,
        subscriptions=[_on_invoice(part, invoice_id) for part in group.parts],
        fees=group.fees,
    )


def _number(customer: Customer, at: datetime, own: int | None, of_entity: int | None) -> str:
    entity = customer.billing_entity
    if own is None:
        return draft_number(entity.document_number_prefix)
    if of_entity is not None:
        day = local_date(at, entity.timezone)
        return entity_invoice_number(entity.document_number_prefix, day, of_entity)
    return invoice_number(entity.document_number_prefix, customer.sequential_id, own)


def _on_invoice(part: _Part, invoice_id: UUID) -> InvoiceSubscription:
    own, usage = part.planned.periods.subscription, part.planned.periods.charges
    return InvoiceSubscription(
        invoice_id=invoice_id,
        subscription_id=part.row.id,
        invoicing_reason=part.reason,
        recurring=part.recurring,
        billed_at=part.at,
        from_at=own.from_ if own else None,
        to_at=own.to if own else None,
        charges_from_at=usage.from_ if usage else None,
        charges_to_at=usage.to if usage else None,
        fixed_charges_from_at=None,
        fixed_charges_to_at=None,
    )
