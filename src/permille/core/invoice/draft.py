"""The invoice as a value: its lines, the subscriptions that it bills, its dates, and all its totals.

Steps make it (kinds.py), the store saves it. Nobody else adds up amounts of an invoice.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from decimal import Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from permille.core.contract.plan import Plan
from permille.core.coupon import CouponCredit
from permille.core.custom_section import CustomSection
from permille.core.customer import Customer
from permille.core.invoice.billing import InvoicingReason, SubscriptionBilling
from permille.core.invoice.credit_note import Spent
from permille.core.invoice.numbering import InvoiceNumber, number_text
from permille.core.invoice.payment import PaymentStatus
from permille.core.invoice.progressive import ProgressiveCredit
from permille.core.money import AMOUNT_MAX, ZERO
from permille.core.once import Once
from permille.core.rating.fee import Fee
from permille.core.rating.filters import Id
from permille.core.record import Record, replace
from permille.core.tax import UNTAXED, Tax, Taxed
from permille.core.wallet import Spending


class InvoiceKind(StrEnum):
    """How an invoice comes about; each kind has its own list of steps."""

    SUBSCRIPTION = "subscription"
    """A period's end, a start or an end of subscriptions."""
    ACTIVATION = "activation"
    """A start of a subscription that only runs once this is paid."""
    IN_ADVANCE = "in_advance"
    """A fee that an event made."""
    LATE_USAGE = "late_usage"
    """Late usage of subscriptions that have ended."""
    ONE_OFF = "one_off"
    """Add-ons that somebody bills by hand."""
    CREDIT = "credit"
    """Prepaid credits that are bought: not taxed, as what they will pay for is."""
    PROGRESSIVE = "progressive"
    """The usage of a period that goes on, as it has reached a threshold."""
    PAID_FEES = "paid_fees"
    """Fees that were paid without an invoice before."""
    REGENERATED = "regenerated"
    """A voided invoice that is made again."""
    FEES_ALONE = "fees_alone"
    """Fees that are on no invoice."""


_INVOICE_TYPES = {
    InvoiceKind.PAID_FEES: "advance_charges",
    InvoiceKind.ONE_OFF: "one_off",
    InvoiceKind.PROGRESSIVE: "progressive_billing",
    InvoiceKind.CREDIT: "credit",
}
"""Kind -> type in the API, where that is not a subscription's."""

_ALWAYS_FINAL = (
    InvoiceKind.ACTIVATION,
    InvoiceKind.CREDIT,
    InvoiceKind.PROGRESSIVE,
    InvoiceKind.REGENERATED,
)
"""Kinds of invoices that are final also where they come to nothing."""


class InvoiceStatus(StrEnum):
    """How far an invoice is."""

    DRAFT = "draft"
    FINALIZED = "finalized"
    OPEN = "open"
    """It waits for its payment: neither numbered nor shown."""
    CLOSED = "closed"
    """It is for nothing: neither numbered nor shown."""
    VOIDED = "voided"
    DELETED = "deleted"


class Line(Record):
    """A fee on an invoice, with what is taken off and added to it."""

    fee: Fee
    plan: Plan | None = None
    """The plan whose prices and taxes it has; None where it is of no plan."""
    own_taxes: tuple[Tax, ...] = ()
    """Taxes of its own, instead of those of its plan and customer."""
    taxes: tuple[Tax, ...] = ()
    """The taxes that apply to it."""
    taxed: Taxed = UNTAXED
    """What they come to."""
    discount_cents: Decimal = ZERO
    """Taken off before taxes, to five decimals."""
    fee_id: UUID | None = None
    """The id of the fee where it exists already, without an invoice."""

    @property
    def taxable_cents(self) -> Decimal | int:
        """The amount less its discount; call it under exact()."""
        return self.fee.amount_cents - self.discount_cents if self.discount_cents else self.fee.amount_cents

    @property
    def precise_taxable_cents(self) -> Decimal:
        """The precise amount less its discount; call it under exact()."""
        return self.fee.precise_amount_cents - self.discount_cents


class InvoiceDates(Record, kw_only=True):
    """The dates on an invoice, in its customer's timezone."""

    issuing_date: date
    payment_due_date: date
    expected_finalization_date: date
    net_payment_term: int
    """In days."""
    finalizes_at: datetime | None
    """When a draft becomes final."""


class ReplacedInvoice(Record, kw_only=True):
    """A voided invoice that another one replaces."""

    id: UUID
    original_id: UUID
    """The first one where one replaces the other: it has the subscriptions and their periods."""
    purchase_order_number: str | None


