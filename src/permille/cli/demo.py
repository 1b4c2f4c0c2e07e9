"""`permille demo`: a realistic month through the real HTTP API, checked against an independent sum.

It knows the server only as a client does: JSON over HTTP. What each total must be is computed in demo_month.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import httpx2
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from permille.cli.demo_month import (
    CUSTOMERS,
    LAST_DAY,
    MARKUP,
    MODEL_PLAN,
    MODEL_TOKENS,
    MODELS,
    MONTH,
    NEXT_MONTH,
    PLANS,
    TODAY,
    Batch,
    ModelPrices,
    Month,
    draw_month,
    draw_november,
    expected_cents,
    expected_costs,
)
from permille.config import from_environment
from permille.embedded import own_folder, running
from permille.embedded.postgres import UnableToStartError

CONNECTIONS = 4
NO_MARGIN = {
    "cost_usd": 0,
    "uncosted": [],
    "revenue_amount_cents": 0,
    "margin_amount_cents": 0,
    "margin_share": 0,
}
ADMIN_KEY = "demo-admin"  # the demo's server listens on this machine only
DEMO_ENVIRONMENT = {
    "PERMILLE_ADMIN_KEY": ADMIN_KEY,
    "PERMILLE_DATABASE_URL": "",
    "PERMILLE_ALLOW_ROOT": "true",  # it runs wherever the repository was put, in root's own folder too
}


@dataclass(slots=True)
class Delivery:
    """What the server said to what was sent."""

    counted: int = 0
    repeats: int = 0
    made: int = 0
    """The events that were made of answers."""
    seconds: float = 0.0


async def send(url: str, key: str, batches: Sequence[Batch], progress: Progress) -> Delivery:
    """Send every batch over a few connections, each retried until it is answered for good."""
    delivery, todo = Delivery(), iter(batches)
    task = progress.add_task("events and answers", total=sum(len(batch.items) for batch in batches))
    started = time.monotonic()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=60) as client:

        async def work() -> None:
            for batch in todo:
                await _send_batch(client, batch, delivery)
                progress.update(task, advance=len(batch.items))

        await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
    delivery.seconds = time.monotonic() - started
    return delivery


async def _send_batch(client: httpx2.AsyncClient, batch: Batch, delivery: Delivery) -> None:
    body = msgspec.json.encode({batch.name: batch.items})
    response = await client.post(batch.path, content=body)
    while response.status_code == 503:
        await asyncio.sleep(0.2)
        response = await client.post(batch.path, content=body)
    if response.status_code == 422 and "value_already_exist" in response.text:
        delivery.repeats += len(batch.items)
    elif response.status_code != 200:
        raise DemoError(f"The server answered {response.status_code} to a batch: {response.text[:300]}")
    elif batch.name == "events":
        delivery.counted += len(batch.items)
    else:
        _note(msgspec.json.decode(response.content)["usages"], delivery)


def _note(usages: Sequence[Mapping[str, Any]], delivery: Delivery) -> None:
    """What became of answers of models. Raises DemoError for one that is kept aside."""
    for each in usages:
        if each["status"] == "counted":
            delivery.counted += 1
            delivery.made += len(each["events"])
        elif each["status"] == "repeated":
            delivery.repeats += 1
        else:
            raise DemoError(f"An answer of a model was not counted: {each['problem']}")


class DemoError(RuntimeError):
    """The demo could not go on; the message says what happened."""


class Api:
    """The HTTP API with one organization's key."""

    def __init__(self, url: str, key: str) -> None:
        self.client = httpx2.Client(base_url=url, headers={"Authorization": f"Bearer {key}"}, timeout=300)

    def call(self, method: str, path: str, body: Any = None, **params: Any) -> Any:
        response = self.client.request(method, path, json=body, params=params or None)
        if response.status_code >= 400:
            raise DemoError(f"{method} {path} answered {response.status_code}: {response.text[:500]}")
        return response.json()


