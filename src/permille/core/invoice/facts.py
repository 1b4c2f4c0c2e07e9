"""Facts: what the steps of a batch of invoices need to know, loaded before for all of them at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from uuid import UUID

from permille.core.contract.compiled import compile_plan_charge, compile_renewal, renewal_charge
from permille.core.contract.plan import Charge, Plan
from permille.core.contract.price_versions import version_at, versions_of
from permille.core.coupon import AppliedCoupon
from permille.core.custom_section import SectionChoice
from permille.core.invoice.billing import SubscriptionBilling
from permille.core.invoice.late_usage import LateUsageFees
from permille.core.invoice.progressive import BilledBefore
from permille.core.metering.usage import Partial
from permille.core.period import Period
from permille.core.rating.charge import CompiledCharge, Dimensions
from permille.core.rating.filters import Id
from permille.core.rating.fixed_charge import UnitsChange
from permille.core.record import Record, field
from permille.core.wallet import FilledWallet

Usage = Mapping[str, Sequence[tuple[Dimensions, Partial]]]
"""Code of a metric -> its series."""
Priced = Sequence[tuple[Charge, CompiledCharge]]
Balances = Mapping[tuple[UUID, str], Sequence[tuple[UUID, int]]]
"""(Customer, currency) -> the credit notes with a balance, the oldest first: (id, balance in cents)."""
Wallets = Mapping[tuple[UUID, str], Sequence[FilledWallet]]
"""(Customer, currency) -> the wallets with a balance, in the order in which they are spent."""


class PlanPrices(Record, kw_only=True):
    """The charges of a plan made ready to price many subscriptions, for each version of its prices."""

    plan: Plan
    in_arrears: Sequence[Priced]
    renewed: Sequence[Priced]
    """Recurring charges in advance, as they price units carried over into a whole new period."""
    metrics: Mapping[Id, UUID]
    """Charge -> its metric, in all versions."""

    @classmethod
    def of(cls, plan: Plan) -> PlanPrices:
        """Compile the plan's charges."""
        return cls(
            plan=plan,
            in_arrears=_in_arrears(plan),
            renewed=_renewed(plan, is_whole=True),
            metrics=metrics_of(plan),
        )

    def renewed_for(self, period: Period, *, is_whole: bool) -> Priced:
        """The recurring charges in advance that price this period, which may be a part of one."""
        renewed = self.renewed if is_whole else _renewed(self.plan, is_whole=False)
        return renewed[version_at(self.plan, period.from_)]


def metrics_of(plan: Plan) -> dict[Id, UUID]:
    """Charge -> its metric, in all versions of the plan."""
    return {charge.id: charge.metric.id for version in versions_of(plan) for charge in version.charges}


def _in_arrears(plan: Plan) -> list[Priced]:
    return [
        [
            (charge, compile_plan_charge(charge, currency=plan.amount_currency))
            for charge in version.charges
            if not charge.pay_in_advance
        ]
        for version in versions_of(plan)
    ]


def _renewed(plan: Plan, *, is_whole: bool) -> list[Priced]:
    return [
        [
            (renewed, compile_renewal(renewed, currency=plan.amount_currency))
            for charge in version.charges
            if charge.pay_in_advance and charge.metric.recurring
            for renewed in [renewal_charge(charge, is_whole=is_whole)]
        ]
        for version in versions_of(plan)
    ]


class PaidInAdvance(Record):
    """What was paid for a period that is still running, and how many days that was for."""

    amount_cents: int
    days: int

    def and_more(self, amount_cents: int, days: int) -> PaidInAdvance:
        """With another fee of the same: the period is the longer one."""
        return PaidInAdvance(self.amount_cents + amount_cents, max(self.days, days))


class Facts(Record, kw_only=True):
    """What was loaded for a batch."""

    prices: Mapping[UUID, PlanPrices] = field(default_factory=dict)
    """By plan."""
    usage: Mapping[UUID, Usage] = field(default_factory=dict)
    """Subscription -> what it used in the period that is billed in arrears."""
    carried_over: Mapping[UUID, Usage] = field(default_factory=dict)
    """Subscription -> recurring units carried over into the period that is paid in advance."""
    late_usage: Mapping[UUID, Sequence[LateUsageFees]] = field(default_factory=dict)
    """The subscription whose invoice takes late usage along, or the invoice that has it already -> its fees."""
    fixed_units: Mapping[UUID, Mapping[UUID, Sequence[UnitsChange]]] = field(default_factory=dict)
    """Subscription -> fixed charge -> its units, in the order in which they were set."""
    paid_before: Mapping[tuple[UUID, UUID], PaidInAdvance] = field(default_factory=dict)
    """(Subscription that took over, add-on) -> what the plan before was paid of it in advance, prorated."""
    coupons: Mapping[UUID, Sequence[AppliedCoupon]] = field(default_factory=dict)
    """Customer -> the coupons that take something off its invoices, in the order in which they do."""
    counted_cents: Mapping[UUID, int] = field(default_factory=dict)
    """Subscription -> what earlier fees come to that count towards the commitment of the period that ends."""
    billed_before: Mapping[UUID, BilledBefore] = field(default_factory=dict)
    """Subscription -> what an invoice at a threshold has billed of its period."""
    section_choices: Mapping[UUID, SectionChoice] = field(default_factory=dict)
    """Subscription -> what it prints on its invoices instead of its customer's sections."""
    balances: Balances = field(default_factory=dict)
    wallets: Wallets = field(default_factory=dict)

    def metrics_of(self, plan: Plan) -> Mapping[Id, UUID]:
        """Charge -> its metric, of a plan that may be none of those that are billed."""
        known = self.prices.get(plan.id)
        return known.metrics if known and known.plan is plan else metrics_of(plan)

    def charges_in_arrears(self, billing: SubscriptionBilling) -> Priced:
        """The charges that price the period of usage that is billed; none where none is."""
        return self._once("in_arrears", billing, self._charges_in_arrears)

    def _charges_in_arrears(self, billing: SubscriptionBilling) -> Priced:
        period = billing.usage_period
        if period is None:
            return ()
        return self.prices[billing.plan.id].in_arrears[version_at(billing.plan, period.from_)]

    def renewed_charges(self, billing: SubscriptionBilling) -> Priced:
        """The recurring charges in advance that are paid for the period that begins; none where none does."""
        return self._once("renewed", billing, self._renewed_charges)

    def _renewed_charges(self, billing: SubscriptionBilling) -> Priced:
        prices = self.prices[billing.plan.id]
        if not any(prices.renewed):
            return ()
        period = billing.begun_period
        if period is None:
            return ()
        return prices.renewed_for(period, is_whole=period == billing.whole_period(period))

    def _once(
        self, name: str, billing: SubscriptionBilling, find: Callable[[SubscriptionBilling], Priced]
    ) -> Priced:
        """What is found for a billing, once for its cohort as long as prices are these."""
        known = billing.shared.get(name)
        if known is None or known[0] is not self.prices:
            known = billing.shared[name] = self.prices, find(billing)
        found: Priced = known[1]
        return found
