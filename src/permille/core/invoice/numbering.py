"""Invoice numbers: in a sequence of the customer's own, or in one of the billing entity.

Source: semantics-billing.md section 4.6.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from datetime import date, datetime
from typing import NamedTuple
from uuid import UUID

from permille.core.customer import BillingEntity, Customer
from permille.core.period import local_date

SequenceKey = tuple[UUID, UUID]
"""Customer and billing entity."""


class InvoiceNumber(NamedTuple):
    """The places of an invoice in its customer's sequence and, where that is the one shown, in its entity's."""

    of_customer: int
    of_entity: int | None


def is_numbered_by_itself(entity: BillingEntity) -> bool:
    """Whether the entity has one sequence for all its customers."""
    return entity.document_numbering == "per_billing_entity"


def is_numbered_by_entity(customer: Customer) -> bool:
    """Whether the customer's invoices show the number of the billing entity's sequence; those of a partner never do."""
    return is_numbered_by_itself(customer.billing_entity) and not customer.is_self_billed


def counts(customers: Sequence[Customer]) -> tuple[Counter[SequenceKey], Counter[UUID]]:
    """How many numbers one invoice for each of these takes, from each sequence."""
    return (
        Counter((each.id, each.billing_entity.id) for each in customers),
        Counter(each.billing_entity.id for each in customers if is_numbered_by_entity(each)),
    )


def next_numbers(
    customers: Sequence[Customer], of_customer: Mapping[SequenceKey, int], of_entity: Mapping[UUID, int]
) -> list[InvoiceNumber]:
    """The numbers of one invoice for each of these, in order, after the last ones that each sequence has given out."""
    last_of_customer, last_of_entity = dict(of_customer), dict(of_entity)
    numbers = []
    for customer in customers:
        entity_id = customer.billing_entity.id
        key = customer.id, entity_id
        last = last_of_customer[key] = last_of_customer[key] + 1
        of_entity_now = None
        if is_numbered_by_entity(customer):
            of_entity_now = last_of_entity[entity_id] = last_of_entity[entity_id] + 1
        numbers.append(InvoiceNumber(last, of_entity_now))
    return numbers


def number_text(customer: Customer, number: InvoiceNumber | None, *, at: datetime) -> str:
    """The number as the invoice shows it; one that is not final has none."""
    entity = customer.billing_entity
    if number is None:
        return draft_number(entity.document_number_prefix)
    if number.of_entity is not None:
        day = local_date(at, entity.timezone)
        return entity_invoice_number(entity.document_number_prefix, day, number.of_entity)
    return invoice_number(entity.document_number_prefix, customer.sequential_id, number.of_customer)


def invoice_number(prefix: str, customer_sequential_id: int, sequential_id: int) -> str:
    """A number of the customer's own sequence: PRE-001-004."""
    return f"{prefix}-{customer_sequential_id:03}-{sequential_id:03}"


def entity_invoice_number(prefix: str, finalized_on: date, entity_sequential_id: int) -> str:
    """A number of the billing entity's sequence, with the entity's month: PRE-202310-010.

    The sequence does not start again with the month.
    """
    return f"{prefix}-{finalized_on:%Y%m}-{entity_sequential_id:03}"


def draft_number(prefix: str) -> str:
    """What an invoice shows in place of a number while it is not final."""
    return f"{prefix}-DRAFT"
