"""Vercel's AI SDK on Node.js with the page that docs/connect has of it: each call is billed once, to the cent."""

from __future__ import annotations

import pytest

from tests.real_clients.conftest import Billing, Quantities, is_javascript_installed, programs
from tests.real_clients.relay import relay
from tests.real_clients.test_pages import ANTHROPIC, OPENAI, left_in, total

if not is_javascript_installed():
    pytest.skip(
        "Vercel's AI SDK could not be installed: make setup-clients (it needs Node.js and npm)",
        allow_module_level=True,
    )
(PAGE,) = programs("vercel-ai-sdk", "js")
EXPECTED: Quantities = {"sub_acme": total(OPENAI, OPENAI), "sub_globex": ANTHROPIC}
PROCESSOR = "new BatchSpanProcessor(new OTLPTraceExporter())"


def test_the_program_of_the_page(billing: Billing) -> None:
    billing.run_javascript(PAGE)
    billing.wait_for(EXPECTED)
    assert not left_in(billing.server.folder)


def test_two_exporters_a_refusal_and_a_lost_answer_bill_each_call_once(billing: Billing) -> None:
    """Every span comes twice, a first try of OpenAI is answered with 503, and so is the first batch of spans."""
    program = PAGE.replace(PROCESSOR, f"{PROCESSOR}, {PROCESSOR}")
    assert program != PAGE
    with relay(billing.server.url) as lossy:
        endpoint = {"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": f"{lossy.url}/v1/traces"}
        billing.run_javascript(program.replace("gpt-5.4", f"busy-once-{billing.key}"), **endpoint)
        assert lossy.statuses[:3] == [200, 200, 200]
    billing.wait_for(EXPECTED)
