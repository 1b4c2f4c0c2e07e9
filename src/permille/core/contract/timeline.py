"""What to bill a subscription at an instant: what should be billed by then, less what is billed already.

The plan of an invoice is a pure difference. It says how far the fee and the usage are billed once the
invoice is saved; planned again with that, at the same instant, nothing is left.
Source: semantics-billing.md sections 3.8 to 3.12, 4.2 (when a fee is due).
"""

from __future__ import annotations

from datetime import datetime, timedelta
from decimal import Decimal

from permille.core.period import (
    INSTANT,
    BillingTime,
    Interval,
    Period,
    charges_interval,
    day_diff,
    days_in,
    local_date,
    next_boundary,
    period_containing,
    previous_period,
    start_of_day,
)
from permille.core.rating.fee import Fee
from permille.core.rating.filters import Id
from permille.core.rating.subscription_fee import subscription_fee
from permille.core.record import Record, replace

_BILLABLE = ("active", "terminated")
_CLOCKS_DIFFER = timedelta(hours=27)
"""A customer's move to another timezone shifts the start of a period by less."""


class SubscriptionFacts(Record, kw_only=True):
    """All that decides when a subscription is billed and for which days."""

    subscription_id: Id
    status: str
    subscription_at: datetime
    """The anchor of anniversaries."""
    started_at: datetime | None
    created_at: datetime
    """When it was entered; what was due before that local day is never billed."""
    terminated_at: datetime | None = None
    """Its last instant; the local day of it counts as used."""
    upgraded: bool = False
    """Whether it ended for a dearer plan, which pays for that day."""
    replaces_previous: bool = False
    """Whether it took over from another plan of the same external_id."""
    initial_started_at: datetime | None = None
    """First start under this external_id, from which a trial counts; by default started_at."""
    timezone: str
    billing_time: BillingTime
    interval: Interval
    bill_charges_monthly: bool = False
    pay_in_advance: bool = False
    amount_cents: int
    earlier_amounts: tuple[tuple[datetime, int], ...] = ()
    """What the fee is for periods that begin before an instant, in their order; `amount_cents` is for later ones."""
    currency: str
    trial_period: Decimal | None = None
    """Days without the plan's own fee."""
    invoice_display_name: str | None = None
    fee_billed_until: datetime | None = None
    charges_billed_until: datetime | None = None
    has_charges: bool = True
    has_fixed_charges: bool = False
    bill_fixed_charges_monthly: bool = False
    fixed_charges_billed_until: datetime | None = None
    fixed_charges_paid_until: datetime | None = None
    """Up to where those in advance are paid."""


class BillingPeriods(Record, kw_only=True):
    """The periods shown on the invoice. `charges` is None when no usage is billed.

    `subscription` is shown without a fee too when the plan is paid in advance: the period it is in. Fixed charges have a
    period that has ended, and one that begins and is paid in advance.
    """

    subscription: Period | None
    charges: Period | None
    fixed_charges: Period | None = None
    fixed_charges_in_advance: Period | None = None

    @property
    def none_ended(self) -> bool:
        """Whether nothing is billed in arrears but perhaps the plan's own fee."""
        return self.charges is None and self.fixed_charges is None


