"""A list of actions from a seed: plain values, so that it can be shortened, printed and done again."""

from __future__ import annotations

from random import Random
from typing import Any

from .additions import (
    Catalogue,
    Dunning,
    Fees,
    Gates,
    LateUsages,
    OneOffs,
    Previews,
    Receivables,
    Schedules,
    below,
)

ZONES = ("UTC", "Asia/Tokyo", "America/New_York", "Europe/Paris", "Asia/Kolkata")
CURRENCIES = ("EUR", "JPY", "USD", "KWD", "BHD", "CLP")
INTERVALS = ("weekly", "monthly", "monthly", "quarterly", "semiannual", "yearly")
MODELS = ("standard", "package", "graduated", "volume", "percentage")
METRICS: list[dict[str, Any]] = [
    {"do": "metric", "code": code, "kind": kind, "recurring": recurring, "models": ["a", "b", "c"]}
    for code, kind, recurring in (
        ("calls", "count_agg", False),
        ("tokens", "sum_agg", False),
        ("peak", "max_agg", False),
        ("models", "unique_count_agg", False),
        ("seats", "sum_agg", True),
        ("users", "unique_count_agg", True),
    )
]
ADD_ONS: list[dict[str, Any]] = [{"do": "add_on", "code": "seat"}, {"do": "add_on", "code": "desk"}]
TAXES: list[dict[str, Any]] = [
    {"do": "tax", "code": "vat", "rate": "20"},
    {"do": "tax", "code": "gst", "rate": "7.5"},
    {"do": "tax", "code": "odd", "rate": "3.33"},
]
DAY = 86_400
COMPONENTS = ("progressive", "in_advance", "drafts", "wallet_rules", "prices", "filters")
"""What some of the worlds have and others don't: the more of it, the less one sees of each."""


