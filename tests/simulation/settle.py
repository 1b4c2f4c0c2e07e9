"""From fees to what is due: coupons, taxes, credit notes and prepaid credits, by semantics-billing.md section 5."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime
from fractions import Fraction
from math import floor
from typing import Any

from .prices import digits, rounded

Tax = tuple[str, Fraction]


@dataclass
class Fee:
    """A fee with what it is for. Amounts in the currency's smallest unit."""

    kind: str
    code: str
    units: Fraction
    precise: Fraction
    cents: int
    taxes: Sequence[Tax]
    plan: str | None = None
    subscription: Any = None
    start: datetime | None = None
    begin: datetime | None = None
    """When what it bills of its period begins, where it is a plan's own fee."""
    end: datetime | None = None
    period: date | None = None
    """The first day of the plan's period that it is of."""
    whole_days: int = 0
    days: int = 0
    charge: Any = None
    """The charge that usage is priced by; none for what lacks of a minimum."""
    place: int = 0
    """Which filter of the charge it is for; the one after the last is for the rest."""
    group: tuple[Any, ...] = ()
    """What else its usage is told apart by."""
    ahead: bool = False
    """Whether it is paid for a period to come."""
    is_late: bool = False
    """Whether it bills late usage of a period before."""
    price: int = 0
    off: Fraction = Fraction(0)
    credited: Fraction = Fraction(0)
    corrected: int = 0
    """What came back of it for corrected prices."""
    passed: int = 0
    """What came back of it for days before its plan took over."""
    count: int = 0
    """How many events it is of, where prices are those of the catalogue."""
    hundredths: int = 0
    """What it comes to in the unit of its charge, if that has one."""
    is_unpriced: bool = False
    is_held: bool = False
    """Whether its invoice waits until its usage has a price."""

    @property
    def left(self) -> Fraction:
        return self.cents - self.off

    @property
    def exact_tax(self) -> Fraction:
        rate = sum((rate for _, rate in self.taxes), Fraction(0))
        return digits((self.precise - self.off) * rate / 100, 15)


@dataclass
class Coupon:
    id: str
    kind: str
    value: Fraction
    frequency: str
    currency: str
    left: int | None
    uses: int | None
    plan: str | None = None
    metric: str | None = None
    gone: bool = False

    @property
    def active(self) -> bool:
        return not self.gone and self.left != 0 and self.uses != 0

    @property
    def order(self) -> int:
        return 0 if self.metric else 1 if self.plan else 2

    def fits(self, fee: Fee) -> bool:
        if self.metric:
            return fee.kind == "charge" and fee.code == self.metric
        return not self.plan or fee.plan == self.plan

    def worth(self, base: Fraction, currency: str) -> int:
        if self.kind == "percentage":
            return min(rounded(base * self.value / 100), floor(base))
        if self.currency != currency:
            return 0
        return min(int(self.value) if self.left is None else self.left, floor(base))

    def use(self, cents: int, times: int = 1) -> None:
        if self.left is not None:
            self.left -= cents
        if self.uses is not None:
            self.uses -= times


@dataclass
class Note:
    total: int
    credit: int
    balance: int
    made: datetime
    is_correction: bool = False
    offset: int = 0
    given_up: int = 0
    given_up_before_void: int = 0
    """What of it had been given up when its bill was voided."""
    items: Sequence[tuple[Fee, Fraction | int]] = ()
    """So much of each fee, before taxes and coupons."""
    of_days_before: bool = False
    """Whether it is for days on which another plan went on."""

    def give_up(self, cents: int) -> int:
        """Give up so much of its balance; what is left to be given up elsewhere."""
        part = max(min(self.balance, cents), 0)
        self.balance -= part
        self.given_up += part
        return cents - part


@dataclass
class Lot:
    """What came into a wallet at once."""

    cents: int
    left: int
    granted: bool
    order: int
    priority: int = 50


