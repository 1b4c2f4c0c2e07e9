"""Prepaid credits pay an invoice, last of all. Source: semantics-billing.md section 5.6."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from uuid import UUID

from permille.core.contract.plan import Plan
from permille.core.fee_kind import FeeKind
from permille.core.invoice.draft import InvoiceDraft, InvoiceStatus, Line, changed
from permille.core.invoice.facts import Facts
from permille.core.money import ZERO, exact
from permille.core.rating.filters import Id
from permille.core.rating.models.group_keys import TARGET_WALLET
from permille.core.record import replace
from permille.core.wallet import FeeBucket, FilledWallet, Lot, Spending, spend

_Key = tuple[FeeKind, UUID | None, str | None]


def prepaid_credits(draft: InvoiceDraft, facts: Facts) -> InvoiceDraft:
    """Pay what credit notes have left from the customer's wallets; a draft is paid when it is final."""
    known = facts.wallets.get((draft.customer.id, draft.currency)) if facts.wallets else None
    if not known or draft.is_paid or draft.status is InvoiceStatus.DRAFT or draft.total_amount_cents <= 0:
        return draft
    usable = [each for each in known if _is_usable(each, draft)]
    if len(usable) == 1 and _pays_all(usable[0], draft):
        cents = min(usable[0].wallet.balance_cents, draft.total_amount_cents)
        return changed(draft, prepaid=(usable[0].spend(cents),))
    spent = spend(usable, buckets(draft, facts), draft.total_amount_cents)
    return changed(draft, prepaid=tuple(spent)) if spent else draft


def _is_usable(filled: FilledWallet, draft: InvoiceDraft) -> bool:
    ends_at = filled.wallet.expiration_at
    return filled.wallet.balance_cents > 0 and (ends_at is None or draft.made_at < ends_at)


def _pays_all(filled: FilledWallet, draft: InvoiceDraft) -> bool:
    """Whether it pays all that it can: mostly there is one wallet, for everything. Else `spend` finds out; under exact()."""
    if filled.wallet.is_limited or draft.credits:
        return False
    owed = ZERO
    for line in draft.lines:
        if TARGET_WALLET in line.fee.grouped_by:
            return False
        taxable = line.taxable_cents
        if taxable > 0:
            owed += taxable + line.taxed.precise_amount_cents
    return 0 < owed >= draft.total_amount_cents - 1


def buckets(draft: InvoiceDraft, facts: Facts) -> list[FeeBucket]:
    """What is left to pay, by what wallets can be limited to; credit notes have paid the same part of each fee."""
    whole = draft.sub_total_including_taxes_amount_cents
    with exact():
        left = Decimal(whole - draft.credit_notes_amount_cents)
        return [
            FeeBucket(*key, cents * left / whole if draft.credits else cents)
            for key, cents in _by_key(draft.lines, facts).items()
        ]


def _by_key(lines: Sequence[Line], facts: Facts) -> Mapping[_Key, Decimal]:
    """Fees with taxes, unrounded; call it under exact()."""
    metrics: Mapping[Id, UUID] = {}
    plan: Plan | None = None
    charge_id: Id | None = None
    metric_id: UUID | None = None
    found: dict[_Key, Decimal] = {}
    for line in lines:
        taxable = line.taxable_cents
        if taxable <= 0:
            continue
        fee = line.fee
        if line.plan is not plan:
            plan, metrics = line.plan, facts.metrics_of(line.plan) if line.plan else {}
            charge_id = metric_id = None
        if fee.charge_id is not charge_id:
            charge_id = fee.charge_id
            metric_id = metrics.get(charge_id) if charge_id is not None else None
        key = fee.kind, metric_id, fee.grouped_by.get(TARGET_WALLET)
        found[key] = found.get(key, ZERO) + taxable + line.taxed.precise_amount_cents
    return found


def after_prepaid_credits(draft: InvoiceDraft, facts: Facts) -> Facts:
    """What the wallets have left for the invoices that follow in the batch."""
    if not draft.prepaid:
        return facts
    place = draft.customer.id, draft.currency
    spent = {each.wallet.id: each for each in draft.prepaid}
    left = [_less(each, spent.get(each.wallet.id)) for each in facts.wallets[place]]
    return replace(facts, wallets={**facts.wallets, place: left})


def _less(filled: FilledWallet, spent: Spending | None) -> FilledWallet:
    if spent is None:
        return filled
    taken = {part.lot.id: part.amount_cents for part in spent.parts}
    wallet = replace(
        filled.wallet,
        balance_cents=filled.wallet.balance_cents - spent.amount_cents,
        credits_balance=filled.wallet.credits_balance - spent.worth.credits,
    )
    return FilledWallet(wallet=wallet, lots=tuple(_rest(lot, taken.get(lot.id, 0)) for lot in filled.lots))


def _rest(lot: Lot, taken_cents: int) -> Lot:
    return replace(lot, remaining_amount_cents=lot.remaining_amount_cents - taken_cents)
