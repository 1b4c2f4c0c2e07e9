"""What some worlds have besides, by a chance of its own: other worlds stay what they are."""

from __future__ import annotations

from collections.abc import Callable
from random import Random
from typing import Any

DAY = 86_400
LLM: dict[str, Any] = {
    "do": "metric",
    "code": "llm_tokens",
    "kind": "sum_agg",
    "recurring": False,
    "models": ["m1", "m2"],
}
UNIT: dict[str, Any] = {"do": "unit", "code": "credits"}
OF_A_TIER = {"provider": "acme", "model": "m1", "type": "output", "tier": "batch", "amount": "4.4"}
KINDS = ("input", "output", "cached_input", "reasoning")


def below(chance: Random) -> dict[str, Any]:
    """A rule of a wallet that is topped up once it has fallen to a threshold."""
    rule = {
        "trigger": "threshold",
        "threshold": chance.choice(["0", "5", "20"]),
        "target": chance.choice(["", "25", "60.5"]),
        "grants": chance.choice([True, False]),
        "paid": chance.choice(["10", "3"]),
        "granted": chance.choice(["0", "2"]),
    }
    only_grants = rule["granted"] == "2" and rule["threshold"] == "20"
    return {**rule, "paid": "0"} if only_grants else rule


class Gates:
    """Writes starts that have to be paid first, and what becomes of them."""

    def __init__(self, seed: int) -> None:
        self.random = Random(f"gates {seed}")
        self.plays = self.random.random() < 0.6
        self.changes = Random(f"gated changes {seed}")
        self.is_late = Random(f"late payers {seed}").random() < 0.5
        """Whether what has to be paid first is paid late."""
        self.gated: list[str] = []

    def rule(self, name: str) -> dict[str, Any]:
        """The rule of a start, if it has one: it waits for so many hours, or (0) as long as it takes."""
        if not self.plays or self.random.random() > 0.7:
            return {}
        self.gated.append(name)
        return {"timeout": self.random.choice([0, 0, 2_000] if self.is_late else [0, 5, 48, 400])}

    def change(self, name: str) -> dict[str, Any]:
        """The rule of a change of plan, if it has one."""
        if not self.plays or self.changes.random() > 0.8:
            return {}
        self.gated.append(name)
        return {"timeout": self.changes.choice([0, 0, 48, 400])}

    def then(self, subscriptions: list[str], plans: list[str]) -> dict[str, Any] | None:
        if self.plays and self.changes.random() < 0.12:
            name = self.changes.choice(subscriptions)
            plan = self.changes.choice(plans)
            return {"do": "change", "subscription": name, "plan": plan, **self.change(name)}
        if not self.gated or self.random.random() > (0.1 if self.is_late else 0.4):
            return None
        kind = self.random.choice(["pay_gate", "pay_gate", "fail_gate"])
        return {"do": kind, "subscription": self.random.choice([*self.gated, *self.gated[-1:] * 3])}