class InvoicePlan(Record, kw_only=True):
    """What one subscription brings to an invoice, and how far it is billed afterwards."""

    periods: BillingPeriods
    fee: Fee | None
    fee_billed_until: datetime | None
    charges_billed_until: datetime | None
    fixed_charges_billed_until: datetime | None = None
    fixed_charges_paid_until: datetime | None = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing is due: then there is no invoice, unless fixed charges are paid in advance."""
        return self.fee is None and self.periods.none_ended

    def of(self, subscription_id: Id) -> InvoicePlan:
        """The same of another subscription."""
        if self.fee is None:
            return self
        return InvoicePlan(
            periods=self.periods,
            fee=self.fee.of(subscription_id),
            fee_billed_until=self.fee_billed_until,
            charges_billed_until=self.charges_billed_until,
            fixed_charges_billed_until=self.fixed_charges_billed_until,
            fixed_charges_paid_until=self.fixed_charges_paid_until,
        )


class _Due(Record, kw_only=True):
    """A period that is to be billed: the whole one, the part that is billed, and how far that settles."""

    whole: Period
    part: Period
    settles_until: datetime
    is_cut: bool = False
    """Whether a termination ends it."""


def plan_invoice(facts: SubscriptionFacts, *, at: datetime) -> InvoicePlan:
    """Plan what is due at an instant: a start, a boundary of a period, the end of a trial, a termination.

    A customer's move to another timezone is such an instant too, as it may lie behind a boundary there.
    Boundaries are planned in order, one at a time; a termination after all boundaries before it. Empty when
    there is nothing to bill, or it is billed already.
    """
    fee_due = charges_due = fixed_due = paid_due = None
    if facts.status in _BILLABLE and facts.started_at is not None:
        # The fee is for the whole day of the start, which may be later on this day; usage counts from there.
        if start_of_day(facts.started_at, facts.timezone) <= at:
            fee_due = _fee_due(facts, facts.started_at, at)
            if facts.has_fixed_charges:
                fixed_due, paid_due = _fixed_charges_due(facts, facts.started_at, at)
        if facts.started_at <= at:
            charges_due = _charges_due(facts, facts.started_at, at)
            if charges_due and charges_due.is_cut and _is_of_fixed_charges_alone(facts):
                charges_due = None
    fee = _fee(facts, fee_due) if fee_due else None
    is_empty = fee is None and not (charges_due or fixed_due or paid_due)
    return InvoicePlan(
        periods=BillingPeriods(
            subscription=None if is_empty else _shown_period(facts, fee_due, at),
            charges=charges_due.part if charges_due else None,
            fixed_charges=_since_start(facts, fixed_due),
            fixed_charges_in_advance=_since_start(facts, paid_due),
        ),
        fee=fee,
        fee_billed_until=fee_due.settles_until if fee_due else facts.fee_billed_until,
        charges_billed_until=charges_due.settles_until if charges_due else facts.charges_billed_until,
        fixed_charges_billed_until=fixed_due.settles_until if fixed_due else facts.fixed_charges_billed_until,
        fixed_charges_paid_until=paid_due.settles_until if paid_due else facts.fixed_charges_paid_until,
    )


def next_fee_cents(facts: SubscriptionFacts, *, period_end: datetime) -> int:
    """What the next fee of the plan comes to, at the end of its running period, if the subscription goes on."""
    goes_on = replace(facts, fee_billed_until=None, terminated_at=None)
    fee = plan_invoice(goes_on, at=period_end).fee
    return fee.amount_cents if fee else 0


def next_billing_at(facts: SubscriptionFacts, *, after: datetime) -> datetime:
    """The next instant at which an active subscription is due: a boundary, or the end of its trial."""
    is_monthly = facts.bill_charges_monthly or (facts.has_fixed_charges and facts.bill_fixed_charges_monthly)
    boundary = next_boundary(
        after,
        interval=charges_interval(facts.interval, is_monthly),
        billing_time=facts.billing_time,
        anchor=facts.subscription_at,
        timezone=facts.timezone,
    )
    ends = trial_end(facts)
    waits_for_trial = facts.pay_in_advance and ends is not None and ends > after
    return min(boundary, ends) if waits_for_trial and ends else boundary


def running_period(facts: SubscriptionFacts, *, at: datetime) -> Period:
    """The period of the plan's own fee that an instant is in, from the day of the start on."""
    whole = _containing(facts, at, facts.interval)
    begin = max(whole.from_, start_of_day(facts.started_at or at, facts.timezone))
    return Period(begin, whole.to)


def trial_end(facts: SubscriptionFacts) -> datetime | None:
    """The instant from which the plan's fee is due, None without a trial or a start."""
    since = facts.initial_started_at or facts.started_at
    if not facts.trial_period or since is None:
        return None
    return since + timedelta(microseconds=int(facts.trial_period * 86_400_000_000))


def is_backdated(facts: SubscriptionFacts) -> bool:
    """Whether it started on a day before the one on which it was entered."""
    started_at = facts.started_at or facts.created_at
    return local_date(started_at, facts.timezone) < local_date(facts.created_at, facts.timezone)


