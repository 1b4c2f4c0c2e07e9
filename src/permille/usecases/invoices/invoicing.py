"""Writing invoices: fees become numbered invoices with their taxes, one statement a table, and the word of them.

Source: semantics-billing.md sections 3.10, 4.2 to 4.7.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID

from psycopg import Connection

from permille.core.contract.plan import Plan
from permille.core.contract.price_versions import version_at, versions_of
from permille.core.contract.subscription import Subscription, facts_of
from permille.core.contract.timeline import (
    BillingPeriods,
    InvoicePlan,
    SubscriptionFacts,
    draft_number,
    entity_invoice_number,
    expected_finalization_date,
    finalizes_at,
    invoice_number,
    issuing_date,
    payment_due_date,
)
from permille.core.customer import Customer
from permille.core.invoice.credit_note import Spent, spend
from permille.core.invoice.tax import Tax, Taxed, applicable, tax_fee, tax_invoice
from permille.core.metering.event import Arrival
from permille.core.period import (
    Period,
    local_date,
)
from permille.core.rating.fee import Fee
from permille.core.rating.filters import Id
from permille.ids import new_id
from permille.store import credit_notes, invoices, late_usage, webhooks
from permille.store.invoices import InvoiceSubscription, NewFees, NewInvoice

PERIODIC = "subscription_periodic"
STARTING = "subscription_starting"
TERMINATING = "subscription_terminating"
IN_ADVANCE = "in_advance_charge"
IN_ADVANCE_PERIODIC = "in_advance_charge_periodic"
LATE_USAGE = "late_usage"
"""Of an invoice for late usage alone, as the subscription is over."""
AMOUNT_MAX = 2**63 - 1
"""In the smallest unit of the currency."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What one subscription brings to an invoice."""

    row: Subscription
    plan: Plan
    customer: Customer
    facts: SubscriptionFacts
    at: datetime
    reason: str
    planned: InvoicePlan
    is_change: bool = False
    """Whether it is of a change of plan, of which both sides go on one invoice."""
    carried_over: frozenset[UUID] = frozenset()
    """The recurring metrics that the next plan bills at its period's end."""
    pays_what_stands: bool = False
    """Whether it pays at its start for what stands, as the plan before it went to its period's end."""

    arrival: Arrival | None = None
    """Which events its usage was read with, where it has any."""

    @property
    def recurring(self) -> bool:
        return self.reason == PERIODIC

    @property
    def goes_with(self) -> tuple[Any, ...]:
        """Parts of which this is the same go on one invoice (semantics-billing.md section 3.10)."""
        alone = None if self.row.consolidate_invoice else self.row.external_id
        currency, order = self.plan.amount_currency, self.row.purchase_order_number
        reason = "change" if self.is_change else self.reason
        return self.at, self.customer.sequential_id, currency, reason, str(alone or ""), order or ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjustment:
    """Fees for usage of an earlier period that came in after its invoice was final, by the plan of that time."""

    late_usage_id: UUID
    plan: Plan
    fees: Sequence[Fee]


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """The parts of one invoice, in the order in which the subscriptions were made."""

    parts: Sequence[Part]
    fees: Sequence[Fee]
    taxes: Sequence[Sequence[Tax]]
    """Of each fee."""
    fees_amount_cents: int
    invoice_type: str = "subscription"
    is_paid: bool = False
    taxed: Taxed | None = None
    """Its taxes where they are known already, and not to be taken of the fees."""
    late_usage_ids: tuple[UUID, ...] = ()
    """The late usage that it bills."""

    @property
    def customer(self) -> Customer:
        return self.parts[0].customer

    @property
    def at(self) -> datetime:
        return self.parts[0].at

    @property
    def grace_period_days(self) -> int:
        """For how long it stays a draft: what is paid in advance or already paid does not wait."""
        waits = self.parts[0].reason in (PERIODIC, STARTING, TERMINATING)
        return self.customer.applicable_invoice_grace_period if waits else 0

    @property
    def waits_for_price(self) -> bool:
        """Whether usage on it is held until it has a price: then it stays a draft."""
        return any(fee.is_held for fee in self.fees)

    @property
    def is_final(self) -> bool:
        """Whether it gets a number and is told of: not when it is of nothing and the customer wants none such."""
        return bool(self.fees_amount_cents) or self.customer.finalizes_zero_amount_invoice

    @property
    def status(self) -> str:
        """Of the invoice when it is written."""
        if self.grace_period_days or self.waits_for_price:
            return "draft"
        return "finalized" if self.is_final else "closed"


