"""What a world of customers owes: the actions so far, done one after another by the specification, in fractions.

Nothing is fast here, and nothing is shared with the source: every bill is worked out from the events that had come in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from itertools import pairwise
from typing import Any

from . import (
    advance,
    catalogue,
    corrections,
    days,
    drafts,
    dunning,
    gates,
    late,
    one_off,
    ongoing,
    plan_fees,
    previews,
    progressive,
    receivables,
    settle,
    voids,
)
from .prices import (
    ALWAYS,
    Prices,
    cut,
    digits,
    place_of,
    price,
    price_in_force,
    prices_after,
    rounded,
    terms_at,
    without_repeats,
)
from .settle import Bill, Coupon, Fee, Lot, Note, Tax, Wallet

START = datetime(2024, 3, 5, 10, 0, tzinfo=UTC)
DECIMALS = {"JPY": 0, "CLP": 0, "EUR": 2, "USD": 2, "KWD": 3, "BHD": 3}

Action = Mapping[str, Any]


def fee_key(fee: Fee) -> tuple[Any, ...]:
    """What a fee is recognized by."""
    return fee.kind, fee.code, fee.subscription.id if fee.subscription else "", fee.units, fee.cents


def said(who: Customer, bill: Bill) -> tuple[Any, ...]:
    """What an invoice says."""
    return (
        who.id,
        bill.kind,
        bill.status,
        bill.earlier,
        bill.coupons,
        bill.taxes,
        bill.notes,
        bill.prepaid,
        bill.total,
        bill.paid,
        bill.entity,
        receivables.is_overdue(bill),
        sorted(fee_key(fee) for fee in bill.fees if fee.cents),
    )


@dataclass
class Event:
    id: str
    subscription: str
    metric: str
    at: datetime
    value: Fraction
    order: int
    model: str = ""
    type: str = ""
    tier: str = ""
    is_void: bool = False
    amended: bool = False


@dataclass
class Customer:
    id: str
    zone: str
    currency: str
    taxes: list[Tax]
    coupons: list[Coupon] = field(default_factory=list)
    wallets: list[Wallet] = field(default_factory=list)
    notes: list[Note] = field(default_factory=list)
    bills: list[Bill] = field(default_factory=list)
    grace: int = 0
    """For so many days its invoices are drafts."""
    entity: str = "default"
    term: int | None = None
    """Within so many days it has to pay, where that is not as its billing entity says."""
    requests: list[int] = field(default_factory=list)
    """What it was asked to pay of overdue invoices."""
    campaign: str | None = None
    """The dunning campaign of its own."""
    is_excluded: bool = False
    """Whether no campaign asks it."""
    dunning: dunning.State = field(default_factory=dunning.State)


@dataclass
class Subscription:
    """A row of an external_id."""

    id: str
    customer: Customer
    plan: Action
    anchor: datetime
    started: datetime
    created: datetime
    time: str
    trial_from: datetime
    replaces: bool = False
    ended: datetime | None = None
    paid: tuple[Fee, Bill] | None = None
    """The last fee in advance."""
    fees: list[Fee] = field(default_factory=list)
    """All that it was billed."""
    gives_back: tuple[bool, str] = False, "skip"
    """Whether an upgrade has ended it, and what becomes of days that were paid and are not used."""
    waits: bool = False
    """Whether its start is to come."""
    behind: datetime | None = None
    """The first instant that a bill was due at, where it is not made yet: it was entered on that day, or paid later."""
    next_plan: Action | None = None
    changes_at: datetime | None = None
    next_entity: str = ""
    next_asked: int = 0
    next_timeout: int | None = None
    """For how many hours the next plan waits to be paid before it takes over; 0 is for as long as it takes."""
    follows: Subscription | None = None
    """The row that it takes over from once it is paid."""
    entity: str = ""
    """The billing entity that it names itself, if any."""
    is_gated: bool = False
    """Whether its start has to be paid before it runs: within so many hours, if any, by the invoice."""
    timeout: int = 0
    gate: Bill | None = None
    gives_up: datetime | None = None
    seats: dict[str, list[tuple[Fraction, datetime]]] = field(default_factory=dict)
    """How many units of each fixed charge there are from when on, in the order in which that was said."""

    def __post_init__(self) -> None:
        self.begin_seats()

    def begin_seats(self) -> None:
        self.seats = {each["code"]: [(Fraction(each["units"]), self.started)] for each in self.plan["fixed"]}

    def in_effect(self, code: str) -> list[tuple[Fraction, datetime]]:
        """The changes without those that a later one came before."""
        kept: list[tuple[Fraction, datetime]] = []
        for units, at in self.seats[code]:
            kept = [each for each in kept if each[1] < at]
            kept.append((units, at))
        return kept

    @property
    def zone(self) -> str:
        return self.customer.zone

    @property
    def issuer(self) -> str:
        return self.entity or self.customer.entity

    @property
    def runs(self) -> bool:
        return self.ended is None and not self.waits

    @property
    def trial_end(self) -> datetime | None:
        trial = self.plan.get("trial")
        return self.trial_from + timedelta(days=trial) if trial else None

    def day(self, at: datetime) -> date:
        return days.day_of(at, self.zone)

    def period(self, day: date) -> tuple[date, date]:
        """The first day of the plan's period, and the first after it."""
        return self._period(day, self.plan["interval"])

    def usage_period(self, day: date) -> tuple[date, date]:
        is_monthly = self.plan.get("charges_monthly") and self.plan["interval"] in {"yearly", "semiannual"}
        return self._period(day, "monthly" if is_monthly else self.plan["interval"])

    def _period(self, day: date, interval: str) -> tuple[date, date]:
        anchor = self.day(self.anchor) if self.time == "anniversary" else days.A_MONDAY
        return days.period(day, interval, anchor)


