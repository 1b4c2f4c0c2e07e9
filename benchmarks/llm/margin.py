"""What the margin of a month costs: many customers with a `catalogue` charge, many models, a million events.

    .venv/bin/python -m benchmarks.llm.margin [--events N] [--customers N] [--models N]

Seconds are processor time of the server and of PostgreSQL for one answer, and how long it took.
"""

from __future__ import annotations

import argparse
import http.client
import json
import random
import time
import uuid
from datetime import UTC, datetime
from typing import Any

import psycopg

from benchmarks.cost import cost_so_far
from benchmarks.llm.reads import feed, priced_models
from benchmarks.stack import Stack, month, running_stack, save, settle

MODELS_OF_ONE = 8
"""How many models a customer uses."""
GROUPS = ("model", "customer", "model,customer", "day,model")


def set_up(stack: Stack, customers: int) -> tuple[uuid.UUID, str]:
    organization = stack.organization()
    key, owner = str(organization["api_key"]), uuid.UUID(organization["lago_id"])
    metric = {"name": "Tokens", "code": "llm_tokens", "aggregation_type": "sum_agg", "field_name": "quantity"}
    made = stack.post("/billable_metrics", {"billable_metric": metric}, key)["billable_metric"]
    charge = {
        "billable_metric_id": made["lago_id"],
        "charge_model": "catalogue",
        "properties": {"markup": "1.2"},
    }
    plan = {
        "name": "P",
        "code": "p",
        "interval": "monthly",
        "amount_cents": 0,
        "amount_currency": "USD",
        "pay_in_advance": False,
        "charges": [charge],
    }
    stack.post("/plans", {"plan": plan}, key)
    connection = http.client.HTTPConnection("127.0.0.1", stack.port)
    headers = {"Authorization": f"Bearer {key}", "Content-Type": "application/json"}
    for number in range(customers):
        for path, body in (
            ("customers", {"customer": {"external_id": f"c{number}", "currency": "USD"}}),
            (
                "subscriptions",
                {
                    "subscription": {
                        "external_customer_id": f"c{number}",
                        "plan_code": "p",
                        "external_id": f"s{number}",
                        "subscription_at": month().isoformat(),
                    }
                },
            ),
        ):
            connection.request("POST", f"/api/v1/{path}", json.dumps(body), headers)
            answer = connection.getresponse()
            said = answer.read()
            assert answer.status == 200, said
    return owner, key


def measure(stack: Stack, key: str, group_by: str) -> dict[str, Any]:
    assert stack.process is not None
    pids = [stack.process.pid, *stack.children()]
    today = datetime.now(UTC).date()
    connection = http.client.HTTPConnection("127.0.0.1", stack.port, timeout=600)
    with psycopg.connect(stack.dsn, autocommit=True) as conn:
        before, started = cost_so_far(conn, pids, ["event"]), time.perf_counter()
        path = f"/api/v1/analytics/margin?from={month().date()}&to={today}&group_by={group_by}"
        connection.request("GET", path, headers={"Authorization": f"Bearer {key}"})
        answer = connection.getresponse()
        body = answer.read()
        assert answer.status == 200, body
        cost = cost_so_far(conn, pids, ["event"]) - before
        return {
            "seconds": time.perf_counter() - started,
            "server": cost.server,
            "postgres": cost.postgres,
            "groups": json.loads(body)["meta"]["total_count"],
        }


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--customers", type=int, default=5_000)
    parser.add_argument("--models", type=int, default=200)
    options = parser.parse_args()
    models = priced_models(datetime.now(UTC).date())[: options.models]
    assert len(models) == options.models, len(models)
    with running_stack() as stack:
        owner, key = set_up(stack, options.customers)
        chance = random.Random(1)

        def drawn() -> tuple[str, str, str]:
            customer = chance.randrange(options.customers)
            model = models[(customer * 7 + chance.randrange(MODELS_OF_ONE)) % len(models)]
            return f"s{customer}", *model

        feed(stack.dsn, owner, options.events, drawn, since=month(), chance=chance)
        settle(stack.dsn)
        result = {}
        for group_by in GROUPS:
            row = result[group_by] = measure(stack, key, group_by)
            print(
                f"{group_by:<16}{row['seconds']:7.2f} s  processor: server {row['server']:.2f}, postgres"
                f" {row['postgres']:.2f} s  groups {row['groups']}",
                flush=True,
            )
    save("llm_margin", {**vars(options), "reads": result})


if __name__ == "__main__":
    main()