class InvoiceDraft(Record, kw_only=True, dict=True):
    """An invoice that is being made. Amounts are in the smallest unit of its currency."""

    id: UUID
    kind: InvoiceKind
    customer: Customer
    currency: str
    at: datetime
    """The instant that was due."""
    made_at: datetime
    """When it is made, or made again: its numbers and final dates are of this instant."""
    billings: tuple[SubscriptionBilling, ...] = ()
    """The subscriptions that it bills, in the order in which they were made; none, one or several."""
    lines: tuple[Line, ...] = ()
    """Those of each subscription in the order of `billings`, then late usage."""
    progressive_credits: tuple[ProgressiveCredit, ...] = ()
    """What invoices at thresholds have billed before."""
    coupons: tuple[CouponCredit, ...] = ()
    """What coupons take off its lines."""
    taxed: Taxed = UNTAXED
    credits: tuple[Spent, ...] = ()
    """What credit notes pay of it."""
    prepaid: tuple[Spending, ...] = ()
    """What wallets pay of it."""
    awaits_payment: bool = False
    """Whether it is neither numbered nor shown before it is paid, if anything of it is to be paid."""
    dates: InvoiceDates | None = None
    """None until a step has set them; those that it has where it is made again."""
    number: InvoiceNumber | None = None
    has_grace_period: bool = False
    """Whether it stays a draft for now."""
    price_retry_at: datetime | None = None
    """When to look again whether usage on it that is held has a price."""
    late_usage_ids: tuple[UUID, ...] = ()
    """The late usage that it bills."""
    custom_sections: tuple[CustomSection, ...] = ()
    """The texts that it prints below its totals."""
    replaces: ReplacedInvoice | None = None
    """The voided invoice that it replaces: it bills the periods of that one, and has none of its own."""

    def adding(self, lines: Iterable[Line]) -> InvoiceDraft:
        """The draft with further lines, each among those of its subscription."""
        more = tuple(lines)
        if not more:
            return self
        every = (*self.lines, *more)
        if len(self.billings) > 1 or self.late_usage_ids:
            places: dict[Id, int] = {each.subscription.id: place for place, each in enumerate(self.billings)}
            every = tuple(sorted(every, key=lambda line: _place(line, places)))
        return changed(self, lines=every)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to save: no lines, and no invoice for a subscription either."""
        return not self.lines and not (self.billings and self.is_on_invoice)

    @property
    def is_on_invoice(self) -> bool:
        """Whether it is an invoice at all, not fees without one."""
        return self.kind is not InvoiceKind.FEES_ALONE

    @property
    def invoice_type(self) -> str:
        """The type of invoice in the API."""
        return _INVOICE_TYPES.get(self.kind, "subscription")

    @property
    def is_paid(self) -> bool:
        """Whether all of it was paid before."""
        return self.kind is InvoiceKind.PAID_FEES

    @property
    def timezone(self) -> str:
        return self.customer.applicable_timezone

    @property
    def purchase_order_number(self) -> str | None:
        """The order of its subscriptions, which is the same for all of them."""
        if self.replaces is not None:
            return self.replaces.purchase_order_number
        return self.billings[0].subscription.purchase_order_number if self.billings else None

    @property
    def is_recurring(self) -> bool:
        """Whether a period's end made it due."""
        return bool(self.billings) and self.billings[0].recurring

    @property
    def skip_charges(self) -> bool:
        """Whether it is for a start, where no usage is billed."""
        return bool(self.billings) and self.billings[0].reason is InvoicingReason.STARTING

    @property
    def number_text(self) -> str:
        """The number that the invoice shows."""
        return number_text(self.customer, self.number, at=self.made_at)

    @Once
    def waits_for_price(self) -> bool:
        """Whether usage on it is held until it has a price: then it stays a draft."""
        return any(line.fee.is_held for line in self.lines)

    @Once
    def status(self) -> InvoiceStatus:
        """A draft while it waits; closed when it is for nothing and the customer wants no such invoice."""
        if self.has_grace_period or self.waits_for_price:
            return InvoiceStatus.DRAFT
        if self.awaits_payment and self.total_amount_cents:
            return InvoiceStatus.OPEN
        if (
            self.fees_amount_cents
            or self.customer.finalizes_zero_amount_invoice
            or self.kind in _ALWAYS_FINAL
        ):
            return InvoiceStatus.FINALIZED
        return InvoiceStatus.CLOSED

    @property
    def payment_status(self) -> PaymentStatus:
        """Whether there is anything left to pay."""
        return (
            PaymentStatus.PENDING if self.total_amount_cents and not self.is_paid else PaymentStatus.SUCCEEDED
        )

    @Once
    def fees_amount_cents(self) -> int:
        """All lines, before discounts and taxes."""
        return sum([line.fee.amount_cents for line in self.lines])

    @property
    def progressive_billing_credit_amount_cents(self) -> int:
        """What invoices at thresholds have billed before; it is among the discounts of the lines."""
        return sum([credit.amount_cents for credit in self.progressive_credits])

    @property
    def coupons_amount_cents(self) -> int:
        """What coupons take off its lines."""
        return sum([credit.amount_cents for credit in self.coupons])

    @Once
    def sub_total_excluding_taxes_amount_cents(self) -> int:
        """The fees less their discounts."""
        billed = self.fees_amount_cents - self.progressive_billing_credit_amount_cents
        return billed - self.coupons_amount_cents

    @property
    def taxes_amount_cents(self) -> int:
        """All taxes, rounded together."""
        return self.taxed.amount_cents

    @property
    def sub_total_including_taxes_amount_cents(self) -> int:
        """What there is to pay before credits."""
        return self.sub_total_excluding_taxes_amount_cents + self.taxes_amount_cents

    @property
    def credit_notes_amount_cents(self) -> int:
        """What credit notes pay of it."""
        return sum([credit.amount_cents for credit in self.credits])

    @Once
    def total_amount_cents(self) -> int:
        """What there is to pay."""
        owed = self.sub_total_including_taxes_amount_cents - self.credit_notes_amount_cents
        return owed - self.prepaid_credit_amount_cents if self.prepaid else owed

    @property
    def prepaid_credit_amount_cents(self) -> int:
        """What wallets pay of it."""
        return sum([each.amount_cents for each in self.prepaid])

    @property
    def prepaid_granted_credit_amount_cents(self) -> int | None:
        """What is paid by credits that were given for nothing; None where no wallet pays."""
        return sum([each.granted_cents for each in self.prepaid]) if self.prepaid else None

    @property
    def prepaid_purchased_credit_amount_cents(self) -> int | None:
        """What is paid by credits that were bought."""
        granted = self.prepaid_granted_credit_amount_cents
        return None if granted is None else self.prepaid_credit_amount_cents - granted

    @property
    def total_paid_amount_cents(self) -> int:
        """What was paid before it was made."""
        return self.total_amount_cents if self.is_paid else 0

    @property
    def amounts(self) -> Iterator[int]:
        """All amounts in it that are saved as whole cents."""
        for line in self.lines:
            yield from (line.fee.amount_cents, line.fee.unit_amount_cents)
        yield from (
            self.fees_amount_cents,
            self.taxes_amount_cents,
            self.sub_total_including_taxes_amount_cents,
        )


