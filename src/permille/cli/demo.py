"""`permille demo`: a realistic month through the real HTTP API, checked against an independent sum.

It knows the server only as a client does: JSON over HTTP. The expected total is computed here, from
the events as they were drawn, with nothing of Permille's own metering or rating.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import ROUND_HALF_UP, Decimal
from pathlib import Path
from typing import Any

import httpx2
import msgspec
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from permille.config import from_environment
from permille.embedded import own_folder, running
from permille.embedded.postgres import UnableToStartError

MONTH = datetime(2026, 10, 1, tzinfo=UTC)
LAST_DAY = datetime(2026, 10, 31, 20, tzinfo=UTC)
NEXT_MONTH = datetime(2026, 11, 1, 12, tzinfo=UTC)
TODAY = datetime(2026, 11, 6, 18, tzinfo=UTC)
BATCH = 1_000
CONNECTIONS = 4
ADMIN_KEY = "demo"  # the demo's server listens on this machine only
DEMO_ENVIRONMENT = {
    "PERMILLE_ADMIN_KEY": ADMIN_KEY,
    "PERMILLE_DATABASE_URL": "",
    "PERMILLE_ALLOW_ROOT": "true",  # it runs wherever the repository was put, in root's own folder too
}

# The price page that Permille starts from, dollars for every 1,000 tokens begun.
PRICES = {
    "gpt_4_tokens": {
        ("8K", "input"): "0.03",
        ("8K", "output"): "0.06",
        ("32K", "input"): "0.06",
        ("32K", "output"): "0.12",
    },
    "gpt_3_5_turbo_tokens": {
        ("4K", "input"): "0.0015",
        ("4K", "output"): "0.002",
        ("16K", "input"): "0.003",
        ("16K", "output"): "0.005",
    },
}
PRICE_LISTS = {
    "openai-gpt-4": "gpt_4_tokens",
    "openai-gpt-3.5-turbo": "gpt_3_5_turbo_tokens",
}
CUSTOMERS = [
    ("acme", "Acme Chat, Inc.", 10),
    ("globex", "Globex Assistants", 6),
    ("initech", "Initech Summaries", 3),
    ("umbrella", "Umbrella Health", 2),
    ("hooli", "Hooli Search", 5),
    ("pied-piper", "Pied Piper", 1),
]

UsageKey = tuple[str, str, str, str]  # customer, metric, model, type


@dataclass(slots=True)
class Month:
    """What was drawn: batches to send, and the tokens that each bucket must come to."""

    batches: list[list[dict[str, Any]]] = field(default_factory=list)
    tokens: Counter[UsageKey] = field(default_factory=Counter)
    events: int = 0
    repeats: int = 0
    late: int = 0


def draw_month(count: int, *, seed: int) -> Month:
    """`count` events of October: working-hour bursts, one in 50 late, one batch in 20 sent twice."""
    chance = random.Random(seed)  # noqa: S311 - a repeatable demo, no secret
    month = Month()
    whom = [customer for customer, _, weight in CUSTOMERS for _ in range(weight)]
    instants = sorted(_draw_instant(chance) for _ in range(count))
    batch: list[dict[str, Any]] = []
    for number, at in enumerate(instants):
        late = chance.random() < 0.02
        when = at - timedelta(days=chance.randint(1, 5)) if late else at
        month.late += late
        batch.append(_draw_event(chance, month, number, chance.choice(whom), max(when, MONTH)))
        if len(batch) == BATCH:
            month.batches.append(batch)
            batch = []
    if batch:
        month.batches.append(batch)
    month.events = count
    again = [list(sent) for sent in month.batches if chance.random() < 0.05] or [list(month.batches[0])]
    month.repeats = sum(len(sent) for sent in again)
    month.batches += again
    return month


def draw_november(count: int, *, seed: int) -> Month:
    """`count` events from the start of November to TODAY, so that the running period has usage too."""
    chance = random.Random(seed)  # noqa: S311 - as above
    november, start = Month(events=count), datetime(2026, 11, 1, tzinfo=UTC)
    whom = [customer for customer, _, weight in CUSTOMERS for _ in range(weight)]
    seconds = sorted(chance.randrange(int((TODAY - start).total_seconds())) for _ in range(count))
    events = [
        _draw_event(chance, november, 10**8 + number, chance.choice(whom), start + timedelta(seconds=after))
        for number, after in enumerate(seconds)
    ]
    november.batches = [events[first : first + BATCH] for first in range(0, count, BATCH)]
    return november


def _draw_instant(chance: random.Random) -> datetime:
    day = chance.randint(0, 29)
    hour = min(23.99, max(0.0, chance.gauss(15, 4)))
    if chance.random() < 0.1:  # a nightly burst
        hour = 2 + chance.random() / 10
    return MONTH + timedelta(days=day, seconds=int(hour * 3600), milliseconds=chance.randint(0, 999))


def _draw_event(
    chance: random.Random, month: Month, number: int, customer: str, at: datetime
) -> dict[str, Any]:
    metric = chance.choice(("gpt_4_tokens", "gpt_3_5_turbo_tokens"))
    model, kind = chance.choice(list(PRICES[metric]))
    tokens = int(chance.lognormvariate(6, 1)) + 1
    month.tokens[customer, metric, model, kind] += tokens
    return {
        "transaction_id": f"req-{number:09d}",
        "external_subscription_id": f"{customer}-{metric}",
        "code": metric,
        "timestamp": at.timestamp(),
        "properties": {"model": model, "type": kind, "tokens": tokens},
    }


def expected_cents(month: Month, customer: str) -> int:
    """The invoice total of a customer: per bucket, packages of 1,000 begun x price, rounded to the cent."""
    total = 0
    for (owner, metric, model, kind), tokens in month.tokens.items():
        if owner == customer:
            packages = (tokens + 999) // 1_000
            cents = packages * Decimal(PRICES[metric][model, kind]) * 100
            total += int(cents.quantize(Decimal(1), rounding=ROUND_HALF_UP))
    return total


@dataclass(slots=True)
class Delivery:
    acknowledged: int = 0
    refused_repeats: int = 0
    seconds: float = 0.0


async def send(url: str, key: str, batches: Sequence[list[dict[str, Any]]], progress: Progress) -> Delivery:
    """Send every batch over a few connections, each retried until it is answered for good."""
    delivery, todo = Delivery(), iter(batches)
    task = progress.add_task("events", total=sum(map(len, batches)))
    started = time.monotonic()
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    async with httpx2.AsyncClient(base_url=url, headers=headers, timeout=60) as client:

        async def work() -> None:
            for batch in todo:
                await _send_batch(client, batch, delivery)
                progress.update(task, advance=len(batch))

        await asyncio.gather(*(work() for _ in range(CONNECTIONS)))
    delivery.seconds = time.monotonic() - started
    return delivery


async def _send_batch(client: httpx2.AsyncClient, batch: list[dict[str, Any]], delivery: Delivery) -> None:
    body = msgspec.json.encode({"events": batch})
    response = await client.post("/api/v1/events/batch", content=body)
    while response.status_code == 503:
        await asyncio.sleep(0.2)
        response = await client.post("/api/v1/events/batch", content=body)
    if response.status_code == 200:
        delivery.acknowledged += len(batch)
    elif response.status_code == 422 and "value_already_exist" in response.text:
        delivery.refused_repeats += len(batch)
    else:
        raise DemoError(f"The server answered {response.status_code} to a batch: {response.text[:300]}")


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
    for slug in PRICE_LISTS:
        path = f"/admin/v1/organizations/{created['lago_id']}/price_lists"
        admin.call("POST", path, {"price_list": {"slug": slug}})
    api = Api(url, created["api_key"])
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
        for slug, metric in PRICE_LISTS.items():
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


def usage_rows(api: Api, customer: str) -> Iterator[tuple[str, str, str, int]]:
    """(metric, what, units, cents) of a customer's current usage."""
    for metric in PRICES:
        path = f"/api/v1/customers/{customer}/current_usage"
        usage = api.call("GET", path, external_subscription_id=f"{customer}-{metric}")["customer_usage"]
        for charge in usage["charges_usage"]:
            for row in charge["filters"]:
                if row["values"]:
                    yield (
                        charge["billable_metric"]["name"],
                        row["invoice_display_name"],
                        row["units"],
                        row["amount_cents"],
                    )