class Catalogue:
    """Writes price files, charges by them, and calls of models."""

    def __init__(self, seed: int) -> None:
        self.random = Random(f"catalogue {seed}")
        self.more = Random(f"catalogue with filters {seed}")
        self.plays = self.random.random() < 0.4
        self.corrects = self.more.random() < 0.5
        """Whether price files hold from past days on, and invoices are corrected by them."""
        self.tiers = Random(f"catalogue with tiers {seed}")
        self.units = Random(f"catalogue in units {seed}")
        self.unknown = Random(f"catalogue without prices {seed}")
        self.cascades = Random(f"cascades of the catalogue {seed}")
        self.has_tiers = self.tiers.random() < 0.5
        self.has_units = self.units.random() < 0.3
        self.has_unknown = self.unknown.random() < 0.5
        """Whether there is usage of a model that few price files know."""
        self.versions = 0

    def begins(self) -> list[dict[str, Any]]:
        begins = [LLM, {**self.version(), "days": -400}] if self.plays else []
        return [*begins, UNIT] if self.plays and self.has_units else begins

    def version(self) -> dict[str, Any]:
        """Prices in billionths of a dollar; from one file to the next they change by less than an outlier does."""
        self.versions += 1
        chance = self.random
        prices: dict[str, Any] = {
            "m1": {"input": chance.randint(2_000, 9_000), "output": chance.randint(5_000, 30_000)},
            "m2": {"input": chance.choice([150, 300]), "output": chance.choice([600, 1_001])},
        }
        prices["m1"]["cached_input"] = prices["m1"]["input"] // 4
        if self.has_tiers:
            self._add_tiers(prices)
        if self.has_unknown and self.versions > 1 and self.unknown.random() < 0.5:
            prices["m3"] = {"input": 700, "output": 2_100}
        days = chance.choice([0, 1, 3, 30, -1, -5, -20])
        return {"do": "version", "label": f"file {self.versions}", "prices": prices, "days": days}

    def _add_tiers(self, prices: dict[str, Any]) -> None:
        for name, share in (("input batch", 2), ("output flex", 3), ("cached_input batch", 5)):
            kind = name.partition(" ")[0]
            if kind in prices["m1"] and self.tiers.random() < 0.7:
                prices["m1"][name] = prices["m1"][kind] // share
        if self.tiers.random() < 0.5:
            prices["m2"]["input priority"] = 2 * prices["m2"]["input"]

    def charge(self, currency: str) -> dict[str, Any]:
        models = self.more.choice([[], [["m1"]], [["m2"], ["m1"]]])
        return {
            "metric": "llm_tokens",
            "model": "catalogue",
            "terms": self._terms(currency, self.random),
            "minimum": self.random.choice([0, 0, 7_777]),
            "advance": False,
            "filters": [{"models": each, "terms": self._terms(currency, self.more)} for each in models],
            "invoiceable": True,
            "unit": self.units.choice(["0.5", "0.0075", "3"]) if self.has_units else "",
        }

    def _terms(self, currency: str, chance: Random, unpriced: str = "") -> dict[str, Any]:
        markup_by = [
            {"model": "m1", "markup": "1.35"},
            {"type": "output", "markup": "0.9"},
            {"model": "m1", "type": "cached_input", "markup": "2"},
        ]
        own = [
            {"provider": "acme", "model": "m2", "type": "output", "amount": amount, "from": day}
            for amount, day in (("7.77", "2024-04-11"), ("8.88", "2024-06-01"))
        ]
        terms: dict[str, Any] = {
            "markup": chance.choice(["1", "1.2", "0.333"]),
            "markup_by": chance.sample(markup_by, chance.choice([0, 1, 3])),
            "prices": chance.sample(own, chance.choice([0, 1, 2])),
            "unpriced": unpriced or (self.unknown.choice(["hold", "free"]) if self.has_unknown else "hold"),
        }
        if self.has_tiers and not unpriced:
            terms["markup_by"] += self.tiers.choice([[], [{"tier": "batch", "markup": "1.1"}]])
            terms["prices"] += self.tiers.choice([[], [OF_A_TIER]])
        if currency != "USD":
            terms["exchange_rate"] = chance.choice(["0.9", "151.37", "1"])
        return terms

    def _price_of_unknown(self, plans: list[str]) -> dict[str, Any]:
        amount = self.unknown.choice(["1.5", "22"])
        prices = [
            {"provider": "acme", "model": "m3", "type": kind, "amount": amount}
            for kind in ("input", "output")
        ]
        return {
            "do": "price_unknown",
            "plan": self.unknown.choice(plans),
            "metric": "llm_tokens",
            "prices": prices,
            "when": self.unknown.choice(["now", "now", "now", "next_period"]),
            "cascade": self.cascades.random() < 0.7,
        }

    def own(self, currency: str) -> dict[str, Any]:
        """What a subscription's own plan says otherwise of the charge by the catalogue."""
        terms = self._terms(currency, self.cascades, unpriced=self.cascades.choice(["hold", "free"]))
        return {"amount": 0, "metric": "llm_tokens", "terms": terms}

    def reprices(self, plans: list[str], currency: str) -> dict[str, Any] | None:
        """What may follow an action: other terms of a charge by the catalogue, which own plans follow or don't."""
        chance = self.cascades
        if not self.plays or chance.random() > 0.06:
            return None
        return {
            "do": "price",
            "plan": chance.choice(plans),
            "metric": "llm_tokens",
            "model": "catalogue",
            "terms": self._terms(currency, chance, unpriced=chance.choice(["hold", "hold", "free"])),
            "when": chance.choice(["now", "now", "now", "next_period", "20"]),
            "cascade": chance.random() < 0.7,
        }

    def then(self, name: str, subscriptions: list[str], plans: list[str]) -> dict[str, Any] | None:
        """What may follow an action: a call of a model, a price file, or prices of an unknown model."""
        if not self.plays or self.random.random() > (0.8 if self.corrects else 0.3):
            return None
        if self.corrects and self.random.random() < 0.25:
            return {"do": "correct", "version": self.random.choice([0, 0, 0, 1, 2])}
        if self.random.random() < (0.25 if self.corrects else 0.15):
            late = {"days": self.random.choice([-10, -90, -300])} if self.corrects else {}
            return {**self.version(), **late}
        if self.has_unknown and self.unknown.random() < 0.12:
            return self._price_of_unknown(plans)
        chance = self.random
        model = chance.choice(["m1", "m2"])
        return {
            "do": "call",
            "id": name,
            "subscription": chance.choice(subscriptions),
            "metric": "llm_tokens",
            "model": "m3" if self.has_unknown and self.unknown.random() < 0.4 else model,
            "tier": self.tiers.choice(["", "batch", "flex", "priority"]) if self.has_tiers else "",
            "type": chance.choice(KINDS),
            "ago": chance.choice([0, 0, chance.randint(1, 20 * DAY)]),
            "value": str(chance.randint(1, 5_000_000)),
        }