def write(conn: Connection[Any], groups: Sequence[Group]) -> list[NewInvoice]:
    """The invoices of a batch, numbered in the order of instant and customer, and the word of them."""
    if not groups:
        return []
    numbers = Numbers.take(conn, [group for group in groups if group.status == "finalized"])
    new, spent = credited(conn, [_invoice(group, numbers) for group in groups])
    fee_ids = invoices.add(conn, new)
    late_usage.set_billed(
        conn,
        {
            late_usage_id: invoice.id
            for invoice, group in zip(new, groups, strict=True)
            for late_usage_id in group.late_usage_ids
        },
    )
    if spent:
        credit_notes.take(conn, spent)
    of_events = [
        (invoice.at, UUID(fee_id))
        for invoice, ids in zip(new, fee_ids, strict=True)
        for fee, fee_id in zip(invoice.fees, ids, strict=True)
        if fee.event_transaction_id is not None
    ]
    tell(conn, "fee", new[0].organization_id, of_events)
    for status, word in (("finalized", "created"), ("draft", "drafted")):
        made = [(invoice.at, invoice.id) for invoice in new if invoice.status == status]
        tell(conn, "invoice", new[0].organization_id, made, word=word)
    return new


def beyond_bounds(groups: Sequence[Group], alone: Sequence[AdvanceFee]) -> dict[UUID, str]:
    """Customer -> why, of those with an amount that no invoice and no fee can have."""
    amounts = [(group.customer.id, amount) for group in groups for amount in _amounts_of(group)]
    amounts += [(each.customer.id, each.fee.amount_cents) for each in alone]
    return {
        customer_id: f"{amount} is out of range"
        for customer_id, amount in amounts
        if abs(amount) > AMOUNT_MAX
    }


def _amounts_of(group: Group) -> Iterator[int]:
    invoice = new_invoice(group, new_id(group.at), None, None)
    for fee in group.fees:
        yield from (fee.amount_cents, fee.unit_amount_cents)
    yield from (invoice.fees_amount_cents, invoice.taxed.amount_cents, invoice.total_with_taxes_cents)


def credited(
    conn: Connection[Any], new: Sequence[NewInvoice]
) -> tuple[list[NewInvoice], list[tuple[UUID, datetime, Spent]]]:
    """The invoices, each less what credit notes of its customer pay of it, and what that is."""
    owing = {each.customer_id for each in new if each.takes_credits}
    balances = credit_notes.available(conn, owing) if owing else {}
    paid_for: list[NewInvoice] = []
    spent: list[tuple[UUID, datetime, Spent]] = []
    for invoice in new:
        place = (invoice.customer_id, invoice.currency)
        known = balances.get(place, []) if invoice.takes_credits else []
        own = spend(known, invoice.total_with_taxes_cents)
        paid = {each.credit_note_id: each.amount_cents for each in own}
        if own:
            balances[place] = [(note_id, balance - paid.get(note_id, 0)) for note_id, balance in known]
        spent += [(invoice.id, invoice.at, each) for each in own]
        paid_for.append(replace(invoice, credit_notes_amount_cents=sum(paid.values())) if own else invoice)
    return paid_for, spent


def tell(
    conn: Connection[Any],
    kind: str,
    organization_id: UUID,
    made: Sequence[tuple[datetime, UUID]],
    *,
    word: str = "created",
) -> None:
    """The word of what was made, by the instants of it."""
    told: dict[datetime, list[UUID]] = defaultdict(list)
    for at, object_id in made:
        told[at].append(object_id)
    for at, ids in told.items():
        webhooks.enqueue(
            conn,
            organization_id=organization_id,
            webhook_type=f"{kind}.{word}",
            object_type=kind,
            object_ids=ids,
            payload=None,
            now=at,
        )


def groups_of(
    parts: Sequence[Part],
    fees: Mapping[UUID, Sequence[Fee]],
    adjustments: Mapping[UUID, Sequence[Adjustment]],
) -> list[Group]:
    """The invoices of a batch. Fees and adjustments are by subscription."""
    together: dict[tuple[Any, ...], list[Part]] = defaultdict(list)
    for part in sorted(parts, key=lambda part: (part.row.created_at, part.row.id)):
        together[part.goes_with].append(part)
    return [
        group_of(
            together[key],
            fees,
            [each for part in together[key] for each in adjustments.get(part.row.id, ())],
        )
        for key in sorted(together)
    ]


def group_of(
    parts: Sequence[Part], fees: Mapping[UUID, Sequence[Fee]], adjustments: Sequence[Adjustment]
) -> Group:
    """One invoice: the fees of its parts by subscription, then the adjustments."""
    customer = parts[0].customer
    owed = [(part.plan, fees[part.row.id]) for part in parts]
    owed += [(each.plan, each.fees) for each in adjustments]
    lines = [fee for _, own in owed for fee in own]
    return Group(
        parts=parts,
        fees=lines,
        taxes=[tax for plan, own in owed for tax in taxes_of(plan, customer, own)],
        fees_amount_cents=sum(fee.amount_cents for fee in lines),
        late_usage_ids=tuple(each.late_usage_id for each in adjustments),
    )


def taxes_of(plan: Plan, customer: Customer, fees: Sequence[Fee]) -> list[tuple[Tax, ...]]:
    """Of each fee."""
    general = applicable(plan.taxes, customer.taxes, customer.billing_entity.taxes)
    of_version: list[dict[Id, tuple[Tax, ...]]] = [
        {charge.id: charge.taxes for charge in each.charges if charge.taxes} for each in versions_of(plan)
    ]
    return [of_version[version_at(plan, fee.from_)].get(fee.charge_id, general) for fee in fees]