def dollars(cents: int) -> str:
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


def show_invoices(console: Console, api: Api, month: Month) -> int:
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
        expected = expected_cents(month, customer)
        wrong += cents != expected
        numbers = ", ".join(invoice["number"] for invoice in invoices) or "none"
        mark = "equal" if cents == expected else "[red]DIFFERENT[/]"
        table.add_row(numbers, name, dollars(cents), dollars(expected), mark)
    console.print(table)
    return wrong


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
    console.print(
        f"Price lists, {len(CUSTOMERS)} customers and their subscriptions are in. Drawing a month ..."
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
    wrong = show_invoices(console, api, month)
    pdf = save_pdf(api, server.folder, "acme")
    exact = wrong == 0 and delivery.acknowledged == month.events
    running = go_on(server.url, key, api, draw_november(max(events // 5, 1_000), seed=seed + 1))
    exact = exact and running
    _summary(console, month, delivery, billing_seconds, exact=exact)
    _whereabouts(console, server, key, pdf, keep=keep)
    if not keep:
        server.stop()
    return 0 if exact else 1


def go_on(url: str, key: str, api: Api, november: Month) -> bool:
    """The first days of November; whether the current usage of every customer is exact."""
    move_clock(api, TODAY)
    with Progress(disable=True) as quiet:
        delivery = asyncio.run(send(url, key, november.batches, quiet))
    found = {customer: sum(cents for *_, cents in usage_rows(api, customer)) for customer, _, _ in CUSTOMERS}
    right = all(found[customer] == expected_cents(november, customer) for customer in found)
    return right and delivery.acknowledged == november.events


def _summary(
    console: Console, month: Month, delivery: Delivery, billing_seconds: float, *, exact: bool
) -> None:
    sent = delivery.acknowledged + delivery.refused_repeats
    rate = sent / delivery.seconds if delivery.seconds else 0
    verdict = "[green]exact to the cent[/]" if exact else "[red]NOT exact: see the tables above[/]"
    console.print(
        f"\n[bold]{sent:,} events in {delivery.seconds:.1f} s[/] ({rate:,.0f} a second, each on disk before"
        f" it was acknowledged): {delivery.acknowledged:,} counted, {delivery.refused_repeats:,} repeats"
        f" refused, {month.late:,} late ones put into their day.\n"
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
        console.print(f"Still served: {server.url}  (API key {key})", soft_wrap=True)
        console.print(f"  curl -H 'Authorization: Bearer {key}' {server.url}/api/v1/invoices", soft_wrap=True)
        console.print(f"Stop it with: permille stop --data-dir {server.data_dir}", soft_wrap=True)
