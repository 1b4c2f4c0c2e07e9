"""The wallet: credits that a customer has before it owes anything, what they are worth, and the order in which they go.

A wallet is filled and emptied by transactions. One that fills is a lot: what empties the wallet takes of its lots in
their order, so that every credit that is spent is known by where it came from. Source: semantics-billing.md 5.6.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from datetime import datetime
from decimal import ROUND_DOWN, ROUND_HALF_UP, Decimal
from enum import StrEnum
from typing import Any
from uuid import UUID

from permille.core.fee_kind import FeeKind
from permille.core.money import AMOUNT_MAX, ZERO, exact, minor, round_cents, subunits
from permille.core.record import Record

CREDIT_DIGITS = Decimal("0.00001")
"""Credits have five decimals."""
LOWEST_PRIORITY = 50
ACTIVE_MAX = 6
"""Active wallets of a customer."""
FEE_TYPES = (FeeKind.CHARGE, FeeKind.SUBSCRIPTION, FeeKind.COMMITMENT, FeeKind.FIXED_CHARGE)
"""What a wallet can be limited to."""


class TransactionStatus(StrEnum):
    """What fills or empties a wallet."""

    PURCHASED = "purchased"
    GRANTED = "granted"
    VOIDED = "voided"
    INVOICED = "invoiced"


class Direction(StrEnum):
    """Whether a transaction fills a wallet or empties it."""

    INBOUND = "inbound"
    OUTBOUND = "outbound"


class Settlement(StrEnum):
    """Whether a transaction counts: bought credits do once they are paid."""

    PENDING = "pending"
    SETTLED = "settled"
    FAILED = "failed"


class Source(StrEnum):
    """Who asked for a transaction: somebody, or a rule of the wallet."""

    MANUAL = "manual"
    INTERVAL = "interval"
    THRESHOLD = "threshold"


class SpendableWallet(Record, kw_only=True):
    """What decides what a wallet pays for and how much of it: bills load no more of it."""

    id: UUID
    customer_id: UUID
    currency: str
    code: str
    rate_amount: Decimal
    """What a credit is worth."""
    fee_types: Sequence[str]
    billable_metric_ids: Sequence[UUID]
    balance_cents: int
    credits_balance: Decimal
    expiration_at: datetime | None

    @property
    def is_limited(self) -> bool:
        """Whether it pays for some fees only."""
        return bool(self.fee_types or self.billable_metric_ids)

    def pays(self, *, fee_type: FeeKind, metric_id: UUID | None, target_code: str | None) -> bool:
        """Whether it pays for such a fee: the one that usage names, else one that is limited to it, or to nothing."""
        if target_code is not None:
            return self.code == target_code
        if metric_id is not None and metric_id in self.billable_metric_ids:
            return True
        return fee_type in self.fee_types or not self.is_limited


class Wallet(SpendableWallet, kw_only=True):
    """Credits of a customer, each worth `rate_amount` of the currency."""

    organization_id: UUID
    billing_entity_id: UUID | None
    """Whose invoices top-ups are on; None for the customer's."""
    status: str
    name: str | None
    purchase_order_number: str | None
    priority: int
    """From 1, which is spent first, to 50."""
    invoice_requires_successful_payment: bool
    paid_top_up_min_amount_cents: int | None
    paid_top_up_max_amount_cents: int | None
    consumed_amount_cents: int
    consumed_credits: Decimal
    ongoing_usage_balance_cents: int
    """Usage and drafts that it will have to pay."""
    is_depleted: bool
    """Whether these come to its balance or more."""
    last_balance_sync_at: datetime | None
    last_consumed_credit_at: datetime | None
    terminated_at: datetime | None
    metadata: Mapping[str, Any] | None
    created_at: datetime
    updated_at: datetime

    @property
    def is_active(self) -> bool:
        return self.status == "active"

    @property
    def ongoing_balance_cents(self) -> int:
        """What is left when it has paid for usage and drafts; below zero where they come to more."""
        return self.balance_cents - self.ongoing_usage_balance_cents

    @property
    def ongoing_credits(self) -> Decimal:
        """The same in credits."""
        with exact():
            return self.credits_balance - credits_of(
                self.ongoing_usage_balance_cents, self.rate_amount, self.currency
            )


class NamedWallet(Record, kw_only=True):
    """A series whose events name the wallet that pays for them."""

    series_id: int
    external_subscription_id: str
    code: str
    wallet_code: str


class Lot(Record, kw_only=True):
    """What is left of a transaction that filled a wallet."""

    id: UUID
    wallet_id: UUID
    remaining_amount_cents: int
    is_granted: bool
    """Whether it was given for nothing."""


class LotPart(Record):
    """What is taken of a lot."""

    lot: Lot
    amount_cents: int


class Worth(Record):
    """Credits, and the money that they are."""

    amount_cents: int
    credits: Decimal


class Spending(Record, kw_only=True):
    """What an invoice takes of a wallet."""

    wallet: SpendableWallet
    worth: Worth
    parts: tuple[LotPart, ...]

    @property
    def amount_cents(self) -> int:
        return self.worth.amount_cents

    @property
    def granted_cents(self) -> int:
        """What was given for nothing of it."""
        return sum([part.amount_cents for part in self.parts if part.lot.is_granted])


class FilledWallet(Record, kw_only=True):
    """A wallet with its lots, in the order in which they are taken."""

    wallet: SpendableWallet
    lots: tuple[Lot, ...]

    def spend(self, amount_cents: int) -> Spending:
        """Take so much of it, which it has."""
        worth = Worth(amount_cents, credits_to_take(self.wallet, amount_cents))
        return Spending(wallet=self.wallet, worth=worth, parts=take(self.lots, amount_cents))