@dataclass
class Wallet:
    id: str
    rate: Fraction
    priority: int
    order: int
    kinds: list[str] = field(default_factory=list)
    metrics: list[str] = field(default_factory=list)
    balance: int = 0
    credits: Fraction = Fraction(0)
    ended: bool = False
    rule: Any = None
    """By what it is topped up each time an interval is over, and since when."""
    made: datetime | None = None
    topped_up: datetime | None = None
    expires: datetime | None = None
    entity: str = ""
    """The billing entity that sells its credits, where that is not its customer's."""
    lots: list[Lot] = field(default_factory=list)

    def pays(self, kind: str, code: str) -> bool:
        if kind == "charge" and code in self.metrics:
            return True
        return kind in self.kinds or not (self.kinds or self.metrics)


@dataclass
class Bill:
    """An invoice as it is worked out."""

    kind: str
    fees: list[Fee]
    made: datetime
    order: int = 0
    status: str = "finalized"
    earlier: int = 0
    """What invoices at thresholds had billed before, taken off."""
    coupons: int = 0
    taxes: int = 0
    notes: int = 0
    prepaid: int = 0
    paid: int = 0
    offset: int = 0
    refunded: int = 0
    came_back: int = 0
    taxes_came_back: int = 0
    """What its credit notes come to, before taxes and of taxes."""
    fills: Wallet | None = None
    """The wallet that it sells credits of."""
    row: Any = None
    """The subscription that has reached a threshold."""
    parts: list[Any] = field(default_factory=list)
    """The subscriptions that it bills, each with why; and all fees of these, those of nothing too."""
    all_fees: list[Fee] = field(default_factory=list)
    final_at: datetime | None = None
    """When a draft becomes final."""
    waits: bool = False
    """Whether it had usage without a price when it was looked at; it is tried again once a clock is set."""
    is_released: bool = False
    counted: int = 0
    """The last event that had come in when its usage was priced."""
    finalized: datetime | None = None
    """When it did, where it was a draft."""
    corrected: int = 0
    """What came back of it for corrected prices, before taxes."""
    takes_off: list[tuple[Bill, int]] = field(default_factory=list)
    """What it takes off of invoices at thresholds."""
    turn: list[Any] = field(default_factory=list)
    """All that was billed together with these, by other billing entities too."""
    entity: str = ""
    """The billing entity that issues it."""
    overdue_at: datetime | None = None
    was_overdue: bool = False
    is_dunned: bool = False
    """Whether a campaign has asked for it."""
    is_lost: bool = False
    """Whether a dispute about it was lost."""
    again: Bill | None = None
    """The one that replaces it, where it was voided and made again."""
    periods_at: datetime | None = None
    """When the first of those that replace each other was made: it has the periods."""
    credit_notes: list[Note] = field(default_factory=list)
    notes_before_void: int = 0
    given_back: int = 0
    """What its void has given back to wallets."""
    used_coupons: list[tuple[Coupon, int]] = field(default_factory=list)
    used_notes: list[tuple[Note, int]] = field(default_factory=list)
    used_wallets: list[tuple[Wallet, int]] = field(default_factory=list)

    @property
    def fees_cents(self) -> int:
        return sum(fee.cents for fee in self.fees)

    def note(self, items: Iterable[tuple[Fee, Fraction | int]]) -> tuple[int, int]:
        """What a note on so much of these fees comes to, before taxes and of taxes.

        All notes come to no more than the invoice, and the one that gives back all that is left of its fees to the rest.
        """
        base, taxes = Fraction(0), Fraction(0)
        items = [each for each in items if each[1]]
        for fee, amount in items:
            own = amount - fee.off * amount / fee.cents
            base += own
            taxes += sum((own * rate / 100 for _, rate in fee.taxes), Fraction(0))
        left = self.fees_cents - self.earlier - self.coupons - self.came_back
        taxes_left = self.taxes - self.taxes_came_back
        back = sum(rounded(Fraction(amount)) for _, amount in items)
        if 0 < back == sum(fee.cents - rounded(fee.credited) for fee in self.fees):
            return left, taxes_left if any(fee.taxes for fee, _ in items) else 0
        return min(rounded(base), left), min(rounded(taxes), taxes_left)

    def give_back(self, note: tuple[int, int]) -> None:
        """A note is issued."""
        self.came_back += note[0]
        self.taxes_came_back += note[1]

    @property
    def refundable(self) -> int:
        """What was paid and is not refunded; a bank has given back what a dispute was lost about."""
        return 0 if self.is_lost else self.paid - self.refunded

    @property
    def kept(self) -> int:
        """What it was paid with, less what its notes and its void have given back."""
        paid = (0 if self.is_lost else self.paid) + self.notes + self.prepaid
        back = self.refunded + self.given_back
        return paid - back - sum(note.credit - note.given_up for note in self.credit_notes)

    @property
    def with_taxes(self) -> int:
        return self.fees_cents - self.earlier - self.coupons + self.taxes

    @property
    def total(self) -> int:
        return self.with_taxes - self.notes - self.prepaid

    @property
    def due(self) -> int:
        return self.total - self.paid - self.offset if self.status == "finalized" else 0


