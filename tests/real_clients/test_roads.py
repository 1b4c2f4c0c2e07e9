"""The same call by several roads, retries, refusals and outages: billed once, and never lost."""

from __future__ import annotations

from tests.real_clients.conftest import Billing, programs
from tests.real_clients.test_pages import OPENAI, left_in, total

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


def test_two_exporters_of_the_same_spans_are_billed_once(billing: Billing) -> None:
    again = "provider.add_span_processor(BatchSpanProcessor(OTLPSpanExporter()))\n"
    billing.run(SPANS + again + CALL)
    billing.wait_for({"sub_acme": OPENAI})


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
