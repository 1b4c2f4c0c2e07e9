"""LiteLLM's proxy with its callbacks as docs/connect/litellm.md says: each call is billed once, to the cent."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.live import PATIENCE_SECONDS, LiveServer, free_port, is_healthy, wait_until
from tests.real_clients.conftest import ROOT, is_installed, new_billing
from tests.real_clients.model_server import ModelServer
from tests.real_clients.relay import relay
from tests.real_clients.test_pages import OPENAI, PLAIN, left_in, total

if not is_installed("litellm"):
    pytest.skip("LiteLLM's proxy could not be installed: make setup-clients", allow_module_level=True)

VENV = ROOT / ".venv-litellm"
PAGE = (ROOT / "docs" / "connect" / "litellm.md").read_text()
STOLEN = {"1.82.7", "1.82.8"}
MASTER_KEY = "sk-a-long-key-of-this-test-JHd83kzQ09xT"
REST = """
model_list:
  - model_name: fast
    litellm_params: {{model: openai/gpt-5.4, api_base: "{url}/v1", api_key: key}}
  - model_name: busy
    litellm_params: {{model: openai/busy-once-{name}, api_base: "{url}/v1", api_key: key}}
router_settings:
  num_retries: 2
general_settings:
  master_key: {key}
"""


@contextmanager
def proxy(folder: Path, config: str, settings: Mapping[str, str]) -> Iterator[httpx2.Client]:
    file, log, port = folder / "config.yaml", folder / "proxy.log", free_port()
    file.write_text(config)
    command = [str(VENV / "bin" / "litellm"), "--config", str(file), "--port", str(port)]
    everything = {**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True", **settings}
    with log.open("wb") as output:
        process = subprocess.Popen(command, env=everything, stdout=output, stderr=output)
    address = f"http://127.0.0.1:{port}"

    def is_ready() -> bool:
        assert process.poll() is None, log.read_text()[-2_000:]
        return is_healthy(address, "/health/liveliness")

    headers = {"authorization": f"Bearer {MASTER_KEY}"}
    try:
        wait_until(is_ready)
        with httpx2.Client(base_url=address, headers=headers, timeout=PATIENCE_SECONDS) as client:
            yield client
    finally:
        process.terminate()
        process.wait(60)


def call(client: httpx2.Client, **more: Any) -> None:
    body = {"model": "fast", "messages": [{"role": "user", "content": "Hello"}], **more}
    answer = client.post("/v1/chat/completions", json=body)
    assert answer.status_code == 200, answer.text


def test_the_same_calls_by_each_callback(live: LiveServer, models: ModelServer, tmp_path: Path) -> None:
    """One proxy, four organizations: our callback, the page's `generic_api`, `lago`, and `openmeter` beside `generic_api`.

    The first answer to each of the first two is lost, so that they send again what was taken; a stream, and a model that the
    provider refuses once, are among the calls. What comes by `openmeter` and by `generic_api` counts once. Calls follow one
    another, as LiteLLM forgets those that end while it sends.
    """
    folders = [tmp_path / name for name in ("ours", "page", "lago", "both")]
    for folder in folders:
        folder.mkdir()
    ours, page, lago, both = (new_billing(live, models, folder) for folder in folders)
    (own, shown) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (named,) = re.findall(r"callbacks: \[(.*?)\]", own)
    settings = {
        "PERMILLE_API_KEY": ours.key,
        "PERMILLE_SPOOL": str(ours.folder),
        "PYTHONPATH": str(ROOT / "src"),
        "DEFAULT_FLUSH_INTERVAL_SECONDS": "1",
        "LAGO_API_BASE": live.url,
        "LAGO_API_KEY": lago.key,
        "LAGO_API_EVENT_CODE": "litellm",
        "OPENMETER_API_ENDPOINT": live.url,
        "OPENMETER_API_KEY": both.key,
        "GENERIC_LOGGER_ENDPOINT": f"{live.url}/api/v1/llm/litellm",
        "GENERIC_LOGGER_HEADERS": f"Authorization=Bearer {both.key}",
    }
    with relay(live.url) as lossy, relay(live.url) as lossy_too:
        settings["PERMILLE_URL"] = lossy_too.url
        config = shown.replace("https://billing.example.com", lossy.url).replace("YOUR_API_KEY", page.key)
        config = config.replace('["permille"]', f'[{named}, "permille", "lago", "openmeter", "generic_api"]')
        config += REST.format(url=models.url, key=MASTER_KEY, name=page.key)
        with proxy(tmp_path, config, settings) as client:
            call(client, user="acme", metadata={"subscription": "sub_acme"})
            page.wait_for({"sub_acme": OPENAI})
            wait_until(lambda: len(lossy.statuses) == 2)
            call(client, user="acme", stream=True, stream_options={"include_usage": True})
            page.wait_for({"sub_acme": total(OPENAI, OPENAI)})
            call(client, user="acme", model="busy")
            page.wait_for({"sub_acme": total(OPENAI, OPENAI, OPENAI)})
            call(client, user="globex")
            everything = {"sub_acme": total(OPENAI, OPENAI, OPENAI), "sub_globex": OPENAI}
            page.wait_for(everything)
            ours.wait_for(everything)
            once = {"sub_acme": total(PLAIN, PLAIN, PLAIN), "sub_globex": PLAIN}
            lago.wait_for(once)
            both.wait_for(once)
            wait_until(lambda: len(roads(both.client())) >= 8)  # more where a callback sends again
            assert both.quantities() == once
        for each in (lossy, lossy_too):
            assert each.statuses[:2] == [200, 200]
    assert not left_in(Path(live.folder), ours.folder)


def roads(client: httpx2.Client) -> list[str]:
    """What became of everything that came in lately."""
    with client:
        return [each["status"] for each in client.get("/llm/recent_usages").json()["recent_usages"]]


def test_it_is_no_stolen_version() -> None:
    (library,) = (VENV / "lib").glob("python3*")
    packages = distributions(name="litellm", path=[str(library / "site-packages")])
    assert {package.version for package in packages}.isdisjoint(STOLEN)