def cut_credits(given: Decimal) -> Decimal:
    """Credits as they are kept: further decimals are cut off."""
    with exact():
        return given.quantize(CREDIT_DIGITS, ROUND_DOWN)


def worth_of(credits_: Decimal, rate: Decimal, currency: str) -> Worth:
    """What credits are worth, in whole cents, and as many credits as these are."""
    cents = exact_worth(credits_, rate, currency).amount_cents
    return Worth(cents, credits_of(cents, rate, currency))


def exact_worth(credits_: Decimal, rate: Decimal, currency: str) -> Worth:
    """What credits are worth, in whole cents; their number stays as it is."""
    with exact():
        return Worth(round_cents(minor(credits_ * rate, currency)), credits_)


def credits_of(amount_cents: int, rate: Decimal, currency: str) -> Decimal:
    """How many credits so much money is."""
    with exact():
        return (Decimal(amount_cents) / (subunits(currency) * rate)).quantize(CREDIT_DIGITS, ROUND_HALF_UP)


def credits_of_share(credits_: Decimal, amount_cents: int, *, of_cents: int) -> Decimal:
    """How many of a transaction's credits go with a part of its amount."""
    with exact():
        if amount_cents == of_cents:
            return credits_.quantize(CREDIT_DIGITS)
        return (credits_ * amount_cents / of_cents).quantize(CREDIT_DIGITS)


def credits_to_take(wallet: SpendableWallet, amount_cents: int) -> Decimal:
    """How many credits go with so much of a wallet's balance: with all of it all of them, and never more."""
    if amount_cents == wallet.balance_cents:
        return wallet.credits_balance
    return min(credits_of(amount_cents, wallet.rate_amount, wallet.currency), wallet.credits_balance)


def worth_to_void(wallet: Wallet, credits_: Decimal) -> Worth:
    """What goes when so many credits of a wallet are voided; of all of them all that it has."""
    if credits_ == wallet.credits_balance:
        return Worth(wallet.balance_cents, credits_)
    worth = exact_worth(credits_, wallet.rate_amount, wallet.currency)
    return Worth(min(worth.amount_cents, wallet.balance_cents), credits_)


def take(lots: Iterable[Lot], amount_cents: int) -> tuple[LotPart, ...]:
    """Take so much of lots, one after the other."""
    parts, left = [], amount_cents
    for lot in lots:
        if left <= 0:
            break
        part = LotPart(lot, min(lot.remaining_amount_cents, left))
        if part.amount_cents:  # an invoice of the same run may have emptied it
            parts.append(part)
            left -= part.amount_cents
    return tuple(parts)


class FeeBucket(Record):
    """Fees that the same wallets pay for, and what they come to with taxes, unrounded."""

    fee_type: FeeKind
    metric_id: UUID | None
    target_code: str | None
    cents: Decimal

    def is_paid_by(self, wallet: SpendableWallet) -> bool:
        return wallet.pays(fee_type=self.fee_type, metric_id=self.metric_id, target_code=self.target_code)


def spend(wallets: Sequence[FilledWallet], buckets: Sequence[FeeBucket], total_cents: int) -> list[Spending]:
    """Pay an invoice from wallets, in their order, the largest buckets first.

    A total that is a little more than all buckets, as it is rounded and they are not, makes the largest larger.
    """
    ordered = sorted(buckets, key=lambda each: -each.cents)
    left = [each.cents for each in ordered]
    with exact():
        lacking = total_cents - sum(left, ZERO)
        if left and 0 < lacking <= len(left):
            left[0] += lacking
        spent = []
        for filled in wallets:
            wanted = _take_of(ordered, left, filled.wallet, total_cents)
            cents = min(round_cents(wanted), total_cents, filled.wallet.balance_cents)
            if cents > 0:
                spent.append(filled.spend(cents))
                total_cents -= cents
    return spent


def _take_of(
    buckets: Sequence[FeeBucket], left: list[Decimal], wallet: SpendableWallet, total_cents: int
) -> Decimal:
    """What a wallet pays of all buckets, of which so much is left; call it under exact()."""
    taken, most = ZERO, min(wallet.balance_cents, total_cents)
    for place, bucket in enumerate(buckets):
        if taken == most:
            break
        if bucket.is_paid_by(wallet):
            part = min(left[place], most - taken)
            left[place] -= part
            taken += part
    return taken


def share(
    wallets: Sequence[Wallet], absorbing: Collection[UUID], usage: Sequence[FeeBucket]
) -> dict[UUID, int]:
    """Wallet -> what it will have to pay of usage and drafts, in cents; the largest buckets are shared first.

    A wallet that tops itself up by a threshold (`absorbing`) takes all that it pays for. Else wallets take up to their
    balances, in their order, and the last one the rest, also what it does not have. Usage that no invoice can have counts
    as the most that one can.
    """
    left = {each.id: Decimal(each.balance_cents) for each in wallets}
    taken = dict.fromkeys(left, ZERO)
    with exact():
        for bucket in sorted(usage, key=lambda each: -each.cents):
            payers = [each for each in wallets if bucket.is_paid_by(each)]
            if bucket.cents <= 0 or not payers:
                continue
            first = next((each for each in payers if each.id in absorbing), None)
            rest = bucket.cents
            for each in payers if first is None else ():
                part = min(rest, max(left[each.id], ZERO))
                left[each.id] -= part
                taken[each.id] += part
                rest -= part
            last = first or payers[-1]
            left[last.id] -= rest
            taken[last.id] += rest
        return {wallet_id: min(round_cents(cents), AMOUNT_MAX) for wallet_id, cents in taken.items()}
