"""LiteLLM's proxy with the callback that docs/connect/litellm.md says: each call is billed once."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx2
import pytest

from tests.live import free_port, wait_until
from tests.real_clients.conftest import ROOT, Billing, is_installed
from tests.real_clients.test_pages import OPENAI, left_in, total

PROXY = ROOT / ".venv-litellm" / "bin" / "litellm"
MASTER_KEY = "sk-a-long-key-of-this-test-JHd83kzQ09xT"
MODELS = """
model_list:
  - model_name: fast
    litellm_params: {{model: openai/gpt-5.4, api_base: "{url}/v1", api_key: key}}
general_settings:
  master_key: {key}
"""


@contextmanager
def proxy(billing: Billing) -> Iterator[httpx2.Client]:
    page = (ROOT / "docs" / "connect" / "litellm.md").read_text()
    (shown,) = re.findall(r"```yaml\n(.*?)```", page, re.DOTALL)
    config = billing.folder / "config.yaml"
    config.write_text(shown + MODELS.format(url=billing.models.url, key=MASTER_KEY))
    settings = {
        "GENERIC_LOGGER_ENDPOINT": f"{billing.server.url}/api/v1/llm/litellm",
        "GENERIC_LOGGER_HEADERS": f"Authorization=Bearer {billing.key}",
        "LITELLM_LOCAL_MODEL_COST_MAP": "True",
    }
    port = free_port()
    log = billing.folder / "proxy.log"
    with log.open("wb") as output:
        command = [str(PROXY), "--config", str(config), "--port", str(port)]
        process = subprocess.Popen(command, env={**os.environ, **settings}, stdout=output, stderr=output)
    address = f"http://127.0.0.1:{port}"

    def is_ready() -> bool:
        assert process.poll() is None, log.read_text()[-2_000:]
        return httpx2.get(f"{address}/health/liveliness", timeout=5).status_code == 200

    try:
        wait_until(is_ready)
        with httpx2.Client(
            base_url=address, headers={"authorization": f"Bearer {MASTER_KEY}"}, timeout=60
        ) as client:
            yield client
    finally:
        process.terminate()
        process.wait(60)


def test_calls_through_the_proxy(billing: Billing) -> None:
    if not is_installed("litellm"):
        pytest.skip("LiteLLM's proxy could not be installed: make setup-clients")
    call = {"model": "fast", "messages": [{"role": "user", "content": "Hello"}]}
    with proxy(billing) as client:
        for paid_by in (
            {"metadata": {"subscription": "sub_acme"}},
            {"user": "acme"},
            {"user": "globex"},
        ):
            answer = client.post("/v1/chat/completions", json={**call, **paid_by})
            assert answer.status_code == 200, answer.text
        billing.wait_for({"sub_acme": total(OPENAI, OPENAI), "sub_globex": OPENAI})
    assert not left_in(Path(billing.server.folder))