@dataclass(frozen=True, slots=True, kw_only=True)
class Numbers:
    """Numbers reserved for a batch: each (customer, entity) and each entity counts on from its last."""

    of_customer: dict[tuple[UUID, UUID], int]
    of_entity: dict[UUID, int]

    @classmethod
    def take(cls, conn: Connection[Any], groups: Sequence[Group]) -> Numbers:
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


def _invoice(group: Group, numbers: Numbers) -> NewInvoice:
    own, of_entity = numbers.next_of(group.customer) if group.status == "finalized" else (None, None)
    return new_invoice(group, new_id(group.at), own, of_entity)


def new_invoice(group: Group, invoice_id: UUID, own: int | None, of_entity: int | None) -> NewInvoice:
    """The invoice of a group: without numbers of its own and the entity's it is a draft, or closed."""
    first, customer, at = group.parts[0], group.customer, group.at
    entity, timezone, grace = customer.billing_entity, customer.applicable_timezone, group.grace_period_days
    expected_on = expected_finalization_date(at, timezone=timezone, grace_period_days=grace)
    issued_on = issuing_date(
        at,
        timezone=timezone,
        recurring=first.recurring,
        grace_period_days=grace,
        anchor=entity.subscription_invoice_issuing_date_anchor,
        adjustment=entity.subscription_invoice_issuing_date_adjustment,
    )
    term = customer.applicable_net_payment_term
    return NewInvoice(
        id=invoice_id,
        organization_id=customer.organization_id,
        billing_entity_id=entity.id,
        customer_id=customer.id,
        sequential_id=own,
        billing_entity_sequential_id=of_entity,
        number=number_of(customer, at, own, of_entity),
        purchase_order_number=first.row.purchase_order_number,
        status=group.status,
        finalizes_at=finalizes_at(expected_on, timezone=timezone) if group.status == "draft" else None,
        waits_for_price=group.waits_for_price,
        price_retry_at=at if group.waits_for_price else None,
        currency=first.plan.amount_currency,
        timezone=timezone,
        issuing_date=issued_on,
        payment_due_date=payment_due_date(issued_on, net_payment_term=term),
        expected_finalization_date=expected_on,
        net_payment_term=term,
        fees_amount_cents=group.fees_amount_cents,
        invoice_type=group.invoice_type,
        is_paid=group.is_paid,
        taxed=group.taxed
        or tax_invoice(
            [(fee.amount_cents, taxes) for fee, taxes in zip(group.fees, group.taxes, strict=True)]
        ),
        fees_taxed=[
            tax_fee(fee.amount_cents, fee.precise_amount_cents, taxes)
            for fee, taxes in zip(group.fees, group.taxes, strict=True)
        ],
        credit_notes_amount_cents=0,
        skip_charges=first.reason == STARTING,
        at=at,
        subscriptions=[_on_invoice(part, invoice_id) for part in group.parts],
        fees=group.fees,
    )


def number_of(customer: Customer, at: datetime, own: int | None, of_entity: int | None) -> str:
    entity = customer.billing_entity
    if own is None:
        return draft_number(entity.document_number_prefix)
    if of_entity is not None:
        day = local_date(at, entity.timezone)
        return entity_invoice_number(entity.document_number_prefix, day, of_entity)
    return invoice_number(entity.document_number_prefix, customer.sequential_id, own)


def _on_invoice(part: Part, invoice_id: UUID) -> InvoiceSubscription:
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
        counted_to=part.arrival.counted_to if part.arrival else None,
        seen_to=part.arrival.seen_to if part.arrival else None,
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
    write(conn, [_group_of_one(each) for each in invoiced])
    write_alone(conn, alone)


def _group_of_one(made: AdvanceFee) -> Group:
    """An invoice of one fee."""
    period = Period(made.fee.from_, made.fee.to)
    part = Part(
        row=made.row,
        plan=made.plan,
        customer=made.customer,
        facts=facts_of(
            made.row, made.plan, timezone=made.customer.applicable_timezone, first_started_at=None
        ),
        at=made.at,
        reason=IN_ADVANCE,
        planned=InvoicePlan(
            periods=BillingPeriods(subscription=period, charges=period),
            fee=None,
            fee_billed_until=made.row.fee_billed_until,
            charges_billed_until=made.row.charges_billed_until,
        ),
    )
    taxes = taxes_of(made.plan, made.customer, [made.fee])
    return Group(parts=[part], fees=[made.fee], taxes=taxes, fees_amount_cents=made.fee.amount_cents)


def write_alone(conn: Connection[Any], made: Sequence[AdvanceFee]) -> None:
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
                    for taxes in taxes_of(each.plan, each.customer, [each.fee])
                ],
            )
            for each in made
        ],
    )
    told = [(each.at, UUID(fee_id)) for each, (fee_id,) in zip(made, ids, strict=True)]
    tell(conn, "fee", made[0].row.organization_id, told)
