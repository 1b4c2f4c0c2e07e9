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

from permille.billing.usage import Series, standing_window, usage_windows
from permille.core.customer import Customer
from permille.core.fee import CompiledCharge, Fee, charge_fees, compile_plan_charge, true_up_fee
from permille.core.filters import Id
from permille.core.invoice import (
    BillingPeriods,
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
from permille.store.invoices import InvoiceSubscription, NewFees, NewInvoice, Settled
from permille.store.usage import Window

BATCH = 2_000

_PERIODIC = "subscription_periodic"
_STARTING = "subscription_starting"
_TERMINATING = "subscription_terminating"
_IN_ADVANCE = "in_advance_charge"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Known:
    """The plans and customers of a batch, with the prices made ready."""

    plans: Mapping[UUID, Plan]
    customers: Mapping[UUID, Customer]
    charges: Mapping[UUID, Sequence[tuple[Charge, CompiledCharge]]]
    """Plan -> the charges that an invoice at a period's end has."""
    renewed: Mapping[UUID, Sequence[tuple[Charge, CompiledCharge]]]
    """Plan -> the charges in advance of which what stands is paid anew for each period, as a whole."""
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
    alone = _renew(conn, owing, known, fees)
    _write(conn, _groups(owing, fees))
    _write_alone(conn, alone)
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
        renewed={plan.id: _renewed(plan) for plan in known_plans.values()},
        first_starts=subscriptions.first_starts(conn, with_trial) if with_trial else {},
    )


def _compiled(plan: Plan) -> list[tuple[Charge, CompiledCharge]]:
    return [
        (charge, compile_plan_charge(charge, currency=plan.amount_currency))
        for charge in plan.charges
        if not charge.pay_in_advance
    ]


def _renewed(plan: Plan) -> list[tuple[Charge, CompiledCharge]]:
    whole = [
        replace(charge, pay_in_advance=False, prorated=False)
        for charge in plan.charges
        if charge.pay_in_advance and charge.metric.recurring
    ]
    return [(charge, compile_plan_charge(charge, currency=plan.amount_currency)) for charge in whole]


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
    windows = []
    for part in parts:
        period = part.planned.periods.charges
        charges = [charge for charge, _ in known.charges[part.plan.id]]
        if period is not None and charges:
            windows += [(part.row.id, window) for window in usage_windows(part.row, charges, period)]
    return _read_usage(conn, windows)


def _read_usage(
    conn: Connection[Any], windows: Sequence[tuple[UUID, Window]]
) -> dict[UUID, dict[str, list[Any]]]:
    """Subscription -> code of a metric -> its series."""
    used: dict[UUID, dict[str, list[Any]]] = defaultdict(lambda: defaultdict(list))
    if windows:
        read = usage_store.usage_of_many(conn, [window for _, window in windows])
        for (owner, _), found in zip(windows, read, strict=True):
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


def _renew(
    conn: Connection[Any], parts: Sequence[_Part], known: _Known, fees: Mapping[UUID, list[Fee]]
) -> list[AdvanceFee]:
    """Bill what stands of recurring metrics for the period that begins, where it is paid in advance.

    Fees of charges that are invoiceable are added to those of the invoice, the others are returned.
    """
    ends = {
        part.row.id: part.planned.periods.charges.to
        for part in parts
        if part.reason == _PERIODIC and part.planned.periods.charges and known.renewed[part.plan.id]
    }
    renewing = [part for part in parts if part.row.id in ends]
    windows = [
        (part.row.id, standing_window(part.row, [charge for charge, _ in known.renewed[part.plan.id]], at=at))
        for part in renewing
        for at in [ends[part.row.id]]
    ]
    used, alone = _read_usage(conn, windows), []
    for part in renewing:
        period = _whole_period(part, Period(ends[part.row.id], ends[part.row.id] + INSTANT))
        for charge, compiled in known.renewed[part.plan.id]:
            own = charge_fees(
                compiled,
                used.get(part.row.id, {}).get(charge.metric.code, ()),
                subscription_id=part.row.id,
                period=period,
                with_idle=False,
            )
            made = [replace(fee, pay_in_advance=True) for fee in own if fee.units]
            if charge.invoiceable:
                fees[part.row.id].extend(made)
            else:
                alone += [
                    AdvanceFee(row=part.row, plan=part.plan, customer=part.customer, fee=fee, at=part.at)
                    for fee in made
                ]
    return alone


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


