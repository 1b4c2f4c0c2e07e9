"""The whole application in front of a database, seen by one organization that prices usage of language models."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import httpx2
import psycopg
import pytest

from permille.app import build
from permille.config import Config
from permille.store import api_keys, organizations

NOW = datetime(2026, 10, 1, tzinfo=UTC)
SECRET = "a planted secret of the prompt"
Talk = Callable[["Client"], Awaitable[None]]


class Client:
    """An organization's key on the whole application."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self.http = http

    async def post(self, path: str, body: Any, status: int = 200) -> Any:
        answer = await self.http.post(f"/api/v1{path}", content=json.dumps(body, default=str).encode())
        assert answer.status_code == status, answer.text
        return answer.json()

    async def get(self, path: str) -> Any:
        answer = await self.http.get(f"/api/v1{path}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    async def send(self, *calls: Any, **beside: Any) -> Any:
        return (await self.post("/llm/usage", {"usages": list(calls), **beside}))["usages"]

    async def counted(self, subscription: str = "sub") -> dict[str, Decimal]:
        """Units by type, of all that the subscription used, from the events themselves."""
        events = (await self.get(f"/events?external_subscription_id={subscription}&per_page=100"))["events"]
        found: dict[str, Decimal] = {}
        for each in events:
            said = each["properties"]
            if "quantity" in said:
                found[said["type"]] = found.get(said["type"], Decimal(0)) + Decimal(said["quantity"])
        return found


@pytest.fixture
def talk(dsn: str, db: psycopg.Connection[Any]) -> Callable[[Talk], None]:
    made = organizations.add(db, name="test", test_now=NOW, entity={}, now=NOW)
    key = api_keys.add(db, organization_id=made.id, name=None, now=NOW).secret
    db.commit()

    def run(conversation: Talk) -> None:
        async def running() -> None:
            application = build(Config(database_url=dsn))
            await application.start()
            headers = {"Authorization": f"Bearer {key}"}
            transport = httpx2.ASGITransport(app=application)
            try:
                async with httpx2.AsyncClient(
                    transport=transport, base_url="http://t", headers=headers
                ) as http:
                    client = Client(http)
                    await prepare(client)
                    await conversation(client)
            finally:
                await application.stop()

        asyncio.run(running())

    return run


async def prepare(client: Client) -> None:
    """A metric that knows input and output, and a customer with one subscription that prices it."""
    body = {
        "name": "Tokens",
        "code": "llm_tokens",
        "aggregation_type": "sum_agg",
        "field_name": "quantity",
        "filters": [
            {"key": "type", "values": ["input", "output"]},
            {"key": "model", "values": ["gpt-5.4-mini"]},
        ],
    }
    metric = (await client.post("/billable_metrics", {"billable_metric": body}))["billable_metric"]
    plan = {
        "name": "P",
        "code": "p",
        "interval": "monthly",
        "amount_cents": 0,
        "amount_currency": "USD",
        "pay_in_advance": False,
        "charges": [
            {
                "billable_metric_id": metric["lago_id"],
                "charge_model": "standard",
                "properties": {"amount": "0.01"},
            }
        ],
    }
    await client.post("/plans", {"plan": plan})
    await client.post("/customers", {"customer": {"external_id": "cus"}})
    subscription = {"external_customer_id": "cus", "plan_code": "p", "external_id": "sub"}
    await client.post("/subscriptions", {"subscription": subscription})