def _fee_due(facts: SubscriptionFacts, started_at: datetime, at: datetime) -> _Due | None:
    ended = _is_ended(facts, at)
    if facts.pay_in_advance:
        return None if ended else _coming(facts, started_at, at)
    elapsed = _elapsed(facts, started_at, at, facts.interval, facts.fee_billed_until)
    ends = trial_end(facts)
    if elapsed is None or (ends is not None and ends >= elapsed.part.to):
        return None
    return elapsed


def _charges_due(facts: SubscriptionFacts, started_at: datetime, at: datetime) -> _Due | None:
    """Usage is billed from where the last bill of it ended, so a change of timezone loses or doubles no hour."""
    interval = charges_interval(facts.interval, facts.bill_charges_monthly)
    due = _elapsed(facts, started_at, at, interval, facts.charges_billed_until)
    if due is None:
        return None
    first = max(due.whole.from_, started_at) if is_backdated(facts) else started_at
    begin = facts.charges_billed_until or first
    return _Due(
        whole=due.whole,
        part=Period(begin, due.part.to),
        settles_until=due.settles_until,
        is_cut=due.is_cut,
    )


def _fixed_charges_due(
    facts: SubscriptionFacts, started_at: datetime, at: datetime
) -> tuple[_Due | None, _Due | None]:
    """The period that has ended, and the one that is paid in advance: it has no free days."""
    interval = charges_interval(facts.interval, facts.bill_fixed_charges_monthly)
    ended = _elapsed(facts, started_at, at, interval, facts.fixed_charges_billed_until)
    if _is_ended(facts, at):
        return ended, None
    begun = replace(
        facts,
        interval=interval,
        trial_period=None,
        fee_billed_until=facts.fixed_charges_paid_until,
    )
    coming = _coming(begun, started_at, at)
    if coming is not None and at - coming.part.from_ > _CLOCKS_DIFFER:
        return ended, None  # it began before there was anything to pay
    return ended, coming


def _is_of_fixed_charges_alone(facts: SubscriptionFacts) -> bool:
    """Whether months are billed for fixed charges alone: an end inside the plan's period shows no period of usage then."""
    is_split = facts.bill_fixed_charges_monthly and not facts.bill_charges_monthly
    return is_split and facts.has_fixed_charges and not facts.has_charges


def _since_start(facts: SubscriptionFacts, due: _Due | None) -> Period | None:
    """The period that is due, from the very instant of the start."""
    if due is None or facts.started_at is None:
        return None
    return Period(min(max(due.part.from_, facts.started_at), due.part.to), due.part.to)


def _is_ended(facts: SubscriptionFacts, at: datetime) -> bool:
    return facts.terminated_at is not None and facts.terminated_at <= at


def _containing(facts: SubscriptionFacts, at: datetime, interval: Interval) -> Period:
    return period_containing(
        at,
        interval=interval,
        billing_time=facts.billing_time,
        anchor=facts.subscription_at,
        timezone=facts.timezone,
    )


def _previous(facts: SubscriptionFacts, at: datetime, interval: Interval) -> Period:
    return previous_period(
        at,
        interval=interval,
        billing_time=facts.billing_time,
        anchor=facts.subscription_at,
        timezone=facts.timezone,
    )


def _is_billed(whole: Period, end: datetime, billed_until: datetime | None) -> bool:
    """Whether a period, of which the part up to `end` counts, is settled.

    A customer's move to another timezone shifts the bounds of a period by hours against what was billed, or
    by days where it changes the date of the anchor. So a period that is billed for the most part is settled;
    usage in its rest falls to the next one.
    """
    if billed_until is None:
        return False
    return billed_until >= end or billed_until - whole.from_ > whole.to - billed_until