def _write(conn: Connection[Any], groups: Sequence[_Group]) -> None:
    """The invoices of a batch, numbered in the order of instant and customer, and the word of them."""
    if not groups:
        return
    numbers = _Numbers.take(conn, [group for group in groups if group.is_final])
    new = [_invoice(group, numbers) for group in groups]
    fee_ids = invoices.add(conn, new)
    of_events = [
        (invoice.at, UUID(fee_id))
        for invoice, ids in zip(new, fee_ids, strict=True)
        for fee, fee_id in zip(invoice.fees, ids, strict=True)
        if fee.event_transaction_id is not None
    ]
    _tell(conn, "fee", new[0].organization_id, of_events)
    final = [(invoice.at, invoice.id) for invoice in new if invoice.status == "finalized"]
    _tell(conn, "invoice", new[0].organization_id, final)


def _tell(
    conn: Connection[Any], kind: str, organization_id: UUID, made: Sequence[tuple[datetime, UUID]]
) -> None:
    """The word of what was made, by the instants of it."""
    told: dict[datetime, list[UUID]] = defaultdict(list)
    for at, object_id in made:
        told[at].append(object_id)
    for at, ids in told.items():
        webhooks.enqueue(
            conn,
            organization_id=organization_id,
            webhook_type=f"{kind}.created",
            object_type=kind,
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
        taxes = [tax for part in together[key] for tax in _taxes(part.plan, part.customer, fees[part.row.id])]
        total = sum(fee.amount_cents for fee in lines)
        groups.append(_Group(parts=together[key], fees=lines, taxes=taxes, fees_amount_cents=total))
    return groups


def _taxes(plan: Plan, customer: Customer, fees: Sequence[Fee]) -> list[tuple[Tax, ...]]:
    """Of each fee."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class AdvanceFee:
    """A fee that is paid in advance, made at the instant `at`."""

    row: Subscription
    plan: Plan
    customer: Customer
    fee: Fee
    at: datetime


def write_in_advance(
    conn: Connection[Any], invoiced: Sequence[AdvanceFee], alone: Sequence[AdvanceFee]
) -> None:
    """Write fees that events made: each on an invoice of its own that is final at once, or alone."""
    _write(conn, [_group_of_one(each) for each in invoiced])
    _write_alone(conn, alone)


def _group_of_one(made: AdvanceFee) -> _Group:
    """An invoice of one fee."""
    period = Period(made.fee.from_, made.fee.to)
    part = _Part(
        row=made.row,
        plan=made.plan,
        customer=made.customer,
        facts=facts_of(
            made.row, made.plan, timezone=made.customer.applicable_timezone, first_started_at=None
        ),
        at=made.at,
        reason=_IN_ADVANCE,
        planned=InvoicePlan(
            periods=BillingPeriods(subscription=period, charges=period),
            fee=None,
            fee_billed_until=made.row.fee_billed_until,
            charges_billed_until=made.row.charges_billed_until,
        ),
    )
    taxes = _taxes(made.plan, made.customer, [made.fee])
    return _Group(parts=[part], fees=[made.fee], taxes=taxes, fees_amount_cents=made.fee.amount_cents)


def _write_alone(conn: Connection[Any], made: Sequence[AdvanceFee]) -> None:
    """Fees without an invoice, with their taxes, and the word of them."""
    if not made:
        return
    ids = invoices.add_fees(
        conn,
        [
            NewFees(
                organization_id=each.row.organization_id,
                invoice_id=None,
                customer_id=each.customer.id,
                currency=each.plan.amount_currency,
                at=each.at,
                fees=[each.fee],
                taxed=[
                    tax_fee(each.fee.amount_cents, each.fee.precise_amount_cents, taxes)
                    for taxes in _taxes(each.plan, each.customer, [each.fee])
                ],
            )
            for each in made
        ],
    )
    told = [(each.at, UUID(fee_id)) for each, (fee_id,) in zip(made, ids, strict=True)]
    _tell(conn, "fee", made[0].row.organization_id, told)
