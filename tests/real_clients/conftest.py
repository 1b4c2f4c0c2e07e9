"""A real server, a model server, and programs that run in the environment of real clients."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.conftest import make_reachable_folder
from tests.live import LiveServer, live_server, wait_until
from tests.real_clients.model_server import ModelServer, model_server

ROOT = Path(__file__).parent.parent.parent
PYTHON = ROOT / ".venv-clients" / "bin" / "python"


def is_installed(name: str) -> bool:
    """Whether `make setup-clients` could install all of requirements-NAME.lock."""
    return (ROOT / f".venv-{name}" / ".lock-digest").exists()


JAVASCRIPT = Path(__file__).parent / "javascript"


def is_javascript_installed() -> bool:
    """Whether `make setup-clients` could install all of javascript/package-lock.json."""
    return (JAVASCRIPT / "node_modules" / ".lock-digest").exists()


Quantities = dict[str, dict[str, int]]
"""Subscription -> type of tokens -> quantity."""


@dataclass(frozen=True)
class Billing:
    """An organization with a subscription `sub_acme` of customer `acme`, and one of customer `globex`."""

    server: LiveServer
    models: ModelServer
    key: str
    folder: Path

    def run(self, program: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a program of a page as its reader would; nothing of the answers may be in what it leaves here."""
        return self._run([str(PYTHON), "-c", program], ROOT, environment)

    def run_javascript(self, program: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """The same with Node.js. Its client of Anthropic wants the version in the address."""
        versioned = {"ANTHROPIC_BASE_URL": f"{self.models.url}/v1"}
        command = [shutil.which("node") or "node", "--input-type=module", "-e", program]
        return self._run(command, JAVASCRIPT, versioned | environment)

    def _run(
        self, command: list[str], folder: Path, environment: dict[str, str]
    ) -> subprocess.CompletedProcess[str]:
        settings = {
            "OPENAI_BASE_URL": f"{self.models.url}/v1",
            "OPENAI_API_KEY": "key",
            "ANTHROPIC_BASE_URL": self.models.url,
            "ANTHROPIC_API_KEY": "key",
            "GOOGLE_GEMINI_BASE_URL": self.models.url,
            "GEMINI_API_KEY": "key",
            "PERMILLE_URL": self.server.url,
            "PERMILLE_API_KEY": self.key,
            "PERMILLE_SPOOL": str(self.folder),
            "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{self.server.url}/v1/traces",
            "OTEL_EXPORTER_OTLP_HEADERS": f"Authorization=Bearer {self.key}",
            "LAGO_API_URL": f"{self.server.url}/api/v1",
            "LAGO_API_KEY": self.key,
            "LANGFUSE_HOST": self.server.url,
            "LANGFUSE_PUBLIC_KEY": "permille",
            "LANGFUSE_SECRET_KEY": self.key,
            "PYTHONPATH": str(ROOT / "src"),
        }
        done = subprocess.run(
            command,
            cwd=folder,
            env={**os.environ, **settings, **environment},
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done

    def client(self) -> httpx2.Client:
        return self.server.client(self.key)

    def quantities(self) -> Quantities:
        """The usage of tokens that is billed as it is now."""
        found: Quantities = {}
        with self.client() as client:
            for customer, subscription in (("acme", "sub_acme"), ("globex", "sub_globex")):
                path = f"/customers/{customer}/current_usage"
                answer = client.get(path, params={"external_subscription_id": subscription})
                assert answer.status_code == 200, answer.text
                (charge,) = answer.json()["customer_usage"]["charges_usage"]
                groups = {
                    group["grouped_by"]["type"]: int(float(group["units"]))
                    for group in charge["grouped_usage"]
                }
                assert charge["amount_cents"] == sum(groups.values()), "a token costs a cent"
                found[subscription] = {name: units for name, units in groups.items() if units}
        return {subscription: groups for subscription, groups in found.items() if groups}

    def outcomes(self) -> list[str]:
        """What became of what came in lately, but for what is no call."""
        with self.client() as client:
            recent = client.get("/llm/recent_usages").json()["recent_usages"]
        return [each["status"] for each in recent if each["status"] != "dropped"]

    def wait_for(self, expected: Quantities) -> None:
        """Wait until this is the usage. Programs that were run to their end have sent all by then."""
        try:
            wait_until(lambda: self.quantities() == expected, 90)
        except AssertionError:
            with self.client() as client:
                came = client.get("/llm/recent_usages").json()["recent_usages"]
            said = [(each["road"], each["model"], each["status"], each.get("problem")) for each in came]
            raise AssertionError(f"{self.quantities()} instead of {expected}: {said}") from None


@pytest.fixture(scope="package")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LiveServer]:
    with live_server(make_reachable_folder()) as server:
        yield server


@pytest.fixture(scope="package")
def models() -> Iterator[ModelServer]:
    with model_server() as server:
        yield server


@pytest.fixture
def billing(live: LiveServer, models: ModelServer, tmp_path: Path) -> Billing:
    if not is_installed("clients"):
        pytest.skip("the real clients could not be installed: make setup-clients")
    return new_billing(live, models, tmp_path)


def new_billing(live: LiveServer, models: ModelServer, folder: Path) -> Billing:
    """An organization that prices every type of tokens, and takes events of other programs as calls."""
    made = Billing(live, models, live.organization(name=f"Org {uuid.uuid4()}")["api_key"], folder)
    with made.client() as client:

        def sent(path: str, body: dict[str, Any]) -> dict[str, Any]:
            answer = client.post(path, json=body)
            assert answer.status_code == 200, answer.text
            return answer.json()

        metric = {
            "name": "Tokens",
            "code": "llm_tokens",
            "aggregation_type": "sum_agg",
            "field_name": "quantity",
            "filters": [{"key": "type", "values": list(ALL_TYPES)}],
        }
        metric_id = sent("/billable_metrics", {"billable_metric": metric})["billable_metric"]["lago_id"]
        charge = {
            "billable_metric_id": metric_id,
            "charge_model": "standard",
            "properties": {"amount": "0.01", "pricing_group_keys": ["type"]},
        }
        plan = {
            "name": "Go",
            "code": "go",
            "interval": "monthly",
            "amount_cents": 0,
            "amount_currency": "USD",
        }
        sent("/plans", {"plan": {**plan, "pay_in_advance": False, "charges": [charge]}})
        for name in ("lago_agent", "litellm_lago", "openmeter"):
            sent("/llm/intakes", {"intake": {"format": name}})
        # Some clients cut instants to seconds: what they send at once would be before a start of today.
        yesterday = (datetime.now(UTC) - timedelta(days=1)).isoformat()
        for customer in ("acme", "globex"):
            sent("/customers", {"customer": {"external_id": customer, "currency": "USD"}})
            subscription = {
                "external_customer_id": customer,
                "external_id": f"sub_{customer}",
                "plan_code": "go",
                "subscription_at": yesterday,
            }
            sent("/subscriptions", {"subscription": subscription})
    return made


ALL_TYPES = (
    *("input", "cached_input", "cache_write", "cache_write_5m", "cache_write_1h", "tool_input"),
    *("output", "reasoning"),
)


def programs(page: str, language: str = "python") -> list[str]:
    """The programs that a page of docs/connect shows."""
    text = (ROOT / "docs" / "connect" / f"{page}.md").read_text()
    return re.findall(rf"```{language}\n(.*?)```", text, re.DOTALL)
