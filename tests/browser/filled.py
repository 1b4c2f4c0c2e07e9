"""An organization with a month that is billed, and one that runs."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from tests.live import LiveServer, move_clock

from .browsing import organization

NAME = "Pages AI"
START = datetime(2026, 10, 1, 13, tzinfo=UTC)
TODAY = "2026-11-20T00:00:00Z"


LLM_USAGES = [
    {
        "provider": "azure",
        "model": f"prod-chat-{customer}",
        "id": f"response-of-a-rather-long-identity-{customer}",
        "external_customer_id": customer,
        "usage": {"prompt_tokens": 2006, "completion_tokens": 300, "total_tokens": total},
        "properties": {"key": "key-of-a-team"},
    }
    for customer, total in (("acme", 2306), ("nobody", 2306), ("acme-of-more-tokens", 7))
]
"""One of an unknown model, one that nobody pays for, and one that doesn't add up."""


MODEL = {"id": "gpt-4.1", "match": {"equals": "gpt-4.1"}, "prices": {"input_mtok": 30, "odd_mtok": 1}}
PRICES = {"label": "newer", "prices": [{"id": "openai", "models": [MODEL]}]}
"""A price file in which nearly all is gone, one price is an outlier, and one is not understood."""


@dataclass(frozen=True, kw_only=True)
class Filled:
    """What is in it: customer acme with subscription acme-1 of the plan openai-gpt-4."""

    api_key: str
    invoice_id: str
    invoice_number: str
    fee_id: str
    wallet_id: str
    transaction_id: str
    catalogue_version_id: str
    rule_id: str


def fill(live: LiveServer) -> Filled:
    made = organization(live, NAME, "openai-gpt-4")
    with live.client(made["api_key"]) as client:
        customer = {"external_id": "acme", "name": "Acme Chat, Inc.", "currency": "USD"}
        client.post("/customers", json={"customer": customer})
        subscription = {
            "external_customer_id": "acme",
            "plan_code": "openai-gpt-4",
            "external_id": "acme-1",
        }
        client.post("/subscriptions", json={"subscription": subscription})
        sent = client.post("/events/batch", json={"events": [event(number) for number in range(100)]})
        assert sent.status_code == 200, sent.text
        move_clock(client, TODAY)
        credits_ = {
            "external_customer_id": "acme",
            "rate_amount": "1",
            "currency": "USD",
            "granted_credits": "50",
        }
        wallet = client.post("/wallets", json={"wallet": credits_}).json()["wallet"]
        (filled,) = client.get(f"/wallets/{wallet['lago_id']}/wallet_transactions").json()[
            "wallet_transactions"
        ]
        sent = client.post("/llm/usage", json={"usages": LLM_USAGES})
        assert sent.status_code == 200, sent.text
        imported = client.post("/llm/catalogue_versions", json={"catalogue_version": PRICES})
        assert imported.status_code == 200, imported.text
        rule = {"field": "team", "value": "a-team-of-a-rather-long-name", "external_customer_id": "acme"}
        ruled = client.post("/llm/payer_rules", json={"payer_rule": rule}).json()["payer_rule"]
        (billed,) = client.get("/invoices").json()["invoices"]
        invoice = client.get(f"/invoices/{billed['lago_id']}").json()["invoice"]
    return Filled(
        api_key=made["api_key"],
        invoice_id=invoice["lago_id"],
        invoice_number=invoice["number"],
        wallet_id=wallet["lago_id"],
        transaction_id=filled["lago_id"],
        catalogue_version_id=imported.json()["catalogue_version"]["lago_id"],
        rule_id=ruled["lago_id"],
        fee_id=next(fee["lago_id"] for fee in invoice["fees"] if fee["amount_cents"]),
    )


def event(number: int) -> dict[str, Any]:
    """One every 11 hours, so that they reach into November."""
    at = START + timedelta(hours=11 * number)
    return {
        "transaction_id": f"t{number}",
        "external_subscription_id": "acme-1",
        "code": "gpt_4_tokens",
        "timestamp": at.timestamp(),
        "properties": {
            "model": ("8K", "32K")[number % 2],
            "type": ("input", "output")[number // 2 % 2],
            "tokens": 500 * number,
        },
    }
