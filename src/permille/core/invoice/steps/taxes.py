"""Taxes of the lines, and of the invoice. Source: semantics-billing.md section 5.4."""

from __future__ import annotations

from decimal import Decimal

from permille.core.invoice.draft import InvoiceDraft, Line, changed, with_same_fees
from permille.core.invoice.facts import Facts
from permille.core.invoice.tax_choice import TaxChoice, tax_choice
from permille.core.money import exact
from permille.core.record import replace
from permille.core.tax import UNTAXED, add_up_taxes, tax_invoice, taxed_exactly


def line_taxes(draft: InvoiceDraft, _facts: Facts) -> InvoiceDraft:
    """Tax each line by its own taxes or its charge's, else by its plan's, the customer's or the billing entity's."""
    chosen: dict[int, TaxChoice] = {}
    lines: list[Line] = []
    is_taxed = False
    for line in draft.lines:
        taxes = line.own_taxes
        if not taxes:
            choice = chosen.get(id(line.plan))
            if choice is None:
                choice = chosen[id(line.plan)] = tax_choice(line.plan, draft.customer)
            taxes = choice(line.fee)
        if taxes:
            taxed = taxed_exactly(line.taxable_cents, line.precise_taxable_cents, taxes)
            lines.append(replace(line, taxes=taxes, taxed=taxed))
            is_taxed = True
        else:
            lines.append(line)
    return with_same_fees(draft, lines) if is_taxed else draft


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
