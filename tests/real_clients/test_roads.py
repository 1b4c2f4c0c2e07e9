"""The same call by several roads, retries, refusals and outages: billed once, and never lost."""

from __future__ import annotations

import os
import signal
from concurrent.futures import ThreadPoolExecutor

import pytest

from tests.live import wait_until
from tests.real_clients.conftest import Billing, programs
from tests.real_clients.relay import relay
from tests.real_clients.test_pages import ANTHROPIC, GOOGLE, OPENAI, PLAIN, left_in, total

CALL = """
client.chat.completions.create(model="gpt-5.4", messages=[{"role": "user", "content": "Hello"}], user="acme")
"""
METER = """
from openai import OpenAI
from permille.client import meter
client = meter(OpenAI(), subscription="sub_acme")
"""
SPANS = """
from openai import OpenAI
from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.instrumentation.openai import OpenAIInstrumentor
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
provider = TracerProvider()
provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))
OpenAIInstrumentor().instrument(tracer_provider=provider)
client = OpenAI()
"""


def test_the_meter_and_spans_of_the_same_call_are_billed_once(billing: Billing) -> None:
    metered = "from permille.client import meter\nmeter(client, subscription='sub_acme')\n"
    billing.run(SPANS + metered + CALL)
    billing.wait_for({"sub_acme": OPENAI})


def test_an_answer_to_a_trace_has_the_type_of_its_request(billing: Billing) -> None:
    with billing.client() as client:
        for media_type in ("application/x-protobuf", "application/json"):
            body = b"{}" if media_type == "application/json" else b""
            answer = client.post(
                f"{billing.server.url}/v1/traces", content=body, headers={"content-type": media_type}
            )
            assert (answer.status_code, answer.headers["content-type"], answer.content) == (
                200,
                media_type,
                body,
            )


def test_the_meter_and_spans_of_openinference_are_billed_once(billing: Billing) -> None:
    (program,) = programs("openinference")
    metered = "from permille.client import meter\nclient = meter(OpenAI(), subscription='sub_acme')\n"
    both = program.replace("client = OpenAI()\n", metered)
    assert both != program
    billing.run(both)
    billing.wait_for({"sub_acme": OPENAI})
    wait_until(lambda: sorted(billing.outcomes()) == ["counted", "repeated"])  # shown a second later


def test_two_exporters_of_the_same_spans_are_billed_once(billing: Billing) -> None:
    again = "provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))\n"
    billing.run(SPANS + again + CALL)
    billing.wait_for({"sub_acme": OPENAI})


AGENT = """
import os
from lago_agent_sdk import LagoSDK
from openai import OpenAI
lago = LagoSDK(os.environ["LAGO_API_KEY"], api_url=os.environ["LAGO_API_URL"], default_subscription_id="acme")
client = lago.wrap(OpenAI())
"""


@pytest.mark.parametrize(
    ("program", "setting", "path"),
    [
        pytest.param(SPANS + CALL, "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "/v1/traces", id="spans"),
        pytest.param(AGENT + CALL + "lago.flush(60)\n", "LAGO_API_URL", "/api/v1", id="lago-agent"),
    ],
)
def test_what_is_sent_again_after_a_lost_answer_is_billed_once(
    billing: Billing, program: str, setting: str, path: str
) -> None:
    with relay(billing.server.url) as lossy:
        billing.run(program, **{setting: f"{lossy.url}{path}"})
        assert lossy.statuses[:2] == [200, 200]
    billing.wait_for({"sub_acme": OPENAI})


EVERY_CLIENT = (
    AGENT
    + """
from anthropic import Anthropic
from google import genai
hello = [{"role": "user", "content": "Hello"}]
client.responses.create(model="gpt-5.4", input="Hello")
for event in client.responses.create(model="gpt-5.4", input="Hello", stream=True):
    pass
claude = lago.wrap(Anthropic())
claude.messages.create(model="claude-sonnet-5-5", max_tokens=1000, messages=hello)
for event in claude.messages.create(model="claude-repeats", max_tokens=1000, messages=hello, stream=True):
    pass
gemini = lago.wrap(genai.Client())
gemini.models.generate_content(model="gemini-2.5-flash", contents="Hello")
for chunk in gemini.models.generate_content_stream(model="gemini-2.5-flash", contents="Hello"):
    pass
assert lago.flush(60)
"""
)


def test_what_lagos_agent_counts_of_each_client_is_what_the_provider_says(billing: Billing) -> None:
    """With the relations of each provider, whole and streamed."""
    billing.run(EVERY_CLIENT)
    billing.wait_for({"sub_acme": total(OPENAI, OPENAI, ANTHROPIC, ANTHROPIC, GOOGLE, GOOGLE)})


@pytest.mark.parametrize(
    "program",
    [pytest.param(METER, id="meter"), pytest.param(AGENT, id="lago-agent")],
)
def test_a_server_that_is_killed_between_calls_bills_each_once(billing: Billing, program: str) -> None:
    calls = f"import time\nfor _ in range(20):{CALL.replace('client', '    client')}    time.sleep(0.1)\n"
    end = "assert lago.flush(120)\n" if program is AGENT else ""
    with ThreadPoolExecutor(1) as running:
        ended = running.submit(billing.run, program + calls + end)
        wait_until(lambda: bool(billing.quantities()))
        (serving,) = (pid for pid, command in billing.server.children().items() if " serve " in command)
        os.kill(serving, signal.SIGKILL)
        ended.result()
    billing.wait_for({"sub_acme": total(*[OPENAI] * 20)})


def test_a_stream_whose_usage_nobody_asked_for_is_shown(billing: Billing) -> None:
    (program,) = programs("opentelemetry")
    cut = program.replace(', stream_options={"include_usage": True}', "")
    assert cut != program
    billing.run(cut)
    billing.wait_for({"sub_acme": PLAIN, "sub_globex": PLAIN})
    with billing.client() as client:
        (held,) = client.get("/llm/held_usages").json()["held_usages"]
    assert (held["problem"]["code"], held["external_subscription_id"]) == ("usage_missing", "sub_acme")


def test_a_call_that_the_provider_refused_once_is_billed_once(billing: Billing) -> None:
    billing.run(METER + CALL.replace("gpt-5.4", f"busy-once-{billing.key}"))
    billing.wait_for({"sub_acme": OPENAI})


def test_a_call_during_an_outage_is_billed_by_the_next_process(billing: Billing) -> None:
    billing.run(METER + CALL, PERMILLE_URL="http://127.0.0.1:9")
    assert billing.quantities() == {}
    billing.run(METER + CALL)
    billing.wait_for({"sub_acme": total(OPENAI, OPENAI)})


def test_answers_leave_no_text_in_the_servers_folder(billing: Billing) -> None:
    for page in ("openai", "openllmetry", "langfuse"):
        for program in programs(page):
            billing.run(program)
    assert billing.quantities()
    assert not left_in(billing.folder, billing.server.folder)