class Script:
    """Writes the actions of one seed."""

    def __init__(self, seed: int, length: int = 42) -> None:
        self.random = Random(seed)
        self.more = Random(f"plans of their own {seed}")
        """Another, so that worlds without these stay as they are."""
        self.has_own_plans = self.more.random() < 0.3
        self.below = Random(f"thresholds of wallets {seed}")
        self.plays = {each for each in COMPONENTS if self.random.random() < 0.5}
        self.catalogue = Catalogue(seed)
        self.gates = Gates(seed)
        self.schedules = Schedules(seed)
        self.receivables = Receivables(seed)
        self.one_offs = OneOffs(seed)
        self.fees = Fees(seed)
        self.dunning = Dunning(seed)
        self.previews = Previews(seed)
        self.late_usages = LateUsages(seed)
        self.strangers = Random(f"who is offered a plan {seed}")
        self.names = 0
        self.priced: dict[str, list[str]] = {}
        self.models: dict[str, dict[str, str]] = {}
        self.plan_of: dict[str, str] = {}
        self.subscriptions: list[str] = []
        self.events: list[str] = []
        self.wallets: list[str] = []
        self.coupons: list[str] = []
        self.currency = self.random.choice(CURRENCIES)
        self.customers = ["ann", "bob"][: self.random.randint(1, 2)]
        self.plans = ["one", "two", "three"]
        self.actions: list[dict[str, Any]] = [*TAXES, *METRICS, *ADD_ONS, *self.catalogue.begins()]
        self.actions += [*self.receivables.begins(), *self.one_offs.begins(self.currency)]
        self.actions += self.dunning.begins(self.currency)
        self.actions += [self._plan(code) for code in self.plans]
        self.actions += [self._customer(name) for name in self.customers]
        self.actions += [self._subscribe() for _ in self.customers]
        for _ in range(length):
            self.actions.append(self._any())
            if more := self.catalogue.then(f"call{len(self.actions)}", self.subscriptions, self.plans):
                self.actions.append(more)
                self.events += [more["id"]] if more["do"] == "call" else []
            if more := self.gates.then(self.subscriptions, self.plans):
                self.actions.append(more)
            if more := self.schedules.then(self.models, self._terms):
                self.actions.append(more)
            if more := self.receivables.then(self.customers):
                self.actions.append(more)
            if more := self.receivables.names_another(self.subscriptions):
                self.actions.append(more)
            if more := self.previews.then(
                self.subscriptions, self.plans, self.customers, self.coupons, self._stranger()
            ):
                self.actions.append(more)
            if more := self.catalogue.reprices(self.plans, self.currency):
                self.actions.append(more)
            if more := self.dunning.then(self.customers):
                self.actions.append(more)
            if more := self.dunning.edited(self.customers, self.currency):
                self.actions.append(more)
            if more := self.fees.then(self.plans):
                self.actions.append(more)
            if more := self.one_offs.then(self.customers, self.receivables.named()):
                self.actions.append(more)
            if more := self.late_usages.then(f"late{len(self.actions)}", self.subscriptions, self._priced()):
                self.actions.append(more)

    def _priced(self) -> list[str]:
        """The metrics that plans have prices of."""
        return sorted({code for models in self.models.values() for code in models})

    def _name(self, kind: str) -> str:
        self.names += 1
        return f"{kind}{self.names}"

    def _some(self, *choices: Any) -> Any:
        return self.random.choice(choices)

    def _terms(self, model: str, chance: Random) -> dict[str, Any]:
        """Prices by another chance, so that all else stays as it is."""
        before, self.random = self.random, chance
        made: dict[str, Any] = getattr(self, f"_{model}")()
        self.random = before
        return made

    def _plan(self, code: str) -> dict[str, Any]:
        metrics = self.random.sample(
            [each["code"] for each in METRICS], self._some(*([2, 3] if self.plays else [0, 1, 2, 3]))
        )
        self.priced[code] = metrics
        self.models[code] = {}
        made = {
            "do": "plan",
            "code": code,
            "interval": self._some(*INTERVALS),
            "amount": self._some(0, 1_000, 2_999, 12_345, 31_000),
            "advance": self._some(True, False),
            "currency": self.currency,
            "trial": self._some(0, 0, 0, 10, 40),
            "charges_monthly": self._some(True, False),
            "taxes": self._some([], [], [], ["odd"]),
            "commitment": self._some(0, 0, 0, 20_000, 123_456),
            "charges": [self._charge(code, metric) for metric in metrics],
            "thresholds": [],
            "fixed": [self._fixed(each["code"]) for each in ADD_ONS if self.random.random() < 0.3],
        }
        if "progressive" in self.plays and not any(each["advance"] for each in made["charges"]):
            made["thresholds"] = self._thresholds()
        if self.catalogue.plays:
            made["charges"].append(self.catalogue.charge(self.currency))
        return made

    def _thresholds(self) -> list[dict[str, Any]]:
        fixed = self.random.sample([300, 2_000, 2_001, 15_000, 100_000], self._some(0, 1, 2, 3))
        found = [{"amount_cents": cents, "recurring": False} for cents in fixed]
        if self._some(True, False):
            found.append({"amount_cents": self._some(700, 5_000, 40_000), "recurring": True})
        return found

    def _price(self) -> dict[str, Any]:
        plan = self._some(*self.plans)
        metric, model = self._some(*self.models[plan].items(), ("", "standard"))
        terms, when = getattr(self, f"_{model}")(), self._some("now", "next_period", "3", "30")
        if self.has_own_plans and self.more.random() < 0.5:
            when = "now"
        return {
            "do": "price",
            "plan": plan,
            "metric": metric,
            "model": model,
            "terms": terms,
            "when": when,
            "cascade": when == "now" and self.has_own_plans and self.more.random() < 0.8,
        }

    def _charge(self, plan: str, metric: str) -> dict[str, Any]:
        model = self.models[plan][metric] = self._some(*MODELS)
        terms = getattr(self, f"_{model}")()
        may_be_ahead = metric in {"calls", "tokens", "models"} and model != "volume"
        is_ahead = "in_advance" in self.plays and may_be_ahead and self._some(True, True, False)
        return {
            "metric": metric,
            "model": model,
            "terms": terms,
            "minimum": 0 if is_ahead else self._some(0, 0, 0, 7_777),
            "advance": is_ahead,
            "filters": self._filters(model) if "filters" in self.plays else [],
            "invoiceable": not is_ahead or self._some(True, True, False),
        }

    def _filters(self, model: str) -> list[dict[str, Any]]:
        chosen = self._some([], [["a"]], [["a"], ["b", "c"]])
        return [{"models": models, "terms": getattr(self, f"_{model}")()} for models in chosen]

    def _fixed(self, code: str) -> dict[str, Any]:
        model = self._some("standard", "standard", "graduated", "volume")
        return {
            "code": code,
            "model": model,
            "terms": getattr(self, f"_{model}")(),
            "units": self._some(0, 1, 4, 10),
            "advance": model != "volume" and self._some(True, False),
            "prorated": model == "standard" and self._some(True, False),
        }

    def _seats(self) -> dict[str, Any]:
        return {
            "do": "seats",
            "subscription": self._some(*self.subscriptions),
            "code": self._some("seat", "desk"),
            "units": self._some(0, 2, 7, 20),
            "now": self._some(True, False),
        }

    def _amount(self) -> str:
        return str(self._some("0.5", "1", "0.0123", "12.5", "0.37", "100"))

    def _standard(self) -> dict[str, Any]:
        return {"amount": self._amount()}

    def _package(self) -> dict[str, Any]:
        return {
            "amount": self._amount(),
            "package_size": self._some(1, 7, 100),
            "free_units": self._some(0, 5),
        }

    def _percentage(self) -> dict[str, Any]:
        return {"rate": self._some("1.5", "20", "0.25"), "fixed_amount": self._some("0", "0.3")}

    def _tiers(self) -> list[dict[str, Any]]:
        tier = lambda start, end: {  # noqa: E731
            "from_value": start,
            "to_value": end,
            "per_unit_amount": self._amount(),
            "flat_amount": self._some("0", "0", "3", "0.1"),
        }
        return [tier(0, 5), tier(6, 50), tier(51, None)]

    def _graduated(self) -> dict[str, Any]:
        return {"graduated_ranges": self._tiers()}

    def _volume(self) -> dict[str, Any]:
        return {"volume_ranges": self._tiers()}

    def _customer(self, name: str) -> dict[str, Any]:
        return {
            "do": "customer",
            "id": name,
            "zone": self._some(*ZONES),
            "currency": self.currency,
            "taxes": self._some([], ["vat"], ["gst", "odd"]),
            "grace": self._some(0, 1, 3, 12) if "drafts" in self.plays else 0,
            **self.receivables.customer(),
        }

    def _stranger(self) -> dict[str, Any]:
        chance = self.strangers
        entity = chance.choice(["default", "north"]) if self.receivables.plays else "default"
        return {
            "zone": chance.choice(ZONES),
            "currency": self.currency,
            "taxes": chance.choice([[], ["vat"], ["gst", "odd"]]),
            "entity": entity,
            "term": None,
        }

    def _subscribe(self) -> dict[str, Any]:
        self.subscriptions.append(self._name("sub"))
        self.plan_of[self.subscriptions[-1]] = plan = self._some(*self.plans)
        waits = bool(self.actions[-1]["do"] != "customer" and self.random.random() < 0.2)
        back = 0 if waits else self._some(0, 0, 0, 1, 6, 17)
        rule = self.gates.rule(self.subscriptions[-1])
        return {
            "do": "subscribe",
            **rule,
            **self.receivables.named(),
            "id": self.subscriptions[-1],
            "customer": self._some(*self.customers),
            "plan": plan,
            "time": self._some("calendar", "anniversary"),
            "back": 0 if rule else back,
            "ahead": self.random.randint(1, 60 * DAY) if waits else 0,
            "own": self._own(plan) if self.has_own_plans and self.more.random() < 0.6 else None,
        }

    def _own(self, plan: str) -> dict[str, Any]:
        """What a subscription's own plan says otherwise: the plan's fee, or the price of a charge."""
        prices = [
            {"metric": metric, "terms": {"amount": price}}
            for metric, model in self.models[plan].items()
            if model == "standard"
            for price in ("0.2", "7")
        ]
        by_catalogue = self.catalogue.own(self.currency) if self.catalogue.plays else None
        if by_catalogue and self.catalogue.cascades.random() < 0.3:
            return by_catalogue
        return self.more.choice([{"amount": 1_234, "metric": ""}, {"amount": 23_456, "metric": ""}, *prices])

    def _any(self) -> dict[str, Any]:
        choices = {
            self._use: 24 if self.plays & {"progressive", "in_advance"} else 14,
            self._move: 10,
            self._coupon: 2,
            self._wallet: 2,
            self._top_up: 1,
            self._end: 1,
            self._change: 2,
            self._subscribe: 1,
            self._again: 1,
            self._amend: 1,
            self._end_wallet: 0.3,
            self._void_credits: 0.7,
            self._buy: 1,
            self._seats: 1.5,
            self._pay: 3,
            self._void: 1,
            self._again_bill: 1,
            self._note: 1.5,
            self._price: 2 if "prices" in self.plays or self.has_own_plans else 0,
            self._finalize: 1 if "drafts" in self.plays else 0,
            self._refresh: 1 if "drafts" in self.plays else 0,
            self._drop_coupon: 0.5,
        }
        made: dict[str, Any] = self.random.choices(list(choices), list(choices.values()))[0]()
        return made

    def _use(self) -> dict[str, Any]:
        self.events.append(self._name("event"))
        subscription = self._some(*self.subscriptions)
        metrics = self._some(True, True, True, False) and self.priced[self.plan_of[subscription]]
        metrics = metrics or [each["code"] for each in METRICS]
        return {
            "do": "use",
            "id": self.events[-1],
            "subscription": subscription,
            "metric": self._some(*metrics),
            "model": self._some("", "a", "b", "z") if "filters" in self.plays else "",
            "ago": self._some(0, 0, 0, self.random.randint(1, 3_600), self.random.randint(1, 20 * DAY)),
            "value": self._some("1", "3", "10", "0.25", "51", "5", "1234.5"),
        }

    def _again(self) -> dict[str, Any]:
        return {"do": "again", "id": self._some(*self.events) if self.events else ""}

    def _amend(self) -> dict[str, Any]:
        event = self._some(*self.events) if self.events else ""
        return {
            "do": "amend",
            "id": self._name("fix"),
            "event": event,
            "value": self._some(None, "2", "77.7"),
        }

    def _move(self) -> dict[str, Any]:
        most = self._some(DAY, 5 * DAY, 20 * DAY, 45 * DAY, 200 * DAY)
        stops = self.random.random() < 0.15
        return {"do": "move", "seconds": self.random.randint(1, most), "stops": stops}

    def _coupon(self) -> dict[str, Any]:
        limit = self._some("", "", "plan", "metric")
        codes = {"": [""], "plan": self.plans, "metric": [each["code"] for each in METRICS]}
        kind = self._some("fixed_amount", "percentage")
        self.coupons.append(self._name("coupon"))
        return {
            "do": "coupon",
            "id": self.coupons[-1],
            "customer": self._some(*self.customers),
            "kind": kind,
            "value": self._some("500", "1", "12345")
            if kind == "fixed_amount"
            else self._some("10", "33.333", "100"),
            "frequency": self._some("once", "recurring", "forever"),
            "uses": self._some(1, 3),
            "limit": limit,
            "code": self._some(*codes[limit]),
        }

    def _wallet(self) -> dict[str, Any]:
        self.wallets.append(self._name("wallet"))
        return {
            "do": "wallet",
            **self.receivables.named(),
            "id": self.wallets[-1],
            "customer": self._some(*self.customers),
            "rate": self._some("1", "0.5", "2.5"),
            "priority": self._some(1, 50, 50),
            "granted": self._credits(),
            "kinds": self._some([], [], ["subscription"], ["charge"], ["fixed_charge", "commitment"]),
            "metrics": self._some([], [], [], ["tokens"]),
            "rule": self._rule(),
            "lives": self._some(0, 0, self.random.randint(DAY, 100 * DAY)),
        }

    def _rule(self) -> dict[str, Any] | None:
        rule = self._some_rule() if "wallet_rules" in self.plays and self._some(True, False) else None
        return below(self.below) if "progressive" in self.plays and self.below.random() < 0.4 else rule

    def _some_rule(self) -> dict[str, Any]:
        if "progressive" not in self.plays and self._some(True, False):
            return below(self.random)
        granted = self._some("0", "4", "2.22222")
        return {
            "trigger": "interval",
            "interval": self._some(*INTERVALS),
            "granted": granted,
            "paid": "10" if granted == "0" else self._some("0", "10"),
        }

    def _credits(self) -> str:
        return str(self._some("10", "33.33333", "500", "0.07"))

    def _top_up(self) -> dict[str, Any]:
        return {
            "do": "top_up",
            "wallet": self._some(*self.wallets) if self.wallets else "",
            "granted": self._credits(),
        }

    def _void_credits(self) -> dict[str, Any]:
        return {
            "do": "void_credits",
            "wallet": self._some(*self.wallets) if self.wallets else "",
            "credits": self._some("3", "0.77777", "16.66666"),
        }

    def _end_wallet(self) -> dict[str, Any]:
        return {"do": "end_wallet", "wallet": self._some(*self.wallets) if self.wallets else ""}

    def _end(self) -> dict[str, Any]:
        return {
            "do": "end",
            "subscription": self._some(*self.subscriptions),
            "no_bill": self._some(False, False, True),
            "note": self._some("credit", "credit", "refund", "offset", "skip"),
        }

    def _buy(self) -> dict[str, Any]:
        return {
            "do": "buy",
            "wallet": self._some(*self.wallets) if self.wallets else "",
            "paid": self._credits(),
        }

    def _pay(self) -> dict[str, Any]:
        return {"do": "pay", "bill": self.random.randint(0, 30), "share": self._some("1", "1", "1/2", "1/7")}

    def _void(self) -> dict[str, Any]:
        return {"do": "void", "bill": self.random.randint(0, 30)}

    def _again_bill(self) -> dict[str, Any]:
        return {"do": "again_bill", "voided": self.random.randint(0, 30)}

    def _finalize(self) -> dict[str, Any]:
        return {"do": "finalize", "draft": self.random.randint(0, 30)}

    def _refresh(self) -> dict[str, Any]:
        return {"do": "refresh", "draft": self.random.randint(0, 30)}

    def _note(self) -> dict[str, Any]:
        share = self._some("1", "1/2", "1/3")
        return {
            "do": "note",
            "bill": self.random.randint(0, 30),
            "share": share,
            "as": self._some("credit", "refund", "offset"),
        }

    def _drop_coupon(self) -> dict[str, Any]:
        return {"do": "drop_coupon", "coupon": self._some(*self.coupons) if self.coupons else ""}

    def _change(self) -> dict[str, Any]:
        subscription, plan = self._some(*self.subscriptions), self._some(*self.plans)
        self.plan_of[subscription] = plan
        more = {**self.gates.change(subscription), **self.receivables.named()}
        return {"do": "change", "subscription": subscription, "plan": plan, **more}
