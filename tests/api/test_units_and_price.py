"""Units by their price are the amount, wherever both are shown: every aggregation, time of billing and price.

One random history is read on all surfaces: fees, usage, past and daily usage, estimates, explanations and the PDF's
lines. docs/rounding.md says what a price per unit is of.
"""

from __future__ import annotations

import random
from collections import defaultdict
from contextlib import closing
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from typing import Any
from uuid import UUID

import pytest

from permille.core.instants import microseconds
from permille.events.draft import Draft
from permille.events.log import Request
from permille.events.postgres.writer import Memory, open_connection, store
from permille.out.pdf.assembly import invoice_document
from permille.out.pdf.document import PackagePrice

from .conftest import START, Server, charge, join

PRICE = Decimal("0.37")
RULES = {"total_units": "state.total_units + event.properties.v"}
METRICS: dict[str, dict[str, Any]] = {
    "count": {"aggregation_type": "count_agg"},
    "sum": {"aggregation_type": "sum_agg"},
    "sum_ever": {"aggregation_type": "sum_agg", "recurring": True},
    "max": {"aggregation_type": "max_agg"},
    "latest": {"aggregation_type": "latest_agg"},
    "unique": {"aggregation_type": "unique_count_agg"},
    "unique_ever": {"aggregation_type": "unique_count_agg", "recurring": True},
    "weighted": {"aggregation_type": "weighted_sum_agg", "weighted_interval": "seconds"},
    "custom": {"aggregation_type": "custom_agg", "custom_aggregator": RULES},
}
TIERS = {
    tiers: [
        {"from_value": 0, "to_value": 3, "per_unit_amount": "0.37", "flat_amount": flat},
        {"from_value": 4, "to_value": None, "per_unit_amount": "0.2", "flat_amount": "1.5"},
    ]
    for tiers, flat in (("graduated_ranges", "0"), ("volume_ranges", "0.4"))
}
PRICES: dict[str, dict[str, Any]] = {
    "standard": {"amount": str(PRICE)},
    "package": {"amount": "0.5", "package_size": 3, "free_units": 1},
    "graduated": {"graduated_ranges": TIERS["graduated_ranges"]},
    "volume": {"volume_ranges": TIERS["volume_ranges"]},
    "percentage": {
        "rate": "12.5",
        "fixed_amount": "0.1",
        "free_units_per_events": 1,
        "free_units_per_total_aggregation": None,
    },
}
IN_ADVANCE = ("count", "sum", "sum_ever", "unique", "unique_ever", "custom")
DAILY_LEVELS = ("sum_ever", "unique_ever", "latest")
DAILY_SUMS = ("count", "sum", "custom")


