"""Taxes of the lines, and of the invoice. Source: semantics-billing.md section 5.4."""

from __future__ import annotations

from decimal import Decimal

from permille.core.invoice.draft import InvoiceDraft, Line, changed
from permille.core.invoice.facts import Facts
from permille.core.invoice.tax_choice import TaxChoice, tax_choice
from permille.core.money import exact
from permille.core.tax import UNTAXED, Tax, add_up_taxes, tax_fee, tax_invoice


def line_taxes(draft: InvoiceDraft, _facts: Facts) -> InvoiceDraft:
    """Tax each line by its own taxes or its charge's, else by its plan's, the customer's or the billing entity's."""
    chosen: dict[int, TaxChoice] = {}
    taxes: list[tuple[Tax, ...]] = []
    for line in draft.lines:
        if line.own_taxes:
            taxes.append(line.own_taxes)
            continue
        if id(line.plan) not in chosen:
            chosen[id(line.plan)] = tax_choice(line.plan, draft.customer)
        taxes.append(chosen[id(line.plan)](line.fee))
    if not any(taxes):
        return draft
    return changed(draft, lines=tuple(map(_taxed, draft.lines, taxes)))


def invoice_taxes(draft: InvoiceDraft, _facts: Facts) -> InvoiceDraft:
    """Tax the sum of the lines, which is rounded once."""
    taxed = tax_invoice([(line.taxable_cents, line.taxes) for line in draft.lines])
    return draft if taxed is UNTAXED else changed(draft, taxed=taxed)


def summed_taxes(draft: InvoiceDraft, _facts: Facts) -> InvoiceDraft:
    """Add up the taxes of lines that were taxed, and rounded, without an invoice."""
    taxed = [line.taxed for line in draft.lines]
    with exact():
        summed = add_up_taxes(
            amount_cents=sum(each.amount_cents for each in taxed),
            precise_amount_cents=sum((each.precise_amount_cents for each in taxed), Decimal(0)),
            fees_amount_cents=draft.fees_amount_cents,
            applied=[
                (each.tax, each.amount_cents, each.fees_amount_cents) for own in taxed for each in own.applied
            ],
        )
    return changed(draft, taxed=summed)


def _taxed(line: Line, taxes: tuple[Tax, ...]) -> Line:
    if not taxes:
        return line
    taxed = tax_fee(line.taxable_cents, line.precise_taxable_cents, taxes)
    fee, plan, own_taxes, _, _, discount_cents, fee_id = line
    return Line(fee, plan, own_taxes, taxes, taxed, discount_cents, fee_id)