def unused(action: Mapping[str, Any], currency: str) -> Coupon:
    """A coupon as a customer has it at first."""
    is_fixed, is_once = action["kind"] == "fixed_amount", action["frequency"] == "once"
    uses = 1 if is_once and not is_fixed else action["uses"] if action["frequency"] == "recurring" else None
    made = Coupon(
        id=action["id"],
        kind=action["kind"],
        value=Fraction(action["value"]),
        frequency=action["frequency"],
        currency=currency,
        left=int(action["value"]) if is_fixed and is_once else None,
        uses=uses,
    )
    if action["limit"]:
        setattr(made, action["limit"], action["code"])
    return made


def take_coupons(bill: Bill, coupons: Sequence[Coupon], currency: str) -> None:
    for coupon in sorted((one for one in coupons if one.active), key=lambda one: one.order):
        left = bill.fees_cents - bill.earlier - bill.coupons
        if left <= 0:
            return
        fees = [fee for fee in bill.fees if coupon.fits(fee)]
        whole = Fraction(left)
        if coupon.metric or coupon.plan:
            whole = sum((fee.left for fee in fees), Fraction(0))
        cents = coupon.worth(min(whole, Fraction(left)), currency)
        if cents <= 0:
            continue
        for fee in fees:
            fee.off += digits(cents * fee.left / whole, 5)
        bill.coupons += cents
        bill.used_coupons.append((coupon, cents))
        coupon.use(cents)


def take_taxes(bill: Bill) -> None:
    bases: dict[Tax, Fraction] = defaultdict(Fraction)
    for fee in bill.fees:
        for tax in fee.taxes:
            bases[tax] += fee.left
    bill.taxes = rounded(sum((base * tax[1] / 100 for tax, base in bases.items()), Fraction(0)))


def take_notes(bill: Bill, notes: Sequence[Note]) -> None:
    for note in notes:
        cents = max(min(note.balance, bill.with_taxes - bill.notes), 0)
        note.balance -= cents
        bill.notes += cents
        bill.used_notes.append((note, cents))


def take_credits(bill: Bill, wallets: Sequence[Wallet]) -> None:
    """Buckets are served from the largest on, by the wallets in their order."""
    total = bill.total
    if total <= 0:
        return
    buckets: dict[tuple[str, str], Fraction] = defaultdict(Fraction)
    for fee in bill.fees:
        if fee.left > 0:
            share = Fraction(bill.with_taxes - bill.notes, bill.with_taxes)
            buckets[(fee.kind, fee.code if fee.kind == "charge" else "")] += (
                fee.left + fee.exact_tax
            ) * share
    order = sorted(buckets, key=lambda key: -buckets[key])
    missing = total - sum(buckets.values())
    if order and 0 < missing <= len(order):
        buckets[order[0]] += missing
    left = Fraction(total)
    usable = [one for one in wallets if not one.ended and one.balance > 0]
    for wallet in sorted(usable, key=lambda one: (one.priority, one.order)):
        taken = Fraction(0)
        for key in order:
            if wallet.pays(*key):
                part = min(buckets[key], wallet.balance - taken, left)
                buckets[key] -= part
                left -= part
                taken += part
        if cents := min(rounded(taken), wallet.balance):
            empty(wallet, cents)
            bill.prepaid += cents
            bill.used_wallets.append((wallet, cents))


def empty(wallet: Wallet, cents: int) -> None:
    """Granted credits go first, then the oldest."""
    wallet.balance -= cents
    for lot in sorted(wallet.lots, key=lambda lot: (lot.priority, not lot.granted, lot.order)):
        part = min(lot.left, cents)
        lot.left -= part
        cents -= part