class Schedules:
    """Writes changes of prices from past and coming days on, back to the price of today, and cancels them."""

    def __init__(self, seed: int) -> None:
        self.random = Random(f"scheduled prices {seed}")
        self.plays = self.random.random() < 0.5

    def then(self, models: dict[str, dict[str, str]], terms: Callable[[str, Random], Any]) -> Any:
        """What may follow an action. `models` has the charge models of plans by metric; `terms` makes prices of one."""
        chance = self.random
        if not self.plays or chance.random() > 0.25:
            return None
        priced = [(plan, *each) for plan, own in models.items() for each in sorted(own.items())]
        if not priced:
            return None
        plan, metric, model = chance.choice([*priced, *priced[:1] * len(priced)])
        where = {"plan": plan, "metric": metric, "model": model, "cascade": chance.random() < 0.6}
        match chance.choice(["price", "price", "price", "price_back", "cancel_price"]):
            case "price":
                # few of them, so that prices meet again
                prices = [terms(model, Random(f"{metric} {number}")) for number in range(2)]
                when = chance.choice(["now", "now", "next_period", "-3", "-40", "-120", "20", "45", "90"])
                return {"do": "price", **where, "terms": chance.choice(prices), "when": when}
            case "price_back":
                return {"do": "price_back", **where, "when": chance.choice(["25", "50", "95"])}
        return {"do": "cancel_price", **where, "change": chance.randint(0, 5)}


class LateUsages:
    """Writes events of periods before, and decisions about them."""

    def __init__(self, seed: int) -> None:
        self.random = Random(f"late usage {seed}")
        self.plays = self.random.random() < 0.6

    def then(self, name: str, subscriptions: list[str], metrics: list[str]) -> dict[str, Any] | None:
        """What may follow an action. `metrics` are those that plans have prices of."""
        chance = self.random
        if not self.plays or not metrics or chance.random() > 0.5:
            return None
        if chance.random() < 0.5:
            decide = chance.choice(["bill", "bill", "bill", "accept"])
            return {"do": "late", "late": chance.randint(0, 30), "decide": decide}
        return {
            "do": "use",
            "id": name,
            "subscription": chance.choice(subscriptions),
            "metric": chance.choice(metrics),
            "model": chance.choice(["", "a", "z"]),
            "ago": chance.randint(1, 70 * DAY),
            "value": chance.choice(["1", "3", "0.25", "51", "1234.5"]),
        }


class Fees:
    """Writes edits of plans' own fees, from now on, from the next period and from other days on."""

    def __init__(self, seed: int) -> None:
        self.random = Random(f"fees of plans {seed}")
        self.plays = self.random.random() < 0.5

    def then(self, plans: list[str]) -> dict[str, Any] | None:
        """What may follow an action."""
        chance = self.random
        if not self.plays or chance.random() > 0.15:
            return None
        return {
            "do": "fee",
            "plan": chance.choice(plans),
            # few of them, so that fees meet again
            "amount": chance.choice([0, 999, 12_345, 23_456, 50_001]),
            "when": chance.choice(["now", "now", "now", "next_period", "-40", "20", "45"]),
            "cascade": chance.random() < 0.6,
        }


