"""The commonest contracts, written as text (docs/contracts), come to the invoices that are written beside them."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator
from datetime import UTC, date, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from permille.core.instants import microseconds
from permille.events.draft import Draft
from permille.events.log import Request
from permille.events.postgres.writer import Memory, open_connection, store

from .conftest import START, Api

FOLDER = Path(__file__).resolve().parents[2] / "docs" / "contracts"
CONTRACTS = sorted(FOLDER.glob("*.toml"))


def table(text: str) -> Iterator[dict[str, str]]:
    """The rows of a table of text by the names in its first line."""
    names, *rows = ([cell.strip() for cell in line.split("|")] for line in text.strip().splitlines())
    for row in rows:
        yield dict(zip(names, row, strict=True))


def without_none(value: Any) -> Any:
    """The value with JSON's null where the text says "none", as TOML has no null."""
    if isinstance(value, dict):
        return {key: without_none(each) for key, each in value.items()}
    if isinstance(value, list):
        return [without_none(each) for each in value]
    return None if value == "none" else value


def move(api: Api, day: date) -> None:
    api.put("/test_clock", {"test_clock": {"now": f"{day.isoformat()}T00:00:00Z"}})


def sell(api: Api, contract: dict[str, Any]) -> None:
    """The metrics, taxes, plans and the customer of the contract, and its subscription."""
    metrics = {each["code"]: api.metric(**each) for each in contract.get("metrics", [])}
    for tax in contract.get("taxes", []):
        api.post("/taxes", {"tax": tax})
    charges = [
        {"billable_metric_id": metrics[charge.pop("metric")]["lago_id"], **charge}
        for charge in contract.get("charges", [])
    ]
    made = api.plan(charges=charges, **contract["plan"])
    for plan in contract.get("other_plans", []):
        api.plan(**plan)
    api.customer(**contract.get("customer", {}))
    agreed = [
        {"id": charge["lago_id"], **contract["agreed"][charge["billable_metric_code"]]}
        for charge in made["charges"]
        if charge["billable_metric_code"] in contract.get("agreed", {})
    ]
    terms: dict[str, Any] = {"plan_overrides": {"charges": agreed}} if agreed else {}
    api.subscribe(plan=contract["plan"]["code"], **terms)


def use(dsn: str, api: Api, events: str) -> None:
    drafts = []
    for number, row in enumerate(table(events)):
        at = datetime.strptime(row.pop("when"), "%Y-%m-%d %H:%M").replace(tzinfo=UTC)
        drafts.append(Draft(f"e{number}", row.pop("code"), "sub", microseconds(at), None, row))
    with open_connection(dsn) as conn:
        store(conn, Memory(), [Request(api.organization.id, drafts, microseconds(START))])


def amount(cents: int) -> str:
    return f"{Decimal(cents) / 100:.2f}"


def line(fee: dict[str, Any]) -> tuple[str, Decimal, str]:
    item = fee["item"]
    what = item["filter_invoice_display_name"] or item["invoice_display_name"]
    return what, Decimal(fee["units"]), amount(fee["amount_cents"])


def test_there_are_the_ten_commonest() -> None:
    assert len(CONTRACTS) >= 10


@pytest.mark.parametrize("path", CONTRACTS, ids=lambda path: path.stem)
def test_a_contract_comes_to_its_invoices(path: Path, api: Api, dsn: str) -> None:
    contract = without_none(tomllib.loads(path.read_text()))
    move(api, contract["starts"])
    sell(api, contract)
    if contract.get("events"):
        use(dsn, api, contract["events"])
    for step in contract.get("then", []):
        move(api, step["on"])
        api.subscribe(plan=step["subscribe_to"])
    move(api, contract["until"])
    listed = api.get("/invoices")["invoices"]
    found = [api.get(f"/invoices/{each['lago_id']}")["invoice"] for each in listed]
    assert {each["status"] for each in found} == {"finalized"}
    shown = [
        (
            each["issuing_date"],
            amount(each["total_amount_cents"]),
            sorted(line(fee) for fee in each["fees"] if Decimal(fee["units"]) and fee["amount_cents"]),
        )
        for each in sorted(found, key=lambda one: one["number"])
    ]
    assert shown == [
        (
            each["issued"].isoformat(),
            each["total"],
            sorted((row["what"], Decimal(row["units"]), row["amount"]) for row in table(each["lines"])),
        )
        for each in contract["invoices"]
    ]