class Server:
    """The demo's own `permille up`, left running in the background when the demo ends."""

    def __init__(self, folder: Path, port: int) -> None:
        self.folder, self.port = folder, port
        self.data_dir = folder / "data"
        self.url = f"http://127.0.0.1:{port}"

    def stop(self) -> None:
        """Stop the server of this folder, if this demo or an earlier one left it running."""
        running.stop(self.data_dir)

    def start(self) -> None:
        """Empty the folder, which only the demo may have filled, and start on it. Raises DemoError."""
        try:
            own_folder.make_empty(self.folder, purpose="demo")
            running.start_in_background(
                replace(from_environment(), data_dir=self.data_dir, host="127.0.0.1", port=self.port),
                environment=DEMO_ENVIRONMENT,
            )
        except (own_folder.NotOursError, running.UnusableError, UnableToStartError) as error:
            raise DemoError(str(error)) from error


def free_port(wanted: int) -> int:
    """`wanted`, or the next port that nobody listens on."""
    for port in range(wanted, wanted + 100):
        if running.why_taken("127.0.0.1", port) is None:
            return port
    raise DemoError(f"No free port from {wanted} on: pass --port.")


def set_up(url: str) -> tuple[str, Api]:
    """An organization in test mode with the price lists, the customers and their subscriptions."""
    admin = Api(url, ADMIN_KEY)
    created = admin.call(
        "POST",
        "/admin/v1/organizations",
        {
            "organization": {
                "name": "Demo AI",
                "legal_name": "Demo AI, Inc.",
                "address_line1": "1 Market Street",
                "city": "San Francisco",
                "country": "US",
                "email": "billing@demo-ai.example",
                "test_mode": True,
                "now": MONTH.isoformat(),
            }
        },
    )["organization"]
    for slug in PLANS.keys() - {MODEL_PLAN}:
        path = f"/admin/v1/organizations/{created['lago_id']}/price_lists"
        admin.call("POST", path, {"price_list": {"slug": slug}})
    api = Api(url, created["api_key"])
    models = [{"provider": provider, "model": model} for model, provider in MODELS.items()]
    setup = {"plan_code": MODEL_PLAN, "plan_name": "Current models", "markup": MARKUP, "models": models}
    api.call("POST", "/api/v1/llm/setup", {"setup": setup})
    for customer, name, _ in CUSTOMERS:
        body = {
            "external_id": customer,
            "name": name,
            "currency": "USD",
            "email": f"ap@{customer}.example",
            "address_line1": "500 Howard Street",
            "city": "San Francisco",
            "state": "CA",
            "zipcode": "94105",
            "country": "US",
        }
        api.call("POST", "/api/v1/customers", {"customer": body})
        for slug, metric in PLANS.items():
            subscription = {
                "external_customer_id": customer,
                "plan_code": slug,
                "external_id": f"{customer}-{metric}",
            }
            api.call("POST", "/api/v1/subscriptions", {"subscription": subscription})
    return created["api_key"], api


def move_clock(api: Api, to: datetime) -> None:
    path = "/api/v1/test_clock"
    clock = api.call("PUT", path, {"test_clock": {"now": to.isoformat()}})["test_clock"]
    while clock["moving_to"]:
        time.sleep(0.5)
        clock = api.call("GET", path)["test_clock"]


def model_prices(api: Api) -> ModelPrices:
    """What providers ask for a million tokens of the current models, as the catalogue has it."""
    return {
        (each["model"], kind): Decimal(price)
        for provider in set(MODELS.values())
        for each in api.call("GET", "/api/v1/llm/current_models", provider=provider, per_page=1000)["models"]
        if MODELS.get(each["model"]) == provider
        for kind, price in each["prices"].items()
    }


def usage_rows(api: Api, customer: str) -> Iterator[tuple[str, str, str, int]]:
    """(metric, what, units, cents) of a customer's current usage."""
    for metric in PLANS.values():
        path = f"/api/v1/customers/{customer}/current_usage"
        usage = api.call("GET", path, external_subscription_id=f"{customer}-{metric}")["customer_usage"]
        for charge in usage["charges_usage"]:
            for row in charge["filters"]:
                if row["values"] and row["events_count"]:
                    yield (
                        charge["billable_metric"]["name"],
                        row["invoice_display_name"],
                        row["units"],
                        row["amount_cents"],
                    )


def dollars(cents: int | str | Decimal) -> str:
    return f"${Decimal(cents) / 100:,.2f}"


