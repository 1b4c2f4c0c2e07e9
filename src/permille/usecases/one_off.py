"""One-off invoices: add-ons billed by hand, final at once, without coupons and credit."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from psycopg import Connection

from permille.core.custom_section import SectionChoice
from permille.core.customer import BillingEntity, Customer
from permille.core.errors import Invalid, NotFound, Unbillable
from permille.core.invoice.draft import InvoiceDraft, InvoiceKind, out_of_range
from permille.core.invoice.facts import Facts
from permille.core.invoice.kinds import make
from permille.core.invoice.one_off import SoldAddOn, line_of
from permille.ids import new_id
from permille.store import customers, invoices
from permille.store.invoices import StoredInvoice
from permille.usecases.invoices.save import save


def create(
    conn: Connection[Any],
    customer: Customer,
    sold: Sequence[SoldAddOn],
    *,
    currency: str | None,
    billing_entity: BillingEntity | None = None,
    section_choice: SectionChoice | None = None,
    now: datetime,
) -> StoredInvoice:
    """Bill add-ons to a customer, by its own billing entity or another one. Raises NotFound, Invalid, Unbillable."""
    if not sold:
        raise NotFound("fees")
    customers.lock(conn, customer.id)
    customer = customers.by_ids(conn, [customer.id])[customer.id]
    currency = _currency(conn, customer, sold, currency, now=now)
    if billing_entity is not None:
        customer = customer.billed_by(billing_entity)
    draft = InvoiceDraft(
        id=new_id(now),
        kind=InvoiceKind.ONE_OFF,
        customer=customer,
        currency=currency,
        at=now,
        made_at=now,
        lines=tuple(line_of(each, currency=currency, at=now) for each in sold),
        custom_sections=customer.printed_sections([section_choice]),
    )
    made = make([draft], Facts())
    for reason in out_of_range(made).values():
        raise Unbillable(reason)
    save(conn, made)
    return invoices.invoices_by_ids(conn, [draft.id])[draft.id]


def _currency(
    conn: Connection[Any],
    customer: Customer,
    sold: Sequence[SoldAddOn],
    currency: str | None,
    *,
    now: datetime,
) -> str:
    """The invoice's: the customer's unless another is given; prices of add-ons hold in their own alone."""
    own_prices = {each.add_on.amount_currency for each in sold if each.unit_amount_cents is None}
    chosen = currency or customer.currency or sold[0].add_on.amount_currency
    if own_prices - {chosen}:
        raise Invalid({"currency": ["currencies_does_not_match"]})
    if customer.currency is None:
        customers.update(conn, customer_id=customer.id, columns={"currency": chosen}, now=now)
    return chosen