class Previews:
    """Writes previews: of the next invoice, of an end to come, of a change of plan, and of a plan that is offered."""

    def __init__(self, seed: int) -> None:
        self.random = Random(f"previews {seed}")
        self.plays = self.random.random() < 0.6
        self.more = Random(f"previews with coupons {seed}")

    def then(
        self,
        subscriptions: list[str],
        plans: list[str],
        customers: list[str],
        coupons: list[str],
        somebody: dict[str, Any],
    ) -> dict[str, Any] | None:
        """What may follow an action. `somebody` says who it may be offered to that is no customer."""
        chance = self.random
        if not self.plays or chance.random() > 0.3:
            return None
        preview = {
            "do": "preview",
            "of": chance.choice(["next", "next", "end", "change", "offer"]),
            "coupons": self._coupons(coupons),
        }
        if preview["of"] == "offer":
            offer: dict[str, Any] = {
                "plan": chance.choice(plans),
                "time": chance.choice(["calendar", "anniversary"]),
            }
            offer["ahead"] = self.more.randint(1, 60 * DAY) if self.more.random() < 0.4 else 0
            is_known = chance.random() < 0.5
            who = {"customer": chance.choice(customers), "stranger": None if is_known else somebody}
            return {**preview, **offer, **who}
        share, plan = chance.choice(["0", "1/3", "9/10"]), chance.choice(plans)
        return {**preview, "subscription": chance.choice(subscriptions), "plan": plan, "share": share}

    def _coupons(self, known: list[str]) -> list[dict[str, Any]]:
        """Those that are taken off, as if there were no others: known ones, and ones that don't exist."""
        chance = self.more
        if chance.random() > 0.4:
            return []
        made = [
            {"id": "maybe1", "kind": "fixed_amount", "value": chance.choice(["700", "25000"])},
            {"id": "maybe2", "kind": "percentage", "value": chance.choice(["15", "3.333"])},
        ]
        frequency = {"frequency": chance.choice(["once", "recurring"]), "uses": 2, "limit": "", "code": ""}
        chosen = chance.sample(made, chance.choice([0, 1, 1, 2]))
        old = [{"id": chance.choice(known)}] if known and (not chosen or chance.random() < 0.4) else []
        return [*old, *({**each, **frequency} for each in chosen)]


class Receivables:
    """Writes billing entities, customers that move among them, requests to pay what is overdue, and lost disputes."""

    def __init__(self, seed: int) -> None:
        self.random = Random(f"receivables {seed}")
        self.plays = self.random.random() < 0.5
        self.own = Random(f"entities of subscriptions {seed}")
        self.names = self.plays and self.own.random() < 0.6
        """Whether subscriptions and wallets name entities themselves."""

    def begins(self) -> list[dict[str, Any]]:
        taxes = self.random.choice([[], ["gst"], ["vat", "odd"]])
        term = self.random.choice([0, 3, 30])
        return [{"do": "entity", "code": "north", "taxes": taxes, "term": term}] if self.plays else []

    def customer(self) -> dict[str, Any]:
        """Whose a customer is, and within how many days it has to pay."""
        if not self.plays:
            return {"entity": "default", "term": None}
        return {
            "entity": self.random.choice(["default", "north"]),
            "term": self.random.choice([None, None, 0, 10]),
        }

    def named(self) -> dict[str, Any]:
        """The billing entity that a subscription or a wallet names itself, if any."""
        if not self.names or self.own.random() > 0.4:
            return {}
        return {"entity": self.own.choice(["default", "north"])}

    def names_another(self, subscriptions: list[str]) -> dict[str, Any] | None:
        """A subscription names another entity, or its customer's again."""
        if not self.names or self.own.random() > 0.15:
            return None
        entity = self.own.choice(["default", "north", None])
        return {"do": "bill_by", "subscription": self.own.choice(subscriptions), "entity": entity}

    def then(self, customers: list[str]) -> dict[str, Any] | None:
        """What may follow an action."""
        chance = self.random
        if not self.plays or chance.random() > 0.2:
            return None
        customer = chance.choice(customers)
        match chance.choice(["move_customer", "request", "request", "lose"]):
            case "move_customer":
                entity = chance.choice(["default", "north"])
                return {"do": "move_customer", "customer": customer, "entity": entity}
            case "request":
                return {"do": "request", "customer": customer}
        return {"do": "lose", "bill": chance.randint(0, 30)}