_COMPUTED_OF_FEES = ("fees_amount_cents", "waits_for_price")
"""What is computed of the fees of the lines alone."""
_COMPUTED_BEFORE_TAXES = (*_COMPUTED_OF_FEES, "sub_total_excluding_taxes_amount_cents")
"""What is computed of these and of what is taken off them."""
_TAKEN_OFF = frozenset({"progressive_credits", "coupons"})
_PRINTED = frozenset({"dates", "number", "custom_sections", "price_retry_at"})
"""What nothing is computed of."""


def changed(draft: InvoiceDraft, **changes: Any) -> InvoiceDraft:
    """The draft with other values of some fields, and with what was computed of those that stay."""
    made = replace(draft, **changes)
    if changes.keys() <= _PRINTED:
        made.__dict__.update(draft.__dict__)
    elif "lines" not in changes:
        _keep_computed(draft, made, changes)
    return made


def with_same_fees(draft: InvoiceDraft, lines: Sequence[Line], **changes: Any) -> InvoiceDraft:
    """As `changed`, for lines with the same fees, whose discounts or taxes are others."""
    made = replace(draft, lines=tuple(lines), **changes)
    _keep_computed(draft, made, changes)
    return made


def _keep_computed(draft: InvoiceDraft, made: InvoiceDraft, changes: Mapping[str, Any]) -> None:
    known, kept = draft.__dict__, made.__dict__
    for name in _COMPUTED_BEFORE_TAXES if _TAKEN_OFF.isdisjoint(changes) else _COMPUTED_OF_FEES:
        if name in known:
            kept[name] = known[name]


def _place(line: Line, places: Mapping[Id, int]) -> int:
    if line.fee.late_usage_id is not None:
        return len(places)
    return places.get(line.fee.subscription_id, len(places))


def out_of_range(drafts: Sequence[InvoiceDraft]) -> dict[UUID, str]:
    """Customer -> why, where an amount does not fit into 64 bits."""
    return {
        draft.customer.id: f"{amount} is out of range"
        for draft in drafts
        for amount in draft.amounts
        if abs(amount) > AMOUNT_MAX
    }