class Oracle:
    """Takes actions; `do` says whether one could be done, and such a one must be accepted by the product."""

    def __init__(self) -> None:
        self.now = START
        self.customers: dict[str, Customer] = {}
        self.metrics: dict[str, Action] = {}
        self.plans: dict[str, Action] = {}
        self.taxes: dict[str, Fraction] = {}
        self.add_ons: dict[str, Action] = {}
        self.units: set[str] = set()
        self.campaigns: dict[str, dunning.Campaign] = {}
        self.coupons: dict[str, Action] = {}
        self.entities = {"default": receivables.Entity()}
        self.versions: list[catalogue.Version] = []
        """Of the price catalogue, as they were approved."""
        self.rows: list[Subscription] = []
        self.periods: list[Bill] = []
        """What has billed periods, invoices of nothing too."""
        self.late: list[late.Late] = []
        """Late usage that was decided."""
        self.events: dict[str, Event] = {}
        self.numbers = 0
        self.played: set[str] = set()
        self.excess: list[tuple[Bill, int]] | None = None
        """What the invoices of a turn have billed too much before, while they are made: none of them is paid with it."""
        """The actions and components that it has met."""
        self.marked: set[str] = set()
        """Subscriptions with events that nobody has looked at for thresholds."""
        self.highest: dict[str, int] = {}
        """The largest lifetime usage at which a threshold was reached."""

    def do(self, action: Action) -> bool:
        handler: Callable[[Action], bool] = getattr(self, f"_{action['do']}")
        is_done = handler(action)
        if is_done:
            self.played.add(action["do"])
        return is_done

    # The catalogue

    def _tax(self, action: Action) -> bool:
        self.taxes[action["code"]] = Fraction(action["rate"])
        return True

    def _add_on(self, action: Action) -> bool:
        self.add_ons[action["code"]] = action
        return all(code in self.taxes for code in action.get("taxes", []))

    def _metric(self, action: Action) -> bool:
        self.metrics[action["code"]] = action
        return True

    def _version(self, action: Action) -> bool:
        since = self.now.date() + timedelta(days=action["days"])
        self.versions.append(catalogue.version(action["prices"], since, self.now))
        for row in self.rows:
            if any(charge["model"] == "catalogue" for charge in row.plan["charges"]):
                self.mark(row)
        return True

    def _plan(self, action: Action) -> bool:
        if any(charge["metric"] not in self.metrics for charge in action["charges"]):
            return False
        if any(code not in self.taxes for code in action["taxes"]):
            return False
        is_priced = any(each.since.year < START.year for each in self.versions)
        if not is_priced and any(charge["model"] == "catalogue" for charge in action["charges"]):
            return False
        if any(each["code"] not in self.add_ons for each in action["fixed"]):
            return False
        if any(each.get("unit") for each in action["charges"]) and not self.units:
            return False
        self.plans[action["code"]] = {
            **action,
            "made": self.now,
            "fees": [(ALWAYS, action["amount"])],
            "charges": [{**each, "prices": [(ALWAYS, each["terms"])]} for each in action["charges"]],
        }
        return True

    def _own_plan(self, plan: Action, own: Action) -> Action:
        """A copy of a plan with another fee, or another price of a charge; the minimum commitment stays behind (2.2)."""
        self.played.add("own_plans")
        if any(len(each["prices"]) > 1 for each in plan["charges"]):
            self.played.add("own_plans_with_dated_prices")
        charges = [
            {
                **each,
                "prices": prices_after(each["prices"], None, self.now, own["terms"])
                if each["metric"] == own["metric"]
                else [*each["prices"]],
            }
            for each in plan["charges"]
        ]
        own_fee = None if own["metric"] else own["amount"]
        return {
            **plan,
            "charges": charges,
            "fees": [*plan["fees"]]
            if own_fee is None
            else prices_after(plan["fees"], None, self.now, own_fee),
            "commitment": 0,
            "is_own": True,
            "made": self.now,
        }

    def copies(self, plan: Action) -> list[Subscription]:
        """The subscriptions with a plan of their own that is a copy of this one."""
        return [row for row in self.rows if row.plan.get("is_own") and row.plan["code"] == plan["code"]]

    def _cascade(self, plan: Action, metric: str, since: datetime | None, before: Any, after: Any) -> None:
        """Copies follow where they say what their plan said before (2.3)."""
        for row in self.copies(plan):
            self.mark(row)
            for each in row.plan["charges"]:
                own = price_in_force(each["prices"], since or self.now)
                if each["metric"] == metric and own == before:
                    self.played.add("cascades")
                    if each["model"] == "catalogue" and after != before:
                        self.played.add("cascades_of_the_catalogue")
                    self._set_prices(each, prices_after(each["prices"], since, self.now, after))

    def _set_prices(self, charge: Any, prices: Prices) -> None:
        """The prices of a charge, which is changed if they are others at any time."""
        if charge["model"] == "catalogue" and without_repeats(charge["prices"]) != without_repeats(prices):
            charge["changed"] = self.now
        charge["prices"] = prices

    def _price(self, action: Action) -> bool:
        """Other prices of a charge: for periods that begin from an instant on, or for all that is not billed (2.3)."""
        charge = self.charge_of(action)
        if charge is None or charge["model"] != action["model"]:
            return False
        self.played.add("prices")
        plan, since = self.plans[action["plan"]], days.price_date(self.now, action["when"])
        for row in self.rows:
            if row.plan is plan:
                self.mark(row)
        before = price_in_force(charge["prices"], since or self.now)
        if since is not None and since < self.now and before != action["terms"]:
            self.played.add("prices_from_the_past")
        if action["cascade"]:
            self._cascade(plan, action["metric"], since, before, action["terms"])
        self._set_prices(charge, prices_after(charge["prices"], since, self.now, action["terms"]))
        if any(one[1] == other[1] for one, other in pairwise(charge["prices"])):
            self.played.add("prices_that_became_equal")
        return True

    def _fee(self, action: Action) -> bool:
        return plan_fees.edit(self, action)

    def charge_of(self, action: Action) -> Any:
        """The charge of a plan on a metric, if there is one."""
        plan = self.plans.get(action["plan"])
        found = [each for each in plan["charges"] if each["metric"] == action["metric"]] if plan else []
        return found[0] if found else None

    def price_today(self, action: Action) -> Any:
        charge = self.charge_of(action)
        return price_in_force(charge["prices"], self.now) if charge else None

    def _price_back(self, action: Action) -> bool:
        """The price of today is that of a later day again."""
        return self._price({**action, "terms": self.price_today(action)})

    def _dated(self, code: str) -> list[Prices]:
        """The fees of a plan and the prices of its charges, each with when they begin to count."""
        plan = self.plans.get(code)
        return [plan["fees"], *(each["prices"] for each in plan["charges"])] if plan else []

    def to_cancel(self, action: Action) -> datetime | None:
        """The instant of a change of prices that is to come."""
        known = sorted({at for each in self._dated(action["plan"]) for at, _ in each if at > self.now})
        return known[action["change"] % len(known)] if known else None

    def _cancel_price(self, action: Action) -> bool:
        """Prices go on as before a change; others stay."""
        at = self.to_cancel(action)
        if at is None:
            return False
        plan: Any = self.plans[action["plan"]]
        for one in [plan, *(row.plan for row in (self.copies(plan) if action["cascade"] else []))]:
            one["fees"] = [known for known in one["fees"] if known[0] != at]
            for each in one["charges"]:
                self._set_prices(each, [known for known in each["prices"] if known[0] != at])
        for row in self.rows:
            if row.plan["code"] == plan["code"]:
                self.mark(row)
        return True

    def _price_unknown(self, action: Action) -> bool:
        """Prices of its own for a model, in a charge by the catalogue."""
        terms = self.with_own_prices(action)
        if terms is None:
            return False
        return self._price({**action, "terms": terms, "model": "catalogue"})

    def with_own_prices(self, action: Action) -> Any:
        """The terms of a charge by the catalogue, with these prices too."""
        charge = self.charge_of(action)
        since = days.price_date(self.now, action["when"])
        if charge is None:
            return None
        terms = price_in_force(charge["prices"], since or self.now)
        names = [(each["model"], each["type"]) for each in action["prices"]]
        kept = [each for each in terms["prices"] if (each["model"], each["type"]) not in names]
        return {**terms, "prices": [*kept, *action["prices"]]}

    def _unit(self, action: Action) -> bool:
        self.units.add(action["code"])
        return True

    def _correct(self, action: Action) -> bool:
        """Final invoices give back what they would not cost by the prices of now."""
        if self.versions:
            corrections.credit(self, action["version"])
        return bool(self.versions)

    def _customer(self, action: Action) -> bool:
        if any(code not in self.taxes for code in action["taxes"]) or action["entity"] not in self.entities:
            return False
        self.customers[action["id"]] = Customer(
            action["id"],
            action["zone"],
            action["currency"],
            [(code, self.taxes[code]) for code in action["taxes"]],
            grace=action["grace"],
            entity=action["entity"],
            term=action["term"],
        )
        return True

    def _entity(self, action: Action) -> bool:
        if any(code not in self.taxes for code in action["taxes"]):
            return False
        taxes = [(code, self.taxes[code]) for code in action["taxes"]]
        self.entities[action["code"]] = receivables.Entity(action["term"], taxes)
        return True

    def _move_customer(self, action: Action) -> bool:
        return receivables.move(self, action)

    def _campaign(self, action: Action) -> bool:
        made = dunning.Campaign(action["threshold"], action["days"], action["attempts"])
        self.campaigns[action["code"]] = made
        return True

    def _dun_by(self, action: Action) -> bool:
        return dunning.apply(self, action)

    def _exclude(self, action: Action) -> bool:
        return dunning.exclude(self, action)

    def _edit_campaign(self, action: Action) -> bool:
        return dunning.edit(self, action)

    def _drop_campaign(self, action: Action) -> bool:
        return dunning.drop(self, action)

    def _request(self, action: Action) -> bool:
        return receivables.request(self, action)

    def _bill_by(self, action: Action) -> bool:
        return receivables.name(self, action)

    def _lose(self, action: Action) -> bool:
        return receivables.lose(self, action)

    # What a customer has

    def _coupon(self, action: Action) -> bool:
        customer = self.customers.get(action["customer"])
        known: dict[str, Mapping[str, Any]] = {"plan": self.plans, "metric": self.metrics, "": {"": ""}}
        if customer is None or action["code"] not in known[action["limit"]] or self._meets(customer, action):
            return False
        self.coupons[action["id"]] = action
        customer.coupons.append(settle.unused(action, customer.currency))
        return True

    def _meets(self, customer: Customer, action: Action) -> bool:
        """Whether a limited coupon would meet another one of the customer."""
        return bool(action["limit"]) and any(one.active and one.order < 2 for one in customer.coupons)

    def _wallet(self, action: Action) -> bool:
        customer = self.customers.get(action["customer"])
        metrics, entity = (
            [code for code in action["metrics"] if code in self.metrics],
            action.get("entity", ""),
        )
        if (
            (entity and entity not in self.entities)
            or customer is None
            or len([one for one in customer.wallets if not one.ended]) >= 6
        ):
            return False
        if metrics != action["metrics"] or not self._cents(
            customer, Fraction(action["rate"]), action["granted"]
        ):
            return False
        self.numbers += 1
        wallet = Wallet(
            id=action["id"],
            rate=Fraction(action["rate"]),
            priority=action["priority"],
            order=self.numbers,
            kinds=action["kinds"],
            metrics=metrics,
            expires=self.now + timedelta(seconds=action["lives"]) if action["lives"] else None,
            rule=action["rule"],
            made=self.now,
            topped_up=self.now,
            entity=entity,
        )
        customer.wallets.append(wallet)
        self.grant(customer, wallet, action["granted"])
        return True

    def grant(self, customer: Customer, wallet: Wallet, granted: str | Fraction) -> None:
        self._fill(wallet, self._cents(customer, wallet.rate, granted), granted=True)

    def decimals(self, customer: Customer) -> int:
        return DECIMALS[customer.currency]

    def _cents(self, customer: Customer, rate: Fraction, credits_: str | Fraction) -> int:
        """What credits are worth; those that are worth nothing are refused."""
        return rounded(cut(Fraction(credits_), 5) * rate * 10 ** DECIMALS[customer.currency])

    def _fill(self, wallet: Wallet, cents: int, *, granted: bool) -> None:
        self.numbers += 1
        wallet.balance += cents
        wallet.lots.append(Lot(cents, cents, granted, self.numbers))

    def _top_up(self, action: Action) -> bool:
        found = self._wallet_of(action["wallet"])
        if found is None or found[1].ended or not self._cents(found[0], found[1].rate, action["granted"]):
            return False
        self.grant(*found, action["granted"])
        return True

    def _with_rules(self) -> list[tuple[Customer, Wallet]]:
        return [
            (who, one)
            for who in self.customers.values()
            for one in who.wallets
            if one.rule is not None and one.rule["trigger"] == "interval" and not one.ended
        ]

    def _next_top_up(self, who: Customer, wallet: Wallet) -> datetime:
        """On the days on which an anniversary of the wallet would be."""
        assert wallet.made is not None
        assert wallet.topped_up is not None
        day = days.day_of(wallet.topped_up, who.zone)
        anchor = days.day_of(wallet.made, who.zone)
        return days.opens(days.period(day, wallet.rule["interval"], anchor)[1], who.zone)

    def _top_up_by_rules(self) -> None:
        for who, wallet in self._with_rules():
            if self._next_top_up(who, wallet) == self.now:
                self.played.add("wallet_rules")
                wallet.topped_up = self.now
                if wallet.rule["granted"] != "0":
                    self.grant(who, wallet, wallet.rule["granted"])
                if wallet.rule["paid"] != "0":
                    self.sell(who, wallet, wallet.rule["paid"])

    def _buy(self, action: Action) -> bool:
        """Credits that are sold: there once their invoice is paid."""
        found = self._wallet_of(action["wallet"])
        return found is not None and not found[1].ended and self.sell(*found, action["paid"])

    def sell(self, customer: Customer, wallet: Wallet, paid: str | Fraction) -> bool:
        cents = self._cents(customer, wallet.rate, paid)
        if not cents:
            return False
        credits_ = digits(cents / (wallet.rate * 10 ** DECIMALS[customer.currency]), 5)
        fee = Fee("credit", "", credits_, Fraction(cents), cents, [])
        self.keep(customer, Bill("credit", [fee], self.now, fills=wallet))
        return True

    def keep(self, customer: Customer, bill: Bill) -> None:
        receivables.issue(self, customer, bill)
        self.numbers += 1
        bill.order = self.numbers
        customer.bills.append(bill)

    def _void_credits(self, action: Action) -> bool:
        """Credits are taken away: fewer than half of what is there, so that no fraction of a cent decides."""
        found = self._wallet_of(action["wallet"])
        if found is None or found[1].ended or ongoing.tops_up_below(found[1]):
            return False
        customer, wallet = found
        cents = self._cents(customer, wallet.rate, action["credits"])
        if not 0 < 2 * cents <= wallet.balance:
            return False
        settle.empty(wallet, cents)
        return True

    def _expire(self) -> None:
        for who in self.customers.values():
            for one in who.wallets:
                one.ended = one.ended or (one.expires is not None and one.expires <= self.now)

    def _end_wallet(self, action: Action) -> bool:
        found = self._wallet_of(action["wallet"])
        if found is None or found[1].ended:
            return False
        found[1].ended = True
        return True

    def _wallet_of(self, name: str) -> tuple[Customer, Wallet] | None:
        found = ((who, one) for who in self.customers.values() for one in who.wallets if one.id == name)
        return next(found, None)

    # What becomes of invoices

    def bills(self) -> list[tuple[Customer, Bill]]:
        """All invoices on which anything is owed, those of a customer oldest first."""
        found = [(who, bill) for who in self.customers.values() for bill in who.bills if bill.fees_cents]
        return sorted(found, key=lambda each: (each[0].id, each[1].made, said(*each)))

    def bill(self, place: int) -> tuple[Customer, Bill] | None:
        known = self.bills()
        return known[place % len(known)] if known else None

    def part_due(self, action: Action) -> int:
        """What a payment pays: a share of what is due, or all of it."""
        found = self.bill(action["bill"])
        if found is None:
            return 0
        _, bill = found
        return bill.due if bill.fills else rounded(bill.due * Fraction(action["share"]))

    def _pay(self, action: Action) -> bool:
        found, cents = self.bill(action["bill"]), self.part_due(action)
        if found is None or cents <= 0:
            return False
        _, bill = found
        bill.paid += cents
        dunning.settled(self, found[0], bill)
        if bill.fills:
            self._fill(bill.fills, cents, granted=False)
        return True

    def _void(self, action: Action) -> bool:
        found = self.bill(action["bill"])
        if found is None or found[1].status != "finalized":
            return False
        who, bill = found
        was_due = bill.due
        voids.void_alone(self, bill)
        if was_due:
            dunning.settled(self, who, bill)
        return True

    def _void_with_notes(self, action: Action) -> bool:
        found = self.bill(action["bill"])
        was_due = found[1].due if found else 0
        is_done = voids.void(self, action)
        if found and was_due:
            dunning.settled(self, *found)
        return is_done

    def _preview(self, action: Action) -> bool:
        found = previews.expected(self, action)
        self.played |= {f"preview_of_{action['of']}", *found.has} if found else set()
        return found is not None

    def _one_off(self, action: Action) -> bool:
        return one_off.bill(self, action)

    def take_back(self, bill: Bill, at_most: int | None = None) -> int:
        """Coupons and wallets have again what they paid, wallets so much at most. What they got."""
        left = most = bill.prepaid if at_most is None else at_most
        for coupon, cents in bill.used_coupons:
            coupon.use(-cents, -1)
        for wallet, cents in bill.used_wallets:
            part = 0 if wallet.ended else min(cents, left)
            left -= part
            if part:
                self._fill(wallet, part, granted=True)
        return most - left

    def _again_bill(self, action: Action) -> bool:
        """A voided invoice of subscriptions is made again (4.9), with the taxes of today."""
        place = self.voided(action)
        if place is None:
            return False
        customer, voided = self.bills()[place]
        fees = [self._fee_again(fee, voided.entity) for fee in voided.all_fees or voided.fees]
        bill = Bill(
            "subscription",
            [fee for fee in fees if fee.cents],
            self.now,
            parts=voided.parts,
            turn=voided.turn,
            all_fees=fees,
            periods_at=voided.periods_at or voided.made,
        )
        voided.again = bill
        receivables.issue(self, customer, bill, voided.entity)
        self.finish(customer, bill)
        voids.credit_again(
            self,
            customer,
            voided,
            bill,
            dict(zip(map(id, voided.all_fees or voided.fees), fees, strict=True)),
        )
        for row in {id(fee.subscription): fee.subscription for fee in fees}.values():
            row.fees += [fee for fee in fees if fee.subscription is row]
            if row.paid is not None and row.paid[1] is voided:
                own = (fee for fee in fees if fee.subscription is row and fee.kind == "subscription")
                row.paid = next(own), bill
        return True

    def voided(self, action: Action) -> int | None:
        """The place among all invoices of one that may be made again."""
        known = [place for place, each in enumerate(self.bills()) if self._may_be_replaced(*each)]
        return known[action["voided"] % len(known)] if known else None

    def _may_be_replaced(self, who: Customer, bill: Bill) -> bool:
        """Whether it is voided, and no other of the customer looks the same."""
        same = [each for each in who.bills if each.made == bill.made and said(who, each) == said(who, bill)]
        return (bill.kind, bill.status, bill.again, len(same)) == ("subscription", "voided", None, 1)

    def _fee_again(self, fee: Fee, entity: str) -> Fee:
        taxes = self.taxes_of(fee.subscription, entity)
        return replace(fee, off=Fraction(0), credited=Fraction(0), passed=0, taxes=taxes)

    def _draft(self, action: Action) -> tuple[Customer, Bill] | None:
        known = [each for each in self.bills() if each[1].status == "draft"]
        return known[action["draft"] % len(known)] if known else None

    def _finalize(self, action: Action) -> bool:
        found = self._draft(action)
        if found is None or drafts.lacks_price(self, found[1]):
            return False
        drafts.finalize(self, *found)
        return True

    def _refresh(self, action: Action) -> bool:
        found = self._draft(action)
        if found is not None:
            drafts.refresh(self, found[1])
        return found is not None

    def _drop_coupon(self, action: Action) -> bool:
        own = [
            (who, one) for who in self.customers.values() for one in who.coupons if one.id == action["coupon"]
        ]
        if not own or not own[0][1].active:
            return False
        own[0][1].gone = True
        return True

    def credited(self, action: Action) -> tuple[Fee, int, int] | None:
        """The fee that a note gives something back of, so much of it, and what the note comes to."""
        found = self.bill(action["bill"])
        if found is None or found[1].fills or found[1].status != "finalized":
            return None
        _, bill = found
        fees = sorted((one for one in bill.fees if one.cents), key=fee_key)
        fee = fees[0]
        if any(fee_key(one) == fee_key(fee) for one in fees[1:]):
            return None
        cents = rounded((fee.cents - fee.credited) * Fraction(action["share"]))
        total = sum(bill.note([(fee, cents)]))
        return (fee, cents, total) if cents > 0 and total > 0 else None

    def _note(self, action: Action) -> bool:
        found, credited = self.bill(action["bill"]), self.credited(action)
        if found is None or credited is None:
            return False
        (customer, bill), (fee, cents, total) = found, credited
        if action["as"] == "refund":
            if total > bill.refundable:
                return False
            bill.refunded += total
        if action["as"] == "offset":
            if total > bill.due:
                return False
            bill.offset += total
        bill.give_back(bill.note([(fee, cents)]))
        fee.credited += cents
        credit = total if action["as"] == "credit" else 0
        offset = total if action["as"] == "offset" else 0
        self.give(customer, bill, Note(total, credit, credit, self.now, offset=offset, items=[(fee, cents)]))
        return True

    def give(self, customer: Customer, bill: Bill, note: Note) -> None:
        customer.notes.append(note)
        bill.credit_notes.append(note)
        if note.offset:
            dunning.settled(self, customer, bill)

    # Usage

    def mark(self, row: Subscription) -> None:
        """What its usage comes to may have reached a threshold."""
        if row.runs and row.plan["thresholds"]:
            self.marked.add(row.id)

    def _use(self, action: Action) -> bool:
        rows = self.rows_of(action["subscription"]) + [
            row
            for row in gates.waiting(self)
            if row.id == action["subscription"] and not any(each["advance"] for each in row.plan["charges"])
        ]
        if action["metric"] not in self.metrics or not rows:
            return False
        self.marked.add(action["subscription"])
        at = self.now - timedelta(seconds=action["ago"], microseconds=7)
        self.numbers += 1
        self.events[action["id"]] = Event(
            action["id"],
            action["subscription"],
            action["metric"],
            at,
            Fraction(action["value"]),
            self.numbers,
            action["model"],
            action.get("type", ""),
            action.get("tier", ""),
        )
        advance.bill(self, self.events[action["id"]])
        return True

    def _late(self, action: Action) -> bool:
        return late.decide(self, action)

    def _call(self, action: Action) -> bool:
        return self._use(action)

    def _again(self, action: Action) -> bool:
        """The same event comes a second time: it counts once."""
        return action["id"] in self.events

    def _amend(self, action: Action) -> bool:
        event = self.events.get(action["event"])
        if event is None or self._is_ahead(event.metric):
            return False
        event.is_void, event.amended = action["value"] is None, True
        for row in self.rows_of(event.subscription):
            self.mark(row)
        if action["value"] is not None:
            event.value = Fraction(action["value"])
        return True

    def _is_ahead(self, metric: str) -> bool:
        """Whether any plan has usage paid as it comes: its fee stays when an event is amended."""
        charges = [each for plan in self.plans.values() for each in plan["charges"]]
        return any(each["advance"] and each["metric"] == metric for each in charges)

    def _units(
        self, row: Subscription, charge: Action, place: int, start: datetime, end: datetime
    ) -> tuple[Fraction, list[Fraction]]:
        code = charge["metric"]
        metric = self.metrics[code]
        own = [
            each
            for each in self.events.values()
            if each.subscription == row.id
            and each.metric == code
            and place_of(charge, each.model) == place
            and not each.is_void
            and each.at < end
            and (each.at >= start or metric["recurring"])
        ]
        values = [each.value for each in sorted(own, key=lambda each: (each.at, each.order))]
        match metric["kind"]:
            case "count_agg":
                return Fraction(len(own)), [Fraction(1)] * len(own)
            case "sum_agg":
                return sum(values, Fraction(0)), values
            case "max_agg":
                return max(values, default=Fraction(0)), values
            case "latest_agg":
                return values[-1] if values else Fraction(0), values
            case "unique_count_agg":
                return Fraction(len(set(values))), [Fraction(1)] * len(set(values))
        raise ValueError(metric)

    # Subscriptions

    def rows_of(self, name: str) -> list[Subscription]:
        return [row for row in self.rows if row.id == name and not row.waits]

    def active(self, name: str) -> Subscription | None:
        return next((row for row in self.rows_of(name) if row.ended is None), None)

    def _subscribe(self, action: Action) -> bool:
        customer, plan = self.customers.get(action["customer"]), self.plans.get(action["plan"])
        if (
            customer is None
            or plan is None
            or plan["currency"] != customer.currency
            or any(row.id == action["id"] for row in self.rows)
            or not self._knows(action)
        ):
            return False
        plan = self._own_plan(plan, action["own"]) if action["own"] else plan
        start = self.now + timedelta(seconds=action["ahead"]) - timedelta(days=action["back"])
        if start > self.now:  # what is to come begins with its day
            start = days.opens(days.day_of(start, customer.zone), customer.zone)
            if start <= self.now:
                return False
        row = Subscription(
            id=action["id"],
            customer=customer,
            plan=plan,
            anchor=start,
            started=start,
            created=self.now,
            time=action["time"],
            trial_from=start,
            waits=start > self.now,
            entity=action.get("entity", ""),
            is_gated=action.get("timeout") is not None,
            timeout=action.get("timeout") or 0,
        )
        self.rows.append(row)
        if row.waits:
            self.played.add("waits")
        elif row.day(start) == row.day(self.now):
            self._begin(row)
        else:
            self.mark(row)
            first, _ = row.usage_period(row.day(self.now))
            row.behind = days.opens(first, row.zone) if first == row.day(self.now) else None
        return True

    def _knows(self, action: Action) -> bool:
        """Whether there is the billing entity that an action names, if any."""
        return not action.get("entity") or action["entity"] in self.entities

    def _start(self) -> None:
        """What waited for this instant starts, each on an invoice of its own."""
        for row in self.rows:
            if row.waits and row.gate is None and row.started <= self.now:
                row.waits = False
                self._begin(row)

    def _begin(self, row: Subscription) -> None:
        parts = [(row, "start")]
        fees = [*self.own_fee(row, "start"), *self.fixed(row, "start", parts)] if row.is_gated else []
        if fees:
            self.played.add("gates")
            if not gates.waits(self, row, fees):
                self.mark(row)
        else:
            self._bill(row.customer, parts)

    def first_end(self, row: Subscription) -> datetime:
        """When the period is over that it starts in, or its trial."""
        now, self.now = self.now, row.started
        at, self.now = self.next_due(row), now
        return at

    def _pay_gate(self, action: Action) -> bool:
        row = gates.chosen(self, action)
        if row is not None:
            gates.pay(self, row)
            self.marked.add(row.id)
            if not row.replaces and self.first_end(row) <= self.now:
                self.played.add("gates_paid_late")
                row.behind = self.first_end(row)
        return row is not None

    def _fail_gate(self, action: Action) -> bool:
        row = gates.chosen(self, action)
        if row is not None:
            gates.give_up(self, row)
        return row is not None

    def _end(self, action: Action) -> bool:
        row = self.active(action["subscription"])
        if row is None:
            return False
        why = self._catch_up(row, "end")
        row.ended, row.gives_back = self.now, (False, action["note"])
        row.next_plan = None
        self.give_back(row)
        if not action["no_bill"]:
            self._bill(row.customer, [(row, why)])
        late.bill_alone(self, row.customer)
        for each in gates.waiting(self):
            if each.id == row.id:
                gates.give_up(self, each)
        return True

    def _change(self, action: Action) -> bool:
        row, plan = self.active(action["subscription"]), self.plans.get(action["plan"])
        if row is None or plan is None or plan["currency"] != row.customer.currency:
            return False
        if plan["code"] == row.plan["code"] or any(each.id == row.id for each in gates.waiting(self)):
            return False
        if not self._knows(action):
            return False
        timeout, entity = action.get("timeout"), action.get("entity") or row.entity
        costs = [plan_fees.of_year(self, each) for each in (row.plan, plan)]
        if costs[1] < costs[0]:
            row.next_plan, row.next_timeout, row.next_entity = plan, timeout, entity
            self.numbers += 1
            row.next_asked = self.numbers
            row.changes_at = days.opens(row.period(row.day(self.now))[1], row.zone)
            return True
        row.next_plan = None
        following = self.follow(row, plan, self.now, entity)
        if (state := gates.begin_change(self, row, following, timeout)) != "waits":
            self.take_over(row, following, "upgrade", "paid" if state == "paid" else "follow")
        return True

    def take_over(self, row: Subscription, following: Subscription, why: str, then: str) -> None:
        """A plan ends at once, as another one begins, which may have been paid."""
        why = self._catch_up(row, why)
        row.ended = self.now
        row.gives_back = True, "credit"
        self.give_back(row)
        self._bill(row.customer, [(row, why), (following, then)])

    def _seats(self, action: Action) -> bool:
        """Other units of a fixed charge, at once or from the next period on."""
        row = self.active(action["subscription"])
        sold = {each["code"]: each for each in row.plan["fixed"]} if row else {}
        if row is None or action["code"] not in sold:
            return False
        first, after = row.period(row.day(self.now))
        units = Fraction(action["units"])
        had, since = row.in_effect(action["code"])[-1]
        if had == units and since <= self.now:
            return True
        row.seats[action["code"]].append((units, self.now if action["now"] else days.opens(after, row.zone)))
        charge = sold[action["code"]]
        if action["now"] and charge["advance"]:
            paid = [fee for fee in self._paid_ahead(row) if fee.code == action["code"]]
            more = units - sum(fee.units for fee in paid)
            if more > 0:
                fees = [self._seat_fee(row, charge, more, (row.day(self.now), after, (after - first).days))]
                row.fees += fees
                bill = Bill("subscription", [fee for fee in fees if fee.cents], self.now)
                self.settle(row.customer, bill)
        return True

    def _paid_ahead(self, row: Subscription) -> list[Fee]:
        """Fees of fixed charges for the running period."""
        void = [fee for bill in row.customer.bills if bill.status == "voided" for fee in bill.fees]
        return [
            fee
            for fee in row.fees
            if fee.kind == "fixed_charge"
            and fee.ahead
            and fee.start is not None
            and fee.end is not None
            and fee.start <= self.now < fee.end
            and not any(fee is each for each in void)
        ]

    def fixed(self, row: Subscription, why: str, parts: list[tuple[Subscription, str]]) -> Iterator[Fee]:
        """Fixed charges (6.1): in arrears of the period that ends, in advance of the one that begins."""
        today = row.day(self.now)
        for charge in row.plan["fixed"]:
            history = row.in_effect(charge["code"])
            if charge["advance"]:
                first, after = row.period(today)
                begin = max(first, row.day(row.started))
                is_due = why in {"start", "follow"} or (why == "period" and first == today)
                if is_due:
                    units = [each for each, at in history if at <= max(self.now, row.started)][-1]
                    before = parts[0][0] if why == "follow" else None
                    yield self.fixed_fee(row, charge, units, (begin, after, (after - first).days), before)
                continue
            is_cut = why in {"end", "upgrade"}
            first, after = row.period(today if is_cut else today - timedelta(days=1))
            if why in {"start", "follow", "paid", "trial"} or (not is_cut and after != today):
                continue
            begin, until = max(first, row.day(row.started)), today + timedelta(days=1) if is_cut else after
            known = [
                each
                for each in history
                if (each[1] <= self.now if is_cut else each[1] < days.opens(after, row.zone))
            ]
            if not known:
                continue
            yield self._seat_fee(row, charge, known[-1][0], (begin, until, (after - first).days), known)

    def fixed_fee(
        self,
        row: Subscription,
        charge: Action,
        units: Fraction,
        part: tuple[date, date, int],
        before: Subscription | None,
    ) -> Fee:
        """What is paid ahead of a part of a period, less what the row before has paid for it."""
        fee = self._seat_fee(row, charge, units, part)
        if before is not None and charge["prorated"]:
            return self._less_paid(fee, charge, before, (part[1] - part[0]).days)
        return fee

    def _less_paid(self, fee: Fee, charge: Action, before: Subscription, left: int) -> Fee:
        """A fee less what was paid under the plan before for the same days."""
        prorated = {each["code"] for each in before.plan["fixed"] if each["advance"] and each["prorated"]}
        for paid in self._paid_ahead(before):
            if paid.code == charge["code"] and paid.code in prorated:
                fee.cents = max(
                    fee.cents - rounded(Fraction(paid.cents * min(left, paid.days), paid.days)), 0
                )
                fee.precise = Fraction(fee.cents)
        return fee

    def _seat_fee(
        self,
        row: Subscription,
        charge: Action,
        units: Fraction,
        part: tuple[date, date, int],
        history: list[tuple[Fraction, datetime]] | None = None,
    ) -> Fee:
        begin, until, whole = part
        priced = units
        if charge["prorated"]:
            known = history or [(units, days.opens(begin, row.zone))]
            starts = [max(row.day(at), begin) for _, at in known]
            priced = sum(
                (
                    digits(Fraction(many * (end - start).days, whole), 6)
                    for (many, _), start, end in zip(known, starts, [*starts[1:], until], strict=True)
                ),
                Fraction(0),
            )
        unit = 10 ** DECIMALS[row.customer.currency]
        precise = price(charge["model"], charge["terms"], priced, []) * unit if priced else Fraction(0)
        return Fee(
            kind="fixed_charge",
            code=charge["code"],
            units=units,
            precise=precise,
            cents=rounded(precise),
            taxes=self.taxes_of(row),
            plan=row.plan["code"],
            subscription=row,
            start=days.opens(begin, row.zone),
            end=days.opens(until, row.zone),
            days=(until - begin).days,
            ahead=charge["advance"],
            period=row.period(begin)[0],
        )

    def follow(self, row: Subscription, plan: Action, at: datetime, entity: str) -> Subscription:
        following = Subscription(
            id=row.id,
            customer=row.customer,
            plan=plan,
            anchor=row.anchor,
            started=at,
            created=at,
            time=row.time,
            trial_from=row.trial_from,
            replaces=True,
            entity=entity,
        )
        self.rows.append(following)
        return following

    # Time

    def _move(self, action: Action) -> bool:
        until = self.arrives(action)
        drafts.release(self)
        self._look()
        while due := [*self._due(until)]:
            at = min(at for at, _ in due)
            clock, self.now = max(at, self.now), at
            self._expire()
            gates.give_up_due(self)
            self._start()
            rows = [row for each, row in due if each == at and row is not None]
            self._bill_due(rows)
            for row in rows:
                self._go_on(row, clock)
            drafts.finalize_due(self, clock)
            self._top_up_by_rules()
            self.now = clock
            if not any(True for _ in self._due(clock)):
                self._look()
        self.now = until
        self._expire()
        dunning.run(self)
        self._look()
        return True

    def _look(self) -> None:
        """Look at what usage and bills have come to."""
        progressive.look(self)
        ongoing.look(self)

    def arrives(self, action: Action) -> datetime:
        """Where a move ends: after so many seconds or, where it is to stop there, at the first instant that is due."""
        until = self.now + timedelta(seconds=action["seconds"])
        due = [at for at, _ in self._due(until)] if action["stops"] else []
        return max(min(due, default=until), self.now)

    def _catch_up(self, row: Subscription, why: str) -> str:
        """Bill the periods that were over before today, each on its own and as of its end; how what ends the row is billed now.

        A period that is over this very day is left to that, as the whole of a period (3.9).
        """
        now = self.now
        while row.behind is not None and row.day(row.behind) < row.day(now):
            self.played.add("catches_up")
            self.now = row.behind
            self._bill(row.customer, self._turn(row))
            self._go_on(row, now)
        is_left = row.behind is not None and row.day(row.started) < row.day(now)
        self.now, row.behind = now, None
        return "downgrade" if is_left else why

    def _go_on(self, row: Subscription, clock: datetime) -> None:
        """A row was billed as of now: it is behind where its next bill is due by the clock, too."""
        at = self.next_due(row)
        row.behind = at if row.behind is not None and at <= clock else None

    def _due(self, until: datetime) -> Iterator[tuple[datetime, Subscription | None]]:
        for who, wallet in self._with_rules():
            at = self._next_top_up(who, wallet)
            if at <= until:
                yield at, None
        for one in (each for who in self.customers.values() for each in who.wallets if not each.ended):
            if one.expires is not None and one.expires <= until:
                yield one.expires, None  # others pay for what it would have
        for _, _, at in drafts.due(self):
            if at <= until:
                yield at, None
        for at in gates.ends(self):
            if at <= until:
                yield at, None
        for row in self.rows:
            if row.waits and row.gate is None and row.started <= until:
                yield row.started, None
            if row.runs:
                at = row.behind or self.next_due(row)
                if at <= until:
                    yield at, row

    def next_due(self, row: Subscription) -> datetime:
        boundary = days.opens(row.usage_period(row.day(self.now))[1], row.zone)
        ends = row.trial_end
        if row.plan["advance"] and ends is not None and self.now < ends < boundary:
            return ends
        return boundary

    def _bill_due(self, rows: list[Subscription]) -> None:
        for customer in self.customers.values():
            together: list[tuple[Subscription, str]] = []
            own = [each for each in rows if each.customer is customer]
            for row in sorted(own, key=lambda each: each.next_asked if each.next_plan is not None else 0):
                turn = self._turn(row)
                if (
                    len(turn) > 1
                ):  # a change of plan has an invoice of its own, before the next one is looked at
                    self._bill(customer, turn)
                else:
                    together += turn
            self._bill(customer, together)

    def _turn(self, row: Subscription) -> list[tuple[Subscription, str]]:
        """What a row brings to the bill of an instant; one with a pending change of plan ends."""
        if row.next_plan is not None and self.now == row.changes_at:
            following = self.follow(row, row.next_plan, self.now, row.next_entity)
            row.next_plan = None
            state = gates.begin_change(self, row, following, row.next_timeout)
            if state == "waits":
                return [(row, "period")]
            row.ended = self.now - timedelta(microseconds=1)
            return [(row, "downgrade"), (following, "paid" if state == "paid" else "follow")]
        if row.trial_end == self.now:
            usage_first, _ = row.usage_period(row.day(self.now))
            if self.now != days.opens(usage_first, row.zone):
                return [(row, "trial")]
        return [(row, "period")]

    # Bills

    def _bill(self, customer: Customer, turn: list[tuple[Subscription, str]]) -> None:
        """Bill what belongs together: what another billing entity bills is on another invoice."""
        together = receivables.apart(turn)
        if len({row.issuer for row, _ in turn}) > 1:
            self.played.add("own_entities_apart")
        self.excess = []
        for parts in together:
            self._bill_together(customer, parts, turn)
        for each in self.excess:  # it is for later instants
            progressive.give_back(self, customer, *each)
        self.excess = None

    def _bill_together(
        self,
        customer: Customer,
        parts: list[tuple[Subscription, str]],
        turn: list[tuple[Subscription, str]],
    ) -> None:
        fees: list[Fee] = []
        for row, why in parts:
            if self._carries_over(row) or why in ("start", "follow", "paid"):
                self.marked.add(row.id)
            own = [*self.own_fee(row, why), *self.usage(row, why, turn), *self.fixed(row, why, turn)]
            row.fees += own
            own += late.take(self, row, why)
            own += (missing := [*self.commitment(row, why)])
            row.fees += missing
            fees += own
        billed = [fee for fee in fees if fee.cents]
        bill = Bill("subscription", billed, self.now, parts=parts, turn=turn, all_fees=fees)
        bill.counted = self.numbers
        self.periods.append(bill)
        if parts and (customer.grace or drafts.has_no_price(bill)):
            drafts.begin(self, customer, bill)
        else:
            self.finish(customer, bill)
        for row, _ in parts:
            for fee in bill.all_fees:
                if fee.subscription is row and fee.kind == "subscription" and row.plan["advance"]:
                    row.paid = fee, bill

    def _carries_over(self, row: Subscription) -> bool:
        """Whether its periods may begin with units of earlier ones."""
        return any(self.metrics[each["metric"]]["recurring"] for each in row.plan["charges"])

    def finish(self, customer: Customer, bill: Bill) -> None:
        """Take all credits, and give back what was billed too much before."""
        excess = [found for row, why in bill.parts if (found := progressive.take_off(self, row, why, bill))]
        self.settle(customer, bill)
        if self.excess is not None:
            self.excess += excess
            return
        for each in excess:
            progressive.give_back(self, customer, *each)

    def settle(self, customer: Customer, bill: Bill) -> None:
        self.take_credits(customer, bill)
        if bill.fees_cents and not bill.order:
            self.keep(customer, bill)

    def take_credits(self, customer: Customer, bill: Bill) -> None:
        receivables.issue(self, customer, bill)
        settle.take_coupons(bill, customer.coupons, customer.currency)
        settle.take_taxes(bill)
        settle.take_notes(bill, customer.notes)
        settle.take_credits(bill, customer.wallets)

    def own_fee(self, row: Subscription, why: str) -> list[Fee]:
        """The plan's own fee, by 3.9, 3.11 and 4.2."""
        span = self._coming(row, why) if row.plan["advance"] else self._elapsed(row, why)
        if span is None:
            return []
        first, after, begin, end = span
        whole, used = (after - first).days, (end - begin).days
        trial = row.trial_end
        if trial is not None and trial > days.opens(begin, row.zone):
            if trial >= days.opens(end, row.zone):
                return []
            is_cut = why in {"end", "upgrade"}
            last = days.last_begun(self.now, row.zone) if is_cut else days.opens(end, row.zone)
            used = days.begun(trial, last, row.zone)
        elif row.plan["advance"] and row.time == "anniversary" and not row.replaces:
            used = whole
        if why == "upgrade":
            used -= 1
        amount = plan_fees.of_period(row, days.opens(begin, row.zone))
        precise = Fraction(amount * max(used, 0), whole)
        return [
            Fee(
                kind="subscription",
                code="",
                units=Fraction(1),
                precise=precise,
                cents=rounded(precise),
                taxes=self.taxes_of(row),
                plan=row.plan["code"],
                subscription=row,
                period=first,
                start=days.opens(begin, row.zone),
                end=days.opens(after, row.zone),
                whole_days=whole,
                days=max(used, 0),
                begin=days.opens(begin, row.zone),
                price=amount,
            )
        ]

    def _coming(self, row: Subscription, why: str) -> tuple[date, date, date, date] | None:
        """The period in advance: the one that the instant is in, from the day of the start on."""
        if why in {"end", "upgrade", "downgrade", "paid"}:
            return None
        today = row.day(self.now)
        first, after = row.period(today)
        begin = max(first, row.day(row.started))
        trial = row.trial_end
        ends_later = trial is not None and why == "follow" and trial > self.now
        if ends_later or (trial is not None and row.day(trial) > today):
            return None
        is_paid = row.paid is not None and row.paid[0].end == days.opens(after, row.zone)
        due = max(begin, row.day(trial)) if trial is not None else begin
        if is_paid or due < row.day(row.created):
            return None
        return first, after, begin, after

    def _elapsed(self, row: Subscription, why: str) -> tuple[date, date, date, date] | None:
        """The period in arrears: the one that has ended, or what an end cut short."""
        if why in {"start", "follow", "paid", "trial"}:
            return None
        today = row.day(self.now)
        if why in {"end", "upgrade"}:
            first, after = row.period(today)
            return first, after, max(first, row.day(row.started)), today + timedelta(days=1)
        first, after = row.period(today - timedelta(days=1))
        if after != today:
            return None  # a month of a longer period
        return first, after, max(first, row.day(row.started)), after

    def usage(self, row: Subscription, why: str, parts: list[tuple[Subscription, str]]) -> Iterator[Fee]:
        """Usage up to now, of the period that has ended or that an end cuts short, by price."""
        if why not in {"period", "end", "upgrade", "downgrade"}:
            return
        start, end, first, after = self.used_period(row, why, self.now)
        owner = row.period(row.day(start))[0]
        for charge in row.plan["charges"]:
            if charge["advance"]:
                continue
            if why == "upgrade" and self._is_left_to(parts, charge):
                continue
            fees = self.usage_fees(row, charge, start, end, owner)
            yield from fees
            in_unit = charge.get("unit")
            cents = sum(fee.hundredths if in_unit else fee.cents for fee in fees)
            if charge["minimum"]:
                last = end if why in {"end", "upgrade"} else end - timedelta(microseconds=1)
                begin, until = row.day(start), row.day(last) + timedelta(days=1)
                used = (until - begin).days - (1 if why == "upgrade" else 0)
                agreed = Fraction(charge["minimum"] * max(used, 0), (after - first).days)
                if agreed > cents:
                    fee = self.charge_fee(row, charge["metric"], Fraction(1), agreed - cents, owner)
                    precise = agreed - sum((each.precise for each in fees), Fraction(0))
                    filled = catalogue.fill_up(self, row, charge, fees, fee) if in_unit else None
                    yield filled or replace(fee, precise=precise)

    def used_period(self, row: Subscription, why: str, at: datetime) -> tuple[datetime, datetime, date, date]:
        """The usage that is billed at an instant: from when to when, and the days of the whole period."""
        day = row.day(at)
        first, after = row.usage_period(day if why in {"end", "upgrade"} else day - timedelta(days=1))
        start = max(days.opens(first, row.zone), row.started)
        return start, min(days.opens(after, row.zone), at), first, after

    def usage_fees(
        self, row: Subscription, charge: Action, start: datetime, end: datetime, owner: date
    ) -> list[Fee]:
        """One for each filter of a charge, and one for the rest."""
        if charge["model"] == "catalogue":
            return catalogue.lines(self, row, charge, (start, end), owner)
        unit, fees = 10 ** DECIMALS[row.customer.currency], []
        for place in range(len(charge["filters"]) + 1):
            units, values = self._units(row, charge, place, start, end)
            terms = terms_at(charge, start, place)
            precise = price(charge["model"], terms, max(units, Fraction(0)), values) * unit
            if units < 0:
                precise = Fraction(0)
            fee = self.charge_fee(row, charge["metric"], units, precise, owner)
            fees.append(replace(fee, charge=charge, place=place, end=end))
            if fee.cents and place < len(charge["filters"]):
                self.played.add("filters")
        return fees

    def running_fees(self, row: Subscription) -> list[Fee]:
        """The usage of the period that runs, without what lacks of minimums."""
        first, after = row.usage_period(row.day(self.now))
        start, end = max(days.opens(first, row.zone), row.started), days.opens(after, row.zone)
        owner, charges = row.period(row.day(start))[0], row.plan["charges"]
        return [fee for each in charges for fee in self.usage_fees(row, each, start, end, owner)]

    def charge_fee(
        self, row: Subscription, code: str, units: Fraction, precise: Fraction, first: date
    ) -> Fee:
        return Fee(
            kind="charge",
            code=code,
            units=units,
            precise=precise,
            cents=rounded(precise),
            taxes=self.taxes_of(row),
            plan=row.plan["code"],
            subscription=row,
            period=first,
        )

    def commitment(self, row: Subscription, why: str) -> Iterator[Fee]:
        """What a period of the plan that ends lacks of the amount that was agreed (6.2)."""
        agreed = row.plan["commitment"]
        if not agreed or why not in {"period", "end", "upgrade", "downgrade"}:
            return
        today = row.day(self.now)
        is_cut = why in {"end", "upgrade"}
        first, after = row.period(today if is_cut else today - timedelta(days=1))
        if not is_cut and after != today:
            return
        if row.plan["advance"] and row.trial_end is not None and row.trial_end >= days.opens(after, row.zone):
            return  # it was all trial
        is_past = row.day(row.started) < row.day(row.created)
        if row.plan["advance"] and is_past and first < row.day(row.created):
            return  # its fee was not billed either
        begin = max(first, row.day(row.started))
        until = today + timedelta(days=1) if is_cut else after
        committed = rounded(Fraction(agreed * (until - begin).days, (after - first).days))
        void = [fee for bill in row.customer.bills if bill.status == "voided" for fee in bill.fees]
        counted = [fee for fee in row.fees if fee.period == first and not any(fee is one for one in void)]
        missing = committed - sum(fee.cents for fee in counted)
        if missing > 0:
            yield Fee(
                kind="commitment",
                code="",
                units=Fraction(1),
                precise=Fraction(missing),
                cents=missing,
                taxes=self.taxes_of(row),
                plan=row.plan["code"],
                subscription=row,
                start=days.opens(begin, row.zone),
                end=days.opens(until, row.zone),
            )

    def _is_left_to(self, parts: list[tuple[Subscription, str]], charge: Action) -> bool:
        """Whether the plan that takes over bills a recurring metric at its period's end (3.5)."""
        following = parts[-1][0]
        is_recurring = self.metrics[charge["metric"]]["recurring"]
        return is_recurring and any(each["metric"] == charge["metric"] for each in following.plan["charges"])

    def taxes_of(self, row: Subscription, entity: str = "") -> list[Tax]:
        own = [(code, self.taxes[code]) for code in row.plan.get("taxes", [])]
        return own or receivables.taxes_of(self, row.customer, entity or row.entity)

    def give_back(self, row: Subscription) -> None:
        """The credit note for days that were paid in advance and are not used (7.6)."""
        upgraded, to = row.gives_back
        if not row.plan["advance"] or row.paid is None or not row.paid[0].cents or to == "skip":
            return
        fee, bill = row.paid
        if bill.status != "finalized":
            return
        assert fee.end is not None
        assert row.ended is not None
        last = row.day(fee.end - timedelta(microseconds=1))
        today = row.day(row.ended)
        used_until = today - timedelta(days=1) if upgraded else today
        trial = row.trial_end
        if trial is not None and row.day(trial) >= today:
            used_until = row.day(trial) - timedelta(days=1)
        unused = max((last - used_until).days, 0)
        most = Fraction(fee.cents - fee.passed)
        amount = min(Fraction(fee.price * unused, fee.whole_days), most) - (fee.credited - fee.passed)
        amount = cut(max(amount, Fraction(0)), 5)
        if amount <= 0:
            return
        note = bill.note([(fee, amount)])
        total = sum(note)
        if total:
            bill.give_back(note)
            left = fee.cents - fee.credited - amount
            fee.credited += rounded(amount)
            refund, offset = (0, 0) if to == "credit" else self._sent_back(bill, fee, left, total, to)
            credit = total - refund - offset
            note_ = Note(total, credit, credit, self.now, offset=offset, items=[(fee, amount)])
            self.give(row.customer, bill, note_)

    def _sent_back(self, bill: Bill, fee: Fee, left: Fraction, total: int, to: str) -> tuple[int, int]:
        """What of a note is refunded, of what was paid beyond what was used, or taken off what is due."""
        with_taxes = fee.left + fee.exact_tax
        paid = with_taxes / bill.with_taxes * bill.paid if bill.with_taxes else Fraction(0)
        used = with_taxes * left / fee.cents
        refund = max(min(rounded(paid - used), total, bill.refundable), 0)
        offset = min(total - refund, max(bill.due, 0)) if to == "offset" else 0
        bill.refunded += refund
        bill.offset += offset
        return refund, offset