def charges_on(metrics: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """A charge for everything that can be together, by a code that says what it is."""
    found: dict[str, dict[str, Any]] = {}
    for name, metric in metrics.items():
        for model, properties in PRICES.items():
            if model == "percentage" and name == "latest":
                continue
            terms = {"charge_model": model, "properties": properties}
            found[f"{name}-{model}"] = charge(metric, **terms)
            if name in IN_ADVANCE and model != "volume":
                found[f"{name}-{model}-advance"] = charge(metric, pay_in_advance=True, **terms)
            if METRICS[name].get("recurring") and model in ("standard", "graduated", "volume"):
                found[f"{name}-{model}-prorated"] = charge(metric, prorated=True, **terms)
        if METRICS[name].get("recurring"):
            found[f"{name}-prorated-advance"] = charge(metric, pay_in_advance=True, prorated=True)
    return {code: {**each, "code": code} for code, each in found.items()}


class World:
    """One customer with every charge, and what was sent."""

    def __init__(self, server: Server, rounding: str) -> None:
        self.server, self.api, self.sent = server, join(server, "Shown"), 0
        fields = {"field_name": "v"}
        metrics = {
            name: self.api.metric(name, **({"field_name": None} if name == "custom" else fields), **terms)
            for name, terms in METRICS.items()
        }
        self.charges = charges_on(metrics)
        rounded = [{**each, "rounding": rounding} for each in self.charges.values()]
        made = self.api.plan("pro", rounded)
        self.codes = {each["lago_id"]: each["code"] for each in made["charges"]}
        self.api.customer()
        self.api.subscribe(subscription_at=START.isoformat())

    def send(self, code: str, at: datetime, properties: Any) -> str:
        self.sent += 1
        name = f"shown-{self.sent}"
        draft = Draft(name, code, "sub", microseconds(at), None, properties)
        with closing(open_connection(self.server.dsn)) as conn:
            store(conn, Memory(), [Request(self.api.organization.id, [draft], microseconds(at))])
        return name

    def move(self, at: datetime) -> None:
        self.api.put("/test_clock", {"test_clock": {"now": at.isoformat()}})

    def fees(self, **search: Any) -> list[Any]:
        found: list[Any] = []
        page: int | None = 1
        while page:
            answer = self.api.get("/fees", fee_type="charge", per_page=1000, page=page, **search)
            found += answer["fees"]
            page = answer["meta"]["next_page"]
        return found

    def code_of(self, fee: Any) -> str:
        return str(self.codes[fee["lago_charge_id"]])

    def model_of(self, fee: Any) -> str:
        return str(self.charges[self.code_of(fee)]["charge_model"])


def amount_of(cents: int) -> Decimal:
    return Decimal(cents) / 100


def check_price(fee: Any, model: str, *, is_of_event: bool, rounding: str) -> None:
    """The units at the price of one come to the amount: exactly, or rounded as the price is."""
    units, price = Decimal(fee["units"]), Decimal(fee["precise_unit_amount"])
    precise, rounded = Decimal(fee["precise_amount"]), amount_of(fee["amount_cents"])
    if rounding == "per_fee":
        assert rounded == precise.quantize(Decimal("0.01"), ROUND_HALF_UP), fee
    if model == "package" and fee["amount_details"].get("per_package_size"):
        paid = Decimal(fee["amount_details"]["paid_units"])
        units = max(paid, Decimal(0))
    expected = rounded if is_of_event and rounding == "per_fee" else precise
    if not units:
        assert not price, fee
        assert not expected or model in ("graduated", "volume"), "without units only flat amounts are due"
        return
    assert abs(units * price - expected) <= abs(units) * Decimal("1e-15") + Decimal("1e-15"), fee


def check_line(line: Any, rounding: str) -> None:
    """What the PDF prints of a fee."""
    price, amount = line.price, amount_of(line.amount_cents)
    if isinstance(price, PackagePrice):
        assert price.amount * price.packages == amount, line
    elif line.units:
        product, cent = line.units * price.amount, Decimal("0.01")
        within = cent if rounding == "per_charge" else cent / 2
        assert abs(product - amount) <= within + abs(line.units) * Decimal("1e-15"), line
        if rounding == "per_fee" and not price.is_average:
            assert product.quantize(cent, ROUND_HALF_UP) == amount, line


VALUES = [1, 2, 7, "3.25", -4, "-0.5", "word", "", None]


def script(chance: random.Random) -> list[tuple[str, dict[str, Any]]]:
    """Codes and properties of some events."""
    found = []
    for _ in range(9):
        sent = {"v": chance.choice(VALUES)} if chance.random() < 0.9 else {}
        if chance.random() < 0.4:
            sent["operation_type"] = chance.choice(["add", "remove"])
        found.append((chance.choice(sorted(METRICS)), sent))
    return found


@pytest.mark.parametrize(("seed", "rounding"), [(0, "per_fee"), (1, "per_charge")])
def test_shown_units_at_the_shown_price_are_the_shown_amount(server, seed, rounding):
    world, chance = World(server, rounding), random.Random(seed)
    for month in (3, 4):
        at = datetime(2024, month, 6, 12, tzinfo=UTC)
        for code, sent in script(chance):
            at += timedelta(minutes=1)
            check_event(world, code, at, sent, rounding)
        check_usage(world, month)
        used = usage_of(world)
        world.move(datetime(2024, month + 1, 1, 1, tzinfo=UTC))
        check_bills(world, month, used, rounding)


def check_event(world: World, code: str, at: datetime, sent: Any, rounding: str) -> None:
    """An event's fees are what was estimated, and add up."""
    world.move(at)
    event = {"code": code, "external_subscription_id": "sub", "properties": sent}
    answer = world.api.call("POST", "/events/estimate_fees", {"event": event})
    estimated = answer.json().get("fees", [])
    transaction = world.send(code, at, sent)
    world.move(at)
    made = {fee["lago_charge_id"]: fee for fee in world.fees(event_transaction_id=transaction)}
    for each in estimated:
        fee = made.get(each["lago_charge_id"])
        shown = ("units", "amount_cents", "precise_unit_amount")
        nothing = {"units": "0.0", "amount_cents": 0, "precise_unit_amount": "0.0"}
        assert [each[name] for name in shown] == [(fee or nothing)[name] for name in shown], (each, fee)
        check_price(each, "", is_of_event=True, rounding=rounding)
    for fee in made.values():
        check_price(fee, "", is_of_event=True, rounding=rounding)
        check_explanation(world, fee)
    if answer.status_code == 200:
        check_instant(world, event)


def check_instant(world: World, event: Any) -> None:
    answer = world.api.call("POST", "/events/estimate_instant_fees", {"event": event})
    for each in answer.json().get("fees", []):
        units, cents = Decimal(each["units"]), Decimal(each["precise_unit_amount"])
        precise = Decimal(each["precise_amount"]) * 100
        if units:
            assert abs(units * cents - precise) <= abs(units) * Decimal("1e-13"), each
        else:
            assert precise in (0, 10), "without units a percentage has its fixed amount"


def check_explanation(world: World, fee: Any) -> None:
    found = world.api.get(f"/fees/{fee['lago_id']}/explanation", per_page=1)["fee_explanation"]
    total = sum((Decimal(step["amount"]) for step in found["formula"]), Decimal(0))
    assert total == amount_of(fee["amount_cents"]), found
    assert found["recomputed"]["is_same"], found


def usage_of(world: World) -> dict[str, tuple[Decimal, int]]:
    found = world.api.get("/customers/cus/current_usage", external_subscription_id="sub")["customer_usage"]
    return {
        each["charge"]["code"]: (Decimal(each["units"]), each["amount_cents"])
        for each in found["charges_usage"]
    }


def check_usage(world: World, month: int) -> None:
    """Days come to the units of the period, where they can be added up or the last one is what there is."""
    used = usage_of(world)
    days: dict[str, list[Decimal]] = defaultdict(list)
    path = "/subscriptions/sub/daily_usage"
    for each in world.api.get(path, per_page=100, to_date=f"2024-{month:02}-28")["daily_usage"]:
        for line in each["charges_usage"]:
            days[line["charge"]["code"]].append(Decimal(line["units"]))
    for code, (units, _) in used.items():
        metric = code.split("-", maxsplit=1)[0]
        if metric in DAILY_SUMS:
            assert max(sum(days[code]), 0) == max(units, 0), code
        elif metric in DAILY_LEVELS:
            assert max(days[code][-1], 0) == units, code
        elif metric == "unique":
            assert sum(days[code]) == units, code


def check_bills(world: World, month: int, used: dict[str, tuple[Decimal, int]], rounding: str) -> None:
    """Fees of the period that is over and of the next one's start, past usage, and the lines of their invoices."""
    found = world.fees()
    own = [fee for fee in found if fee["from_date"].startswith(f"2024-{month:02}")]
    totals: dict[str, tuple[Decimal, int]] = {}
    for fee in own:
        code = world.code_of(fee)
        units, cents = totals.get(code, (Decimal(0), 0))
        totals[code] = units + Decimal(fee["units"]), cents + fee["amount_cents"]
    for fee in found:
        of_event = fee["event_transaction_id"] is not None
        check_price(fee, world.model_of(fee), is_of_event=of_event, rounding=rounding)
        check_explanation(world, fee)
    for code, (units, cents) in used.items():
        if "weighted" in code:
            continue
        if not code.endswith("advance"):
            assert totals.get(code, (Decimal(0), 0)) == (units, cents), code
        elif rounding == "per_charge":
            assert abs(totals.get(code, (Decimal(0), 0))[1] - cents) <= 1, code
    world.server.conn.rollback()
    for invoice in world.api.get("/invoices", per_page=1000)["invoices"]:
        for section in invoice_document(world.server.conn, UUID(invoice["lago_id"])).sections:
            for group in section.groups:
                for line in group.lines:
                    check_line(line, rounding)
