"""The page Connect: how clients are connected, with the server's own address, and what came in lately."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from uuid import UUID

import psycopg
from psycopg.types.json import Jsonb

from permille.core.llm.call import CallSource, DroppedSpans, SentCall
from permille.core.record import replace
from permille.usecases import llm_usages, unknown_models
from permille.usecases.recent_usages import RecentUsages
from tests.core.llm.samples import sent, usages

from .conftest import START, Browser, Server, text_of

GUIDES = Path(__file__).parents[2] / "docs" / "connect"


def test_clients_are_connected_and_what_came_is_shown(server: Server, browser: Browser) -> None:
    page = browser.ok("/connect")
    assert "Nothing yet" in page
    assert 'data-live="came"' in page
    for path in GUIDES.glob("*.md"):
        assert f'href="/app/connect/{path.stem}"' in page
        text = browser.ok(f"/connect/{path.stem}")
        assert "billing.example.com" not in text
        assert server.engine.config.base_url in text or "PERMILLE_URL" not in text
    openai = browser.ok("/connect/anthropic")
    assert "messages.create(model=&quot;claude-sonnet-5-5&quot;" in openai
    assert '<a href="/app/connect/openai">OpenAI</a>' in openai
    assert browser.client.get("/app/connect/nobody").status_code == 404

    call = SentCall(
        usage=replace(sent(usages()[0]), response_id="one<b>"),
        external_subscription_id="nobody",
        external_customer_id=None,
        at=START,
        properties={},
    )
    with psycopg.connect(server.dsn) as conn:
        held = llm_usages.prepare(conn, browser.organization.id, [call])
    notes = RecentUsages()
    source = CallSource(road="/v1/traces", client="our-app/1", at=START)
    dropped = DroppedSpans(client="ht\0tp", code="no_call", message="It is no call of a model.", count=3)
    counted = replace(held[0], problem=None, events=(), warnings=())
    notes.note(browser.organization.id, source, [dropped, *held, counted])
    notes.write(server.engine.pool)
    shown = text_of(browser.ok("/connect"))
    assert "There is no running subscription of the subscription nobody." in shown
    assert "3 spans" in shown
    assert shown.index("counted") < shown.index("held") < shown.index("dropped")
    assert "one<b>" not in browser.ok("/connect")


def _call(number: int, **more: Any) -> SentCall:
    usage = replace(sent(usages()[0]), response_id=f"r{number}", **more.pop("usage", {}))
    said = {"external_subscription_id": None, "external_customer_id": None, "properties": {}, **more}
    return SentCall(usage=usage, at=START, **said)


def test_what_is_to_be_done_is_listed_and_done(server: Server, browser: Browser) -> None:
    here = browser.organization.id
    assert "Every model is known." in browser.ok("/llm-usage")
    assert "llm-usage" not in browser.ok("")
    browser.sent("/new-customer", {"external_id": "acme", "name": "Acme"})
    browser.sent(
        "/new-plan",
        {"name": "Go", "code": "go", "interval": "monthly", "amount_currency": "USD", "amount_cents": "0"},
    )
    browser.sent("/subscribe/acme", {"external_id": "sub", "plan_code": "go"})
    with psycopg.connect(server.dsn) as conn:
        keyed = [_call(number, properties={"key": "k1"}) for number in (1, 2)]
        bare = {"provider": "openai", "api": "openai_chat", "response": {"id": "x"}}
        calls = [*keyed, _call(3, external_customer_id="ghost"), _call(4, usage=bare)]
        held = llm_usages.hold(conn, here, llm_usages.prepare(conn, here, calls), now=START)
        assert [each.problem and each.problem.code for each in held] == [
            "subscription_missing",
            "subscription_missing",
            "customer_not_found",
            "usage_missing",
        ]
        odd = _call(5, external_subscription_id="sub", usage={"provider": "azure", "model": "prod"})
        (unknown,) = llm_usages.prepare(conn, here, [odd])
        unknown_models.note(conn, here, [unknown])
    home = text_of(browser.ok(""))
    assert "Unknown models: 1 Calls that nobody pays for: 3 Calls without usage: 1" in home
    page = browser.ok("/llm-usage")
    assert "include_usage" in page
    assert "<code>azure/prod</code>" in page

    group = {"code": "subscription_missing", "key": "k1", "team": "", "user": "", "external_customer_id": ""}
    refused = browser.refused("/llm-usage", {**group, "payer": "nobody"})
    assert "There is no such subscription." in refused
    assert browser.sent("/llm-usage", {**group, "payer": "acme"}) == "/app/llm-usage?said=attributed"
    found = browser.row(
        "select count(*), min(counted_for) from held_usage where counted_at is not null and organization_id = %s",
        here,
    )
    assert found == (2, "sub")
    assert browser.post("/llm-usage", {**group, "payer": "acme"}).status_code == 404

    page = browser.ok("/held-usages")
    assert "customer <code>ghost</code>" in page
    held_id = str(held[2].held_id)
    assert held_id in page
    one = {"held_usage": held_id, "payer": "sub"}
    assert browser.sent("/held-usages", one) == "/app/held-usages?said=attributed"
    assert "This usage was counted already." in browser.refused("/held-usages", one)
    assert held_id not in browser.ok("/held-usages")
    assert "r3" in browser.ok("/held-usages", status="counted")

    alias = {"name": "azure/prod", "model": "gpt-4o"}
    assert 'id="model-error"' in browser.refused("/model-aliases", alias)
    alias |= {"model": "azure/gpt-4o", "back": "todo"}
    assert browser.sent("/model-aliases", alias) == "/app/llm-usage?said=created"
    assert browser.sent("/count-unknown-model/azure%2Fprod") == "/app/llm-usage?said=counted_again"
    assert "Every model is known." in browser.ok("/llm-usage")
    browser.sent("/edit-model-alias/azure%2Fprod", {"model": "azure/gpt-5.4"})
    assert 'value="azure/gpt-5.4"' in browser.ok("/model-aliases")
    browser.sent("/delete-model-alias/azure%2Fprod")
    assert "No aliases yet." in browser.ok("/model-aliases")


def test_a_model_without_a_price_can_have_an_alias(browser: Browser, gpt4: None) -> None:
    with psycopg.connect(browser.dsn) as conn:
        for number, model in enumerate(("gpt-99", "gpt-98")):
            conn.execute(
                "insert into unpriced_usage (charge_id, digest, organization_id, code, values, noticed_at)"
                " select id, %s, organization_id, 'llm_tokens', %s, %s from charge where organization_id = %s limit 1",
                [
                    UUID(int=number),
                    Jsonb({"provider": "openai", "model": model}),
                    START,
                    browser.organization.id,
                ],
            )
    field = '<input type="hidden" name="name" value="openai/{}">'
    page = browser.ok("/llm-usage")
    assert field.format("gpt-99") in page
    assert field.format("gpt-98") in page
    assert "it counts for calls that come from then on" in text_of(page)
    alias = {"name": "openai/gpt-99", "model": "openai/gpt-4o", "back": "todo"}
    assert browser.sent("/model-aliases", alias) == "/app/llm-usage?said=created"
    page = browser.ok("/llm-usage")
    assert field.format("gpt-99") not in page
    assert field.format("gpt-98") in page