def show_usage(console: Console, api: Api, customer: str) -> None:
    table = Table(title=f"Usage of {customer} so far in October, from the API")
    for column in ("metric", "model and type"):
        table.add_column(column)
    for column in ("tokens", "amount"):
        table.add_column(column, justify="right")
    total = 0
    for metric, what, units, cents in usage_rows(api, customer):
        table.add_row(metric, what, f"{int(Decimal(units)):,}", dollars(cents))
        total += cents
    table.add_section()
    table.add_row("", "total", "", dollars(total))
    console.print(table)


def show_invoices(console: Console, api: Api, month: Month, prices: ModelPrices) -> int:
    """The table of invoices beside the independent totals; how many differ."""
    table = Table(
        title="Invoices of October, and the same total recomputed from the events by the demo itself"
    )
    for column in ("number", "customer"):
        table.add_column(column)
    for column in ("invoice", "recomputed", ""):
        table.add_column(column, justify="right")
    wrong = 0
    for customer, name, _ in CUSTOMERS:
        invoices = api.call("GET", "/api/v1/invoices", external_customer_id=customer)["invoices"]
        cents = sum(invoice["total_amount_cents"] for invoice in invoices)
        expected = expected_cents(month, customer, prices)
        wrong += cents != expected
        numbers = ", ".join(invoice["number"] for invoice in invoices) or "none"
        mark = "equal" if cents == expected else "[red]DIFFERENT[/]"
        table.add_row(numbers, name, dollars(cents), dollars(expected), mark)
    console.print(table)
    return wrong


def margin_rows(api: Api) -> dict[str, Any]:
    """The margins of October by current model."""
    days = {"from": f"{MONTH:%Y-%m-%d}", "to": f"{LAST_DAY:%Y-%m-%d}"}
    found = api.call("GET", "/api/v1/analytics/margin", group_by="plan,model", per_page=1000, **days)
    return {each["model"]: each for each in found["margins"] if each["plan_code"] == MODEL_PLAN}


def show_margin(console: Console, rows: Mapping[str, Any], month: Month, prices: ModelPrices) -> int:
    """The margins of the current models, beside costs that the demo computes itself; how many figures differ."""
    title = "Margin of October: what customers pay for current models, and what their providers bill"
    table = Table(title=title)
    table.add_column("model", no_wrap=True)
    for column in ("revenue", "cost", "recomputed", "margin", ""):
        table.add_column(column, justify="right")
    wrong = 0
    for model, expected in expected_costs(month, prices).items():
        each = rows.get(model, NO_MARGIN)
        is_equal = Decimal(each["cost_usd"]) == expected and not each["uncosted"]
        wrong += not is_equal
        table.add_row(
            model,
            dollars(each["revenue_amount_cents"]),
            f"${Decimal(each['cost_usd']):,.6f}",
            "equal" if is_equal else f"[red]${expected:,.6f}[/]",
            dollars(each["margin_amount_cents"]),
            f"{Decimal(each['margin_share'] or 0) * 100:.2f} %",
        )
    revenue = sum(int(each["revenue_amount_cents"]) for each in rows.values())
    margin = sum(Decimal(each["margin_amount_cents"]) for each in rows.values())
    table.add_section()
    table.add_row("total", dollars(revenue), "", "", dollars(margin), "")
    console.print(table)
    paid = sum(expected_cents(month, customer, prices, [MODEL_TOKENS]) for customer, *_ in CUSTOMERS)
    return wrong + (revenue != paid)


def save_pdf(api: Api, folder: Path, customer: str) -> Path:
    invoice = api.call("GET", "/api/v1/invoices", external_customer_id=customer)["invoices"][0]
    response = api.client.get(f"/api/v1/invoices/{invoice['lago_id']}/pdf")
    if response.status_code != 200:
        raise DemoError(f"The PDF answered {response.status_code}: {response.text[:300]}")
    path = folder / f"invoice-{invoice['number']}.pdf"
    path.write_bytes(response.content)
    return path