class Dunning:
    """Writes dunning campaigns, and to whom they apply."""

    def __init__(self, seed: int) -> None:
        self.random = Random(f"dunning {seed}")
        self.plays = self.random.random() < 0.5
        self.edits = Random(f"edits of campaigns {seed}")

    def begins(self, currency: str) -> list[dict[str, Any]]:
        if not self.plays:
            return []
        chance = self.random
        made = [
            {"code": "mild", "threshold": 50_000, "days": 12, "attempts": 2},
            {"code": "hard", "threshold": 1, "days": 1, "attempts": 3},
        ]
        applied = {
            "do": "dun_by",
            "of": "entity",
            "name": "default",
            "campaign": chance.choice(["mild", "hard"]),
        }
        return [*({"do": "campaign", "currency": currency, **each} for each in made), applied]

    def then(self, customers: list[str]) -> dict[str, Any] | None:
        """What may follow an action."""
        chance = self.random
        if not self.plays or chance.random() > 0.08:
            return None
        of = chance.choice(["customer", "customer", "entity"])
        name = chance.choice(customers if of == "customer" else ["default", "north"])
        return {"do": "dun_by", "of": of, "name": name, "campaign": chance.choice(["mild", "hard", None])}

    def edited(self, customers: list[str], currency: str) -> dict[str, Any] | None:
        """Another name or other terms of a campaign, its end, or a customer that is left out."""
        chance = self.edits
        if not self.plays or chance.random() > 0.12:
            return None
        campaign = chance.choice(["mild", "hard"])
        match chance.choice(["edit_campaign", "edit_campaign", "exclude", "exclude", "drop_campaign"]):
            case "edit_campaign":
                terms = {"threshold": [1, 10_000], "days": [1, 5, 30], "attempts": [1, 2, 4]}
                chosen = chance.sample(sorted(terms), chance.choice([0, 1, 1, 3]))
                return {
                    "do": "edit_campaign",
                    "campaign": campaign,
                    "name": chance.choice([campaign, "other"]),
                    "currency": currency,
                    "terms": {each: chance.choice(terms[each]) for each in chosen},
                }
            case "exclude":
                return {
                    "do": "exclude",
                    "customer": chance.choice(customers),
                    "is_out": chance.random() < 0.6,
                }
        is_rare = chance.random() < 0.3
        return {"do": "drop_campaign", "campaign": campaign} if is_rare else None


class OneOffs:
    """Writes invoices of add-ons, and invoices of all kinds that are voided with credit notes."""

    def __init__(self, seed: int) -> None:
        self.random = Random(f"one-off invoices {seed}")
        self.sells = self.random.random() < 0.5
        self.voids = self.random.random() < 0.5

    def begins(self, currency: str) -> list[dict[str, Any]]:
        """Add-ons with prices and taxes of their own."""
        taxes = self.random.choice([[], ["gst"], ["vat", "odd"]])
        sold = [
            {"code": "setup", "cents": 4_990, "taxes": taxes},
            {"code": "visit", "cents": 333, "taxes": []},
        ]
        return [{"do": "add_on", "currency": currency, **each} for each in sold] if self.sells else []

    def then(self, customers: list[str], named: dict[str, Any]) -> dict[str, Any] | None:
        """What may follow an action. `named` is the billing entity of an invoice, if it has one of its own."""
        chance = self.random
        if self.sells and chance.random() < 0.12:
            fees = [self._fee() for _ in range(chance.choice([1, 1, 2, 4]))]
            return {"do": "one_off", "customer": chance.choice(customers), "fees": fees, **named}
        if self.voids and chance.random() < 0.1:
            return {
                "do": "void_with_notes",
                "bill": chance.randint(0, 30),
                "credit": chance.choice(["0", "1", "1/2", "1/7"]),
                "refund": chance.choice(["0", "1", "1/3"]),
            }
        return None

    def _fee(self) -> dict[str, Any]:
        chance = self.random
        return {
            "code": chance.choice(["setup", "visit"]),
            "units": chance.choice(["1", "3", "0.125", "12.345678"]),
            "cents": chance.choice([None, None, 0, 1, 10_001]),
            "taxes": chance.choice([[], [], ["odd"], ["vat", "gst"]]),
        }
