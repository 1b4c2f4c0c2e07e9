"""The texts below the totals of an invoice. Source: semantics-billing.md section 4.13."""

from __future__ import annotations

from permille.core.invoice.draft import InvoiceDraft, changed
from permille.core.invoice.facts import Facts


def custom_sections(draft: InvoiceDraft, facts: Facts) -> InvoiceDraft:
    """Print what the subscriptions have chosen, each once; those that have chosen nothing bring the customer's."""
    if not (facts.section_choices or draft.custom_sections or draft.customer.applicable_custom_sections):
        return draft
    choices = [facts.section_choices.get(billing.subscription.id) for billing in draft.billings]
    return changed(draft, custom_sections=draft.customer.printed_sections(choices or [None]))