def _elapsed(
    facts: SubscriptionFacts,
    started_at: datetime,
    at: datetime,
    interval: Interval,
    billed_until: datetime | None,
) -> _Due | None:
    """The period to bill in arrears: the one that a boundary ended, or what a termination cut short."""
    if facts.terminated_at is None or not _is_ended(facts, at):
        return _whole_elapsed(facts, started_at, _previous(facts, at, interval), billed_until)
    end = facts.terminated_at + INSTANT
    current = _containing(facts, facts.terminated_at, interval)
    if local_date(current.from_, facts.timezone) == local_date(facts.terminated_at, facts.timezone):
        # Ended on its billing day before that was billed: the past period is due, the day itself is not.
        past = _previous(facts, facts.terminated_at, interval)
        due = _whole_elapsed(facts, started_at, past, billed_until)
        if due is not None:
            return _Due(whole=past, part=due.part, settles_until=end)
    if _is_billed(current, end, billed_until):
        return None
    begin = max(current.from_, start_of_day(started_at, facts.timezone))
    return _Due(whole=current, part=Period(begin, end), settles_until=end, is_cut=True)


def _whole_elapsed(
    facts: SubscriptionFacts, started_at: datetime, whole: Period, billed_until: datetime | None
) -> _Due | None:
    if started_at >= whole.to or _is_billed(whole, whole.to, billed_until):
        return None
    if whole.to < start_of_day(facts.created_at, facts.timezone):
        return None
    begin = max(whole.from_, start_of_day(started_at, facts.timezone))
    return _Due(whole=whole, part=Period(begin, whole.to), settles_until=whole.to)


def _coming(facts: SubscriptionFacts, started_at: datetime, at: datetime) -> _Due | None:
    """The period to bill in advance: the one we are in, unless it began before the subscription was entered."""
    whole = _containing(facts, at, facts.interval)
    if _is_billed(whole, whole.to, facts.fee_billed_until):
        return None
    due_at = max(whole.from_, start_of_day(started_at, facts.timezone))
    ends = trial_end(facts)
    if ends is not None:
        # A trial which ends later on a billing day does not hold up the bill of that day.
        due_at = max(due_at, start_of_day(ends, facts.timezone))
    if at < due_at or due_at < start_of_day(facts.created_at, facts.timezone):
        return None
    begin = max(whole.from_, start_of_day(started_at, facts.timezone))
    return _Due(whole=whole, part=Period(begin, whole.to), settles_until=whole.to)


def _fee(facts: SubscriptionFacts, due: _Due) -> Fee:
    days_in_period = days_in(due.whole, facts.timezone)
    return subscription_fee(
        subscription_id=facts.subscription_id,
        amount_cents=_amount_cents(facts, due.part.from_),
        currency=facts.currency,
        period=due.part,
        days=_billed_days(facts, due, days_in_period),
        days_in_period=days_in_period,
        invoice_display_name=facts.invoice_display_name,
    )


def _amount_cents(facts: SubscriptionFacts, from_: datetime) -> int:
    """The plan's fee in a period, which begins when the subscription does if that is later."""
    begins = max(from_, facts.started_at or from_)
    earlier = (cents for valid_until, cents in facts.earlier_amounts if begins < valid_until)
    return next(earlier, facts.amount_cents)


def _billed_days(facts: SubscriptionFacts, due: _Due, days_in_period: int) -> int:
    ends = trial_end(facts)
    if ends is not None and ends > due.part.from_:
        days = day_diff(ends, due.part.to, facts.timezone)
    elif facts.pay_in_advance and _is_first_anniversary_in_advance(facts):
        return days_in_period
    else:
        days = days_in(due.part, facts.timezone)
    return max(days - 1, 0) if due.is_cut and facts.upgraded else days


def _is_first_anniversary_in_advance(facts: SubscriptionFacts) -> bool:
    """Such a subscription pays whole periods from the first on, even if that began before it started."""
    return facts.billing_time is BillingTime.ANNIVERSARY and not facts.replaces_previous


def _shown_period(facts: SubscriptionFacts, fee_due: _Due | None, at: datetime) -> Period | None:
    if fee_due is not None:
        return fee_due.part
    if not facts.pay_in_advance or facts.started_at is None:
        return None
    ended = facts.terminated_at if _is_ended(facts, at) else None
    whole = _containing(facts, ended or at, facts.interval)
    begin = max(whole.from_, start_of_day(facts.started_at, facts.timezone))
    return Period(begin, ended + INSTANT if ended else whole.to)
