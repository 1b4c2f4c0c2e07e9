"""How long after the answer to an event its alert has fired, and the wallet's ongoing balance is lower, over HTTP.

.venv/bin/python -m benchmarks.followers [--events N]
"""

from __future__ import annotations

import argparse
import time
from datetime import UTC, datetime
from typing import Any

import httpx2

from benchmarks.stack import Stack, percentile, running_stack, save

ALLOWED_SECONDS = 2.0
PATIENCE_SECONDS = 60
PAUSE_SECONDS = 0.02


def prepare(stack: Stack, key: str) -> None:
    """A customer with a charge of 0.01 a unit, an alert each 1.00 and a wallet."""
    stack.sell(key, "tokens", {"aggregation_type": "sum_agg"}, {})
    stack.post("/customers", {"customer": {"external_id": "c", "currency": "USD"}}, key)
    subscription = {"external_customer_id": "c", "plan_code": "tokens", "external_id": "s"}
    stack.post("/subscriptions", {"subscription": subscription}, key)
    steps = [{"code": "each", "value": 100, "recurring": True}, {"code": "first", "value": 100}]
    alert = {"alert_type": "current_usage_amount", "code": "spend", "thresholds": steps}
    stack.post("/subscriptions/s/alerts", {"alert": alert}, key)
    wallet = {"external_customer_id": "c", "rate_amount": "1", "currency": "USD", "granted_credits": "100000"}
    stack.post("/wallets", {"wallet": wallet}, key)


def seen(client: httpx2.Client) -> tuple[float, int]:
    """What the alert saw last, and what the wallet's ongoing balance has lost."""
    alert = client.get("/subscriptions/s/alerts/spend").json()["alert"]
    (wallet,) = client.get("/wallets", params={"external_customer_id": "c"}).json()["wallets"]
    return float(alert["previous_value"]), wallet["ongoing_usage_balance_cents"]


def send(client: httpx2.Client, number: int) -> float:
    """An event of 1.00; when its answer was there."""
    event: dict[str, Any] = {
        "transaction_id": f"tx-{number}",
        "code": "tokens",
        "external_subscription_id": "s",
        "timestamp": datetime.now(UTC).isoformat(),
        "properties": {"n": 100},
    }
    answer = client.post("/events", json={"event": event})
    assert answer.status_code == 200, answer.text
    return time.perf_counter()


def follow(client: httpx2.Client, number: int) -> tuple[float, float]:
    """Seconds until the alert and the wallet have seen the event."""
    answered, wanted = send(client, number), 100 * number
    alert = wallet = 0.0
    while not (alert and wallet):
        value, used = seen(client)
        took = time.perf_counter() - answered
        alert = alert or (took if value >= wanted else 0.0)
        wallet = wallet or (took if used >= wanted else 0.0)
        if took > PATIENCE_SECONDS:
            raise SystemExit(f"not within {PATIENCE_SECONDS} s: alert at {value}, wallet at {used}")
        time.sleep(PAUSE_SECONDS)
    return alert, wallet


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100)
    count = parser.parse_args().events
    with running_stack() as stack:
        key = stack.organization()["api_key"]
        prepare(stack, key)
        with stack.client(key) as client:
            took = [follow(client, number) for number in range(1, count + 1)]
    result = {
        name: {"p50": percentile(values, 0.5), "p99": percentile(values, 0.99)}
        for name, values in zip(("alert", "wallet"), map(list, zip(*took, strict=True)), strict=True)
    }
    for name, figures in result.items():
        print(f"{name}: p50 {figures['p50']:.2f} s, p99 {figures['p99']:.2f} s, allowed {ALLOWED_SECONDS} s")
    save("followers", {"events": count, **result})


if __name__ == "__main__":
    main()