def run(*, folder: Path, port: int, events: int, seed: int, keep: bool) -> int:
    """The whole demo; 0 when every total is exact. With `keep` its server goes on in the background."""
    console = Console()
    server = Server(folder, port)
    try:
        if own_folder.is_ours(folder, purpose="demo"):
            server.stop()
        server = Server(folder, free_port(port))
        return _run(console, server, events=events, seed=seed, keep=keep)
    except DemoError as error:
        console.print(f"[red]{error}[/]")
        if own_folder.is_ours(folder, purpose="demo"):
            server.stop()
        return 1


def _run(console: Console, server: Server, *, events: int, seed: int, keep: bool) -> int:
    console.print("Starting Permille with its own database ...")
    server.start()
    key, api = set_up(server.url)
    prices = model_prices(api)
    console.print(
        f"Price lists, a plan of current models, {len(CUSTOMERS)} customers and their subscriptions are in. Drawing a month ..."
    )
    month = draw_month(events, seed=seed)
    move_clock(api, LAST_DAY)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        delivery = asyncio.run(send(server.url, key, month.batches, progress))
    show_usage(console, api, "acme")
    started = time.monotonic()
    move_clock(api, NEXT_MONTH)
    billing_seconds = time.monotonic() - started
    wrong = show_invoices(console, api, month, prices) + show_margin(console, margin_rows(api), month, prices)
    pdf = save_pdf(api, server.folder, "acme")
    exact = wrong == 0 and delivery.counted == month.drawn
    running = go_on(server.url, key, api, prices, draw_november(max(events // 5, 1_000), seed=seed + 1))
    exact = exact and running
    _summary(console, month, delivery, billing_seconds, exact=exact)
    _whereabouts(console, server, key, pdf, keep=keep)
    if not keep:
        server.stop()
    return 0 if exact else 1


def go_on(url: str, key: str, api: Api, prices: ModelPrices, november: Month) -> bool:
    """The first days of November; whether the current usage of every customer is exact."""
    move_clock(api, TODAY)
    with Progress(disable=True) as quiet:
        delivery = asyncio.run(send(url, key, november.batches, quiet))
    found = {customer: sum(cents for *_, cents in usage_rows(api, customer)) for customer, _, _ in CUSTOMERS}
    right = all(found[customer] == expected_cents(november, customer, prices) for customer in found)
    return right and delivery.counted == november.drawn


def _summary(
    console: Console, month: Month, delivery: Delivery, billing_seconds: float, *, exact: bool
) -> None:
    sent = delivery.counted + delivery.repeats
    rate = sent / delivery.seconds if delivery.seconds else 0
    verdict = "[green]exact to the cent[/]" if exact else "[red]NOT exact: see the tables above[/]"
    console.print(
        f"\n[bold]{sent:,} events and answers of models in {delivery.seconds:.1f} s[/] ({rate:,.0f} a second, each on"
        f" disk before it was acknowledged): {delivery.counted:,} counted, {delivery.repeats:,} repeats"
        f" not counted again, {month.late:,} late ones put into their day. The answers became {delivery.made:,} events.\n"
        f"October closed and {len(CUSTOMERS)} customers invoiced in {billing_seconds:.2f} s. The first days of"
        f" November are in too, as running usage. All totals: {verdict}."
    )


def sign_in_link(url: str, customer: str) -> str:
    """A link that signs in once and shows the customer's Usage tab."""
    body = {"sign_in_link": {"email": "demo@localhost", "path": f"/app/customers/{customer}"}}
    return url + str(
        Api(url, ADMIN_KEY).call("POST", "/admin/v1/sign_in_links", body)["sign_in_link"]["path"]
    )


def _whereabouts(console: Console, server: Server, key: str, pdf: Path, *, keep: bool) -> None:
    console.print(f"PDF invoice:  {pdf}", soft_wrap=True)
    if keep:
        console.print(f"Web admin:    {sign_in_link(server.url, 'acme')}", soft_wrap=True)
        console.print(f"Margin:       {server.url}/app/margin, once you are signed in", soft_wrap=True)
        console.print(f"Still served: {server.url}  (API key {key})", soft_wrap=True)
        console.print(f"  curl -H 'Authorization: Bearer {key}' {server.url}/api/v1/invoices", soft_wrap=True)
        console.print(f"Stop it with: permille stop --data-dir {server.data_dir}", soft_wrap=True)
