"""The kinds of invoices, each a list of steps. Whatever makes an invoice runs its list: a dry run does not save it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from types import MappingProxyType

from permille.core.invoice.draft import InvoiceDraft, InvoiceKind
from permille.core.invoice.facts import Facts
from permille.core.invoice.steps.commitment import commitment
from permille.core.invoice.steps.coupons import after_coupons, coupons
from permille.core.invoice.steps.credit_notes import after_credit_notes, credit_notes
from permille.core.invoice.steps.custom_sections import custom_sections
from permille.core.invoice.steps.dates import dates
from permille.core.invoice.steps.due_subscriptions import due_subscriptions
from permille.core.invoice.steps.fixed_charges import fixed_charges
from permille.core.invoice.steps.late_usage import late_usage
from permille.core.invoice.steps.minimum_charge import minimum_charge
from permille.core.invoice.steps.prepaid_credits import after_prepaid_credits, prepaid_credits
from permille.core.invoice.steps.progressive_credit import progressive_credit
from permille.core.invoice.steps.renewals import renewals, renewals_alone
from permille.core.invoice.steps.subscription_fee import subscription_fee
from permille.core.invoice.steps.taxes import invoice_taxes, line_taxes, summed_taxes
from permille.core.invoice.steps.usage_charges import usage_charges
from permille.core.money import exact

Step = Callable[[InvoiceDraft, Facts], InvoiceDraft]

_PAYABLE: tuple[Step, ...] = (coupons, line_taxes, invoice_taxes, credit_notes, prepaid_credits, dates)

_OF_PERIODS: tuple[Step, ...] = (
    subscription_fee,
    usage_charges,
    minimum_charge,
    renewals,
    fixed_charges,
    late_usage,
    commitment,
    due_subscriptions,
    progressive_credit,
    *_PAYABLE,
    custom_sections,
)

STEPS: Mapping[InvoiceKind, tuple[Step, ...]] = MappingProxyType(
    {
        InvoiceKind.SUBSCRIPTION: _OF_PERIODS,
        InvoiceKind.ACTIVATION: _OF_PERIODS,
        InvoiceKind.IN_ADVANCE: (*_PAYABLE, custom_sections),
        InvoiceKind.LATE_USAGE: (late_usage, *_PAYABLE, custom_sections),
        InvoiceKind.ONE_OFF: (line_taxes, invoice_taxes, dates),
        InvoiceKind.CREDIT: (dates,),
        InvoiceKind.PROGRESSIVE: (usage_charges, progressive_credit, *_PAYABLE, custom_sections),
        InvoiceKind.REGENERATED: (progressive_credit, *_PAYABLE),
        InvoiceKind.PAID_FEES: (summed_taxes, dates, custom_sections),
        InvoiceKind.FEES_ALONE: (renewals_alone, line_taxes),
    }
)

USED_UP: tuple[Callable[[InvoiceDraft, Facts], Facts], ...] = (
    after_coupons,
    after_credit_notes,
    after_prepaid_credits,
)
"""What an invoice takes away from the facts of those of its customer that follow in its batch."""


def make(drafts: Iterable[InvoiceDraft], facts: Facts) -> list[InvoiceDraft]:
    """Run the steps of each draft, in order; drafts for nothing at all are left out.

    All of them in exact arithmetic: what their functions enter by themselves is entered already.
    """
    with exact():
        return _make(list(drafts), facts)


def _make(waiting: Sequence[InvoiceDraft], facts: Facts) -> list[InvoiceDraft]:
    left = Counter([each.customer.id for each in waiting])
    some_follow = len(left) < len(waiting)
    made = []
    for each in waiting:
        draft = each
        for step in STEPS[each.kind]:
            draft = step(draft, facts)
        if some_follow:
            left[draft.customer.id] -= 1
        if draft.is_empty:
            continue
        if some_follow and left[draft.customer.id]:
            for taken in USED_UP:
                facts = taken(draft, facts)
        made.append(draft)
    return made
